"""Promises of the writer of pairs: what an engine is asked and in which order, where a pair ends, and what is learned
from it. The engine is a script that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from example_rows import instance, instruction, seed, task
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import SamplingConfig, load_config
from refine_af.engines.base import NO_STOP, Completion, Prompts, Stop
from refine_af.errors import RefineError
from refine_af.feedback.base import Example
from refine_af.feedback.composite import Component, Composite, Gate
from refine_af.filters import COPIED, HOLLOW, TOPIC
from refine_af.progress import Silent
from refine_af.prompts.answers import answer_frame, asked
from refine_af.prompts.dialect import Dialect
from refine_af.prompts.pairs import Pair
from refine_af.records import Instruction, SeedTask
from refine_af.stages.context import Context
from refine_af.stages.demonstrations import Demonstrations
from refine_af.stages.held_out import rollout
from refine_af.stages.pairs import PairWriter, WrittenPair
from refine_af.stages.rollouts import rollout_figures, scores, trajectories
from refine_af.store import Store

SAMPLING = SamplingConfig(max_tokens=8)
FLOOR = -3.0
SEEDS = [
    *(task(f"Tell of {what}", "", f"All of {what} is odd") for what in ("anchors", "beetles", "cellars")),
    *(task(f"Weigh {what}", f"a heap of {what}", "heavy") for what in ("doors", "ears", "figs")),
    *(task(f"Judge {what}", f"some {what}", "good", is_classification=True) for what in ("gates", "herbs", "ices")),
]
OPEN = instruction("open", text="Sing to me.", needs_input=False, is_classification=False)
GIVEN = instruction("given", text="Polish this stone.", needs_input=True, is_classification=False)
LABELLED = instruction("labelled", text="Is it warm?", needs_input=True, is_classification=True)
NO_INPUT = instruction("no input", text="Is it late?", needs_input=False, is_classification=True)


class Tokenizer:
    """A base model's, whose tokens are characters."""

    chat_template = None
    bos_token_id = None
    bos_token = None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(c) for c in text]


class Words:
    """The words of an output; one that is no number is refused where it is told to."""

    name, low, high, better, cost, identity = "words", 0.0, 100.0, "high", "rules", None
    broken = False

    def score(self, examples: Sequence[Example]) -> list[float]:
        return [float("nan") if self.broken else float(len(e.output.split())) for e in examples]


class Scripted:
    """An engine whose answers are a function of the prompt. ``asked`` holds the groups of each call."""

    name, model = "scripted", "scripted"

    def __init__(self, says: Callable[[str], str | tuple[str, bool]]) -> None:
        self.says = says
        self.asked: list[list[Prompts]] = []
        self.seeds: list[int] = []
        self.stops: list[Stop] = []

    def generate(
        self, groups: Sequence[Prompts], sampling: Any, *, seed: int, stop: Stop = NO_STOP, log_probs: bool = False
    ) -> list[list[Completion]]:
        self.asked.append(list(groups))
        self.seeds.append(seed)
        self.stops.append(stop)
        return [[self._one(group.prefix + suffix, log_probs) for suffix in group.suffixes] for group in groups]

    def _one(self, prompt: str, log_probs: bool) -> Completion:
        said = self.says(prompt)
        text, ended = said if isinstance(said, tuple) else (said, True)
        ids = (*(ord(c) for c in text), *((0,) if ended else ()))
        return Completion(text, ids, ended, (-1.0,) * len(ids) if log_probs else None)

    @property
    def prompts(self) -> list[list[str]]:
        """Of each call, all prompts."""
        return [[group.prefix + suffix for group in groups for suffix in group.suffixes] for groups in self.asked]


def kind_of(prompt: str) -> str:
    """What a prompt of a base model asks for: a label, an input of one, an input, or an answer."""
    heading = prompt.rpartition("### ")[2].partition("\n")[0].lower()
    if heading == "input":
        last = prompt.rpartition("### Task\n")[2]
        return "input of label" if "### Label\n" in last else "input"
    return heading


def by_kind(**says: str | tuple[str, bool]) -> Callable[[str], str | tuple[str, bool]]:
    ordinary: dict[str, Any] = {
        "label": "yes", "input of label": "a mild wind", "input": "rough", "answer": "smooth now",
    }  # fmt: skip
    return lambda prompt: (ordinary | says)[kind_of(prompt)]


pytestmark = pytest.mark.usefixtures("any_set_is_shown")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with Store(tmp_path / "run.db") as store:
        yield context_of(store, SEEDS)


