"""Promises of an endpoint: what may pass is asked again, what lasts stops at once, and both are told in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from serving import Server

from refine_af.completions import Answer, answer_of, first_choice
from refine_af.endpoint import Endpoint
from refine_af.errors import RefineError

GOOD = (200, {"choices": [{"message": {"content": "blue"}}]}, {})
PATH = "/chat/completions"


def read(body: Any) -> Answer | None:
    return answer_of(first_choice(body))


def then_good(*bodies: Any) -> Callable[[dict[str, Any]], tuple[int, Any, dict[str, str]]]:
    waiting = list(bodies)
    return lambda request: (200, waiting.pop(0), {}) if waiting else GOOD


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"error": {"message": "Rate limit exceeded", "code": 429}},
        {"error": {"message": "Overloaded", "code": "503"}},
        {"error": "busy"},
        {"choices": [{"error": {"code": 502, "message": "upstream"}}]},
    ],
)
def test_an_error_with_the_status_200_is_asked_again(serve: Callable[..., Server], body: Any) -> None:
    server = serve(then_good(body, body))
    assert Endpoint("evaluate", server.url, "m").ask(PATH, [{}], read) == [Answer("blue")]
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("body", "said", "times"),
    [
        ({"error": {"message": "Rate\nlimit", "code": 429}}, "with an error (Rate limit), 6 times", 6),
        ({"choices": []}, "returned no choice, 6 times in a row", 6),
        ({"error": {"message": "No model", "code": 404}}, "answered 200 with an error (No model) (model m)", 1),
        ({"error": {"message": "the key sk-secret-1 is wrong", "code": "401"}}, "the key *** is wrong", 1),
        ("[" * 100_000, "did not answer in JSON", 1),
    ],
)  # fmt: skip
def test_what_lasts_is_told_with_its_own_words(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, body: Any, said: str, times: int
) -> None:
    server = serve((200, body, {}))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-1")
    with pytest.raises(RefineError) as caught:
        Endpoint("evaluate", server.url, "m").ask(PATH, [{}], read)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"evaluate: {server.url}{PATH} ")
    assert len(server.requests) == times


def test_models_that_come_with_an_error_are_no_list(serve: Callable[..., Server]) -> None:
    for body in ({"error": {"message": "No", "code": 403}}, None, {"data": None}, {"data": [{}]}):
        with pytest.raises(RefineError):
            Endpoint("evaluate", serve((200, body, {})).url, "m").models()
