"""Promises of the demonstrations: every seed has its turn, none stands twice in a set, and what a prompt shows depends
on what it asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
from example_rows import task
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import Config, load_config
from refine_af.prompts.pairs import Turn, shows
from refine_af.records import SeedTask
from refine_af.seeds import load_seeds
from refine_af.stages.demonstrations import FEWEST_SETS, Demonstrations

TURNS: tuple[Turn, ...] = get_args(Turn)


def config(seed: int = 0, **changes: Any) -> Config:
    instances = {"demonstrations": 2, "max_demonstration_words": 60, "answer_demonstrations": "null"}
    return load_config(overrides=[f"seed={seed}", *(f"instances.{k}={v}" for k, v in (instances | changes).items())])


def base(tasks: Sequence[SeedTask], config: Config) -> Demonstrations:
    """As a base model is shown them, without an encoder."""
    return Demonstrations(tasks, config, is_chat=False)


def tasks(count: int, words: int = 3) -> list[SeedTask]:
    """Without input, as long as said with their pair, which is at least as long as the shortest of them."""
    return [task(f"Do {i}", output="x " * (words - 2)) for i in range(count)]


mixed = st.lists(
    st.tuples(st.sampled_from(["", "in"]), st.booleans(), st.integers(1, 12)), max_size=24
).map(
    lambda rows: [
        task(f"Do {i}", input, "x " * words, is_classification=labelled)
        for i, (input, labelled, words) in enumerate(rows)
    ]
)  # fmt: skip


@given(mixed, st.integers(0, 5), st.integers(1, 12), st.integers(0, 3))
def test_sets_are_of_one_size_hold_no_seed_twice_and_only_seeds_of_the_turns_kind(
    seeds: list[SeedTask], count: int, longest: int, seed: int
) -> None:
    made = base(seeds, config(seed, demonstrations=count, max_demonstration_words=longest))
    for turn in TURNS:
        able = [t for t in seeds if shows(turn, t)]
        sets = made.sets(turn)
        if not able or not count:
            assert sets == [()]
            continue
        assert len(sets) >= FEWEST_SETS
        assert {len(some) for some in sets} == {min(count, len(able))}
        for some in sets:
            assert len(set(some)) == len(some)
            assert set(some) <= set(able)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 3))
def test_every_seed_comes_before_any_comes_again(number: int, count: int, seed: int) -> None:
    made = base(tasks(number), config(seed, demonstrations=count))
    sets, turns = made.sets("answer"), Counter[str]()
    for some in sets:
        turns.update(t.id for t in some)
        fewest = min(turns[t.id] for t in tasks(number))
        assert max(turns.values()) - fewest <= 1
    assert set(turns) == {t.id for t in tasks(number)}


@given(st.integers(2, 30), st.integers(1, 3))
def test_a_seed_too_long_is_shown_only_where_there_are_too_few_others(number: int, count: int) -> None:
    short, long = tasks(number, words=5), task("Do it at length", output="x " * 50)
    made = base([long, *short], config(demonstrations=count, max_demonstration_words=10))
    shown = {t.id for some in made.sets("answer") for t in some}
    assert shown == ({t.id for t in short} if number >= count else {t.id for t in [long, *short]})


def test_where_too_few_are_short_the_shortest_are_shown() -> None:
    seeds = [task(f"Do {i}", output="x " * (20 + i)) for i in range(5)]
    made = base(seeds, config(demonstrations=2, max_demonstration_words=10))
    assert {t.id for some in made.sets("answer") for t in some} == {"Do 0", "Do 1"}


def test_none_is_shown_where_none_is_asked_for_or_there() -> None:
    assert base(tasks(5), config(demonstrations=0)).of("answer", "Sing", "Sing") == ()
    assert base(tasks(5), config()).of("input", "Sing", "Sing") == (), "no seed has an input"


@given(st.text(), st.sampled_from(TURNS))
def test_what_is_shown_depends_on_what_is_asked_alone(asked: str, turn: Turn) -> None:
    shown = BUILT_IN.of(turn, "Do it", asked)
    assert shown in BUILT_IN.sets(turn)
    assert base(SEEDS, config()).of(turn, "Do it", asked) == shown, "another process shows the same"


SEEDS = load_seeds(None).tasks
BUILT_IN = base(SEEDS, config())


@pytest.mark.parametrize("turn", TURNS)
def test_many_prompts_show_many_sets(turn: Turn) -> None:
    """No set has more than twice its share of a thousand prompts."""
    sets = BUILT_IN.sets(turn)
    shown = Counter(BUILT_IN.of(turn, f"Do {i}", f"Do {i}") for i in range(1000))
    assert set(shown) == set(sets)
    assert max(shown.values()) < 2 * 1000 / len(sets) + 20


def test_sets_differ_by_the_seed_and_by_the_turn() -> None:
    other = base(SEEDS, config(seed=1))
    assert other.sets("answer") != BUILT_IN.sets("answer")
    assert BUILT_IN.sets("label") != BUILT_IN.sets("input of label")


def test_a_chat_model_is_shown_none_where_it_answers_unless_asked_for() -> None:
    usual = Demonstrations(SEEDS, config(), is_chat=True)
    assert usual.sets("answer") == usual.sets("answer to input") == [()]
    assert len(usual.sets("input")[0]) == 2
    asked = Demonstrations(SEEDS, config(answer_demonstrations=1), is_chat=True)
    assert {len(some) for some in asked.sets("answer")} == {1}
    assert base(SEEDS, config(answer_demonstrations=0)).sets("answer") == [()]


def likeness_of(seeds: Sequence[SeedTask]) -> Any:
    """Near to "Do 7" are "Do 7" itself, then "Do 8", and so on in a circle."""

    def near(instruction: str) -> Any:
        place = [t.instruction for t in seeds].index(instruction)
        return np.array([-((i - place) % len(seeds)) for i in range(len(seeds))], np.float32)

    return near


@given(st.integers(0, 29), st.integers(1, 4), st.text())
def test_an_input_is_asked_for_behind_the_nearest_other_seed_and_an_answer_behind_any(
    place: int, count: int, asked: str
) -> None:
    seeds = [task(f"Do {i}", "in", "out") for i in range(30)]
    made = Demonstrations(seeds, config(demonstrations=count), is_chat=False, near=likeness_of(seeds))
    shown = made.of("input", f"Do {place}", asked)
    assert shown in made.sets("input")
    if any(seeds[(place + 1) % 30] in some and seeds[place] not in some for some in made.sets("input")):
        assert seeds[(place + 1) % 30] in shown
    for turn in TURNS:
        assert seeds[place] not in made.of(turn, f"Do {place}", asked), "its own answer must not be shown"
    unaware = Demonstrations(seeds, config(demonstrations=count), is_chat=False)
    assert made.of("answer to input", f"Do {place}", asked) == unaware.of("answer to input", f"Do {place}", asked)


@given(st.integers(0, 9), st.integers(1, 30), st.text())
def test_an_input_opens_with_a_third_of_the_nearest_other_seeds_words_at_most(
    place: int, words: int, asked: str
) -> None:
    seeds = [task(f"Do {i}", " ".join(f"w{i}x{n} word{n}" for n in range(words)), "out") for i in range(10)]
    options = config(opened_inputs=True, max_demonstration_words=100)
    opened = Demonstrations(seeds, options, is_chat=True, near=likeness_of(seeds))
    found = opened.opening("input", f"Do {place}", asked)
    opener = seeds[(place + 1) % 10]
    assert opener.input.startswith(found)
    assert len(found.split()) <= min(6, 2 * words // 3)
    assert bool(found) == (words >= 3), "one word says too little"
    assert found == opened.opening("input", f"Do {place}", asked), "another process opens it the same"
    if found:
        assert opener not in opened.of("input", f"Do {place}", asked), "the model would go on as it was shown"
    for turn in ("label", "answer", "answer to input"):
        assert opened.opening(turn, f"Do {place}", asked) == ""


@pytest.mark.parametrize(
    ("nearest", "opening"),
    [
        ("We met him. Then it rained all day and we left.", "We met"),  # no whole sentence
        ("Soup\n- 200 g lentils\n- 2 carrots\n- 3 onions", ""),  # lines: a list has no end
        ("10 20 30 40 50 60 70 80 90 100", ""),  # nothing that says what it is about
        ("oak, ash, elm", ""),  # too short to open anything
    ],
)
def test_what_a_small_model_could_not_go_on_with_opens_no_input(nearest: str, opening: str) -> None:
    """And no farther task's does in its place: a text of another kind would not fit."""
    seeds = [task("Do 0", "Some text"), task("Do 1", nearest), task("Do 2", "Far away in a land of old kings he lived")]
    opened = Demonstrations(seeds, config(opened_inputs=True), is_chat=True, near=likeness_of(seeds))
    assert opened.opening("input", "Do 0", "Do 0") == opening


def test_no_input_is_opened_where_nobody_tells_what_is_near_or_it_is_not_asked_for() -> None:
    assert Demonstrations(SEEDS, config(opened_inputs=True), is_chat=True).opening("input", "Do it", "Do it") == ""

    def near(instruction: str) -> Any:
        return np.ones(len(SEEDS), np.float32)

    closed = Demonstrations(SEEDS, config(opened_inputs=False), is_chat=True, near=near)
    assert closed.opening("input", "Do it", "Do it") == ""