def context_of(store: Store, seeds: Sequence[SeedTask], *overrides: str) -> Context:
    store.add_instructions(
        seed(t.id, text=t.instruction, is_classification=t.is_classification, needs_input=bool(t.input)) for t in seeds
    )
    store.add_instances(instance(f"{t.id}!", t.id, input=t.input, output=t.output, policy="seed") for t in seeds)
    store.add_instructions([OPEN, GIVEN, LABELLED, NO_INPUT])
    tokenizer: Any = Tokenizer()
    words: Any = Words()
    feedback = Composite("words", [Component(words, 1.0)], floor=FLOOR)
    parts: Any = SimpleNamespace(
        dialect=Dialect(tokenizer), tokenizer=tokenizer, feedback=lambda pairs, memory: feedback, scorer=words
    )
    config = load_config(overrides=["instances.demonstrations=2", *overrides])
    return Context(config, store, store.path.parent, parts, Silent())


def write(context: Context, engine: Scripted, *instructions: Instruction, **options: Any) -> list[WrittenPair]:
    made: Any = engine
    return PairWriter(context).write(made, instructions, SAMPLING, options.pop("seed", 0), **options)


# -- what is asked, and when ---------------------------------------------------------------------------


def test_labels_come_before_the_inputs_that_have_them_and_inputs_before_answers(context: Context) -> None:
    engine = Scripted(by_kind())
    write(context, engine, OPEN, GIVEN, LABELLED, NO_INPUT)
    kinds = [sorted({kind_of(p) for p in prompts}) for prompts in engine.prompts]
    assert kinds == [["label"], ["input", "input of label"], ["answer"]]
    assert [len(prompts) for prompts in engine.prompts] == [1, 2, 3]
    assert len(set(engine.seeds)) == 3, "turns are sampled independently"


def test_nothing_is_asked_where_no_turn_of_its_kind_is_due(context: Context) -> None:
    engine = Scripted(by_kind())
    write(context, engine, OPEN, NO_INPUT)
    assert [{kind_of(p) for p in prompts} for prompts in engine.prompts] == [{"answer"}]
    assert write(context, engine) == []


def test_the_second_turn_is_asked_with_what_the_first_said(context: Context) -> None:
    engine = Scripted(by_kind(input=" a rough stone \n"))
    write(context, engine, GIVEN, LABELLED)
    _, inputs, answers = engine.prompts
    assert [p for p in inputs if p.endswith("### Task\nIs it warm?\n\n### Label\nyes\n\n### Input\n")]
    (answer,) = answers
    assert answer.endswith("### Task\nPolish this stone.\n\na rough stone\n\n### Answer\n")


def test_an_answer_is_asked_for_in_the_words_of_fine_tuning_behind_demonstrations_of_its_kind(
    context: Context,
) -> None:
    engine = Scripted(by_kind())
    pairs = write(context, engine, OPEN, GIVEN)
    for written, input in zip(pairs, ("", "rough"), strict=True):
        last = written.turns[-1]
        frame = answer_frame(context.parts.dialect, last.shown, context.config.instances.system)
        assert last.prefix + last.prompt == frame.prompt(asked(written.instruction.text, input))
        assert last.prefix == frame.before
        assert len(last.shown) == 2
        assert all(bool(t.input) == bool(input) and not t.is_classification for t in last.shown)


def test_prompts_that_show_the_same_tasks_make_one_group_and_no_group_mixes_kinds(context: Context) -> None:
    many = [instruction(f"o{i}", text=f"Sing {i}.", needs_input=False) for i in range(40)]
    many += [instruction(f"g{i}", text=f"Polish {i}.", needs_input=True) for i in range(40)]
    context.store.add_instructions(many)
    engine = Scripted(by_kind())
    pairs = write(context, engine, *many)
    for groups in engine.asked:
        assert len({group.prefix for group in groups}) == len(groups)
        assert len(groups) > 1
    for number in (0, -1):
        shown: dict[str, set[Any]] = {}
        for written in pairs:
            shown.setdefault(written.turns[number].prefix, set()).add(written.turns[number].shown)
        assert all(len(sets) == 1 for sets in shown.values())


def test_pairs_come_back_in_the_order_of_the_instructions_which_may_repeat(context: Context) -> None:
    asked_for = [LABELLED, OPEN, GIVEN, OPEN, LABELLED, GIVEN]
    pairs = write(context, Scripted(by_kind()), *asked_for)
    assert [w.instruction for w in pairs] == asked_for
    assert [w.pair for w in pairs] == [
        Pair("a mild wind", "yes"), Pair("", "smooth now"), Pair("rough", "smooth now"),
        Pair("", "smooth now"), Pair("a mild wind", "yes"), Pair("rough", "smooth now"),
    ]  # fmt: skip


