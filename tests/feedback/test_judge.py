"""Promises of the judges: the share of Yes, texts that can't break the question, and an endpoint's faults told."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import Server

from refine_af import endpoint
from refine_af.errors import RefineError, UsageError
from refine_af.feedback.base import Example, Scorer
from refine_af.feedback.judge import DEFAULT_QUESTION, EndpointJudge, JudgeScorer, filled
from refine_af.prompts.dialect import Frame

EXAMPLE = Example("Name a colour", "of the sky", "Blue")


# --- The question


def test_the_question_holds_the_three_texts() -> None:
    assert filled("{instruction}|{input}|{output}", EXAMPLE) == "Name a colour|of the sky|Blue"


def test_braces_and_field_names_in_texts_are_only_text() -> None:
    tricky = Example("Print {output}", "{x} {instruction} {{", "{input} \\1 {")
    assert filled("{instruction}|{input}|{output}", tricky) == "Print {output}|{x} {instruction} {{|{input} \\1 {"


def test_a_line_for_the_input_goes_where_there_is_none() -> None:
    text = filled(DEFAULT_QUESTION, Example("Name a colour", "", "Blue"))
    assert "Task:\nName a colour\n\nAnswer:\nBlue\n" in text
    assert "Task:\nName a colour\nof the sky\n\nAnswer:" in filled(DEFAULT_QUESTION, EXAMPLE)


@pytest.mark.parametrize(
    "make", [lambda q: JudgeScorer(Recorder(), FRAME, q), lambda q: EndpointJudge("http://h/v1", "m", q)]
)
def test_a_question_that_does_not_show_the_output_is_refused(make: Callable[[str], Any]) -> None:
    with pytest.raises(UsageError, match=r"scorer 'judge': its question lacks \{output\}"):
        make("Is {instruction} good?")


# --- A local model


class Recorder:
    """An engine whose log-probabilities are fixed for Yes and No."""

    name, model = "recorder", "recorded"

    def __init__(self, yes: float = -1.0, no: float = -3.0) -> None:
        self._values = {"Yes": yes, "No": no}
        self.seen: list[tuple[str, str]] = []

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a judge reads probabilities")

    def log_probs(self, texts: Sequence[tuple[str, str]]) -> list[Any]:
        self.seen += texts
        return [np.array([self._values[word.strip()]]) for _, word in texts]


FRAME = Frame("<user>", "<assistant>")


@pytest.mark.parametrize(
    ("yes", "no", "expected"),
    [
        (math.log(0.6), math.log(0.2), 0.75),
        (-5.0, -5.0, 0.5),
        (-0.0, -2000.0, 1.0),
        (-2000.0, -0.0, 0.0),
    ],
)
def test_the_score_is_yes_over_yes_and_no(yes: float, no: float, expected: float) -> None:
    assert JudgeScorer(Recorder(yes, no), FRAME).score([EXAMPLE]) == [pytest.approx(expected)]


@pytest.mark.parametrize(
    ("after", "yes"), [("<assistant>", "Yes"), ("\n", "Yes"), ("\nAnswer:", " Yes"), ("", " Yes"), (" ", "Yes")]
)
def test_the_words_begin_with_a_space_only_behind_text(after: str, yes: str) -> None:
    engine = Recorder()
    JudgeScorer(engine, Frame("<user>", after), question="{output}?").score([EXAMPLE])
    prompt = "<user>Blue?" + after
    assert engine.seen == [(prompt, yes), (prompt, yes.replace("Yes", "No"))]


def test_a_real_engine_judges_each_pair_by_itself(tiny_model: Path) -> None:
    torch = pytest.importorskip("torch")
    from refine_af.config import ModelConfig
    from refine_af.ends import find_ends
    from refine_af.engines.transformers import TransformersEngine
    from refine_af.loading import load_model, load_tokenizer
    from refine_af.models import locate
    from refine_af.prompts.dialect import Dialect

    config = ModelConfig.model_validate({"name": str(tiny_model), "device": "cpu"})
    located = locate(config)
    tokenizer, network = load_tokenizer(located), load_model(located, config)
    engine = TransformersEngine(network, tokenizer, model="tiny", ends=find_ends(tiny_model, tokenizer), batch_size=3)
    frame = Dialect(tokenizer).frame()
    scorer = JudgeScorer(engine, frame)
    examples = [EXAMPLE, Example("Write a poem", "", "the cat " * 9), Example("Say yes", "", "Yes")]
    expected = []
    for example in examples:
        text = frame.prompt(filled(DEFAULT_QUESTION, example))
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        with torch.no_grad():
            shares = network(ids).logits[0, -1].softmax(-1)
        yes, no = (shares[tokenizer.convert_tokens_to_ids(word)].item() for word in ("Yes", "No"))
        expected.append(yes / (yes + no))
    assert scorer.score(examples) == pytest.approx(expected, abs=1e-5)
    assert [scorer.score([e])[0] for e in examples] == pytest.approx(expected, abs=1e-5)
    assert scorer.score([]) == []


def test_the_identity_of_a_local_judge_names_model_frame_and_question() -> None:
    judges = [
        JudgeScorer(Recorder(), FRAME, model_identity="r1"),
        JudgeScorer(Recorder(), FRAME, model_identity="r2"),
        JudgeScorer(Recorder(), Frame("", ""), model_identity="r1"),
        JudgeScorer(Recorder(), FRAME, "Is {output} good?", model_identity="r1"),
    ]
    assert len({j.identity for j in judges}) == 4
    assert all(isinstance(j, Scorer) for j in judges)
    assert JudgeScorer(Recorder(), FRAME).identity is None


# --- An endpoint


def reply(*tokens: tuple[str, float]) -> tuple[int, Any, dict[str, str]]:
    top = [{"token": token, "logprob": math.log(share), "bytes": None} for token, share in tokens]
    choice = {"index": 0, "message": {"role": "assistant", "content": tokens[0][0]}, "finish_reason": "length"}
    return 200, {"choices": [{**choice, "logprobs": {"content": [{**top[0], "top_logprobs": top}]}}]}, {}


def test_all_spellings_of_yes_and_no_count(serve: Callable[..., Server]) -> None:
    server = serve(reply(("Yes", 0.3), (" yes", 0.2), ("No", 0.05), ("▁NO", 0.05), ("Yesterday", 0.2), ("Not", 0.1)))
    assert EndpointJudge(server.url, "m").score([EXAMPLE]) == [pytest.approx(5 / 6)]


def test_one_word_alone_decides(serve: Callable[..., Server]) -> None:
    assert EndpointJudge(serve(reply(("No", 0.9))).url, "m").score([EXAMPLE]) == [0.0]


def test_the_request_asks_for_one_token_and_its_20_likeliest(serve: Callable[..., Server]) -> None:
    server = serve(reply(("Yes", 0.9)))
    EndpointJudge(server.url + "/", "a-model", question="Is {output} good?").score([EXAMPLE])
    assert server.paths == ["/v1/chat/completions"]
    assert server.requests == [
        {
            "model": "a-model",
            "messages": [{"role": "user", "content": "Is Blue good?"}],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 20,
        }
    ]
    assert "Authorization" not in server.headers[0]


def test_requests_run_in_parallel_and_answers_come_in_order(serve: Callable[..., Server]) -> None:
    together = threading.Barrier(4, timeout=10)

    def answer(request: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        n = int(request["messages"][0]["content"])
        together.wait()  # breaks where fewer than four are under way at once
        time.sleep(0.01 * (8 - n))
        return reply(("Yes", n / 10), ("No", 1 - n / 10))

    scorer = EndpointJudge(serve(answer).url, "m", question="{output}", parallel=4)
    scores = scorer.score([Example("x", "", str(n)) for n in range(1, 9)])
    assert scores == pytest.approx([n / 10 for n in range(1, 9)])


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(serve: Callable[..., Server], status: int) -> None:
    answers = iter([(status, {"error": "busy"}, {"Retry-After": "0"})] * 2 + [reply(("Yes", 0.9))])
    server = serve(lambda request: next(answers))
    assert EndpointJudge(server.url, "m").score([EXAMPLE]) == [1.0]
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_left_after_six_attempts(serve: Callable[..., Server]) -> None:
    server = serve((429, {"error": "too many\nrequests"}, {"Retry-After": "a date"}))
    with pytest.raises(RefineError, match=r"answered 429 .*too many.*, 6 times in a row") as caught:
        EndpointJudge(server.url, "m").score([EXAMPLE])
    assert len(server.requests) == 6
    assert "\n" not in str(caught.value)
    assert f"scorer 'judge': {server.url}/chat/completions" in str(caught.value)


def test_a_slow_or_absent_server_is_told(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_ATTEMPTS", 2)
    released = threading.Event()
    server = serve(lambda request: (released.wait(5), reply(("Yes", 0.9)))[1])
    with pytest.raises(RefineError, match=r"gave no answer \(ReadTimeout\), 2 times"):
        EndpointJudge(server.url, "m", timeout=0.2).score([EXAMPLE])
    released.set()
    server.close()
    with pytest.raises(RefineError, match=r"gave no answer \(ConnectError\), 2 times"):
        EndpointJudge(server.url, "m").score([EXAMPLE])


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_told_at_once_and_nothing_more_is_sent(serve: Callable[..., Server], status: int) -> None:
    server = serve((status, {"error": {"message": "no such model"}}, {}))
    with pytest.raises(RefineError, match=rf"answered {status} .*no such model.*\(model m\)"):
        EndpointJudge(server.url, "m", parallel=1).score([EXAMPLE] * 50)
    assert len(server.requests) <= 3


def test_the_key_is_sent_and_never_shown(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-123\n")
    server = serve((401, "the key sk-secret-123 is wrong", {}))
    scorer = EndpointJudge(server.url, "m", api_key_env="MY_KEY")
    with pytest.raises(RefineError, match=r"the key \*\*\* is wrong.*is \$MY_KEY right\?") as caught:
        scorer.score([EXAMPLE])
    assert server.headers[0]["Authorization"] == "Bearer sk-secret-123"
    for shown in (str(caught.value), repr(scorer), scorer.identity):
        assert "secret" not in shown


def test_a_key_that_no_header_can_hold_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-sécret")
    with pytest.raises(UsageError, match=r"\$MY_KEY holds a character") as caught:
        EndpointJudge("http://h/v1", "m", api_key_env="MY_KEY")
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (reply(("Maybe", 0.5), ("It", 0.4)), "answered neither yes nor no: the likeliest tokens were 'Maybe', 'It'"),
        ((200, {"choices": [{"message": {"content": "Yes"}, "logprobs": None}]}, {}), "returned no log-probabilities"),
        ((200, {"choices": [{"message": {"content": "Yes"}}]}, {}), "returned no log-probabilities"),
        ((200, {"choices": []}, {}), "returned no log-probabilities"),
        ((200, "<html>", {}), "did not answer in JSON"),
        ((200, {"choices": [{"message": {"refusal": "No"}}]}, {}), "returned no log-probabilities (refusal);"),
        ((200, {"error": {"message": "Quota", "code": 429}}, {}), "answered 200 with an error (Quota), 6 times"),
        (reply(("Yes", math.nan)), "returned no log-probabilities"),
    ],
)
def test_an_answer_that_holds_no_judgement_is_an_error_and_no_half(
    serve: Callable[..., Server], answer: Any, message: str
) -> None:
    server = serve(answer)
    with pytest.raises(RefineError) as caught:
        EndpointJudge(server.url, "m").score([EXAMPLE])
    assert message in str(caught.value)
    assert server.url in str(caught.value)


@pytest.mark.parametrize("url", ["", "host/v1", "host:8000/v1", "ftp://host/v1", "http://", "file:///x"])
def test_a_base_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="scorer 'judge': base_url must be like https://host/v1"):
        EndpointJudge(url, "m")


@pytest.mark.parametrize("url", ["http://me:hidden@h/v1", "http://h/v1?key=hidden"])
def test_a_secret_in_the_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError, match=r"the key goes into \$MY_KEY") as caught:
        EndpointJudge(url, "m", api_key_env="MY_KEY")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("settings", [{"timeout": 0}, {"parallel": 0}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="timeout must be over 0 and parallel 1 or more"):
        EndpointJudge("http://h/v1", "m", **settings)


def test_an_endpoints_identity_names_endpoint_model_and_question() -> None:
    judges = [
        EndpointJudge("http://h/v1", "m"),
        EndpointJudge("http://g/v1", "m"),
        EndpointJudge("http://h/v1", "n"),
        EndpointJudge("http://h/v1", "m", "Is {output} good?"),
    ]
    assert len({j.identity for j in judges}) == 4
    assert EndpointJudge("http://h/v1/", "m", timeout=5, parallel=2).identity == judges[0].identity
    assert all(isinstance(j, Scorer) for j in judges)
    assert judges[0].score([]) == []
