"""Promises of the filters: each rule's texts just inside and just outside its bound, and no built-in seed dropped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.config import InstructionsConfig
from refine_af.filters import (
    INSTRUCTION_FILTERS,
    PAIR_FILTERS,
    contradicts,
    copied_demonstration,
    instruction_fault,
    pair_fault,
)
from refine_af.prompts.pairs import Pair
from refine_af.records import SeedTask
from refine_af.seeds import load_seeds

CONFIG = InstructionsConfig()


def reason(text: str, config: InstructionsConfig = CONFIG) -> str | None:
    fault = instruction_fault(text, config)
    return None if fault is None else fault[0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [(0, "too short"), (1, "too short"), (3, "too short"), (4, None), (150, None), (151, "too long")],
)
def test_length_in_words_is_bounded_as_self_instruct_bounds_it(words: int, expected: str | None) -> None:
    assert reason(" ".join(["Explain"] * words)) == expected


@pytest.mark.parametrize(("words", "expected"), [(1, "too short"), (2, None), (5, None), (6, "too long")])
def test_the_bounds_are_the_configs(words: int, expected: str | None) -> None:
    assert reason(" ".join(["Explain"] * words), InstructionsConfig(min_words=2, max_words=5)) == expected


@pytest.mark.parametrize(
    "word",
    ["image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps", "draw", "plot",
     "go to"],
)  # fmt: skip
def test_what_a_text_model_cannot_serve_is_dropped_in_any_case_and_place(word: str) -> None:
    for shown in (word, word.upper(), word.title()):
        for text in (
            f"Describe the {shown} to me",
            f"Describe to me this {shown}.",
            f"{shown} is what you describe",
            f"Say this: ({shown}) again",
        ):
            fault = instruction_fault(text, CONFIG)
            assert fault == ("needs more than text", word)


@pytest.mark.parametrize(
    "word",
    ["imagery", "imagine", "paragraph", "graphic", "picturesque", "profile", "filed", "mapping", "drawer", "plotting",
     "plots", "gopher to", "ago to", "go tonight", "withdraw"],
)  # fmt: skip
def test_only_whole_words_are_matched(word: str) -> None:
    assert reason(f"Explain the term {word} to me") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write a program that adds numbers", "asks for a program"),
        ("write a Program that adds numbers", "asks for a program"),
        ("Write the program of a concert", None),
        ("Explain how to write a program", None),
        ("Write a poem about a program", None),
    ],
)
def test_programs_are_not_asked_for_at_the_beginning(text: str, expected: str | None) -> None:
    assert reason(text) == expected


@pytest.mark.parametrize("first", list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") + ["é", "日", "“", "—", "\u00a0", "É"])
def test_a_beginning_of_punctuation_or_not_ascii_is_odd(first: str) -> None:
    assert INSTRUCTION_FILTERS["starts oddly"](f"{first}rite about the sea", CONFIG) == first


@pytest.mark.parametrize("text", ["Write about the café.", "9 lives: whose?", "z is a letter?"])
def test_ascii_letters_and_digits_are_no_odd_beginning(text: str) -> None:
    assert INSTRUCTION_FILTERS["starts oddly"](text, CONFIG) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The largest cake in the world.", "the"),
        ("It is raining in London today.", "it"),
        ("She's the best player we know", "she's"),
        ("The sky is blue. The grass is green.", "the"),
        ("The sky is blue. Explain why.", None),
        ("You are a pirate. Describe your ship.", None),
        ("The sky is which colour?", None),
        ("I need a name for my cat", None),
        ("You are given a sentence about cats", None),
        ("This sentence, please, in French", None),
        ("Name the largest cake in the world.", None),
        ("Theorise about the origin of cakes", None),
        ("Unwanted guests: the list is long", None),
    ],
)
def test_a_statement_asks_for_nothing(text: str, expected: str | None) -> None:
    assert INSTRUCTION_FILTERS["asks for nothing"](text, CONFIG) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Let's write a poem about the sea",
        "Your task is to summarise the text below",
        "What's the capital of France",
    ],
)
def test_a_request_that_opens_like_a_statement_still_asks(text: str) -> None:
    assert INSTRUCTION_FILTERS["asks for nothing"](text, CONFIG) is None


def test_every_built_in_seed_passes_every_instruction_filter() -> None:
    config = InstructionsConfig(min_words=3)
    faults = {t.instruction: f for t in load_seeds(None).tasks if (f := instruction_fault(t.instruction, config))}
    assert faults == {}


@given(st.text())
def test_the_first_rule_that_applies_is_named_and_no_text_crashes_a_filter(text: str) -> None:
    found = {name: detail for name, rule in INSTRUCTION_FILTERS.items() if (detail := rule(text, CONFIG)) is not None}
    assert instruction_fault(text, CONFIG) == (next(iter(found.items())) if found else None)


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (Pair("", "an answer"), None),
        (Pair("text", "an answer"), None),
        (Pair("text", ""), ("empty output", "")),
        (Pair("text", " \n"), ("empty output", "")),
        (Pair("", ""), ("empty output", "")),
        (Pair("same", "same"), ("output is the input", "")),
        (Pair("same ", "\nsame"), ("output is the input", "")),
        (Pair("same", "Same"), None),
        (Pair("as follows:", "yes"), ("ends in a colon", "input")),
        (Pair("as follows: ", "yes"), ("ends in a colon", "input")),
        (Pair("text", "as follows:"), ("ends in a colon", "output")),
        (Pair("text", "as follows:\n"), ("ends in a colon", "output")),
        (Pair("a: b", "c: d"), None),
        (Pair("text", "at 10:30"), None),
    ],
)
def test_pairs_are_dropped_by_self_instructs_rules(pair: Pair, expected: tuple[str, str] | None) -> None:
    assert pair_fault(pair) == expected


@given(st.text(), st.text())
def test_no_pair_crashes_a_filter(input: str, output: str) -> None:
    fault = pair_fault(Pair(input, output))
    assert fault is None or fault[0] in PAIR_FILTERS


RUST = SeedTask("a", "What is rust?", "", "Rust is the flaky coating that forms when iron reacts with water.", False)
LIST = SeedTask("b", "Name the ingredients.", "Whisk two eggs with a cup of milk.", "eggs, milk, flour", False)


@pytest.mark.parametrize(
    ("pair", "instruction", "copied"),
    [
        (Pair("", "Rust is the flaky coating that forms when iron reacts with water."), "Tell a joke.", RUST.output),
        (Pair("", "RUST is a flaky coating that forms when iron reacts"), "Tell a joke.", RUST.output),
        (Pair("", "A joke: the flaky coating that forms on my old father's good shoes."), "Tell a joke.", None),
        (Pair("", "Iron reacts with air, and water reacts too."), "Tell a joke.", None),
        (Pair("", "What is rust?"), "Ask something.", RUST.instruction),
        (Pair("", "What is rust?"), 'Say "What is rust?" in French.', None),
        (Pair("", "Eggs, milk, flour, fruit"), "Write a list.", LIST.output),
        (Pair("", "Eggs, milk, flour, and then much more of all that you like"), "Write a list.", None),
        (Pair("Whisk two eggs with a cup of cream.", "one"), "Count.", LIST.input),
        (Pair("", "milk"), "Name a drink.", None),
        (Pair("", ""), "Say nothing.", None),
    ],
)
def test_what_repeats_a_demonstration_is_a_copy(pair: Pair, instruction: str, copied: str | None) -> None:
    assert copied_demonstration(pair, instruction, [RUST, LIST]) == copied


def test_no_pair_by_a_person_is_a_copy_of_another() -> None:
    tasks = load_seeds(None).tasks
    for task in tasks:
        others = [t for t in tasks if t is not task]
        assert copied_demonstration(Pair(task.input, task.output), task.instruction, others) is None, task


@given(st.text(), st.text())
def test_no_pair_is_a_copy_where_nothing_is_shown(input: str, output: str) -> None:
    assert copied_demonstration(Pair(input, output), "", []) is None
    assert copied_demonstration(Pair(input, output), "", [SeedTask("c", "", "", "", False)]) is None


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], None),
        ([Pair("x", "a")], None),
        ([Pair("x", "a"), Pair("x", "a")], None),
        ([Pair("x", "a"), Pair("y", "b")], None),
        ([Pair("", "a"), Pair("", "b")], None),  # without input every answer may differ
        ([Pair("x", "a"), Pair("x", "b")], "x"),
        ([Pair("x", "a"), Pair("y", "c"), Pair("", "d"), Pair("x", "b")], "x"),
    ],
)
def test_one_input_with_two_outputs_contradicts(pairs: list[Pair], expected: str | None) -> None:
    assert contradicts(pairs) == expected
    assert contradicts(reversed(pairs)) == expected