def test_an_answer_ends_where_the_next_heading_begins(context: Context) -> None:
    engine = Scripted(by_kind())
    write(context, engine, GIVEN, LABELLED)
    assert all(stop.cut("yes\n### Task\nmore") == ("yes", True) for stop in engine.stops)


# -- where a pair ends ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("says", "fault"),
    [
        ({"input": ("half a st", False)}, ("cut by length", "input")),
        ({"input": " \n"}, ("empty input", "")),
        ({"answer": ("half an ans", False)}, ("cut by length", "output")),
        ({"answer": ""}, ("empty output", "")),
    ],
)
def test_a_turn_that_cant_be_read_is_the_last_and_its_pair_has_the_floor(
    context: Context, says: dict[str, Any], fault: tuple[str, str]
) -> None:
    engine = Scripted(by_kind(**says))
    (written,) = write(context, engine, GIVEN)
    assert written.fault == fault
    assert written.pair is None
    assert (written.judgement.reward, written.judgement.components, written.judgement.sound) == (FLOOR, {}, False)
    assert len(written.turns) == len(engine.prompts) == (1 if "input" in says else 2)
    assert written.ended == fault[0].startswith("empty")


@pytest.mark.parametrize("label", [("ye", False), ""])
def test_a_label_that_cant_be_read_has_no_input_written(context: Context, label: Any) -> None:
    engine = Scripted(by_kind(label=label))
    (written,) = write(context, engine, LABELLED)
    assert [kind_of(p) for prompts in engine.prompts for p in prompts] == ["label"]
    assert written.fault == (("empty output", "") if label == "" else ("cut by length", "output"))


def test_one_pair_that_ends_early_keeps_no_other_from_its_second_turn(context: Context) -> None:
    other = instruction("other", text="Polish that brass.", needs_input=True)
    context.store.add_instructions([other])
    engine = Scripted(lambda p: ("cu", False) if "Polish this stone." in p else by_kind()(p))
    first, second = write(context, engine, GIVEN, other)
    assert (len(first.turns), first.pair) == (1, None)
    assert (len(second.turns), second.pair) == (2, Pair("rough", "smooth now"))
    assert [len(prompts) for prompts in engine.prompts] == [2, 1]


@pytest.mark.parametrize(
    ("says", "of", "reason"),
    [
        ({"answer": "rough"}, GIVEN, "output is the input"),
        ({"answer": "as follows:"}, OPEN, "ends in a colon"),
        ({"input": "as follows:"}, GIVEN, "ends in a colon"),
        ({"answer": "anchors and beetles and cellars"}, OPEN, TOPIC),
    ],
)
def test_a_pair_that_is_read_and_falls_to_a_rule_is_told_by_its_name(
    context: Context, says: dict[str, Any], of: Instruction, reason: str
) -> None:
    (written,) = write(context, Scripted(by_kind(**says)), of)
    assert written.fault is not None
    assert written.fault[0] == reason
    assert not written.judgement.sound
    assert written.judgement.reward == FLOOR


def test_a_pair_without_the_input_that_its_instruction_points_at_is_hollow(context: Context) -> None:
    hollow = instruction("hollow", text="Summarise the following text.", needs_input=False)
    context.store.add_instructions([hollow])
    (written,) = write(context, Scripted(by_kind()), hollow)
    assert written.fault is not None
    assert written.fault[0] == HOLLOW
    filled = instruction("filled", text="Summarise the following text.", needs_input=True)
    (written,) = write(context, Scripted(by_kind()), filled)
    assert written.fault is None


def test_a_pair_that_says_what_it_was_shown_is_a_copy(context: Context) -> None:
    def copied(prompt: str) -> str:
        return prompt.partition("### Answer\n")[2].partition("\n")[0]

    (written,) = write(context, Scripted(copied), OPEN)
    assert written.fault is not None
    assert (written.fault[0], written.fault[1]) == (COPIED, written.turns[0].completion.text)


def test_a_good_pair_is_judged(context: Context) -> None:
    (written,) = write(context, Scripted(by_kind()), GIVEN)
    assert (written.fault, written.judgement.reward, written.judgement.sound) == (None, 2.0, True)


def test_an_instruction_whose_kinds_were_never_decided_is_answered(context: Context) -> None:
    (written,) = write(context, Scripted(by_kind()), instruction("old"))
    assert [t.turn for t in written.turns] == ["answer"]


