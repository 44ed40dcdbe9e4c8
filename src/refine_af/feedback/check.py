"""Looks at what the config says of the feedback before a run spends hours on the stages before it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from refine_af.config import Config, FeedbackConfig, ModelConfig, PolicyConfig, ScorerConfig, nearest_name
from refine_af.errors import UsageError
from refine_af.feedback.base import Better
from refine_af.feedback.catalogue import CATALOGUE, SPECIAL, default_weight
from refine_af.feedback.instructmining import NEIGHBOUR, REWARD_MODEL, UNIEVAL
from refine_af.models import EMBEDDED, check_model, locate_encoder

NAMED = ("embedded", "instructmining_v1", "instructmining_v2", "composite")


def check_feedback(config: FeedbackConfig, seeds: int | None = None) -> None:
    """Raises UsageError for an unknown name, an unknown or useless weight or setting, a model that isn't here, or too
    few seeds' pairs, of which there are ``seeds`` where that is known."""
    if seeds is not None:
        _check_neighbours(config, seeds)
    if config.name != "composite":
        _check_no_scorers(config)
    if config.training_weights and config.name not in ("embedded", "composite"):
        raise UsageError(f"feedback.training_weights: {config.name} takes none; leave them out")
    if config.name == "embedded":
        from refine_af.feedback.composite import check_weights
        from refine_af.feedback.embedded import TRAINING_WEIGHTS, WEIGHTS

        check_weights("embedded", config.weights, list(WEIGHTS))
        if not any((WEIGHTS | config.weights).values()):
            raise UsageError("feedback.weights: every weight is zero, so every pair would get the same reward")
        _check_training_weights("embedded", config.training_weights, WEIGHTS | config.weights | TRAINING_WEIGHTS)
        locate_encoder(EMBEDDED)
        return
    if config.name.startswith("instructmining_v") and config.name in NAMED:
        from refine_af.feedback.instructmining import check_instructmining_v1, check_instructmining_v2

        (check_instructmining_v1 if config.name == "instructmining_v1" else check_instructmining_v2)(config)
        return
    if config.weights:
        label = "NAME" if config.name == "composite" else config.name
        known = label == "NAME" or label in CATALOGUE
        instead = f"use feedback.scorers.{label}.weight instead" if known else "leave them out"
        raise UsageError(f"feedback.weights: {config.name} takes none; {instead}")
    if config.name == "composite":
        _check_composite(config)
        weights = {label: 1.0 if of.weight is None else of.weight for label, of in config.scorers.items()}
        _check_training_weights("composite", config.training_weights, weights)
    elif config.name in CATALOGUE:
        _check_single(config.name, config.scorers.get(config.name, ScorerConfig()))
    else:
        _check_own(config.name, [*NAMED, *CATALOGUE], "feedback")


def _check_training_weights(name: str, given: Mapping[str, float], weights: Mapping[str, float]) -> None:
    """``weights``: what each component has in training where none is given."""
    from refine_af.feedback.composite import check_weights

    option = "feedback.training_weights"
    check_weights(name, given, list(weights), option)
    if weights and not any({**weights, **given}.values()):
        raise UsageError(f"{option}: every weight is zero in training, so nothing could be learnt; give one there")


def check_anchors(config: Config) -> None:
    """Raises UsageError where a reward or a witness learns from seeds, and too few may teach it."""
    if foresees_training(config):
        from refine_af.feedback.influence.split import split_anchors

        split_anchors(config)


def takes_gradients(config: FeedbackConfig) -> bool:
    """Whether the reward asks how the model would change by training."""
    return config.name == "embedded" or any("direction" in CATALOGUE[name].takes for name, _ in _scorers(config))


def foresees_training(config: Config) -> bool:
    """Whether the reward or the witness reads how the model will be fine-tuned."""
    witness = CATALOGUE.get(config.policy.guards.witness or "") if config.policy.trains else None
    return takes_gradients(config.feedback) or (witness is not None and "direction" in witness.takes)


def check_witness(policy: PolicyConfig, feedback: FeedbackConfig) -> None:
    """Raises UsageError for a witness that is unknown, can't be had, knows no good and bad, or is in the reward."""
    name, where = policy.guards.witness, "policy.guards.witness"
    if name is None or not policy.trains:
        return
    if name not in CATALOGUE:
        _check_own(name, list(CATALOGUE), where)
    elif CATALOGUE[name].better == "neither":
        raise UsageError(f"{where}: {name} has no better end (high or low); name another scorer, or null")
    elif CATALOGUE[name].model == EMBEDDED:
        locate_encoder(EMBEDDED)
    elif CATALOGUE[name].model is not None:
        check_model(ModelConfig(name=CATALOGUE[name].model or ""))
    used = ["influence"] if feedback.name == "embedded" else [scorer for scorer, _ in _scorers(feedback)]
    if name in used:
        raise UsageError(f"{where}={name} is part of the reward and must not be; name another scorer, or null")


def runs_models(config: FeedbackConfig) -> bool:
    """Whether a model of ours runs on this machine for the reward: not for rules, endpoints and users' own code."""
    if config.name in NAMED and config.name != "composite":
        return True
    reading = {"model", "direction"}
    return any(reading & set(CATALOGUE[name].takes) and not settings.base_url for name, settings in _scorers(config))


