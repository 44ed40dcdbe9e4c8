"""The model under evaluation, whatever names it: a model, an adapter, a run's folder, or an endpoint."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from refine_af.adapters import adapter_settings, check_adapter
from refine_af.completions import Answer, answer_of, first_choice
from refine_af.config import Config, load_config
from refine_af.endpoint import Endpoint
from refine_af.engines.base import BATCHES_AT_ONCE, Engine, Stop, TokenScores
from refine_af.engines.vllm import check_server
from refine_af.errors import UsageError
from refine_af.models import EMBEDDED, EMBEDDED_NAME, check_model, check_packages, positions
from refine_af.parts import Parts
from refine_af.prompts.dialect import Frame
from refine_af.prompts.super_ni import Ruler
from refine_af.records import content_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PromptForm = Literal["auto", "plain", "chat"]


class AtWork(Protocol):
    """A subject with all loaded that it needs."""

    def answers(self, groups: Sequence[Sequence[str]], max_tokens: int, stop: Stop) -> list[list[str]]:
        """To groups of sources, in their order; each may go on behind ``stop``."""
        ...

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        """Of (source, answer); only where the subject ``scores``."""
        ...


class Subject(Protocol):
    """``settings``: what of the model decides its scores, ``prompt`` among them. ``unit``: sources to ask at once.
    ``silences``: how many answers had no text since it was last cleared, by what came in its place. ``scores``: whether
    it tells how likely it finds a given text. ``positions``: tokens that prompt and answer may have in all, None where
    nobody tells."""

    settings: dict[str, Any]
    unit: int
    silences: Counter[str]
    ruler: Ruler
    scores: bool
    positions: int | None

    def length(self, source: str) -> int:
        """Tokens of the prompt that is made of a source; only where ``positions`` are known."""
        ...

    def try_out(self) -> None:
        """Raises RefineError where the model is on this machine and can't be loaded, or can't write."""
        ...

    def at_work(self) -> AbstractContextManager[AtWork]:
        """Loads what is dear, while the context lasts."""
        ...


def find_subject(model: str, config: Config, prompt: PromptForm, served: str | None, scratch: Path) -> Subject:
    """The subject that ``model`` names; engine, precision and threads are the config's.

    ``served`` is a model's name at an endpoint. Raises UsageError where the model can't be had.
    """
    if model.startswith(("http://", "https://")):
        return EndpointSubject(model, served, prompt)
    if served is not None:
        raise UsageError(f"--served names a model behind an endpoint, but {model} is no URL; leave it out")
    check_packages()
    base, revision, adapter = _base_and_adapter(model)
    if adapter is not None:
        check_adapter(adapter)
    chosen = config.model.model_copy(update={"name": base, "revision": revision or _revision(base, config)})
    check_model(chosen)
    check_server(chosen, adapters=adapter is not None)
    speaks = adapter if adapter and (adapter / "tokenizer_config.json").is_file() else None
    return LocalSubject(Parts(config.model_copy(update={"model": chosen}), scratch, speaks), adapter, prompt)


def _revision(base: str, config: Config) -> str | None:
    return config.model.revision if base == config.model.name else None


def _base_and_adapter(model: str) -> tuple[str, str | None, Path | None]:
    """The base model's name and revision, and the adapter's folder where there is one."""
    folder = Path(os.path.expanduser(model))
    if not (folder / "run.db").is_file():
        if not (folder / "adapter_config.json").is_file():
            return (EMBEDDED if model == EMBEDDED_NAME and not folder.is_dir() else model), None, None
        return *_base_of(folder), folder
    tuned = folder / "model"
    if not tuned.is_dir():
        raise UsageError(
            f"{folder} has no tuned model yet; finish it: `refine-af run --config {folder}/config.yaml --out {folder}`"
        )
    if not (tuned / "adapter_config.json").is_file():
        return str(tuned), None, None
    made_with = load_config(folder / "config.yaml").model
    return made_with.name, made_with.revision, tuned


def _base_of(adapter: Path) -> tuple[str, str | None]:
    """What an adapter's own file says of its base. The embedded model's folder in some cache is the embedded model."""
    settings = adapter_settings(adapter)
    name, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(name, str) or not name:
        file = adapter / "adapter_config.json"
        raise UsageError(f"{file} names no base model (base_model_name_or_path); write there what it was trained on")
    return (EMBEDDED, None) if _is_embedded(name) else (name, revision)


def _is_embedded(name: str) -> bool:
    """Whether a name is the embedded model's label, or its folder in a cache, of this machine or another."""
    place = Path(name)
    return name == EMBEDDED_NAME or (place.name.startswith(f"{EMBEDDED_NAME}-") and place.parent.name == "models")


