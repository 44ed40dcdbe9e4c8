"""REFINE-AF: an instruction-tuning data set and a tuned model out of a small open model and a few seed tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refine_af.config import Config, load_config
    from refine_af.run import Run

__version__ = "0.1.0"
__all__ = ["Config", "Run", "__version__", "load_config"]


def __getattr__(name: str) -> Any:
    # Late, so that `refine-af --help` doesn't pay for pydantic and the stages.
    if name in ("Config", "load_config"):
        from refine_af import config

        return getattr(config, name)
    if name == "Run":
        from refine_af.run import Run

        return Run
    raise AttributeError(f"module 'refine_af' has no attribute {name!r}")
