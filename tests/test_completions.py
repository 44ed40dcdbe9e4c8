"""Promises of what an endpoint's completion says: the answer's text, or by name why there is none."""

from __future__ import annotations

from typing import Any

import pytest

from refine_af.completions import Answer, AskAgainError, answer_of, first_choice


def chat(content: Any, finish: str = "stop", **more: Any) -> dict[str, Any]:
    return {"finish_reason": finish, "message": {"role": "assistant", "content": content, **more}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("blue", "blue"),
        (" blue\n", " blue\n"),
        ([{"type": "text", "text": "bl"}, {"type": "output_text", "text": "ue"}], "blue"),
        (["bl", {"text": "ue"}], "blue"),
        ("blue \ud83d", "blue \ufffd"),
        ([{"type": "thinking", "thinking": "Hm", "text": "Hm"}, {"type": "text", "text": "blue"}], "blue"),
        ("<think>A colour.\n\nBlue is fine.</think>\n\nblue", "blue"),
        ("\n<thinking>Hm</thinking>blue", "blue"),
        ("Blue is fine.</think>\n\nblue", "blue"),
        ("<think>a</think><think>b</think> blue", "blue"),
        ([{"type": "text", "text": "<think>Hm</think>blue"}], "blue"),
        ("The tag <think> opens what </think> closes.", "The tag <think> opens what </think> closes."),
    ],
)
def test_the_text_is_what_stands_behind_the_thinking(content: Any, text: str) -> None:
    assert answer_of(chat(content, reasoning_content="Hm")) == Answer(text)
    if isinstance(content, str):
        assert answer_of({"text": content}, plain=True) == Answer(text)


def test_a_silence_is_told_in_one_line() -> None:
    found = answer_of(chat("", finish="a\n reason\n"))
    assert found is not None
    assert found.silence == "empty text (finish_reason a reason)"


@pytest.mark.parametrize(
    ("choice", "silence"),
    [
        (chat(None), "null content (finish_reason stop)"),
        (chat(""), "empty text (finish_reason stop)"),
        (chat(" \n", "length"), "empty text (finish_reason length)"),
        (chat([]), "empty text (finish_reason stop)"),
        ({"message": {}}, "null content (finish_reason None)"),
        (chat(None, "length", reasoning_content="The user"), "reasoning without an answer (finish_reason length)"),
        (chat("", "length", reasoning="The user"), "reasoning without an answer (finish_reason length)"),
        (chat("<think>The user", "length"), "reasoning without an answer (finish_reason length)"),
        (chat("<think>The user</think>\n"), "reasoning without an answer (finish_reason stop)"),
        (chat(None, refusal="I can't."), "refusal"),
        (chat([{"type": "refusal", "refusal": "I can't."}]), "refusal"),
        (chat(None, "tool_calls", tool_calls=[{"id": "1"}]), "tool call"),
        (chat(None, function_call={"name": "f"}), "tool call"),
        (chat("", "content_filter"), "content filter"),
        ([{"type": "image_url"}], None),
    ],
)
def test_an_answer_without_text_says_why(choice: Any, silence: str | None) -> None:
    if silence is None:
        choice, silence = chat(choice), "empty text (finish_reason stop)"
    assert answer_of(choice) == Answer("", silence)


@pytest.mark.parametrize("choice", [{}, {"message": None}, {"message": "blue"}, chat(7), chat([7])])
def test_what_has_no_such_form_is_no_answer(choice: Any) -> None:
    assert answer_of(choice) is None
    assert answer_of(choice, plain=True) is None


@pytest.mark.parametrize("body", [None, [], "x", {}, {"choices": None}, {"choices": "x"}, {"choices": [None]}])
def test_a_body_without_choices_has_an_empty_first_one(body: Any) -> None:
    assert first_choice(body) == {}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"choices": []}, "returned no choice"),
        ({"choices": [{"error": {"message": "upstream\nfailed", "code": 502}}]}, "with an error (upstream failed)"),
        ({"choices": [{"finish_reason": "error", "message": {"content": ""}}]}, "answered 200 with an error"),
    ],
)
def test_an_error_in_place_of_a_choice_may_be_asked_again(body: Any, said: str) -> None:
    with pytest.raises(AskAgainError) as caught:
        first_choice(body)
    assert said in str(caught.value)