def test_where_a_scorer_fails_what_was_written_is_kept_turn_by_turn(context: Context) -> None:
    context.parts.scorer.broken = True  # type: ignore[attr-defined]
    with pytest.raises(RefineError, match="the batch's 2 completions are kept"):
        write(context, Scripted(by_kind()), GIVEN, OPEN)
    found = context.store.query("SELECT instruction_id, text FROM unjudged")
    assert [tuple(row) for row in found] == [("given", "rough\nsmooth now"), ("open", "smooth now")]
    context.parts.scorer.broken = False  # type: ignore[attr-defined]
    write(context, Scripted(by_kind()), GIVEN)
    assert context.store.query("SELECT * FROM unjudged") == []


# -- what is learned from it ---------------------------------------------------------------------------


def decoded(ids: Sequence[int]) -> str:
    return "".join(chr(i) for i in ids)


@given(st.lists(st.sampled_from([OPEN, GIVEN, LABELLED, NO_INPUT]), min_size=1, max_size=6), st.data())
def test_a_trajectory_is_a_turns_prompt_and_what_was_sampled_and_nothing_behind_it(
    tmp_path_factory: pytest.TempPathFactory, instructions: list[Instruction], data: st.DataObject
) -> None:
    said = st.tuples(st.sampled_from(["", " ", "a word", "two lines\nof it", "x:"]), st.booleans())
    with Store(tmp_path_factory.mktemp("run") / "run.db") as store:
        context = context_of(store, SEEDS, "policy.action=pair")
        engine = Scripted(lambda prompt: data.draw(said))
        pairs = write(context, engine, *instructions, log_probs=True)
        for written in pairs:
            made = trajectories(context, written)
            assert len(made) == len(written.turns)
            for one, turn in zip(made, written.turns, strict=True):
                assert decoded(one.prefix_ids) + decoded(one.prompt_ids) == turn.prefix + turn.prompt
                assert turn.prefix + turn.prompt in [p for prompts in engine.prompts for p in prompts]
                assert tuple(one.response_ids) == turn.completion.token_ids
                assert one.engine_log_probs == turn.completion.log_probs
            assert written.tokens == sum(len(one.response_ids) for one in made)
            assert written.ended == all(t.completion.ended for t in written.turns)
        sound = [w.judgement.reward for w in pairs if w.sound]
        expected = sum(sound) / len(sound) - context.config.policy.fault_penalty if sound else 0.0
        for written, paid in zip(pairs, scores(context, pairs), strict=True):
            assert paid == pytest.approx(written.judgement.reward if written.sound else expected)


class Counting:
    """Says of inputs which one it is, the first of which can't be read."""

    def __init__(self) -> None:
        self.written = 0

    def __call__(self, prompt: str) -> str | tuple[str, bool]:
        if kind_of(prompt) != "input":
            return by_kind()(prompt)
        self.written += 1
        return ("cut", False) if self.written == 1 else f"rough {self.written}"


def test_answers_that_are_compared_answer_the_first_input_of_their_group_that_can_be_read(context: Context) -> None:
    engine = Scripted(Counting())
    made = write(context, engine, GIVEN, GIVEN, GIVEN, OPEN, OPEN, GIVEN, GIVEN, one_input=[3, 2, 2])
    assert [one.input for one in made] == ["rough 2"] * 3 + [""] * 2 + ["rough 4"] * 2
    assert [one.fault for one in made] == [None] * 7
    assert len([p for prompts in engine.prompts for p in prompts if kind_of(p) == "answer"]) == 7


def test_labels_that_are_compared_have_inputs_of_their_own(context: Context) -> None:
    inputs = iter(["a mild wind", "a cold rain"])
    engine = Scripted(lambda p: next(inputs) if kind_of(p) == "input of label" else by_kind()(p))
    made = write(context, engine, LABELLED, LABELLED, one_input=[2])
    assert [one.input for one in made] == ["a mild wind", "a cold rain"]


def test_a_group_without_an_input_that_can_be_read_has_no_answer(context: Context) -> None:
    made = write(context, Scripted(by_kind(input=("cut", False))), GIVEN, GIVEN, one_input=[2])
    assert [one.fault for one in made] == [("cut by length", "input")] * 2


