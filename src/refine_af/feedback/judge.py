"""Judges: a model of this machine, or one behind an OpenAI-compatible endpoint, is asked whether an answer is good."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from refine_af.completions import AskAgainError, answer_of, first_choice
from refine_af.endpoint import Endpoint
from refine_af.engines.base import Engine
from refine_af.errors import UsageError
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
_PATH = "/chat/completions"
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
    llama.cpp and OpenAI do. Key, ``parallel`` and ``timeout`` are as :class:`refine_af.endpoint.Endpoint` has them. The
    identity is made of endpoint, model name and question: name a dated model, since what a server puts behind a name
    can't be seen.

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
        self.name = name
        self._endpoint = Endpoint(f"scorer {name!r}", base_url, model, api_key_env, timeout, parallel)
        self._question = question
        self.identity: str | None = f"1 {self._endpoint.url}{_PATH} {model} asked {content_id(question)}"

    def score(self, examples: Sequence[Example]) -> list[float]:
        """One number an example, in their order. Raises RefineError that names the endpoint where it fails."""
        requests = [
            {
                "messages": [{"role": "user", "content": filled(self._question, example)}],
                "max_tokens": 1,
                "temperature": 0,
                "logprobs": True,
                "top_logprobs": 20,
            }
            for example in examples
        ]
        return self._endpoint.ask(_PATH, requests, self._read)

    def _read(self, body: Any) -> float:
        try:
            choice = first_choice(body)
        except AskAgainError as error:
            raise AskAgainError(f"returned no log-probabilities: it {error}") from None
        try:
            first = choice["logprobs"]["content"][0]
            # Servers round: some give a little more than a probability of 1.
            tokens = [(str(t["token"]), min(float(t["logprob"]), 0.0)) for t in first["top_logprobs"] or [first]]
            if any(math.isnan(p) for _, p in tokens):
                raise ValueError
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            answer = answer_of(choice)
            why = f" ({answer.silence})" if answer is not None and answer.silence else ""
            raise self._endpoint.error(
                _PATH, f"returned no log-probabilities{why}; the judge needs a server that gives top_logprobs"
            ) from None
        yes, no = (_sum(tokens, word) for word in ("yes", "no"))
        if yes == no == -math.inf:
            likeliest = ", ".join(repr(token) for token, _ in tokens[:3])
            raise self._endpoint.error(_PATH, f"answered neither yes nor no: the likeliest tokens were {likeliest}")
        return _share(yes, no)


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


def _share(yes: float, no: float) -> float:
    """The logistic function of the difference of two log-probabilities, without overflow."""
    difference = no - yes
    return 1 / (1 + math.exp(difference)) if difference < 700 else 0.0


def _sum(tokens: Sequence[tuple[str, float]], word: str) -> float:
    """The log of the summed probabilities of the tokens that are the word."""
    total = math.fsum(math.exp(p) for token, p in tokens if token.strip(_AROUND_TOKENS).lower() == word)
    return math.log(total) if total > 0 else -math.inf
