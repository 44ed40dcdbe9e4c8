"""An OpenAI-compatible endpoint: many requests at once, patience with a busy server, and faults told in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from threading import Event
from typing import Any, TypeVar

import httpx

from refine_af.completions import AskAgainError, said_of
from refine_af.errors import RefineError, UsageError

_MODELS = "/models"
_ATTEMPTS = 6
_FIRST_WAIT = 0.5  # seconds; doubled after each attempt
_LONGEST_WAIT = 30.0  # seconds, also where the server asks for more

Read = TypeVar("Read")


class Endpoint:
    """``base_url`` and a model behind it, asked in the name of ``who``, with which every error begins but those of the
    URL, which is called as the user wrote it, ``option`` (None: ``base_url``).

    ``parallel`` requests are under way at once; ``timeout`` is in seconds, for each. Requests that meet a full or
    failing server are repeated after growing waits, six attempts in all. The key is read from the environment variable
    ``api_key_env``, may be absent (local servers need none), and is shown nowhere.

    Raises UsageError for a URL that is none, or settings out of range.
    """

    def __init__(
        self,
        who: str,
        base_url: str,
        model: str,
        api_key_env: str = "OPENAI_API_KEY",
        timeout: float = 60,
        parallel: int = 8,
        option: str | None = None,
    ) -> None:
        if timeout <= 0 or parallel < 1:
            raise UsageError(f"{who}: timeout must be over 0 and parallel 1 or more")
        self.model = model
        self.url = _checked_url(option or f"{who}: base_url", base_url, api_key_env)
        self._who = who
        self._timeout = timeout
        self._parallel = parallel
        self._key = os.environ.get(api_key_env, "").strip()
        self._key_from = api_key_env
        if not (self._key.isascii() and self._key.isprintable()):  # a header's error would quote it
            raise UsageError(f"{who}: ${api_key_env} holds a character that no key has")

    def ask(self, path: str, requests: Sequence[Mapping[str, Any]], read: Callable[[Any], Read]) -> list[Read]:
        """What ``read`` makes of the answer to each request, in order; ``model`` is put into each. A request is
        repeated where ``read`` raises AskAgainError, as for a busy server.

        Raises RefineError that names the endpoint at the first failure, and what ``read`` raises.
        """
        stop = Event()
        with self._client() as client, ThreadPoolExecutor(self._parallel) as pool:
            jobs = [
                pool.submit(
                    self._answered,
                    client,
                    stop,
                    path,
                    {"model": self.model, **request},
                    lambda answer: read(self._decoded(path, answer)),
                )
                for request in requests
            ]
            try:
                return [job.result() for job in jobs]
            except BaseException:  # the first failure, or Ctrl-C: no more is spent behind it
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def models(self, *, adapters: bool = True) -> list[str]:
        """The names of the models that the server lists; without ``adapters``, of those that have no parent."""
        with self._client() as client:
            body = self._answered(client, Event(), _MODELS, None, lambda answer: self._decoded(_MODELS, answer))
        try:
            return [str(model["id"]) for model in body["data"] if adapters or not model.get("parent")]
        except (KeyError, TypeError, AttributeError):
            raise self.error(_MODELS, "lists no models") from None

    def command(self, path: str, request: Mapping[str, Any]) -> None:
        """Has the server do something that is answered by success alone. Raises as :meth:`ask`."""
        with self._client() as client:
            self._answered(client, Event(), path, request, lambda answer: None)

    def of(self, model: str) -> Endpoint:
        """The same endpoint, with another model behind it."""
        other = copy(self)
        other.model = model
        return other

    def error(self, path: str, problem: str) -> RefineError:
        model = "" if path == _MODELS else f" (model {self.model})"
        return RefineError(f"{self._who}: {self.url}{path} {problem}{model}")

    def _client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return httpx.Client(headers=headers, timeout=self._timeout)

    def _answered(
        self,
        client: httpx.Client,
        stop: Event,
        path: str,
        request: Mapping[str, Any] | None,
        read: Callable[[httpx.Response], Read],
    ) -> Read:
        """What ``read`` makes of a successful answer, after repetitions where they can help."""
        problem = hint = ""
        for attempt in range(_ATTEMPTS):
            wait = _FIRST_WAIT * 2**attempt
            try:
                url = self.url + path
                answer = client.get(url) if request is None else client.post(url, json=request)
            except httpx.RequestError as error:
                problem = f"gave no answer ({type(error).__name__})"
                hint = f"; is it running, and does it answer within {self._timeout:g} seconds?"
            else:
                hint = ""
                if answer.is_success:
                    try:
                        return read(answer)
                    except AskAgainError as error:
                        problem = self._without_key(str(error))
                else:
                    problem = f"answered {answer.status_code}{self._said(answer)}"
                if not answer.is_success and answer.status_code != 429 and answer.status_code < 500:
                    if answer.status_code in (401, 403):
                        hint = f"; is ${self._key_from} right?"
                    raise self.error(path, problem + hint)
                wait = max(wait, _seconds(answer.headers.get("retry-after")))
            if attempt == _ATTEMPTS - 1 or stop.wait(min(wait, _LONGEST_WAIT)):
                break
        raise self.error(path, f"{problem}, {_ATTEMPTS} times in a row{hint}")

    def _decoded(self, path: str, answer: httpx.Response) -> Any:
        """The answer's JSON. An error that came with the status 200 is treated as the status that it names."""
        try:
            body = answer.json()
        except (ValueError, RecursionError):
            raise self.error(path, "did not answer in JSON") from None
        if isinstance(body, dict) and body.get("error") and not body.get("choices"):
            problem = f"answered 200 with an error ({said_of(body['error'])})"
            if _is_lasting(body["error"]):
                raise self.error(path, self._without_key(problem))
            raise AskAgainError(problem)
        return body

    def _said(self, answer: httpx.Response) -> str:
        """The beginning of a server's complaint, in one line, without the key that some servers quote."""
        text = self._without_key(" ".join(answer.text.split()))
        return f" ({text[:200]})" if text else ""

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _checked_url(option: str, base_url: str, api_key_env: str) -> str:
    base = base_url.rstrip("/") if isinstance(base_url, str) else ""
    try:
        url = httpx.URL(base)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise UsageError(f"{option} must be like https://host/v1, found {base_url!r}")
    if url.userinfo or url.query:  # either could hold a secret, and the URL is shown and kept
        raise UsageError(f"{option} must hold no password and no query; the key goes into ${api_key_env}")
    return base


def _is_lasting(error: Any) -> bool:
    """Whether an error names a status of HTTP with which asking again is of no use."""
    code = str(error.get("code", "")) if isinstance(error, dict) else ""
    return code.isascii() and code.isdigit() and 400 <= int(code[:4]) < 500 and code not in ("408", "429")


def _seconds(retry_after: str | None) -> float:
    try:
        return float(retry_after or 0)
    except ValueError:  # a date
        return 0.0