class LocalSubject:
    """A model on this machine, with an adapter or without; ``name`` is the adapter's in the settings, its path by
    default."""

    def __init__(self, parts: Parts, adapter: Path | None, prompt: PromptForm, name: str | None = None) -> None:
        self._parts = parts
        self._adapter = adapter
        self._frame = _frame(parts, prompt)
        self.ruler: Ruler = TokenRuler(parts.tokenizer)
        self.silences: Counter[str] = Counter()  # whoever generates here has said what there is
        self.unit = max(BATCHES_AT_ONCE, parts.threads) * parts.config.model.batch_size
        self.scores = parts.engine_name != "vllm" or adapter is None
        self.positions = positions(parts.located)
        label, weights = parts.located.label, parts.located.identity
        if adapter is not None:
            label = f"{label} with {name or adapter}"
            weights = content_id(weights, *(_contents(file) for file in sorted(adapter.glob("adapter_*"))))
        self.settings: dict[str, Any] = {
            "model": label,
            "weights": weights,
            "engine": parts.engine_name,
            "precision": "unknown" if parts.engine_name == "vllm" else parts.precision,
            "prompt": "chat" if _is_chat(parts, prompt) else "plain",
            "template": content_id(self._frame.before, self._frame.after),
        }

    def length(self, source: str) -> int:
        return len(self._parts.tokenizer.encode(self._frame.prompt(source), add_special_tokens=False))

    def try_out(self) -> None:
        if self._parts.engine_name != "transformers":
            return
        with self._parts.adapted_engine(self._adapter) as engine:
            if self._adapter is None:  # with one, an engine is made anew each time, and its copy is dear
                engine.answers([["Name a colour."]], 1)

    @contextmanager
    def at_work(self) -> Iterator[AtWork]:
        with self._parts.adapted_engine(self._adapter) as engine:
            yield _Loaded(engine, self._frame)


@dataclass(frozen=True, slots=True)
class _Loaded:
    engine: Engine
    frame: Frame

    def answers(self, groups: Sequence[Sequence[str]], max_tokens: int, stop: Stop) -> list[list[str]]:
        prompts = [[self.frame.prompt(source) for source in group] for group in groups]
        return [[one.text for one in group] for group in self.engine.answers(prompts, max_tokens, stop)]

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        return self.engine.token_scores([(self.frame.prompt(source), answer) for source, answer in texts])


def _frame(parts: Parts, prompt: PromptForm) -> Frame:
    """The chat template around a source, or nothing but the token that begins a text."""
    if prompt == "chat" and not parts.dialect.is_chat:
        raise UsageError(f"{parts.located.label} has no chat template; use --prompt plain")
    return parts.dialect.frame() if _is_chat(parts, prompt) else Frame(parts.dialect.beginning, "")


def _is_chat(parts: Parts, prompt: PromptForm) -> bool:
    return prompt != "plain" and parts.dialect.is_chat


def _contents(file: Path) -> str:
    return hashlib.blake2b(file.read_bytes(), digest_size=8).hexdigest()


class TokenRuler:
    """Measures in the model's own tokens, as Tk-Instruct does."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text))

    def cut(self, text: str, tokens: int) -> str:
        kept: str = self._tokenizer.decode(self._tokenizer.encode(text)[:tokens], skip_special_tokens=True)
        return kept


class LetterRuler:
    """Four characters a token, where the tokenizer is behind an endpoint: a rough mean of English."""

    _LETTERS = 4

    def count(self, text: str) -> int:
        return -(-len(text) // self._LETTERS)

    def cut(self, text: str, tokens: int) -> str:
        return text[: tokens * self._LETTERS]


class EndpointSubject:
    """A model behind an OpenAI-compatible endpoint: ``/chat/completions``, or ``/completions`` for plain prompts."""

    unit = 64  # a minute or so of a slow server
    scores = False
    positions: int | None = None

    def __init__(self, url: str, served: str | None, prompt: PromptForm) -> None:
        if served is None:
            names = Endpoint("evaluate", url, "any", option="MODEL").models()
            if len(names) != 1:
                raise UsageError(f"{url} serves {', '.join(names) or 'no model'}; name one with --served")
            served = names[0]
        self._endpoint = Endpoint("evaluate", url, served, timeout=300, option="MODEL")
        self._plain = prompt == "plain"
        self._path = "/completions" if self._plain else "/chat/completions"
        self.ruler: Ruler = LetterRuler()
        self.silences: Counter[str] = Counter()
        self.settings: dict[str, Any] = {
            "model": served,
            "engine": self._endpoint.url,
            "precision": "unknown",
            "prompt": "plain" if self._plain else "chat",
            "max_source_counted_in": "4 characters a token",
        }

    def try_out(self) -> None:
        """Nothing: each request may cost something."""

    @contextmanager
    def at_work(self) -> Iterator[AtWork]:
        yield self

    def length(self, source: str) -> int:
        raise NotImplementedError("an endpoint tells no tokens")

    def token_scores(self, texts: Sequence[tuple[str, str]]) -> list[TokenScores]:
        raise NotImplementedError("an endpoint tells no likelihood of a given text")

    def answers(self, groups: Sequence[Sequence[str]], max_tokens: int, stop: Stop) -> list[list[str]]:
        # ``stop`` is not sent on: a server would stop at white space before the answer too.
        common = {"max_tokens": max_tokens, "temperature": 0}
        requests = [
            {"prompt": source, **common}
            if self._plain
            else {"messages": [{"role": "user", "content": source}], **common}
            for group in groups
            for source in group
        ]
        answers = self._endpoint.ask(self._path, requests, self._read)
        self.silences.update(answer.silence for answer in answers if answer.silence)
        texts = iter(answer.text for answer in answers)
        return [[next(texts) for _ in group] for group in groups]

    def _read(self, body: Any) -> Answer:
        answer = answer_of(first_choice(body), plain=self._plain)
        if answer is None:
            raise self._endpoint.error(self._path, "returned no answer")
        return answer
