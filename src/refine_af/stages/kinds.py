"""Of what kind an instruction is, learned from the run's own seeds: whether it needs an input, whether it is
classification.

With the sentence encoder by logistic regression on the seeds' instructions; without it the model is asked. Where the
seeds are all of one kind, so is every instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from refine_af.feedback.embedding import nearness
from refine_af.logistic import fitted
from refine_af.models import has_encoder
from refine_af.prompts.kinds import NO, YES, Kind, best_threshold, is_of_kind, kind_prompt
from refine_af.prompts.pointing import points_at, quotes_text
from refine_af.records import derived_random
from refine_af.stages.context import Context, seed_tasks
from refine_af.stages.openers import Openers

_LONGEST_ASKED = 30  # words of an instruction in a few-shot question
_SHOWN_OF_A_KIND = 1
_CALIBRATED_ON = 24

Decide = Callable[[Sequence[str]], list[bool]]


class Kinds:
    """Decides for instructions, a batch at a time. What is dear is made when first asked."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._language = context.config.reads
        self._seeds = seed_tasks(context.store, "kept")

    def need_input(self, texts: Sequence[str], asked: Sequence[bool | None]) -> list[bool]:
        """As ``instances.inputs`` says. Else an instruction that points at something given does, always; another one
        where it is like the seeds that have one, unless it was ``asked`` to need none or quotes what it is about."""
        wanted = self._context.config.instances.inputs
        if wanted != "auto":
            return [wanted == "always"] * len(texts)
        if (same := self._only("needs input")) is not None:
            return [same] * len(texts)
        decided = self._deciders["needs input"](texts)
        return [
            (self._language.is_english and points_at(text) is not None)
            or (like and wish is not False and not quotes_text(text))
            for text, like, wish in zip(texts, decided, asked, strict=True)
        ]

    def lacks_input(self, text: str, asked: bool | None) -> bool:
        """Whether it needs an input, and none can be expected that fits: see :mod:`refine_af.stages.openers`. Of other
        languages than English the encoder doesn't tell what is alike."""
        openers = self._openers
        return openers is not None and openers.fails(text) and self.need_input([text], [asked])[0]

    def are_classification(self, texts: Sequence[str]) -> list[bool]:
        if (same := self._only("classification")) is not None:
            return [same] * len(texts)
        return self._deciders["classification"](texts)

    def _only(self, kind: Kind) -> bool | None:
        """The kind of all seeds; None where there are both."""
        found = {is_of_kind(kind, t) for t in self._seeds}
        return found.pop() if len(found) == 1 else None

    @cached_property
    def _deciders(self) -> dict[Kind, Decide]:
        make = self._by_embedding if has_encoder() else self._by_model
        kinds: tuple[Kind, ...] = ("needs input", "classification")
        return {kind: make(kind) for kind in kinds if self._only(kind) is None}

    @cached_property
    def _openers(self) -> Openers | None:
        options = self._context.config.instances
        if options.inputs == "never" or not options.opened_inputs or not has_encoder() or not self._language.is_english:
            return None
        near = nearness(self._context.parts.encoder, [t.instruction for t in self._seeds])
        return Openers(self._seeds, near, self._language)

    def _by_embedding(self, kind: Kind) -> Decide:
        encoder = self._context.parts.encoder
        rows = encoder.embed([t.instruction for t in self._seeds])
        learned = fitted(rows, np.array([is_of_kind(kind, t) for t in self._seeds]))
        return lambda texts: [bool(p > 0.5) for p in learned.probabilities(encoder.embed(texts))]

    def _by_model(self, kind: Kind) -> Decide:
        """Its habit of saying Yes or No is taken off by labelled seeds."""
        short = [t for t in self._seeds if self._language.count(t.instruction) <= _LONGEST_ASKED]
        derived_random(self._context.config.seed, kind).shuffle(short)
        both = [[t for t in short if is_of_kind(kind, t) == yes] for yes in (True, False)]
        shown = [t for pair in zip(*(k[:_SHOWN_OF_A_KIND] for k in both), strict=False) for t in pair]
        measured = [t for k in both for t in k[_SHOWN_OF_A_KIND : _SHOWN_OF_A_KIND + _CALIBRATED_ON // 2]]

        def scores(texts: Sequence[str]) -> list[float]:
            beginning = self._context.parts.dialect.beginning
            prompts = [beginning + kind_prompt(kind, shown, text) for text in texts]
            answers = self._context.parts.initial_engine.log_probs([(p, a) for p in prompts for a in (YES, NO)])
            return [float(yes.sum() - no.sum()) for yes, no in zip(answers[::2], answers[1::2], strict=True)]

        threshold = best_threshold(
            scores([t.instruction for t in measured]),
            [is_of_kind(kind, t) for t in measured],
            len(both[0]) / max(1, len(short)),
        )
        return lambda texts: [score > threshold for score in scores(texts)]
