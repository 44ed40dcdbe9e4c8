"""A user's own reward, named ``module:attribute``: a plain function as TRL takes it, or a scorer."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from refine_af.errors import UsageError
from refine_af.feedback.base import Better, Cost, Example, Feedback, Scorer
from refine_af.feedback.composite import Component, Composite

_KNOWN = "embedded, instructmining_v2, or module:attribute"


def load_custom(name: str) -> Feedback:
    """Feedback from ``module:attribute``; modules of the current folder are found too.

    The attribute is a function ``reward(prompts, completions, **kwargs) -> list[float]``, a scorer, or a class of one.
    A pair that can't be read gets −10, or the scorer's own lower bound where it has one.
    """
    module_name, colon, attribute = name.partition(":")
    if colon and (not module_name or module_name.startswith(".")):
        raise UsageError(f"feedback {name}: write a module's full name before the colon, as in my_module:my_reward")
    if not colon:
        raise UsageError(f"no feedback named {name!r}; there are: {_KNOWN}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = getattr(importlib.import_module(module_name), attribute)
    except ImportError as error:
        raise UsageError(f"feedback {name}: module {module_name} can't be imported ({error})") from None
    except AttributeError:
        raise UsageError(f"feedback {name}: {module_name} has no {attribute!r}") from None
    scorer: Scorer
    if inspect.isclass(found):
        found = found()
    if hasattr(found, "score"):
        scorer = _completed(found, attribute)
    elif callable(found):
        scorer = FunctionScorer(attribute, found)
    else:
        raise UsageError(f"feedback {name} is a {type(found).__name__}, neither a function nor a scorer")
    floor = scorer.low if math.isfinite(scorer.low) else -10.0
    return Composite(name, [Component(scorer, 1.0)], floor=floor)


def _completed(found: Any, name: str) -> Scorer:
    """A user's scorer may leave out all but ``score``: it then has no bounds, and more is better."""
    defaults = {"name": name, "low": -math.inf, "high": math.inf, "better": "high", "cost": "rules", "identity": None}
    for key, value in defaults.items():
        if not hasattr(found, key):
            setattr(found, key, value)
    scorer: Scorer = found
    return scorer


class FunctionScorer:
    """``reward(prompts, completions, **kwargs)`` as a scorer: prompts hold instruction and input, completions the
    output; ``instruction`` and ``input`` are passed by name."""

    low, high = -math.inf, math.inf
    better: Better = "high"
    cost: Cost = "rules"
    identity: str | None = None  # what a user's function depends on is not known

    def __init__(self, name: str, function: Callable[..., list[float]]) -> None:
        self.name = name
        self._function = function

    def score(self, examples: Sequence[Example]) -> list[float]:
        return self._function(
            prompts=[e.prompt for e in examples],
            completions=[e.output for e in examples],
            instruction=[e.instruction for e in examples],
            input=[e.input for e in examples],
        )
