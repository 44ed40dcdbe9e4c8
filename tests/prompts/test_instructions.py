"""Promises of the numbered list: what is asked, and that whatever comes back is split at its numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_tokenizer import Tokenizer

from refine_af.prompts.dialect import Dialect
from refine_af.prompts.instructions import list_prompt, list_request, opening_of, parse_list
from refine_af.seeds import load_seeds

items = st.lists(
    st.sampled_from(["Write", "a", "poem", "3.5", "about", "cats;", "2)", "naïve", "日本"]), min_size=1
).map(" ".join)


def numbered(texts: list[str], first: int) -> str:
    """As a model continues after ``first.``: the rest of that line, then further numbered lines."""
    lines = [f" {text}" if i == 0 else f"{first + i}. {text}" for i, text in enumerate(texts)]
    return "\n".join(lines)


def test_the_demonstrations_are_numbered_and_the_next_number_is_left_open() -> None:
    assert list_prompt(["Write a poem.", "Name a\n  colour."]) == "1. Write a poem.\n2. Name a colour.\n3."


@pytest.mark.parametrize("with_inputs", [None, True, False])
def test_the_list_is_the_beginning_of_a_chat_models_answer_and_plain_text_for_another(
    with_inputs: bool | None,
) -> None:
    plain, chat = (list_request(Dialect(Tokenizer(t)), with_inputs) for t in (None, "a template"))  # type: ignore[arg-type]
    request = plain.removeprefix("<s>").removesuffix("\n\n")
    assert request.startswith("Come up with a series of varied tasks")
    assert chat == f"<user>{request}<assistant>"


def test_tasks_with_an_input_and_without_one_are_asked_for_in_other_words() -> None:
    dialect = Dialect(Tokenizer())  # type: ignore[arg-type]
    assert len({list_request(dialect, kind) for kind in (None, True, False)}) == 3


@pytest.mark.parametrize(
    ("instruction", "words", "opening"),
    [
        ("Name three kinds of cheese.", 2, "Name three"),
        ("Name three kinds of cheese.", 4, "Name three kinds of"),
        ("Name three kinds of cheese.", 9, "Name three kinds of"),  # something is left to go on with
        ("Name  three\nkinds of cheese.", 3, "Name three kinds"),
        ('Turn "good day" into French.', 2, "Turn"),
        ('Turn "good day" into French.', 3, 'Turn "good day"'),
        ("Turn “good day” into French.", 2, "Turn"),
        ("Name a cat (not a dog) or a bird.", 5, "Name a cat"),
        ("Name a cat (not a dog) or a bird.", 6, "Name a cat (not a dog)"),
        ("Sing!", 3, "Sing!"),
    ],
)
def test_an_opening_is_the_first_words_and_leaves_no_quotation_or_bracket_open(
    instruction: str, words: int, opening: str
) -> None:
    assert opening_of(instruction, words) == opening


def is_closed(text: str) -> bool:
    return text.count('"') % 2 == 0 and text.count("“") == text.count("”") and text.count("(") == text.count(")")


phrases = st.lists(st.sampled_from(["a", '"b', 'c"', '"d"', "“e", "f”", "(g", "h)"]), min_size=1, max_size=10).map(
    " ".join
)


@given(phrases, st.integers(1, 12))
def test_an_opening_is_the_longest_that_is_closed(instruction: str, words: int) -> None:
    all_words = instruction.split()
    found = opening_of(instruction, words).split()
    assert found == all_words[: len(found)]
    assert 1 <= len(found) <= words
    assert len(found) == 1 or (is_closed(" ".join(found)) and len(found) < len(all_words))
    longer = range(len(found) + 1, min(words, len(all_words) - 1) + 1)
    assert not any(is_closed(" ".join(all_words[:count])) for count in longer)


def test_every_built_in_seed_has_an_opening_that_is_closed_and_leaves_something_to_write() -> None:
    for one in load_seeds(None).tasks:
        opening = opening_of(one.instruction, 4)
        assert is_closed(opening), one
        assert len(opening.split()) < len(one.instruction.split()), one


@given(st.lists(items, min_size=1, max_size=8), st.integers(1, 90))
def test_parsing_gives_back_what_was_numbered(texts: list[str], first: int) -> None:
    # A text that opens with a number of its own reads as one item all the same: only line starts are looked at.
    texts = [" ".join(t.split()) for t in texts]
    assert parse_list(numbered(texts, first), first, ended=True) == (texts, None)


@given(st.lists(items, min_size=1, max_size=8), st.integers(1, 90))
def test_a_cut_by_length_loses_exactly_the_last_item(texts: list[str], first: int) -> None:
    whole, _ = parse_list(numbered(texts, first), first, ended=True)
    assert parse_list(numbered(texts, first), first, ended=False) == (whole[:-1], whole[-1])


@given(st.text(), st.integers(1, 99), st.booleans())
def test_no_completion_crashes_the_parser(text: str, first: int, ended: bool) -> None:
    found, cut = parse_list(text, first, ended=ended)
    assert all(item == " ".join(item.split()) for item in found)
    assert (cut is None) == ended


@pytest.mark.parametrize(
    ("completion", "expected"),
    [
        (" Write a poem.", ["Write a poem."]),
        ("Write a poem.\n10. Name a colour.", ["Write a poem.", "Name a colour."]),
        (" Write a poem.\n10) Name a colour.", ["Write a poem.", "Name a colour."]),
        (" Write a poem.\n  10. Name a colour.", ["Write a poem.", "Name a colour."]),
        (" Write a poem.\r\n10. Name a colour.\r\n", ["Write a poem.", "Name a colour."]),
        (" Write a\npoem.\n10. Name a colour.", ["Write a poem.", "Name a colour."]),
        (" Write a poem.\n12. Name a colour.", ["Write a poem.", "Name a colour."]),  # models miscount
        (" What is 3. 5?\n10. Next.", ["What is 3. 5?", "Next."]),
        (" Round\n3.14 down.\n10. Next.", ["Round 3.14 down.", "Next."]),
        (" Who ruled in\n1999. Say.", ["Who ruled in 1999. Say."]),
        (" Write a poem.\n10.", ["Write a poem.", ""]),
        (" Write a poem.\n10.\n11. Next.", ["Write a poem.", "", "Next."]),
        ("", [""]),
    ],
)
def test_a_list_is_split_where_a_line_begins_with_a_number(completion: str, expected: list[str]) -> None:
    assert parse_list(completion, 9, ended=True) == (expected, None)
