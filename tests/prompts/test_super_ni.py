"""Promises of the official prompt: its words, its full stops, and how a source that is too long is cut."""

from __future__ import annotations

from refine_af.prompts.super_ni import source


class Words:
    """A tokenizer whose tokens are words with the white space behind them."""

    def count(self, text: str) -> int:
        return len(text.split())

    def cut(self, text: str, tokens: int) -> str:
        return " ".join(text.split()[:tokens])


EXAMPLES = (("one", "two."), ("three?", "four"))


def test_the_definition_alone_asks_in_the_official_words() -> None:
    made = source(" Say it ", (), "What?", Words(), 100)
    assert made.text == "Definition: Say it.\n\nNow complete the following example -\nInput: What?\nOutput: "
    assert (made.shown, made.is_cut) == (0, False)


def test_two_examples_stand_between_each_with_full_stops() -> None:
    assert source("Say it!", EXAMPLES, "x", Words(), 100).text == (
        "Definition: Say it!\n\n"
        " Positive Example 1 -\nInput: one.\n Output: two.\n\n"
        " Positive Example 2 -\nInput: three?\n Output: four.\n\n"
        "Now complete the following example -\nInput: x.\nOutput: "
    )


def test_an_empty_input_is_a_full_stop() -> None:
    assert source("Say it.", (), "", Words(), 100).text.endswith("Input: .\nOutput: ")


def test_an_example_that_does_not_fit_is_left_out_with_those_behind_it() -> None:
    whole = Words().count(source("Say it.", EXAMPLES, "x", Words(), 100).text)
    assert source("Say it.", EXAMPLES, "x", Words(), whole).shown == 2
    assert source("Say it.", EXAMPLES, "x", Words(), whole - 1).shown == 1
    long_first = (("word " * 50, "two"), ("a", "b"))
    assert source("Say it.", long_first, "x", Words(), 40).shown == 0


def test_what_is_too_long_loses_its_end() -> None:
    made = source("Say it.", EXAMPLES, "word " * 50, Words(), 12)
    assert made.text == "Definition: Say it. Now complete the following example - Input: word word"
    assert (made.shown, made.is_cut) == (0, True)
