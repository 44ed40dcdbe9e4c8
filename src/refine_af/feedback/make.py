"""Makes the reward that a config names: one of the named ones, a composite, a single scorer, or the user's own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from refine_af.config import ScorerConfig
from refine_af.feedback.base import Scorer
from refine_af.feedback.catalogue import CATALOGUE, Workshop, default_weight, make_scorer
from refine_af.feedback.composite import Component, Composite, Gate, calibrated, floor_below

_CLIP = 2.0  # standard scores


def make_feedback(workshop: Workshop) -> Composite:
    """The reward ``feedback.name``, of a config that :func:`refine_af.feedback.check.check_feedback` has passed.

    Raises UsageError for what could not be known before a model was loaded.
    """
    config = workshop.config.feedback
    if config.name == "embedded":
        from refine_af.feedback.embedded import embedded_feedback

        return embedded_feedback(workshop)
    if config.name == "instructmining_v1":
        from refine_af.feedback.instructmining import load_instructmining_v1

        return load_instructmining_v1(config, workshop.device, workshop.seeds, workshop.config.reads)
    if config.name == "instructmining_v2":
        from refine_af.feedback.instructmining import load_instructmining_v2

        return load_instructmining_v2(config, workshop.device)
    if config.name == "composite":
        return composite(workshop, config.scorers)
    if config.name in CATALOGUE:
        return _single(workshop, config.name, config.scorers.get(config.name, ScorerConfig()))
    from refine_af.feedback.custom import load_custom

    return load_custom(config.name)


def composite(workshop: Workshop, scorers: Mapping[str, ScorerConfig]) -> Composite:
    """The weighted sum of the user's choice of scorers, calibrated on the seeds' pairs, with its gates."""
    components, gates, training = [], [], workshop.config.feedback.training_weights
    for label, settings in scorers.items():
        scorer = make_scorer(workshop, label, settings)
        weight = default_weight(scorer.better, label) if settings.weight is None else settings.weight
        is_weighed = bool(weight or training.get(label))
        components.append(_component(workshop, scorer, weight, label, settings, is_weighed=is_weighed))
        if settings.minimum is not None or settings.maximum is not None:
            gates.append(_gate(scorer, label, settings))
    paid = [replace(one, weight=training.get(one.name, one.weight)) for one in components]
    floor = min(floor_below(components), floor_below(paid))
    return Composite("composite", components, floor=floor, gates=gates, training=training)


def _component(
    workshop: Workshop, scorer: Scorer, weight: float, label: str, settings: ScorerConfig, *, is_weighed: bool
) -> Component:
    if settings.calibrated and is_weighed:
        return calibrated(scorer, weight, workshop.seeds, settings.clip or _CLIP, label)
    return Component(scorer, weight, clip=settings.clip or math.inf, label=label)


def _gate(scorer: Scorer, label: str, settings: ScorerConfig) -> Gate:
    low, high, cap = settings.minimum, settings.maximum, settings.cap
    return Gate(
        scorer,
        minimum=-math.inf if low is None else low,
        maximum=math.inf if high is None else high,
        cap=-math.inf if cap is None else cap,
        label=label,
    )


def _single(workshop: Workshop, name: str, settings: ScorerConfig) -> Composite:
    """One scorer as the reward, in its own units; less is more where low values are better."""
    scorer = make_scorer(workshop, name, settings)
    weight = settings.weight if settings.weight is not None else -1.0 if scorer.better == "low" else 1.0
    components = [Component(scorer, weight, label=name)]
    return Composite(name, components, floor=floor_below(components))