def models_needed(config: FeedbackConfig) -> list[ModelConfig]:
    """The models that must be on this disk beside the run's own and the embedded ones; one entry for each scorer that
    reads with it."""
    if config.name in ("instructmining_v1", "instructmining_v2"):
        named = [REWARD_MODEL] if config.name == "instructmining_v1" else [REWARD_MODEL, UNIEVAL, UNIEVAL, UNIEVAL]
        return [ModelConfig(name=name) for name in named]
    found = []
    for name, settings in _scorers(config):
        model = settings.model or CATALOGUE[name].model
        if model is not None and model != EMBEDDED and not settings.base_url:
            found.append(ModelConfig(name=model, revision=settings.revision))
    return found


def _scorers(config: FeedbackConfig) -> list[tuple[str, ScorerConfig]]:
    """The known scorers that the reward is made of, by their catalogue names."""
    single = {config.name: config.scorers.get(config.name, ScorerConfig())}
    scorers = config.scorers if config.name == "composite" else single
    named = [(settings.use or label, settings) for label, settings in scorers.items()]
    return [(name, settings) for name, settings in named if name in CATALOGUE]


def _check_no_scorers(config: FeedbackConfig) -> None:
    """A single scorer may have settings under its own name; nothing else has any."""
    for label in config.scorers:
        if label != config.name or label not in CATALOGUE:
            raise UsageError(
                f"feedback.scorers.{label}: only feedback.name=composite is made of scorers, not {config.name}"
            )


def _check_neighbours(config: FeedbackConfig, seeds: int) -> None:
    wanted = [s.neighbours or NEIGHBOUR for name, s in _scorers(config) if name == "neighbour_distance"]
    if config.name == "instructmining_v1":
        wanted = [NEIGHBOUR]
    if wanted and seeds <= max(wanted):
        raise UsageError(
            f"feedback: neighbour_distance needs over {max(wanted)} seed pairs (its neighbours), and has {seeds}: "
            "raise feedback.calibrated_on, or add seed tasks"
        )


def _check_single(name: str, settings: ScorerConfig) -> None:
    """One scorer alone is its raw value: what makes a component or a gate of it means nothing."""
    for setting in ("use", "clip", "minimum", "maximum", "cap"):
        if getattr(settings, setting) is not None:
            raise UsageError(
                f"feedback.scorers.{name}.{setting}: only feedback.name=composite takes it, not {name} alone"
            )
    if settings.weight == 0:
        raise UsageError(f"feedback.scorers.{name}.weight is zero, so every pair would get the same reward")
    _check_scorer(name, settings)


def _check_composite(config: FeedbackConfig) -> None:
    if not config.scorers:
        raise UsageError("feedback.scorers is empty: a composite needs at least one, such as {likelihood: {weight: 1}}")
    weights = []
    for label, settings in config.scorers.items():
        better = _check_scorer(label, settings)
        weights.append(default_weight(better, label) if settings.weight is None else settings.weight)
    if not any(weights):
        raise UsageError("feedback.scorers: every weight is zero, so every pair would get the same reward")


def _check_scorer(label: str, settings: ScorerConfig) -> Better:
    """Looks at one scorer's name, settings and model; says which end of its values is better."""
    where, name = f"feedback.scorers.{label}", settings.use or label
    if settings.minimum is not None and settings.maximum is not None and settings.minimum > settings.maximum:
        raise UsageError(f"{where}.minimum: {settings.minimum} is over its maximum {settings.maximum}")
    if settings.cap is not None and settings.minimum is None and settings.maximum is None:
        raise UsageError(f"{where}.cap: {settings.cap} caps nothing without a minimum or a maximum")
    takes = CATALOGUE[name].takes if name in CATALOGUE else ()
    for setting in SPECIAL:
        if getattr(settings, setting) is not None and setting not in takes:
            known = f"it takes {', '.join(takes)}" if takes else "it takes none of its own"
            raise UsageError(f"{where}.{setting}: the scorer {name} has no such setting; {known}")
    if name not in CATALOGUE:
        return _check_own(name, list(CATALOGUE), where)
    if settings.question is not None:
        from refine_af.feedback.judge import check_question

        check_question(where, settings.question)
    if settings.base_url is not None or settings.api_key_env is not None:
        _check_endpoint(where, settings)
    else:
        model = settings.model or CATALOGUE[name].model
        if settings.revision is not None and model is None:
            raise UsageError(f"{where}.revision: {settings.revision!r} of which model? Give its model too")
        if CATALOGUE[name].model == EMBEDDED:
            locate_encoder(model or EMBEDDED)
        elif model is not None:
            check_model(ModelConfig(name=model, revision=settings.revision))
    return CATALOGUE[name].better


def _check_endpoint(where: str, settings: ScorerConfig) -> None:
    if settings.base_url is None or settings.model is None:
        missing = "base_url" if settings.base_url is None else "model"
        raise UsageError(f"{where}.{missing} is missing: an endpoint needs its address and a model's name")
    if settings.revision is not None:
        raise UsageError(f"{where}.revision: an endpoint knows no revisions; name it in the model")
    if settings.api_key_env is not None and not os.environ.get(settings.api_key_env):
        raise UsageError(f"{where}.api_key_env: the environment variable {settings.api_key_env} is not set")
    from refine_af.feedback.judge import EndpointJudge

    EndpointJudge(settings.base_url, settings.model, name=where)  # looks at the address, asks nothing


def _check_own(name: str, known: list[str], where: str) -> Better:
    """A user's own: imported, since a name that leads nowhere must be told before hours of work."""
    from refine_af.feedback.custom import entry_points, load_scorer

    offered = entry_points()
    if ":" not in name and name not in offered:
        known = [*known, *offered]
        what = "feedback" if where == "feedback" else "scorer"
        raise UsageError(
            f"{where}: no {what} named {name!r}{nearest_name(name, known)}; "
            f"there are: {', '.join(known)}, or module:attribute"
        )
    return load_scorer(name).better
