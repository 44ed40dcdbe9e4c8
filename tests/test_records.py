"""Promises of the rows: an identity that is a function of content alone, and counts that balance."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine_af.records import Rejection, SeedTask, StageCounts, content_id, derived_random, derived_seed

parts = st.lists(st.text(max_size=8), max_size=4)


@given(parts, parts)
def test_ids_are_equal_exactly_where_the_parts_are(a: list[str], b: list[str]) -> None:
    assert (content_id(*a) == content_id(*b)) == (a == b)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_an_id_knows_where_one_part_ends_and_the_next_begins(a: list[str]) -> None:
    assert content_id(*a) != content_id(*a, "")
    assert len(a) == 1 or content_id(*a) != content_id("".join(a))


@given(parts)
def test_an_id_is_16_hexadecimal_digits(a: list[str]) -> None:
    id = content_id(*a)
    assert len(id) == 16
    assert set(id) <= set("0123456789abcdef")


def test_even_half_a_character_has_an_id() -> None:
    assert content_id("\ud83d") != content_id("\ud83e")


def test_ids_and_seeds_stay_what_they_are_in_every_version_and_process() -> None:
    code = "from refine_af.records import *; print(content_id('instruction', 'Greet me'), derived_seed(0, 'a', 1))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert made == [content_id("instruction", "Greet me"), str(derived_seed(0, "a", 1))]
    # Runs that are on people's disks go on only as long as these values hold.
    assert content_id("instruction", "Greet me") == "ed4d7a5baa5c85db"
    assert derived_seed(0, "a", 1) == 935787339


@given(st.lists(st.one_of(st.integers(), st.text(max_size=5), st.booleans()), max_size=4))
def test_seeds_fit_31_bits_and_repeat(values: list[object]) -> None:
    assert 0 <= derived_seed(*values) < 2**31
    assert derived_seed(*values) == derived_seed(*values)
    assert derived_random(*values).random() == derived_random(*values).random()


def test_different_parts_give_different_streams() -> None:
    seeds = {derived_seed(0, stage, number) for stage in ("a", "b") for number in range(500)}
    assert len(seeds) == 1000
    assert derived_random(0, "a", 1).random() != derived_random(0, "a", 2).random()


@pytest.mark.parametrize(
    ("counts", "balanced"),
    [
        (StageCounts(), True),
        (StageCounts(read=6, kept=3, rejected=2, failed=1), True),
        (StageCounts(read=6, kept=3, rejected=2), False),
        (StageCounts(read=1, kept=1, failed=1), False),
    ],
)
def test_counts_balance_where_nothing_went_missing(counts: StageCounts, balanced: bool) -> None:
    assert counts.balanced is balanced


def test_a_seeds_length_is_that_of_all_its_texts() -> None:
    assert SeedTask("1", "Name a  cat", "", "Tom\nor Tim", False).words() == 6


def test_rows_cannot_be_changed() -> None:
    row = Rejection("stage", "reason", "text")
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.reason = "other"  # type: ignore[misc]