@pytest.mark.parametrize(
    ("of", "learnt"), [(OPEN, ["answer"]), (GIVEN, ["answer to input"]), (LABELLED, ["label"]), (NO_INPUT, ["answer"])]
)
def test_where_answers_are_the_action_nothing_is_learnt_from_inputs(
    tmp_path: Path, of: Instruction, learnt: list[str]
) -> None:
    with Store(tmp_path / "run.db") as store:
        context = context_of(store, SEEDS, "policy.action=answer")
        (written,) = write(context, Scripted(by_kind()), of, log_probs=True)
        made = [(*one.prefix_ids, *one.prompt_ids) for one in trajectories(context, written)]
        asked = [turn.prefix + turn.prompt for turn in written.turns if turn.turn in learnt]
        assert [decoded(ids) for ids in made] == asked


@pytest.mark.parametrize("cap", [-100.0, 100.0])
def test_a_pair_that_fails_a_gate_is_paid_like_one_that_breaks_a_rule_whatever_the_cap(
    context: Context, cap: float
) -> None:
    words = context.parts.scorer  # type: ignore[attr-defined]
    gated = Composite("gated", [Component(words, 1.0)], floor=-200.0, gates=[Gate(words, maximum=3.0, cap=cap)])
    context.parts.feedback = lambda pairs, memory: gated  # type: ignore[assignment,misc]
    long = instruction("long", text="Speak at length.", needs_input=False, is_classification=False)

    def says(prompt: str) -> str | tuple[str, bool]:
        return "one two three four five" if long.text in prompt else by_kind()(prompt)

    short, failed, cut = [
        *write(context, Scripted(says), OPEN, long),
        *write(context, Scripted(by_kind(answer=("half", False))), OPEN),
    ]
    assert (short.sound, failed.sound, cut.sound) == (True, False, False)
    penalty = context.config.policy.fault_penalty
    assert scores(context, [short, failed, cut]) == [2.0, 2.0 - penalty, 2.0 - penalty]
    figures = rollout_figures([short, failed, cut], context.config.reads)
    assert (figures["reward_mean"], figures["parsed_share"]) == (2.0, pytest.approx(1 / 3))
    assert [rollout(one, "before", 0, 0).sound for one in (short, failed, cut)] == [True, False, False]


@pytest.mark.parametrize(
    ("of", "says", "input", "text", "fault"),
    [
        (OPEN, {}, "", "smooth now", None),
        (GIVEN, {}, "rough", "smooth now", None),
        (LABELLED, {}, "a mild wind", "yes", None),
        (GIVEN, {"input": ("half", False)}, "half", "", "cut by length"),
        (LABELLED, {"label": ("ye", False)}, "", "ye", "cut by length"),
        (GIVEN, {"answer": "rough"}, "rough", "rough", "output is the input"),
    ],
)
def test_a_rollout_keeps_what_was_written_as_input_and_output_and_why_it_is_no_pair(
    context: Context, of: Instruction, says: dict[str, Any], input: str, text: str, fault: str | None
) -> None:
    (written,) = write(context, Scripted(by_kind(**says)), of)
    row = rollout(written, "train", 2, 7)
    assert (row.iteration, row.position, row.instruction_id) == (2, 7, of.id)
    assert (row.input, row.text, row.fault) == (input, text, fault)
    assert (row.tokens, row.ended, row.reward) == (written.tokens, written.ended, written.judgement.reward)


def test_the_same_prompts_are_sent_whatever_else_is_asked_for_with_them(context: Context) -> None:
    alone, together = Scripted(by_kind()), Scripted(by_kind())
    write(context, alone, GIVEN)
    write(context, together, OPEN, GIVEN, LABELLED)
    mine = [p for prompts in alone.prompts for p in prompts]
    assert set(mine) <= {p for prompts in together.prompts for p in prompts}


def test_an_input_that_opens_with_given_words_is_written_behind_them_and_holds_them(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Demonstrations, "opening", lambda self, turn, *_: "Dear" if turn == "input" else "")
    engine = Scripted(by_kind(input=" neighbour, "))
    (pair,) = write(context, engine, GIVEN)
    assert pair.turns[0].prompt.endswith("### Input\nDear")
    assert pair.input == "Dear neighbour,"
    assert "Dear neighbour,\n\n### Answer" in engine.prompts[-1][0]
    assert pair.turns[0].completion.text == " neighbour, ", "what was given is no part of what is learned from"


def test_an_input_that_says_no_more_than_it_was_given_is_empty(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Demonstrations, "opening", lambda self, turn, *_: "Dear" if turn == "input" else "")
    (pair,) = write(context, Scripted(by_kind(input=" ")), GIVEN)
    assert pair.fault == ("empty input", "")
    assert len(pair.turns) == 1
