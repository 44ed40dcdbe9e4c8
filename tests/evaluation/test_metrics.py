"""Promises of the metrics: the numbers of Super-NaturalInstructions' own scorer."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from refine_af.evaluation import exact_match, rouge_l
from refine_af.language import Language
from refine_af.seeds import load_seeds

_OFFICIAL = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
SUPER_NI = Path(__file__).parents[3] / "shared" / "data" / "superni_test.jsonl.gz"

words = st.sampled_from(
    ["running", "runs", "ran", "Runner", "dies", "died", "skies", "news", "the", "generously", "naïve", "Ünï", "x2", ""]
)
texts = st.one_of(st.lists(words, max_size=10).map(" ".join), st.text(max_size=30))
any_texts = st.one_of(texts, st.text(st.sampled_from("写诗。 हिन्दीกี่éß😀ıİ3３a"), max_size=12))


def official(prediction: str, references: list[str]) -> float:
    return 100 * max(float(_OFFICIAL.score(r, prediction)["rougeL"].fmeasure) for r in references)


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_rouge_l_is_that_of_rouge_score_with_its_stemmer(prediction: str, references: list[str]) -> None:
    assert rouge_l(prediction, references) == pytest.approx(official(prediction, references), abs=1e-9)


def test_rouge_l_is_that_of_rouge_score_on_real_texts() -> None:
    tasks = load_seeds(None).tasks
    for a, b in zip(tasks, tasks[1:]):  # noqa: B905 -- neighbours
        assert rouge_l(a.output, [b.output, a.instruction]) == pytest.approx(
            official(a.output, [b.output, a.instruction]), abs=1e-9
        )


def test_rouge_l_is_that_of_rouge_score_on_super_naturalinstructions() -> None:
    if not SUPER_NI.exists() and not os.environ.get("CI"):
        pytest.skip(f"{SUPER_NI} is absent: it holds the tasks to compare on")
    with gzip.open(SUPER_NI, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for i, line in zip(range(6000), lines, strict=False) if i % 40 == 0]
    for row in rows:
        assert rouge_l(row["input"], row["references"]) == pytest.approx(
            official(row["input"], row["references"]), abs=1e-9
        )


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("a cat", ["a cat"], 100.0),
        ("A CAT!", ["a cat"], 100.0),
        ("the cats were running", ["the cat was running"], 75.0),  # cats is stemmed, were isn't was
        ("running", ["runs"], 100.0),
        ("", ["a cat"], 0.0),
        ("a cat", [""], 0.0),
        ("", [""], 0.0),
        ("a cat", ["a dog", "a cat", "nothing"], 100.0),
        ("a b c d", ["a x c y"], 50.0),
        ("a b", ["a b c d e f"], 50.0),
    ],
)
def test_rouge_l_of_known_texts(prediction: str, references: list[str], expected: float) -> None:
    assert rouge_l(prediction, references) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "references", "expected"),
    [
        ("yes", ["yes"], 100.0),
        ("Yes.", ["yes"], 100.0),
        (" yes \n", ["Yes!"], 100.0),
        ("new   york\tcity", ["New York City"], 100.0),
        ("co-op", ["coop"], 100.0),
        ("the cat", ["cat"], 0.0),  # articles stay
        ("yes it is", ["yes"], 0.0),
        ("no", ["yes", "No"], 100.0),
        ("", [""], 100.0),
        ("...", [""], 100.0),
        ("", ["yes"], 0.0),
        ("É", ["é"], 100.0),
        ("“yes”", ["yes"], 0.0),  # only ASCII punctuation goes
        ("yes", [], 0.0),
    ],
)
def test_exact_match_ignores_case_punctuation_and_white_space(
    prediction: str, references: list[str], expected: float
) -> None:
    assert exact_match(prediction, references) == expected


@given(texts)
def test_a_text_with_a_word_matches_itself_fully(text: str) -> None:
    assert exact_match(text, [text]) == 100.0
    assert rouge_l(text, [text]) in (0.0, 100.0)


@pytest.mark.parametrize(
    ("prediction", "reference", "code", "rouge", "exact"),
    [
        ("法国的首都是巴黎。", "法国的首都是巴黎", "zh", 100.0, 100.0),
        ("首都是巴黎", "法国的首都是巴黎", "zh", 1000 / 13, 0.0),
        ("他3点钟去了医院", "一共有3个苹果", "zh", 200 / 15, 0.0),
        ("用 Python 写", "用Python写", "zh", 100.0, 100.0),
        ("دو سه", "دو سه چهار", "fa", 80.0, 0.0),
        ("हिन्दी", "हिन्दू", "hi", 0.0, 0.0),  # a word with its vowels is one
        ("STRASSE", "Straße", "de", 100.0, 100.0),
        ("Tiê\u0301ng Viê\u0323t", "tiếng việt", "vi", 100.0, 100.0),
        ("IŞIK", "ışık", "tr", 100.0, 100.0),
        ("１２", "12", "ja", 100.0, 100.0),
        ("😀", "😢", "mul", 0.0, 0.0),
        ("😀", "😀", "mul", 100.0, 100.0),
        ("running", "runs", "mul", 0.0, 0.0),  # stems are English
    ],
)
def test_scores_of_other_languages(prediction: str, reference: str, code: str, rouge: float, exact: float) -> None:
    language = Language(code)
    assert rouge_l(prediction, [reference], language) == pytest.approx(rouge)
    assert exact_match(prediction, [reference], language) == exact


@given(any_texts, any_texts, st.sampled_from([Language(code) for code in ("en", "zh", "tr")]))
def test_rouge_l_is_symmetric_and_full_of_a_text_with_a_word_to_itself(a: str, b: str, language: Language) -> None:
    assert rouge_l(a, [b], language) == rouge_l(b, [a], language)
    assert rouge_l(a, [a], language) == 100.0 * bool(language.tokens(a))
    assert exact_match(a, [a], language) == 100.0
