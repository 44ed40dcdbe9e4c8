"""Promises of the stemmer: the stems of NLTK's, which `rouge-score` takes, for every word."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer

from refine_af.evaluation.metrics import _ALIKE
from refine_af.evaluation.stemmer import _CHANGING, _IRREGULAR, _STEPS, stem
from refine_af.novelty import tokens
from refine_af.seeds import load_seeds

_OFFICIAL = PorterStemmer()
SUPER_NI = Path(__file__).parents[3] / "shared" / "data" / "superni_train_small.jsonl.gz"
ENDINGS = sorted(
    {*_CHANGING, "sses", "ies", "ied", "eed", "alli", "logi", "at", "bl", "iz", *_IRREGULAR}.union(
        *(r for _, r in _STEPS)
    )
)

beginnings = st.text("aeiouybcdlstzwx1", max_size=6)
words = st.builds(lambda start, ends: start + "".join(ends), beginnings, st.lists(st.sampled_from(ENDINGS), max_size=3))


@given(words.filter(bool))
def test_a_stem_is_that_of_nltk(word: str) -> None:
    assert stem(word) == _OFFICIAL.stem(word)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_is_taken_off_as_by_nltk(ending: str) -> None:
    for start in (
        "",
        "a",
        "b",
        "ab",
        "ba",
        "hop",
        "fall",
        "play",
        "yes",
        "ty",
        "relat",
        "electr",
        "vietnam",
        "1990",
        "oion",
    ):
        if word := start + ending:
            assert stem(word) == _OFFICIAL.stem(word), word


def test_the_stems_of_a_large_vocabulary_are_those_of_nltk() -> None:
    if not SUPER_NI.exists() and not os.environ.get("CI"):
        pytest.skip(f"{SUPER_NI} is absent: it holds the words to compare on")
    vocabulary = set(tokens(gzip.decompress(SUPER_NI.read_bytes()).decode()))
    assert len(vocabulary) > 20_000
    assert {word: stem(word) for word in vocabulary} == {word: _OFFICIAL.stem(word) for word in vocabulary}


@given(words.filter(bool))
def test_words_of_one_stem_begin_alike_as_the_metric_believes(word: str) -> None:
    start, found = word[:2], stem(word)[:2]
    assert found == start or found in _ALIKE[start]


def test_the_stems_of_the_seeds_words_are_those_of_nltk() -> None:
    vocabulary = {word for task in load_seeds(None).tasks for word in tokens(task.instruction + " " + task.output)}
    assert {word: stem(word) for word in vocabulary} == {word: _OFFICIAL.stem(word) for word in vocabulary}
