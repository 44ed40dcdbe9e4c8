"""Promises of points_at: what points at a text that isn't there, what can be answered as it stands."""

from __future__ import annotations

import pytest

from refine_af.prompts.pointing import points_at
from refine_af.seeds import load_seeds


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ("Boil the notice down to a single sentence.", "the notice"),
        ("What is the gist of the joke?", "the joke"),
        ("Rewrite the sentence in the passive voice.", "the sentence"),
        ("Determine whether the text is Italian or Spanish.", "the text"),
        ("Provide a quote from the news article.", "the news article"),
        ("Summarize the passage above.", "the passage above"),
        ("Fix these CSV rows.", "these CSV rows"),
        ("Is the given number prime?", "the given number"),
        ("What is wrong in this article?", "this article"),
        ("Is the review positive?", "the review"),
        ("Do the two proverbs agree?", "the two proverbs"),
        ("Choose the right answer from the options below.", "the options below"),
        ("Explain the following.", "the following"),
        ("Correct the sentence:", "the sentence"),
        ("REWRITE THE SENTENCE IN ENGLISH.", "THE SENTENCE"),
        ("Judge the register of the message: formal or informal.", "the message"),
        ("Given a sentence, name its subject.", "Given a sentence"),
    ],
)
def test_the_words_that_point(instruction: str, words: str) -> None:
    assert points_at(instruction) == words


@pytest.mark.parametrize(
    "instruction",
    [
        "",
        "Add a comma after a sentence to improve grammar.",
        "In three sentences, tell a museum about the Mona Lisa.",
        "What is the longest word in the English language?",
        "Write a one-page handout.",
        "Write a story about a man. The story should be funny.",
        "Write a story about the sea. Give the story a title.",
        "Think of a word and use the word in a sentence.",
        "Compose a haiku. The poem should be about rain.",
        "Write a function that reverses the given string.",
        "Use the word 'set' in a sentence.",
        "Quote the text of the Constitution.",
        "Recite the list of US presidents.",
        "Tell the story of Noah.",
        "Explain the function of the heart.",
        "What is the sentence structure of Latin?",
        "How many people were born this year?",
        "What happened on the following day?",
        "Explain the code of conduct.",
        "Which words begin with the letter A?",
        "What is the message of the film Up?",
        "How cold is ten degrees below zero?",
        "Which fish live below the surface?",
    ],
)
def test_what_can_be_answered_as_it_stands(instruction: str) -> None:
    assert points_at(instruction) is None


@pytest.mark.parametrize(
    "instruction",
    [
        'Translate the sentence "I am here" into French.',
        "Translate the sentence 'I don't know' into French.",
        "Translate the sentence “I am here” into French.",
        "Translate the sentence ‘I am here’ into French.",
        "Translate the sentence: I like dogs.",
        "Translate the sentence.\nI like dogs.",
        "Explain the code `print(1)`.",
    ],
)
def test_a_text_in_the_instruction_is_not_missing(instruction: str) -> None:
    assert points_at(instruction) is None


def test_the_seeds_that_need_no_input_point_at_nothing() -> None:
    assert [s.instruction for s in load_seeds(None).tasks if not s.input and points_at(s.instruction)] == []


def test_more_than_half_of_the_seeds_with_an_input_are_known_by_their_words() -> None:
    found = [points_at(s.instruction) is not None for s in load_seeds(None).tasks if s.input]
    assert sum(found) >= 0.55 * len(found)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "piece",
    ["x", "a ", "'a ", '"a ', "“a ", "‘a ", ": a or b, c ", "write ", "the following ", "given ", "each the two "],
)
def test_a_long_text_is_read_in_linear_time(piece: str) -> None:
    points_at((piece * 100_000)[:100_000])
