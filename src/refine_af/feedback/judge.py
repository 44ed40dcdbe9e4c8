"""Judges: a model of this machine, or one behind an OpenAI-compatible endpoint, is asked whether an answer is good."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import httpx

from refine_af.engines.base import Engine
from refine_af.errors import RefineError, UsageError
from refine_af.feedback.base import Better, Cost, Example
from refine_af.prompts.dialect import Frame
from refine_af.records import content_id

DEFAULT_QUESTION = """\
Here is a task and an answer to it.

Task:
{instruction}
{input}

Answer:
{output}

Is the answer correct, complete and to the point? Reply with Yes or No."""

_FIELD = re.compile(r"\{(instruction|input|output)\}")
_EMPTY_INPUT = re.compile(r"^\{input\}\n|\n\{input\}$", re.MULTILINE)
_ATTEMPTS = 6
_FIRST_WAIT = 0.5  # seconds; doubled after each attempt
_LONGEST_WAIT = 30.0  # seconds, also where the server asks for more
_AROUND_TOKENS = " \t\r\n\u2581\u0120\u010a.\"'*"  # white space as tokenizers write it, and marks around a word


class JudgeScorer:
    """P(Yes) / (P(Yes) + P(No)) of a local model that is asked about the pair: 0 to 1.

    ``frame`` is how the model is spoken to. ``question`` holds ``{output}`` and may hold ``{instruction}`` and
    ``{input}``; a line that is ``{input}`` alone goes where a pair has none. The answers are "Yes" and "No", as whole
    words; behind a prompt that ends in a letter or a punctuation mark, " Yes" and " No" (a chat template ends in a
    marker or a line break).

    ``model_identity`` is the revision of the engine's model (``LocatedModel.identity`` and what it computes in);
    without it the scorer has no identity, and its values are not kept for another run.

    Raises UsageError where the question lacks ``{output}``.
    """

    low, high = 0.0, 1.0
    better: Better = "high"
    cost: Cost = "forward pass"

    def __init__(
        self,
        engine: Engine,
        frame: Frame,
        question: str = DEFAULT_QUESTION,
        name: str = "judge",
        *,
        model_identity: str | None = None,
    ) -> None:
        check_question(f"scorer {name!r}", question)
        self.name = name
        self._engine = engine
        self._frame = frame
        self._question = question
        self.identity: str | None = None
        if model_identity is not None:
            asked = content_id(question, frame.before, frame.after)
            self.identity = f"1 {engine.model} {model_identity} {engine.name} asked {asked}"

    def score(self, examples: Sequence[Example]) -> list[float]:
        """One number an example, in their order."""
        prompts = [self._frame.prompt(filled(self._question, e)) for e in examples]
        leads = [" " if prompt[-1:].isalnum() or prompt[-1:] in tuple(":.?!") else "" for prompt in prompts]
        texts = [(p, lead + word) for p, lead in zip(prompts, leads, strict=True) for word in ("Yes", "No")]
        sums = [float(found.sum()) for found in self._engine.log_probs(texts)] if texts else []
        return [_share(yes, no) for yes, no in zip(sums[::2], sums[1::2], strict=True)]


class EndpointJudge:
    """P(Yes) / (P(Yes) + P(No)) of a model behind ``base_url``/chat/completions: 0 to 1.

    The model answers with one token at temperature 0; of the 20 likeliest tokens for it, all whose text is yes or no
    in any case count. The server must return log-probabilities (``logprobs``, ``top_logprobs``), as vLLM, SGLang,
    llama.cpp and OpenAI do. ``parallel`` requests are under way at once; ``timeout`` is in seconds, for each.
    Requests that meet a full or failing server are repeated after growing waits, six attempts in all.

    The key is read from the environment variable ``api_key_env``, may be absent (local servers need none), and is
    shown nowhere. The identity is made of endpoint, model name and question: name a dated model, since what a server
    puts behind a name can't be seen.

    Raises UsageError for a URL that is none, a question without ``{output}``, or settings out of range.
    """

    low, high = 0.0, 1.0
    better: Better = "high"
    cost: Cost = "request"

    def __init__(
        self,
        base_url: str,
        model: str,
        question: str = DEFAULT_QUESTION,
        name: str = "judge",
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 60,
        parallel: int = 8,
    ) -> None:
        check_question(f"scorer {name!r}", question)
        if timeout <= 0 or parallel < 1:
            raise UsageError(f"scorer {name!r}: timeout must be over 0 and parallel 1 or more")
        self.name = name
        self._url = _endpoint(name, base_url, api_key_env)
        self._shown = str(self._url)
        self._model = model
        self._question = question
        self._timeout = timeout
        self._parallel = parallel
        self._key = os.environ.get(api_key_env, "").strip()
        self._key_from = api_key_env
        if not (self._key.isascii() and self._key.isprintable()):  # a header's error would quote it
            raise UsageError(f"scorer {name!r}: ${api_key_env} holds a character that no key has")
        self.identity: str | None = f"1 {self._shown} {model} asked {content_id(question)}"

    def score(self, examples: Sequence[Example]) -> list[float]:
        """One number an example, in their order. Raises RefineError that names the endpoint where it fails."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        stop = Event()
        with (
            httpx.Client(headers=headers, timeout=self._timeout) as client,
            ThreadPoolExecutor(self._parallel) as pool,
        ):
            jobs = [pool.submit(self._one, client, stop, example) for example in examples]
            try:
                return [job.result() for job in jobs]
            except BaseException:  # the first failure, or Ctrl-C: no more is spent behind it
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _one(self, client: httpx.Client, stop: Event, example: Example) -> float:
        request = {
            "model": self._model,
            "messages": [{"role": "user", "content": filled(self._question, example)}],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": 20,
        }
        body = self._answered(client, stop, request)
        try:
            first = body["choices"][0]["logprobs"]["content"][0]
            tokens = [(str(t["token"]), float(t["logprob"])) for t in first["top_logprobs"] or [first]]
        except (KeyError, IndexError, TypeError, ValueError):
            raise self._error(
                "returned no log-probabilities; the judge needs a server that gives top_logprobs"
            ) from None
        yes, no = (_sum(tokens, word) for word in ("yes", "no"))
        if yes == no == -math.inf:
            likeliest = ", ".join(repr(token) for token, _ in tokens[:3])
            raise self._error(f"answered neither yes nor no: the likeliest tokens were {likeliest}")
        return _share(yes, no)

    def _answered(self, client: httpx.Client, stop: Event, request: dict[str, Any]) -> Any:
        """The decoded body of a successful answer, after repetitions where they can help."""
        problem = ""
        for attempt in range(_ATTEMPTS):
            wait = _FIRST_WAIT * 2**attempt
            try:
                answer = client.post(self._url, json=request)
            except httpx.RequestError as error:
                problem = f"does not answer ({type(error).__name__})"
            else:
                if answer.is_success:
                    return self._decoded(answer)
                problem = f"answered {answer.status_code}{self._said(answer)}"
                if answer.status_code != 429 and answer.status_code < 500:
                    hint = f"; is ${self._key_from} right?" if answer.status_code in (401, 403) else ""
                    raise self._error(problem + hint)
                wait = max(wait, _seconds(answer.headers.get("retry-after")))
            if attempt == _ATTEMPTS - 1 or stop.wait(min(wait, _LONGEST_WAIT)):
                break
        raise self._error(f"{problem}, {_ATTEMPTS} times in a row")

    def _decoded(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise self._error("did not answer in JSON") from None

    def _said(self, answer: httpx.Response) -> str:
        """The beginning of a server's complaint, in one line, without the key that some servers quote."""
        text = " ".join(answer.text.split())
        if self._key:
            text = text.replace(self._key, "***")
        return f" ({text[:200]})" if text else ""

    def _error(self, problem: str) -> RefineError:
        return RefineError(f"scorer {self.name!r}: {self._shown} {problem} (model {self._model})")


def filled(question: str, example: Example) -> str:
    """The question about a pair. Texts are put in at one go, so braces in them are only text."""
    values = {"instruction": example.instruction, "input": example.input, "output": example.output}
    if not example.input:
        question = _EMPTY_INPUT.sub("", question)
    return _FIELD.sub(lambda match: values[match.group(1)], question)


def check_question(where: str, question: str) -> None:
    """Raises UsageError for a question that does not show the output."""
    if "{output}" not in question:
        raise UsageError(f"{where}: its question lacks {{output}}, so the judge would not see what it judges")


def _endpoint(name: str, base_url: str, api_key_env: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.rstrip("/") + "/chat/completions")
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(f"scorer {name!r}: base_url must be like https://host/v1, found {base_url!r}")
    if url.userinfo or url.query:  # either could hold a secret, and the URL is shown and kept
        raise UsageError(
            f"scorer {name!r}: base_url must hold no password and no query; the key goes into ${api_key_env}"
        )
    return url


def _share(yes: float, no: float) -> float:
    """The logistic function of the difference of two log-probabilities, without overflow."""
    difference = no - yes
    return 1 / (1 + math.exp(difference)) if difference < 700 else 0.0


def _sum(tokens: Sequence[tuple[str, float]], word: str) -> float:
    """The log of the summed probabilities of the tokens that are the word."""
    total = math.fsum(math.exp(p) for token, p in tokens if token.strip(_AROUND_TOKENS).lower() == word)
    return math.log(total) if total > 0 else -math.inf


def _seconds(retry_after: str | None) -> float:
    try:
        return float(retry_after or 0)
    except ValueError:  # a date
        return 0.0
