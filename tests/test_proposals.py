"""Promises of the stage that makes instructions: what is proposed, which proposal is kept, and that every text is
counted. The engine is a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from example_rows import instance, instruction, seed, task
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import load_config
from refine_af.engines.base import Completion, Prompts
from refine_af.errors import RefineError
from refine_af.progress import Silent
from refine_af.prompts.instructions import list_request, opening_of
from refine_af.records import Instruction, SeedTask
from refine_af.stages.context import Context
from refine_af.stages.instructions import run_instructions
from refine_af.stages.kinds import Kinds
from refine_af.stages.proposing import propose
from refine_af.store import Store

STAGE = "instructions"
OPEN = [task(f"Sing {what} to the {who} softly") for what, who in zip("abcdef", "ghijkl", strict=True)]
GIVEN = [task(f"Bake {what} for the {who} at noon", "a lump") for what, who in zip("mnopqr", "stuvwx", strict=True)]
DIALECT: Any = SimpleNamespace(beginning="", is_chat=False)
# Of one continuation of an opening: text, the log-probability of its tokens, and whether it ended.
Said = tuple[str, float, bool]
NOVEL = (" amber birch cedar", " delta ember fjord", " grove haven isle", " jetty knoll ledge")


class Scripted:
    """``says`` gives the continuations of a group of prompts, by its number; ``asked`` remembers the groups."""

    name, model = "scripted", "scripted"

    def __init__(self, says: Callable[[int], Sequence[Said]]) -> None:
        self.says = says
        self.asked: list[Prompts] = []

    def generate(self, groups: Sequence[Prompts], sampling: Any, **_: Any) -> list[list[Completion]]:
        made = []
        for group in groups:
            said = [self.says(len(self.asked))[i % len(self.says(len(self.asked)))] for i in range(len(group.suffixes))]
            self.asked.append(group)
            made.append([Completion(text, (1, 2), ended, (chance, chance)) for text, chance, ended in said])
        return made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run.db") as opened:
        yield opened


def context_of(store: Store, engine: Any, seeds: Sequence[SeedTask] = OPEN, **changes: Any) -> Context:
    """With the engine; no kind is left to be decided. One round, unless it is said."""
    store.add_instructions(seed(t.id, text=t.instruction, needs_input=bool(t.input)) for t in seeds)
    store.add_instances(instance(f"{t.id}!", t.id, input=t.input, output=t.output, policy="seed") for t in seeds)
    settings = {
        "method": "openings", "max_rounds": 1, "prompts_per_round": 1, "continuations": 3, "demonstrations": 2,
        "from_pool": 0, "min_words": 3, "saturation_yield": 0.0,
    } | changes  # fmt: skip
    config = load_config(overrides=["instances.inputs=never", *(f"{STAGE}.{k}={v}" for k, v in settings.items())])
    parts: Any = SimpleNamespace(
        initial_engine=engine, adapted_engine=lambda adapter: nullcontext(engine), dialect=DIALECT
    )
    return Context(config, store, store.path.parent, parts, Silent())


def made(context: Context) -> tuple[list[str], Counter[str]]:
    """The texts that a run of the stage keeps, and the reasons of the others."""
    context.store.start_stage(STAGE)
    run_instructions(context)
    kept = [i.text for i in context.store.instructions(origin="generated")]
    return kept, Counter(context.store.rejection_reasons(STAGE))


# -- lists ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.7, 1.0])
def test_an_instruction_is_kept_once_however_often_it_is_written(store: Store, threshold: float) -> None:
    engine = Scripted(lambda _: [(" Describe an old harbour town.\n10. Explain tides to sailors.", -1.0, True)])
    context = context_of(
        store, engine, method="list", novelty_threshold=threshold, prompts_per_round=3, max_rounds=10,
        saturation_yield=0.02,
    )  # fmt: skip
    kept, reasons = made(context)
    assert kept == ["Describe an old harbour town.", "Explain tides to sailors."]
    (row,) = store.query("SELECT read, kept, rejected FROM stages")
    assert row["read"] == row["kept"] + row["rejected"] == 6 * 6
    assert set(reasons) == {"not novel"}


# -- openings ------------------------------------------------------------------------------------------


def test_a_model_goes_on_with_the_first_words_of_a_task_several_times(store: Store) -> None:
    engine = Scripted(lambda n: [(NOVEL[n % 4], -1.0, True)])
    kept, _ = made(context_of(store, engine, prompts_per_round=4, continuations=5))
    assert len(engine.asked) == 4
    for group in engine.asked:
        (suffix,) = set(group.suffixes)
        assert len(group.suffixes) == 5
        assert suffix.startswith(" ")
        assert any(t.instruction.startswith(suffix.strip()) for t in OPEN)
        assert group.prefix.endswith("\n3."), "two tasks are shown"
    assert all(any(text.startswith(f"{g.suffixes[0].strip()} ") for g in engine.asked) for text in kept)


@pytest.mark.parametrize("number", [1, 2])
def test_what_is_shown_is_of_the_kind_of_what_opens_and_does_not_hold_it(store: Store, number: int) -> None:
    engine = Scripted(lambda _: [(NOVEL[0], -1.0, True)])
    pool = [instruction(f"p{i}", text=f"Own {i} words here", needs_input=bool(i % 2)) for i in range(6)]
    context = context_of(store, engine, [*OPEN, *GIVEN], prompts_per_round=12, from_pool=1)
    store.add_instructions(pool)
    rows = {i.id: i for i in store.instructions()}
    proposed: Any = propose(context, engine, number, pool)  # type: ignore[arg-type]
    kinds = set()
    for rivals, group in zip(proposed, engine.asked, strict=True):
        source, *shown = (rows[id] for id in rivals[0].shown)
        kinds.add(source.needs_input)
        assert rivals[0].with_input == source.needs_input
        assert {i.needs_input for i in shown} == {source.needs_input}
        assert source not in shown
        assert group.prefix.startswith(list_request(DIALECT, source.needs_input))
        assert source.text.startswith(group.suffixes[0].strip())
        assert all(i.text in group.prefix for i in shown)
    assert kinds == {True, False}


def test_no_seed_opens_twice_before_all_have(store: Store) -> None:
    engine = Scripted(lambda _: [(NOVEL[0], -1.0, True)])
    context = context_of(store, engine, [*OPEN, *GIVEN], prompts_per_round=8, continuations=1)
    used = [r[0].shown[0] for n in range(1, 7) for r in propose(context, engine, n, [])]  # type: ignore[arg-type]
    for start in range(0, 48, 12):
        assert len(set(used[start : start + 12])) == 12


def test_a_round_proposes_the_same_whenever_it_is_run(store: Store) -> None:
    asked = []
    context = context_of(store, None, [*OPEN, *GIVEN], prompts_per_round=6)
    for rounds in ([1, 2, 3], [3]):
        engine = Scripted(lambda _: [(NOVEL[0], -1.0, True)])
        for number in rounds:
            engine.asked.clear()
            propose(context, engine, number, [])  # type: ignore[arg-type]
        asked.append(engine.asked)
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("said", "kept", "reasons"),
    [
        (
            [(NOVEL[0], -3.0, True), (NOVEL[1], -1.0, True), (NOVEL[2], -2.0, True)],
            NOVEL[1],
            {"a likelier one was kept": 2},
        ),
        (
            [(" amber amber amber", -1.0, True), (NOVEL[1], -3.0, True), (NOVEL[2], -2.0, True)],
            NOVEL[2],
            {"repeats itself": 1, "a likelier one was kept": 1},
        ),
        (
            [(NOVEL[0], -1.0, False), (NOVEL[1], -2.0, True), (NOVEL[2], -3.0, False)],
            NOVEL[1],
            {"cut by length": 2},
        ),
        (
            [("", -1.0, True), (" .", -1.5, True), (NOVEL[1], -2.0, True)],
            NOVEL[1],
            {"adds nothing to its opening": 2},
        ),
    ],
)
def test_of_an_opening_the_likeliest_that_is_whole_and_in_order_is_kept(
    store: Store, said: list[Said], kept: str, reasons: dict[str, int]
) -> None:
    engine = Scripted(lambda _: said)
    found, why = made(context_of(store, engine))
    opening = engine.asked[0].suffixes[0].strip()
    assert found == [f"{opening}{kept}"]
    assert why == reasons


def test_the_likeliest_that_is_new_is_kept(store: Store) -> None:
    """The rest of the very seed that the opening is of is likelier still."""

    class Echo(Scripted):
        def generate(self, groups: Sequence[Prompts], sampling: Any, **_: Any) -> list[list[Completion]]:
            opening = groups[0].suffixes[0].strip()
            (whole,) = [t.instruction for t in OPEN if t.instruction.startswith(opening)]
            rest = whole.removeprefix(opening)
            return [[Completion(t, (1,), True, (p,)) for t, p in ((NOVEL[0], -2.0), (rest, -1.0), (NOVEL[1], -3.0))]]

    kept, why = made(context_of(store, Echo(lambda _: [])))
    assert [text.endswith(NOVEL[0]) for text in kept] == [True]
    assert why == {"not novel": 1, "a likelier one was kept": 1}


def test_the_least_likely_third_of_a_rounds_openings_is_left(store: Store) -> None:
    texts = [f" {a}x {a}y {a}z" for a in "abcdef"]
    engine = Scripted(lambda n: [(texts[n % 6], -1.0 - n % 6, True)])
    kept, why = made(context_of(store, engine, prompts_per_round=6, continuations=1))
    assert [text[-8:] for text in kept] == [text[-8:] for text in texts[:4]]
    assert why == {"unlikely": 2}


def test_what_needs_an_input_that_cannot_be_expected_is_rejected(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Scripted(lambda _: [(NOVEL[0], -1.0, True), (NOVEL[1], -2.0, True)])
    monkeypatch.setattr(Kinds, "lacks_input", lambda self, text, asked: text.endswith(NOVEL[0]) and asked is False)
    kept, why = made(context_of(store, engine, continuations=2))
    assert [text.endswith(NOVEL[1]) for text in kept] == [True]
    assert why == {"unlike tasks with an input": 1}


words = st.sampled_from(["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "?", "image"])
continuations = st.tuples(
    st.lists(words, max_size=5).map(lambda some: "".join(f" {w}" for w in some)), st.floats(-5, 0), st.booleans()
)


@given(
    st.lists(st.lists(continuations, min_size=1, max_size=4), min_size=1, max_size=6),
    st.sampled_from(["openings", "list"]),
    st.integers(1, 4),
    st.integers(1, 6),
)
def test_every_text_is_kept_or_rejected_and_at_most_one_of_an_opening_is_kept(
    tmp_path_factory: pytest.TempPathFactory, said: list[list[Said]], method: str, rounds: int, target: int
) -> None:
    engine = Scripted(lambda n: said[n % len(said)])
    with Store(tmp_path_factory.mktemp("run") / "run.db") as store:
        context = context_of(
            store, engine, method=method, max_rounds=rounds, target=target, prompts_per_round=3, from_pool=1
        )
        store.start_stage(STAGE)
        with suppress(RefineError):  # where none is kept
            run_instructions(context)
        kept = store.instructions(origin="generated")
        read = sum(value for _, value in store.metric(STAGE, "read"))
        assert read == store.cursor(STAGE)["read"] == len(kept) + store.rejected(STAGE)
        if method == "openings":
            assert read == sum(len(group.suffixes) for group in engine.asked)
            assert len(kept) <= len(engine.asked)
        assert store.stage_done(STAGE) == bool(kept)
        assert len(kept) <= target
        assert len({i.text for i in kept}) == len(kept)
        assert all((i.needs_input, i.is_classification) == (False, False) for i in kept)


# -- when nothing is left ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ((NOVEL[0], -1.0, False), "3 fell to the rule 'cut by length': raise instructions.sampling.max_tokens"),
        ((" amber amber amber", -1.0, True), "3 fell to the rule 'repeats itself': use a larger model.name"),
        ((" amber", -1.0, True), "3 fell to the rule 'too short': lower instructions.min_words"),
    ],
)
def test_where_nothing_is_kept_the_rule_that_took_most_is_named_with_its_cure(
    store: Store, said: Said, told: str
) -> None:
    context = context_of(store, Scripted(lambda _: [said]), min_words=6 if said[0] == " amber" else 3)
    with pytest.raises(RefineError, match="none of 3 instructions was kept; main reason: ") as caught:
        made(context)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_openings_are_a_half_to_two_thirds_of_a_task(store: Store) -> None:
    engine = Scripted(lambda _: [(NOVEL[0], -1.0, True)])
    context = context_of(store, engine, prompts_per_round=6, continuations=1)
    for number in range(1, 20):
        propose(context, engine, number, [])  # type: ignore[arg-type]
    lengths = {len(group.suffixes[0].split()) for group in engine.asked}
    assert lengths == {3, 4}, "of six words"
    whole: list[Instruction] = store.instructions()
    openings = {opening_of(i.text, n) for i in whole for n in (3, 4)}
    assert {group.suffixes[0].strip() for group in engine.asked} <= openings
