"""Scores pairs with a trained reward model: any sequence classifier with one output, or OpenAssistant's
GPT-NeoX one.

Nothing is downloaded and no code out of a model's repository is run. What a score is worth in a reward is
left to the composite.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refine_af.batching import padded_batches
from refine_af.config import ModelConfig
from refine_af.errors import UsageError
from refine_af.feedback.base import Better, Cost, Example
from refine_af.models import locate, quiet_libraries
from refine_af.weights import load_weights

if TYPE_CHECKING:
    import torch

OPEN_ASSISTANT_TYPE = "gpt_neox_reward_model"
_DTYPES = ("float32", "bfloat16", "float16")


class RewardModelScorer:
    """A reward model's scalar for (prompt, output): unbounded, larger is better, comparable within one model
    only.

    ``model`` is a local folder or the name of a Hub model that is on this disk, ``revision`` a branch, tag or commit
    of the latter. Two kinds are read:

    - OpenAssistant's (``model_type`` "gpt_neox_reward_model", such as oasst-rm-2.1-pythia-1.4b-epoch-2.5), in
      the format of its card: ``<|prompter|>{prompt}<|endoftext|><|assistant|>{response}<|endoftext|>``.
      Markers that a text itself contains are read as plain characters, so a response can't open a turn of its
      own.
    - any other through AutoModelForSequenceClassification, which must have one output; the pair goes through
      the tokenizer's chat template as a user's and an assistant's turn, and the template alone decides whether a
      beginning token stands there. A marker of the tokenizer that a text contains is broken by a space, for the
      same reason. Where its config names no padding token, pairs are run one at a time, since such a model can't
      find the last token of a padded row.

    A text of more than ``max_tokens`` tokens (or than the model has positions) loses the beginning of its
    prompt, then, if the response alone is too long, the beginning of the response; its end always stays. The
    opening marker stays too (for a chat template: the first token, where it is one of those that were added
    to the tokenizer's vocabulary).

    Batches are sorted by length and padded on the right. In float32 a value does not depend on its batch (to
    1e-5); in bfloat16 and float16 it does, by rounding: kept values are then the same up to that.

    Raises UsageError where the model is not on this disk, has no weights, no score head, more than one output,
    a class of its own or no chat template.
    """

    name = "reward_model"
    low, high = -math.inf, math.inf
    better: Better = "high"
    cost: Cost = "forward pass"

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 8,
        max_tokens: int = 2048,
    ) -> None:
        located = locate(ModelConfig.model_validate({"name": model, "revision": revision}))
        settings = json.loads((located.folder / "config.json").read_text(encoding="utf-8"))
        kind = _OpenAssistant if settings.get("model_type") == OPEN_ASSISTANT_TYPE else _Classifier
        self._network = kind(model, located.folder, settings, torch_dtype_named(dtype), device, max_tokens)
        self._device = device
        self._batch_size = batch_size
        self.identity = f"1 {located.label} {located.identity} {dtype} {max_tokens} tokens"

    def score(self, examples: Sequence[Example]) -> list[float]:
        """One number an example, in their order."""
        import torch

        network = self._network
        rows = [network.encode(example) for example in examples]
        size = self._batch_size if network.pad_id is not None else 1
        scores = [0.0] * len(rows)
        with torch.inference_mode():
            for indices, ids, mask in padded_batches(rows, size, network.pad_id or 0, self._device):
                for i, value in zip(indices, network.values(ids, mask).float().tolist(), strict=True):
                    scores[i] = value
        return scores


class _OpenAssistant:
    """GPT-NeoX with a linear head on the last token's state.

    Layout of the checkpoint as in LAION-AI/Open-Assistant, model/model_training/models/reward_model.py:
    weights ``gpt_neox.*`` and ``out_proj.{weight,bias}``, one score, ``pooling`` "last". The published file
    also holds attention masks, which newer versions of transformers compute; they are passed over.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: dict[str, Any],
        dtype: torch.dtype,
        device: str,
        max_tokens: int,
    ) -> None:
        from transformers import GPTNeoXConfig

        pooling = settings.get("pooling", "last")
        if pooling != "last":
            raise UsageError(f"reward model {name} pools by {pooling!r}; only 'last' (the last token) is supported")
        dropped = ("model_type", "architectures", "torch_dtype", "dtype", "transformers_version", "pooling")
        with quiet_libraries():
            self._tokenizer = tokenizer_in(name, folder)
            config = GPTNeoXConfig(**{k: v for k, v in settings.items() if k not in dropped})
            self._model = loaded(_last_token_scorer(), name, folder, dtype, device, config=config)
        markers = ["<|prompter|>", "<|assistant|>", "<|endoftext|>"]
        vocabulary = self._tokenizer.get_vocab()
        if not vocabulary.keys() >= set(markers):
            raise UsageError(f"the tokenizer of reward model {name} lacks one of {', '.join(markers)}")
        self._user, self._assistant, self._end = (vocabulary[marker] for marker in markers)
        self._limit = min(max_tokens, config.max_position_embeddings)
        self.pad_id: int | None = self._end  # behind the last real token, so its value has no effect

    def encode(self, example: Example) -> list[int]:
        prompt, response = self._plain(example.prompt), self._plain(example.output)
        tail = [self._end, self._assistant, *response, self._end]
        body = [*prompt, *tail]
        return [self._user, *body[max(0, len(body) + 1 - self._limit) :]]

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def values(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self._model(ids, mask)
        return scores


def _last_token_scorer() -> Any:
    """The network's class, made when it is needed because its base comes with torch."""
    import torch
    from transformers import GPTNeoXModel, GPTNeoXPreTrainedModel

    class LastTokenScorer(GPTNeoXPreTrainedModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.gpt_neox = GPTNeoXModel(config)
            self.out_proj = torch.nn.Linear(config.hidden_size, 1)
            self.post_init()

        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            states = self.gpt_neox(input_ids=ids, attention_mask=mask, use_cache=False)[0]  # (B, T, H)
            rows = torch.arange(len(ids), device=ids.device)
            return self.out_proj(states[rows, mask.sum(dim=1) - 1]).squeeze(-1)  # (B,)

    return LastTokenScorer


class _Classifier:
    """AutoModelForSequenceClassification with one output, behind a chat template."""

    def __init__(
        self,
        name: str,
        folder: Path,
        settings: dict[str, Any],
        dtype: torch.dtype,
        device: str,
        max_tokens: int,
    ) -> None:
        from transformers import AutoConfig, AutoModelForSequenceClassification

        with quiet_libraries():
            try:
                config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            except ValueError:
                kind = settings.get("model_type", "without a model_type")
                raise UsageError(
                    f"reward model {name} is of type {kind}, which transformers doesn't know; code out of a "
                    "model's repository is not run, so choose another model"
                ) from None
            own = [c for c in config.architectures or () if not c.endswith("ForSequenceClassification")]
            if own and "AutoModelForSequenceClassification" in settings.get("auto_map", {}):
                raise UsageError(
                    f"reward model {name} scores by a class of its own, {own[0]}; code out of a model's repository "
                    "is not run, so choose another model"
                )
            if config.num_labels != 1:
                raise UsageError(f"reward model {name} has {config.num_labels} outputs; a reward model has one")
            self._tokenizer = tokenizer_in(name, folder)
            if not self._tokenizer.chat_template:
                raise UsageError(f"the tokenizer of reward model {name} has no chat template to put a pair into")
            self._model = loaded(AutoModelForSequenceClassification, name, folder, dtype, device)
        text = config.get_text_config()
        self.pad_id: int | None = text.pad_token_id
        positions = getattr(text, "max_position_embeddings", None) or max_tokens
        self._limit = min(max_tokens, positions, self._tokenizer.model_max_length)
        self._markers = set(self._tokenizer.get_added_vocab().values())
        self._special = Markers(self._tokenizer)

    def encode(self, example: Example) -> list[int]:
        turns = [
            {"role": "user", "content": self._special.broken(example.prompt)},
            {"role": "assistant", "content": self._special.broken(example.output)},
        ]
        text = self._tokenizer.apply_chat_template(turns, tokenize=False)
        # No special tokens beside the template's: a second beginning token is one that the model never met.
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        kept = ids[:1] if ids and ids[0] in self._markers else []
        return ids if len(ids) <= self._limit else kept + ids[len(ids) + len(kept) - self._limit :]

    def values(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(input_ids=ids, attention_mask=mask).logits  # (B, 1)
        return logits[:, 0]


def loaded(
    kind: Any,
    name: str,
    folder: Path,
    dtype: torch.dtype,
    device: str,
    unused: tuple[str, ...] = (),
    **settings: Any,
) -> Any:
    """As :func:`refine_af.weights.load_weights`, on the device, frozen, in evaluation mode."""
    model = load_weights(kind, name, folder, unused=unused, dtype=dtype, **settings)
    return model.to(device).eval().requires_grad_(False)


def tokenizer_in(name: str, folder: Path) -> Any:
    """The tokenizer in ``folder``; raises UsageError where there is none that can be read on this machine."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, ImportError):
        cure = f"get its files with `hf download {name}`"
        if any(folder.glob("*.model")) and not (folder / "tokenizer.json").is_file():
            cure = "SentencePiece files need `pip install sentencepiece protobuf`"
        raise UsageError(f"the tokenizer of {name} can't be read from {folder}: {cure}") from None


class Markers:
    """The special tokens of a tokenizer, which must not come out of a text that is judged."""

    def __init__(self, tokenizer: Any) -> None:
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        words = sorted((w for w in special if len(w) > 1), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, words)) or "(?!)")  # the latter is found nowhere

    def broken(self, text: str) -> str:
        """The text with a space in each marker ("<|im_end|>" is "< |im_end|>"), so that it can't end its own part and
        begin another."""
        return self._pattern.sub(lambda match: f"{match.group()[0]} {match.group()[1:]}", text)


def torch_dtype_named(name: str) -> torch.dtype:
    """Raises UsageError for a name other than float32, bfloat16 and float16."""
    import torch

    if name not in _DTYPES:
        raise UsageError(f"no dtype {name!r} for a scorer; there are: {', '.join(_DTYPES)}")
    dtype: torch.dtype = getattr(torch, name)
    return dtype
