"""The verb counter promises: plain imperatives and questions are read, odd text is left out, nothing crashes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine_af.report.verbs import verb_object, verb_objects


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("Write a short poem about the sea.", ("write", "poem")),
        ("WRITE TWO STORIES", ("write", "story")),
        ("Please classify the following sentences as positive or negative.", ("classify", "sentence")),
        ("Could you give me three ideas for a party?", ("give", "idea")),
        ("I want you to translate this text into French.", ("translate", "text")),
        ("Given a list of numbers, find the largest one.", ("find", "one")),
        ("Based on the noun, verb, or adjective given, write a story.", ("write", "story")),
        ("In two sentences, describe the town.", ("describe", "town")),
        ("You will get a review. Rate the review from one to five.", ("get", "review")),
        ("There are five mistakes in the text. Correct the mistakes.", ("correct", "mistake")),
        ("Draft a firm but polite letter asking for a refund.", ("draft", "letter")),
        ("Briefly explain how a vaccine works.", ("explain", "")),
        ("Rewrite it.", ("rewrite", "it")),
        ('1. "List" one or two dishes which keep well', ("list", "dish")),
        ("Come up with a name for a cat", ("come up with", "name")),
        ("Pluralise these nouns.", ("pluralise", "noun")),
        ("Summarize the author's argument", ("summarize", "argument")),
        ("What is the capital of France?", ("question: what", "")),
        ("In which year did it happen?", ("question: which", "")),
        ("Is this sentence correct?", ("question: is", "")),
        ("My bread has not risen. What should I check?", ("question: what", "")),
    ],
)
def test_reads(text: str, pair: tuple[str, str]) -> None:
    assert verb_object(text) == pair


@pytest.mark.parametrize(
    "text", ["", "   ", "...", "42", "🦀🦀", "Poem about a cat", "这是一个句子。", "Positive, negative, neutral"]
)
def test_leaves_out_what_no_rule_reads(text: str) -> None:
    assert verb_object(text) is None


def test_counts_are_sorted_by_count_then_by_letter() -> None:
    texts = ["Write a poem.", "List two cats.", "Write some poems", "Explain a rule.", "no verb here"]
    assert verb_objects(texts) == [("write", "poem", 2), ("explain", "rule", 1), ("list", "cat", 1)]


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(["write", "a", ",", ".", "?", ":", "please", "what", "given", "'s", "me", "two", "or"])
        ).map(" ".join),
    )
)
def test_never_crashes_and_never_invents_a_word(text: str) -> None:
    pair = verb_object(text)
    if pair is not None:
        assert pair[0].removeprefix("question: ").split()[0] in text.lower().replace("’", "'")


def test_a_text_without_end_costs_no_time() -> None:
    assert verb_object("the " * 200_000) is None
