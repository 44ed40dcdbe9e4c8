"""Promises of the numbered list: what is asked, and that whatever comes back is split at its numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.prompts.instructions import list_prompt, parse_list

items = st.lists(
    st.sampled_from(["Write", "a", "poem", "3.5", "about", "cats;", "2)", "naïve", "日本"]), min_size=1
).map(" ".join)


def numbered(texts: list[str], first: int) -> str:
    """As a model continues after ``first.``: the rest of that line, then further numbered lines."""
    lines = [f" {text}" if i == 0 else f"{first + i}. {text}" for i, text in enumerate(texts)]
    return "\n".join(lines)


def test_the_demonstrations_are_numbered_and_the_next_number_is_left_open() -> None:
    assert list_prompt(["Write a poem.", "Name a\n  colour."]) == "1. Write a poem.\n2. Name a colour.\n3."


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
