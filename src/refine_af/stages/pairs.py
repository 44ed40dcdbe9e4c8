"""Asks a policy for pairs, reads them and has them judged: the step that policy training and instances share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from refine_af.config import SamplingConfig
from refine_af.engines.base import Completion, Engine, Prompts, Stop
from refine_af.errors import RefineError
from refine_af.feedback.base import Example, Feedback, Judgement
from refine_af.filters import COPIED, copied_demonstration, pair_fault
from refine_af.novelty import tokens
from refine_af.prompts.dialect import Frame
from refine_af.prompts.pairs import Pair, Unreadable, pair_frame, parse_pair
from refine_af.records import Instruction, SeedTask
from refine_af.stages.context import Context, calibration_examples, demonstrations


@dataclass(frozen=True, slots=True)
class WrittenPair:
    """A completion for an instruction: the pair that was read from it, or the fault that makes it none."""

    instruction: Instruction
    completion: Completion
    pair: Pair | None
    fault: tuple[str, str] | None  # reason, detail
    judgement: Judgement  # of the pair; the floor, without components, where there is none


class PairWriter:
    """Frames, feedback and sampling for the pairs of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @cached_property
    def feedback(self) -> Feedback:
        store = self._context.store
        made = self._context.parts.feedback(calibration_examples(self._context), store)
        return made.with_calibration_of(store)

    @cached_property
    def _shown(self) -> dict[bool, list[SeedTask]]:
        return {kind: demonstrations(self._context, classification=kind) for kind in (False, True)}

    @cached_property
    def _frames(self) -> dict[bool, Frame]:
        dialect = self._context.parts.dialect
        return {kind: pair_frame(dialect, shown, label_first=kind) for kind, shown in self._shown.items()}

    def frame(self, instruction: Instruction) -> Frame:
        """Label first for classification, input first for all else."""
        return self._frames[bool(instruction.is_classification)]

    def write(
        self,
        engine: Engine,
        instructions: Sequence[Instruction],
        sampling: SamplingConfig,
        seed: int,
        *,
        log_probs: bool = False,
    ) -> list[WrittenPair]:
        """One judged completion an instruction, in order. Instructions may repeat, to have several candidates."""
        completions: list[Completion | None] = [None] * len(instructions)
        for kind, frame in self._frames.items():
            places = [i for i, one in enumerate(instructions) if bool(one.is_classification) == kind]
            if not places:
                continue
            prompts = Prompts(frame.before, tuple(instructions[i].text + frame.after for i in places))
            (made,) = engine.generate([prompts], sampling, seed=seed, stop=Stop(frame.stop), log_probs=log_probs)
            for i, completion in zip(places, made, strict=True):
                completions[i] = completion
        return self._judged(instructions, [c for c in completions if c is not None])

    def read(self, instruction: Instruction, text: str, *, ended: bool) -> tuple[Pair | None, tuple[str, str] | None]:
        """The pair of a completion, or the fault that makes it none."""
        pair = parse_pair(text, ended=ended)
        if isinstance(pair, Unreadable):
            return None, (pair.reason, "")
        fault = pair_fault(pair)
        if fault is None:
            copied = copied_demonstration(pair, instruction.text, self._shown[bool(instruction.is_classification)])
            fault = None if copied is None else (COPIED, copied[:80])
        return (None, fault) if fault else (pair, None)

    def _judged(self, instructions: Sequence[Instruction], completions: Sequence[Completion]) -> list[WrittenPair]:
        read = [self.read(i, c.text, ended=c.ended) for i, c in zip(instructions, completions, strict=True)]
        good = [i for i, (pair, _) in enumerate(read) if pair is not None]
        examples = [
            Example(instructions[i].text, pair.input, pair.output) for i in good if (pair := read[i][0]) is not None
        ]
        judged = dict(zip(good, self._judge(examples, instructions, completions), strict=True))
        nothing = Judgement(self.feedback.floor, {})
        return [
            WrittenPair(instructions[i], completions[i], pair, fault, judged.get(i, nothing))
            for i, (pair, fault) in enumerate(read)
        ]

    def _judge(
        self, examples: Sequence[Example], instructions: Sequence[Instruction], completions: Sequence[Completion]
    ) -> list[Judgement]:
        """Where a scorer fails, the batch's completions are kept until a later process has judged them: the run stops
        before it spends more, and what it stopped at can be looked at."""
        store = self._context.store
        try:
            judgements = self.feedback.judge(examples)
        except RefineError as error:
            store.keep_unjudged(
                [(i.id, c.text) for i, c in zip(instructions, completions, strict=True)], " ".join(str(error).split())
            )
            raise type(error)(
                f"{error}; the batch's {len(completions)} completions are kept in run.db (table unjudged), "
                "and once that is mended the same command goes on from here"
            ) from error
        store.clear_unjudged()
        return judgements


def mean_shares(written: Sequence[WrittenPair]) -> dict[str, float]:
    """What each component adds to the mean reward, over all completions: one that is no pair has the floor, and nothing
    of the components in it."""
    names = sorted({n for w in written for n in w.judgement.shares})
    return {name: sum(w.judgement.shares.get(name, 0.0) for w in written) / len(written) for name in names}


def distinct_bigrams(texts: Sequence[str]) -> float:
    """Different word bigrams over all word bigrams of the texts, in [0, 1]. Li et al. 2016 (arXiv 1510.03055)."""
    bigrams = [pair for text in texts for words in [tokens(text)] for pair in zip(words, words[1:])]  # noqa: B905
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0
