"""Influence as a scorer: how far learning a pair goes the way in which people's pairs become likelier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.torch import load_file, save_file
from torch import Tensor

from refine_af.feedback.base import Better, Cost, Example
from refine_af.feedback.influence.anchors import DIRECTIONS, Anchors, Direction, directions_of
from refine_af.feedback.influence.gradients import PairGradients
from refine_af.models import build_once, cache_folder
from refine_af.prompts.training import TrainingTexts
from refine_af.records import content_id
from refine_af.rl.responses import Trajectory

VERSION = "2"  # to be raised with every change of what values depend on
_FILE = "anchors.safetensors"
Floats = npt.NDArray[np.float32]


class Influence:
    """The mean cosine of a pair's gradient with those of ``anchors``, in each direction of :data:`DIRECTIONS`.

    It remembers the last batch, so that all directions cost one pass. The anchors' gradients are taken when they are
    first needed, and kept in the cache by ``identity``, which names all that they depend on. ``texts``: pairs as they
    are trained on. An anchor is scored by the others.
    """

    def __init__(
        self,
        anchors: Sequence[Example],
        gradients: Callable[[], PairGradients],
        texts: TrainingTexts,
        identity: str,
        seed: int,
    ) -> None:
        self._anchors = tuple(anchors)
        self._make_gradients = gradients
        self._texts = texts
        self._seed = seed
        frame, prefix = texts.frame, tuple(texts.encoded(texts.frame.before))
        named = content_id(*(text for e in anchors for text in (e.instruction, e.input, e.output)))
        self.identity = f"{VERSION} {identity} asked {content_id(frame.before, frame.after)} anchors {named} {seed}"
        self._prefix = prefix
        self._gradients: PairGradients | None = None
        self._known: Anchors | None = None
        self._last: tuple[tuple[Example, ...], Floats] = ((), np.zeros((0, len(DIRECTIONS)), np.float32))

    def __call__(self, examples: Sequence[Example]) -> Floats:
        """(n, k), each from -1 to 1."""
        key = tuple(examples)
        if self._last[0] != key:
            self._last = (key, self._values(key))
        return self._last[1]

    def people(self, direction: Direction) -> tuple[float, float]:
        """Mean and spread of what the anchors get, each by the others: what a pair as a person writes it is worth."""
        values = self._learnt().values[:, DIRECTIONS.index(direction)]
        return float(values.mean()), float(values.std(correction=0))

    def _values(self, examples: Sequence[Example]) -> Floats:
        anchors = self._learnt()
        known = dict(zip(self._anchors, anchors.values.numpy(), strict=True))
        new = [one for one in examples if one not in known]
        read = self._reader().products([self._row(one, True) for one in new], anchors.means).numpy() if new else ()
        found = known | dict(zip(new, read, strict=True))
        return np.stack([found[one] for one in examples])

    def _reader(self) -> PairGradients:
        if self._gradients is None:
            self._gradients = self._make_gradients()
        return self._gradients

    def _learnt(self) -> Anchors:
        if self._known is None:
            folder = build_once(cache_folder() / "anchors" / content_id(self.identity), self._build)
            kept = load_file(folder / _FILE)
            self._known = Anchors(kept["means"], kept["values"])
        return self._known

    def _build(self, folder: Path) -> None:
        made = directions_of(self._anchors, self._reader(), self._row, self._seed)
        tensors: dict[str, Tensor] = {"means": made.means.contiguous(), "values": made.values.contiguous()}
        save_file(tensors, folder / _FILE)

    def _row(self, pair: Example, with_end: bool) -> Trajectory:
        """What the model reads of a pair. Not all tokenizers part a prompt where the frame ends."""
        text = self._texts(pair)
        shared = len(self._prefix) if text.prompt[: len(self._prefix)] == self._prefix else 0
        shared = min(shared, len(text.prompt) - 1)
        response = text.response if with_end or text.is_cut else text.response[:-1]
        return Trajectory(text.prompt[:shared], text.prompt[shared:], response or text.response)


class InfluenceScorer:
    """One direction of an :class:`Influence`."""

    low, high = -1.0, 1.0
    better: Better = "high"
    cost: Cost = "forward pass"

    def __init__(self, influence: Influence, direction: Direction, name: str = "influence") -> None:
        self.name = name
        self.identity: str | None = f"{influence.identity} {direction}"
        self._influence = influence
        self._column = DIRECTIONS.index(direction)

    def score(self, examples: Sequence[Example]) -> list[float]:
        if not examples:
            return []
        return [float(value) for value in self._influence(examples)[:, self._column]]
