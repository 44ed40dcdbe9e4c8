"""Asks a policy for pairs, turn by turn, reads them and has them judged: what policy training and instances share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from refine_af.config import SamplingConfig
from refine_af.engines.base import Completion, Engine, Prompts, Stop
from refine_af.errors import RefineError
from refine_af.feedback.base import Example, Feedback, Judgement
from refine_af.feedback.embedding import nearness
from refine_af.filters import pair_fault
from refine_af.language import ENGLISH, Language
from refine_af.models import has_encoder
from refine_af.prompts.dialect import Frame
from refine_af.prompts.pairs import ANSWERS, INPUTS, Pair, Turn, Unreadable, read_turn, turn_frame, turn_task, turns_of
from refine_af.records import Instruction, SeedTask, derived_seed
from refine_af.stages.context import Context, calibration_examples, seed_tasks
from refine_af.stages.demonstrations import Demonstrations, Shown
from refine_af.topics import Topics

Fault = tuple[str, str]  # reason, detail


@dataclass(frozen=True, slots=True)
class WrittenTurn:
    """A completion behind what asked for it: ``prefix``, the shown tasks, is common to many prompts, ``prompt`` not.
    ``opening``: the words at the prompt's end with which what is written opens."""

    turn: Turn
    prefix: str
    prompt: str
    shown: Shown
    completion: Completion
    opening: str = ""

    @property
    def text(self) -> str:
        """All that was written, with what it opens with."""
        return f"{self.opening}{self.completion.text}".strip()


@dataclass(frozen=True, slots=True)
class WrittenPair:
    """What a policy wrote for an instruction, in one turn or two, and the pair in it, or the fault that makes it none.

    A turn that can't be read is the last: the next would have been asked with it.
    """

    instruction: Instruction
    turns: tuple[WrittenTurn, ...]
    pair: Pair | None
    fault: Fault | None
    judgement: Judgement  # of the pair; the floor, without components, where there is none

    @property
    def sound(self) -> bool:
        """Whether it is a pair that breaks no named rule, fails no gate and is not at the floor."""
        return self.fault is None and self.judgement.sound

    @property
    def ended(self) -> bool:
        return all(turn.completion.ended for turn in self.turns)

    @property
    def tokens(self) -> int:
        return sum(len(turn.completion.token_ids) for turn in self.turns)

    @property
    def input(self) -> str:
        """As it was written; empty where none was."""
        return "\n".join(t.text for t in self.turns if t.turn in INPUTS)

    @property
    def output(self) -> str:
        return "\n".join(t.text for t in self.turns if t.turn not in INPUTS)


@dataclass
class _Draft:
    """A pair in the making."""

    instruction: Instruction
    turns: list[WrittenTurn] = field(default_factory=list)
    said: dict[Turn, str] = field(default_factory=dict)
    fault: Fault | None = None

    @property
    def pair(self) -> Pair:
        """Of a draft whose turns are all there."""
        said = self.said
        if "label" in said:
            return Pair(said["input of label"], said["label"])
        return Pair(said.get("input", ""), said["answer to input"] if "input" in said else said["answer"])


