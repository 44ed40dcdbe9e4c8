"""Generation on a vLLM server: a process and an environment of its own, with the model in its own memory.

What is sent are token ids, and what comes back are those that were sampled, with their log-probabilities, so that the
policy learns from what was really written. The policy's adapter is a folder that the server reads under a new name each
time that it changed: no request can meet an older one. What vLLM has no request for, likelihoods with all that the
scorers want to know beside them, is read in torch.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_af.completions import AskAgainError, first_choice
from refine_af.config import ModelConfig, SamplingConfig
from refine_af.endpoint import Endpoint
from refine_af.ends import Ends
from refine_af.engines.base import NO_STOP, Completion, Engine, Floats, Prompts, Stop, TokenScores
from refine_af.engines.ending import completion_of
from refine_af.errors import RefineError, UsageError
from refine_af.records import content_id, derived_seed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COMPLETIONS = "/completions"
_WITH_ADAPTERS = "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve MODEL --enable-lora"
_SAMPLE = "Q: 2 + 2 = ?\nA: 4, naïvely."


def check_server(config: ModelConfig, *, adapters: bool = True) -> None:
    """Raises UsageError where ``engine: vllm`` is asked for and no server answers that can do it, or none that lets
    ``adapters`` be changed while it runs. A few requests; nothing is loaded."""
    if config.engine != "vllm":
        return
    try:
        server = VllmServer(config)
        if adapters and not server.takes_adapters():
            raise UsageError(
                f"model.server: the server at {server.endpoint.url} lets no adapters be changed; start it as "
                f"`{_WITH_ADAPTERS}`, with --max-lora-rank as high as policy.lora.rank and finetune.lora.rank"
            )
    except UsageError:
        raise
    except RefineError as error:
        raise UsageError(str(error)) from None


class VllmServer:
    """The server that ``config.server`` names. ``endpoint`` is that of the untouched model.

    Raises UsageError where it serves several models and none is named, RefineError where it doesn't answer.
    """

    def __init__(self, config: ModelConfig) -> None:
        server = config.server
        assert server.url is not None  # the config's own check
        unnamed = Endpoint(
            "model.server",
            server.url,
            server.name or "any",
            server.api_key_env,
            server.timeout,
            config.batch_size,
            option="model.server.url",
        )
        self.endpoint = unnamed.of(_served(unnamed, server.name))

    def takes_adapters(self) -> bool:
        """Whether adapters can be added: asked to take away one that it hasn't, a server says that in its own words,
        and one that can't do it says that it knows no such address."""
        try:
            self.endpoint.command("/unload_lora_adapter", {"lora_name": f"refine-af-{uuid.uuid4().hex}"})
        except RefineError as error:
            return "lora adapter" in str(error).lower()
        return True

    def check_tokens(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Raises UsageError where the server's model has other tokens than the one that is trained here."""
        ids = tokenizer.encode(_SAMPLE, add_special_tokens=False)
        request = {"prompt": ids, "max_tokens": 1, "temperature": 0, "echo": True}
        (text,) = self.endpoint.ask(_COMPLETIONS, [request], lambda body: str(first_choice(body).get("text")))
        if not text.startswith(meant := tokenizer.decode(ids)):
            raise UsageError(
                f"model.server: {self.endpoint.model} at {self.endpoint.url} reads as {text[:40]!r} the tokens of "
                f"{meant!r}: it is another model than model.name; serve that one"
            )

    @contextmanager
    def adapter(self, folder: Path) -> Iterator[Endpoint]:
        """The model with a LoRA adapter, while the context lasts. The server must see the folder at the same path."""
        name = f"refine-af-{uuid.uuid4().hex[:16]}"
        self.endpoint.command("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.resolve())})
        try:
            yield self.endpoint.of(name)
        finally:
            with suppress(RefineError):  # a server that went away has forgotten it
                self.endpoint.command("/unload_lora_adapter", {"lora_name": name})


def _served(endpoint: Endpoint, wanted: str | None) -> str:
    names = endpoint.models(adapters=False)
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted in names:
        return str(wanted)
    problem = "name one with model.server.name" if wanted is None else f"and not {wanted} (model.server.name)"
    raise UsageError(f"model.server: {endpoint.url} serves {', '.join(names) or 'no model'}; {problem}")


@dataclass(frozen=True, slots=True)
class _Written:
    tokens: list[int]
    log_probs: list[float]
    stopped_by: int | str | None  # a stop string, or an end token that is not the server's own
    by_length: bool


@dataclass(slots=True)
class _Row:
    """A prompt, what was written behind it so far, and the seed of its own that its draws come from."""

    prompt: list[int]
    seed: int
    tokens: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    end_token: bool = False


class VllmEngine:
    """The model behind ``endpoint``; ``reader`` gives the engine that reads likelihoods, None where there is none.

    A row's draws come from a seed of its own, but its logits are rounded by what the server computes beside it: two
    runs are equal only where the server is told to compute each row alone (``VLLM_BATCH_INVARIANT=1``).
    """

    name = "vllm"

    def __init__(
        self,
        endpoint: Endpoint,
        tokenizer: PreTrainedTokenizerBase,
        *,
        model: str,
        ends: Ends,
        reader: Callable[[], Engine] | None,
    ) -> None:
        self.model = model
        self._endpoint = endpoint
        self._tokenizer = tokenizer
        self._ends = ends
        self._reader = reader

    def generate(
        self,
        groups: Sequence[Prompts],
        sampling: SamplingConfig,
        *,
        seed: int,
        stop: Stop = NO_STOP,
        log_probs: bool = False,
    ) -> list[list[Completion]]:
        rows: list[list[int]] = []
        for group in groups:
            prefix, suffixes = self._encoded(group.prefix), [self._encoded(s) for s in group.suffixes]
            if not all(suffixes):
                raise ValueError("a prompt is empty after the shared prefix")
            rows += [prefix + suffix for suffix in suffixes]
        done = iter(self._completed(rows, sampling, seed, stop, log_probs))
        return [[next(done) for _ in group.suffixes] for group in groups]

    def answers(self, groups: Sequence[Sequence[str]], max_tokens: int, stop: Stop = NO_STOP) -> list[list[Completion]]:
        rows = [self._encoded(prompt) for group in groups for prompt in group]
        if not all(rows):
            raise ValueError("a prompt is empty")
        greedy = SamplingConfig(max_tokens=max_tokens, temperature=0)
        done = iter(self._completed(rows, greedy, 0, stop, log_probs=False))
        return [[next(done) for _ in group] for group in groups]

    def log_probs(self, texts: Sequence[tuple[str, str]]) -> list[Floats]:
        return self._reading().log_probs(texts)

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        return self._reading().token_scores(texts)

    def _reading(self) -> Engine:
        if self._reader is None:
            raise NotImplementedError("likelihoods are read of the untouched model alone")
        return self._reader()

    def _completed(
        self, prompts: Sequence[list[int]], sampling: SamplingConfig, seed: int, stop: Stop, log_probs: bool
    ) -> list[Completion]:
        """In rounds: the server stops at every stop string, also at one that counts only once there is text before it,
        and a row that was stopped too early goes on in the next round."""
        rows = _rows(prompts, seed)
        waiting = rows
        while waiting:
            requests = [_request(row, sampling, stop, self._ends, log_probs) for row in waiting]
            written = self._endpoint.ask(_COMPLETIONS, requests, self._read)
            for row, more in zip(waiting, written, strict=True):
                row.tokens += more.tokens
                row.log_probs += more.log_probs
                row.end_token = not more.by_length and not isinstance(more.stopped_by, str)
            waiting = [
                row
                for row, more in zip(waiting, written, strict=True)
                if isinstance(more.stopped_by, str)
                and len(row.tokens) < sampling.max_tokens
                and not stop.cut(self._tokenizer.decode(row.tokens))[1]
            ]
        return [
            completion_of(
                self._tokenizer, row.tokens, stop, row.log_probs if log_probs else None, end_token=row.end_token
            )
            for row in rows
        ]

    def _read(self, body: Any) -> _Written:
        choice = first_choice(body)
        if (end := choice.get("finish_reason")) not in ("length", "stop", None):
            raise AskAgainError(f"ended a completion by {end!r}")
        try:
            tokens = [int(token) for token in choice["token_ids"]]
            by_length = {"length": True, "stop": False}[choice["finish_reason"]]
            found = choice["logprobs"]
            log_probs = [float(value) for value in found["token_logprobs"]] if found else []
            if log_probs and len(log_probs) != len(tokens):
                raise ValueError
        except (KeyError, IndexError, TypeError, ValueError):
            raise self._endpoint.error(
                _COMPLETIONS, "gave no completion with its token ids; it must be vLLM, 0.10.2 or later"
            ) from None
        return _Written(tokens, log_probs, choice.get("stop_reason"), by_length)

    def _encoded(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def _rows(prompts: Sequence[list[int]], seed: int) -> list[_Row]:
    """Seeds come from a row's text and from how many equal ones stood before it, as in the decoder of ours."""
    turns: Counter[str] = Counter()
    rows = []
    for prompt in prompts:
        text = content_id(str(prompt))
        rows.append(_Row(prompt, derived_seed(seed, text, turns[text])))
        turns[text] += 1
    return rows


def _request(row: _Row, sampling: SamplingConfig, stop: Stop, ends: Ends, log_probs: bool) -> dict[str, Any]:
    """Of what is left of a row. All that a server could have a default of its own for is said."""
    request = {
        "prompt": row.prompt + row.tokens,
        "max_tokens": sampling.max_tokens - len(row.tokens),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": 0.0,
        "repetition_penalty": sampling.repetition_penalty,
        "stop_token_ids": list(ends.all),
        "return_token_ids": True,
    }
    if sampling.temperature > 0:
        request["seed"] = derived_seed(row.seed, len(row.tokens))
    if strings := [s for s in (*stop.strings, stop.after_text) if s]:
        request["stop"] = strings
    if log_probs:
        request["logprobs"] = 0  # of the sampled tokens alone
    return request
