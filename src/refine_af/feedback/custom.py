"""A user's own reward: a plain function as TRL takes it, or a scorer, named ``module:attribute`` or by an entry point
of the group "refine_af.scorers"."""

from __future__ import annotations

import importlib
import inspect
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from refine_af.errors import RefineError, UsageError
from refine_af.feedback.base import Better, Cost, Example, Scorer
from refine_af.feedback.composite import Component, Composite

GROUP = "refine_af.scorers"
_FLOOR = -10.0


def load_custom(name: str) -> Composite:
    """A reward that is a user's scorer alone, turned where less is better. A pair that can't be read gets −10, or the
    scorer's own worst value where it has one."""
    scorer = load_scorer(name)
    weight, worst = (-1.0, -scorer.high) if scorer.better == "low" else (1.0, scorer.low)
    return Composite(name, [Component(scorer, weight)], floor=worst if math.isfinite(worst) else _FLOOR)


def load_scorer(name: str) -> Scorer:
    """The function ``reward(prompts, completions, **kwargs) -> list[float]``, the scorer or the class of one that
    ``module:attribute`` or an entry point names; modules of the current folder are found too.

    Raises UsageError where there is none, or where it is neither.
    """
    found, label = _attribute(name) if ":" in name else (_entry_point(name), name)
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            raise UsageError(f"feedback {name} can't be made without arguments ({_line(error)})") from error
    if callable(getattr(found, "score", None)):
        return OwnScorer(label, found)
    if callable(found):
        return FunctionScorer(label, found)
    raise UsageError(f"feedback {name} is a {type(found).__name__}, neither a function nor a scorer")


def entry_points() -> list[str]:
    """Names of the scorers that installed packages offer."""
    return sorted({point.name for point in metadata.entry_points(group=GROUP)})


def _entry_point(name: str) -> Any:
    points = list(metadata.entry_points(group=GROUP, name=name))
    if not points:
        raise UsageError(f"no scorer named {name!r}: it is no known one, no module:attribute and no entry point")
    try:
        return points[0].load()
    except Exception as error:
        raise UsageError(
            f"feedback {name}: the entry point {points[0].value} can't be loaded ({_line(error)})"
        ) from None


def _attribute(name: str) -> tuple[Any, str]:
    module_name, _, attribute = name.partition(":")
    if not module_name or module_name.startswith("."):
        raise UsageError(f"feedback {name}: write a module's full name before the colon, as in my_module:my_reward")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # whatever stands in a user's file is run
        problem = str(error) if isinstance(error, ImportError) else _line(error)
        raise UsageError(f"feedback {name}: module {module_name} can't be imported ({problem})") from None
    if not hasattr(module, attribute):
        raise UsageError(f"feedback {name}: {module_name} has no {attribute!r}")
    return getattr(module, attribute), attribute


class OwnScorer:
    """A user's object with ``score``. What else a scorer declares may be left out: it then has no bounds, more is
    better, and its values are not remembered."""

    def __init__(self, name: str, found: Any) -> None:
        self.name: str = getattr(found, "name", name)
        self.low: float = getattr(found, "low", -math.inf)
        self.high: float = getattr(found, "high", math.inf)
        self.better: Better = getattr(found, "better", "high")
        self.cost: Cost = getattr(found, "cost", "rules")
        self.identity: str | None = getattr(found, "identity", None)
        self._score: Callable[[Sequence[Example]], list[float]] = found.score

    def score(self, examples: Sequence[Example]) -> list[float]:
        with _named(self.name):
            return _made(self._score(examples))


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
        with _named(self.name):
            return _made(
                self._function(
                    prompts=[e.prompt for e in examples],
                    completions=[e.output for e in examples],
                    instruction=[e.instruction for e in examples],
                    input=[e.input for e in examples],
                )
            )


def _made(scores: Any) -> Any:
    """A generator can be read once, and its code runs when it is read."""
    return list(scores) if isinstance(scores, Iterator) else scores


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Whatever a user's code raises becomes one line with the scorer's name; an exit too, which would end the run as if
    it were done."""
    try:
        yield
    except RefineError:
        raise
    except (Exception, SystemExit) as error:
        raise RefineError(f"scorer {name!r} failed: {_line(error)}") from error


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
