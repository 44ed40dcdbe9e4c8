"""Looks at what the config says of the feedback before a run spends hours on the stages before it."""

from __future__ import annotations

from refine_af.config import FeedbackConfig
from refine_af.errors import UsageError


def check_feedback(config: FeedbackConfig) -> None:
    """Raises UsageError for an unknown name, an unknown or useless weight, or a reward model that isn't here."""
    if config.name == "embedded":
        from refine_af.feedback.composite import check_weights
        from refine_af.feedback.embedded import WEIGHTS

        check_weights("embedded", config.weights, list(WEIGHTS))
        if not any({**WEIGHTS, **config.weights}.values()):
            raise UsageError("feedback.weights: every weight is zero, so every pair would get the same reward")
    elif config.name == "instructmining_v2":
        from refine_af.feedback.instructmining import check_instructmining_v2

        check_instructmining_v2(config)
    else:
        from refine_af.feedback.custom import load_custom

        if config.weights:
            raise UsageError(f"feedback.weights: {config.name} has no components to weigh; weigh inside it")
        load_custom(config.name)
