"""A model is tried before a run begins, so that one which is refused leaves no folder behind."""

from __future__ import annotations

from refine_af.models import EMBEDDED
from refine_af.parts import Parts
from refine_af.stages.learning import make_actor


def try_model(parts: Parts) -> None:
    """Loads the network, which the run needs in any case, lets it write a token, and asks whether the policy's
    algorithm can train it. Raises RefineError where it can't. The embedded model is known to do."""
    config = parts.config
    if config.model.name == EMBEDDED:
        return
    _ = parts.network
    if parts.engine_name != "vllm":
        parts.initial_engine.answers([["Name a colour."]], 1)
    if config.policy.trains:
        make_actor(parts, config.seed).release()