class PairWriter:
    """Demonstrations, feedback and sampling for the pairs of one run. ``training``: the feedback is what a policy is
    paid, not that by which pairs are chosen."""

    def __init__(self, context: Context, *, training: bool = False) -> None:
        self._context = context
        self._training = training
        self._frames: dict[tuple[Turn, Shown], Frame] = {}

    @cached_property
    def feedback(self) -> Feedback:
        store = self._context.store
        made = self._context.parts.feedback(calibration_examples(self._context), store)
        made = made.with_calibration_of(store)
        return made.for_training() if self._training else made

    @cached_property
    def _seeds(self) -> list[SeedTask]:
        return seed_tasks(self._context.store, "kept")

    @cached_property
    def demonstrations(self) -> Demonstrations:
        context = self._context
        near = nearness(context.parts.encoder, [t.instruction for t in self._seeds]) if has_encoder() else None
        return Demonstrations(self._seeds, context.config, is_chat=context.parts.dialect.is_chat, near=near)

    @cached_property
    def topics(self) -> Topics:
        return Topics(self._seeds)

    def write(
        self,
        engine: Engine,
        instructions: Sequence[Instruction],
        sampling: SamplingConfig,
        seed: int,
        *,
        log_probs: bool = False,
        one_input: Sequence[int] = (),
    ) -> list[WrittenPair]:
        """One judged pair an instruction, in order. Instructions may repeat, to have several candidates.

        First turns of all instructions are written together, then the second ones of those whose first can be read.
        ``one_input``: sizes of groups, side by side, of one instruction each, whose answers are all to the same input,
        the first of the group's that can be read.
        """
        drafts = [_Draft(i) for i in instructions]
        plans = [
            turns_of(needs_input=bool(i.needs_input), is_classification=bool(i.is_classification)) for i in instructions
        ]
        # Labels, the inputs that have them, inputs, and then all answers: those behind an input stand with the others.
        for turns in (("label",), INPUTS, ANSWERS):
            asked = [
                (draft, turn)
                for draft, plan in zip(drafts, plans, strict=True)
                for turn in plan
                if turn in turns and draft.fault is None
            ]
            if asked:
                self._write_turns(engine, asked, sampling, derived_seed(seed, *turns), log_probs)
            if turns == INPUTS:
                _share_inputs(drafts, one_input)
        return self._judged(drafts)

    def _write_turns(
        self,
        engine: Engine,
        asked: Sequence[tuple[_Draft, Turn]],
        sampling: SamplingConfig,
        seed: int,
        log_probs: bool,
    ) -> None:
        """Prompts that show the same tasks make a group, which begins alike."""
        groups: dict[tuple[Turn, Shown], list[tuple[_Draft, str, str]]] = {}
        for draft, turn in asked:
            text, said = draft.instruction.text, draft.said
            task = turn_task(turn, text, input=said.get("input", ""), label=said.get("label", ""))
            key = (turn, self.demonstrations.of(turn, text, task))
            groups.setdefault(key, []).append((draft, task, self.demonstrations.opening(turn, text, task)))
        frames = {key: self._frame(*key) for key in groups}
        prompts = [
            Prompts(frames[key].before, tuple(f"{task}{frames[key].after}{opening}" for _, task, opening in members))
            for key, members in groups.items()
        ]
        # All frames of a call are of one kind, and end alike.
        stop = Stop(next(iter(frames.values())).stop)
        made = engine.generate(prompts, sampling, seed=seed, stop=stop, log_probs=log_probs)
        for (key, members), group, completions in zip(groups.items(), prompts, made, strict=True):
            for (draft, _, opening), prompt, completion in zip(members, group.suffixes, completions, strict=True):
                turn, shown = key
                written = WrittenTurn(turn, group.prefix, prompt, shown, completion, opening)
                draft.turns.append(written)
                # What opens and goes no further was not written.
                text = written.text if completion.text.strip() else ""
                read = read_turn(turn, text, ended=completion.ended)
                if isinstance(read, Unreadable):
                    draft.fault = (read.reason, read.detail)
                else:
                    draft.said[turn] = read

    def _frame(self, turn: Turn, shown: Shown) -> Frame:
        key = (turn, shown)
        if key not in self._frames:
            system = self._context.config.instances.system
            self._frames[key] = turn_frame(self._context.parts.dialect, turn, shown, system)
        return self._frames[key]

    def _judged(self, drafts: Sequence[_Draft]) -> list[WrittenPair]:
        language = self._context.config.reads
        for draft in drafts:
            if draft.fault is None:
                shown = [task for turn in draft.turns for task in turn.shown]
                asked = " ".join([draft.instruction.text, *(turn.opening for turn in draft.turns)])
                draft.fault = pair_fault(draft.pair, draft.instruction.text, asked, shown, self.topics, language)
        good = [draft for draft in drafts if draft.fault is None]
        examples = [Example(d.instruction.text, d.pair.input, d.pair.output) for d in good]
        judged = iter(self._judge(examples, drafts))
        nothing = Judgement(self.feedback.floor, {}, sound=False)
        return [
            WrittenPair(d.instruction, tuple(d.turns), d.pair, None, next(judged))
            if d.fault is None
            else WrittenPair(d.instruction, tuple(d.turns), None, d.fault, nothing)
            for d in drafts
        ]

    def _judge(self, examples: Sequence[Example], drafts: Sequence[_Draft]) -> list[Judgement]:
        """Where a scorer fails, the batch's completions are kept until a later process has judged them: the run stops
        before it spends more, and what it stopped at can be looked at."""
        store = self._context.store
        try:
            judgements = self.feedback.judge(examples)
        except RefineError as error:
            texts = [(d.instruction.id, "\n".join(turn.completion.text for turn in d.turns)) for d in drafts]
            store.keep_unjudged(texts, " ".join(str(error).split()))
            raise type(error)(
                f"{error}; the batch's {len(drafts)} completions are kept in run.db (table unjudged), "
                "and once that is mended the same command goes on from here"
            ) from error
        store.clear_unjudged()
        return judgements


def _share_inputs(drafts: Sequence[_Draft], groups: Sequence[int]) -> None:
    rest = iter(drafts)
    for size in groups:
        group = list(islice(rest, size))
        if donor := next((draft for draft in group if "input" in draft.said), None):
            for draft in group:
                draft.turns, draft.said, draft.fault = list(donor.turns), dict(donor.said), None


def mean_shares(written: Sequence[WrittenPair]) -> dict[str, float]:
    """What each component adds to the mean reward, over all that was written: what is no pair has the floor, and
    nothing of the components in it."""
    names = sorted({n for w in written for n in w.judgement.shares})
    return {name: sum(w.judgement.shares.get(name, 0.0) for w in written) / len(written) for name in names}


def distinct_bigrams(texts: Sequence[str], language: Language = ENGLISH) -> float:
    """Different word bigrams over all word bigrams of the texts, in [0, 1]. Li et al. 2016 (arXiv 1510.03055)."""
    bigrams = [pair for text in texts for words in [language.tokens(text)] for pair in zip(words, words[1:])]  # noqa: B905
    return len(set(bigrams)) / len(bigrams) if bigrams else 0.0
