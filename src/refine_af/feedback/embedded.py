"""The reward that works offline: mostly a small evaluator, trained on the seeds' pairs against spoilt ones; beside it
the likelihood and mutual information of the frozen initial model, and the output's format.

No part decides alone. Likelihood by itself puts rambling first, mutual information one-word answers; each enters as a
standard score against the seeds, clipped. What is weighed how is our own choice.
"""

from __future__ import annotations

from refine_af.config import ScorerConfig
from refine_af.feedback.catalogue import Workshop, make_scorer
from refine_af.feedback.composite import Component, Composite, Gate, calibrated, check_weights
from refine_af.feedback.format import CHECKS, FormatScorer
from refine_af.feedback.passages import EchoScorer
from refine_af.feedback.rules import SubstanceScorer, VarietyScorer

WEIGHTS: dict[str, float] = {"quality": 0.6, "likelihood": 0.1, "pmi": 0.15, "format": 0.15}
FLOOR = -3.0
# An answer in a whole sentence takes the question up: "The most popular sport among the five listed is football."
_ECHO_OF_INSTRUCTION = 0.85
_ECHO_OF_INPUT, _CAP_OF_AN_ECHO = 0.7, -1.0
_FORMAT_CLIP = 2.0
_QUALITY_CLIP = 3.0  # spreads: spoilt pairs lie farther below people's than those lie apart


def embedded_feedback(workshop: Workshop) -> Composite:
    """Calibrated on the seeds' pairs: a reward of 0 is that of a pair as a person writes it, −3 the floor.

    Raises UsageError for a weight whose name is no component.
    """
    given = workshop.config.feedback.weights
    check_weights("embedded", given, list(WEIGHTS))
    weights = {**WEIGHTS, **given}
    quality = workshop.quality(ScorerConfig())
    # Against what people's pairs get from networks that have not seen them, not from those that were taught by them.
    head = quality.head
    components = [Component(quality, weights["quality"], head.good_mean, head.good_spread, _QUALITY_CLIP)]
    for name in ("likelihood", "pmi"):
        scorer = make_scorer(workshop, name, ScorerConfig())
        components.append(calibrated(scorer, weights[name], workshop.seeds))
    # People's pairs pass all checks, so there is no spread to measure with: a failed check counts one.
    language = workshop.config.reads
    components.append(Component(FormatScorer(language), weights["format"], 1.0, 1 / len(CHECKS), _FORMAT_CLIP))
    gates = [
        Gate(SubstanceScorer(), minimum=1.0),
        Gate(VarietyScorer(language), minimum=0.4),
        Gate(EchoScorer("instruction", language), maximum=_ECHO_OF_INSTRUCTION),
        # Editing may leave most of an input as it is, so its echo is capped and not condemned.
        Gate(EchoScorer("input", language), maximum=_ECHO_OF_INPUT, cap=_CAP_OF_AN_ECHO),
    ]
    return Composite("embedded", components, floor=FLOOR, gates=gates)
