"""UniEval's dialogue dimensions: a T5 is asked a yes-or-no question about a pair; the score is its weight on
"Yes".

One model in memory serves all dimensions: ``UniEval`` holds it, ``UniEval.scorer`` hands out one scorer a
dimension. Source of questions and scoring: Zhong et al. (arXiv 2210.07197), repository maszhongming/UniEval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from refine_af.batching import padded_batches
from refine_af.config import ModelConfig
from refine_af.errors import UsageError
from refine_af.feedback.base import Better, Cost, Example
from refine_af.feedback.reward_model import Markers, loaded, tokenizer_in, torch_dtype_named
from refine_af.models import locate, quiet_libraries

# As UniEval words them; {y} is the response, {x} the dialogue history, {fact} the knowledge it may draw on.
QUESTIONS: Mapping[str, str] = MappingProxyType(
    {
        "naturalness": "question: Is this a natural response in the dialogue? </s> response: {y}",
        "coherence": (
            "question: Is this a coherent response given the dialogue history? </s> response: {y}"
            " </s> dialogue history: {x}"
        ),
        "understandability": ("question: Is this an understandable response in the dialogue? </s> response: {y}"),
        "engagingness": (
            "question: Is this an engaging and informative response according to the dialogue history and"
            " fact? </s> response: {y} </s> dialogue history: {x} </s> fact: {fact}"
        ),
        "groundedness": (
            "question: Is this response consistent with knowledge in the fact? </s> response: {y} </s> fact: {fact}"
        ),
    }
)
_NO_FACT = "_nofact"  # what stands in UniEval's dialogue data where a response had no fact to draw on
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


class UniEval:
    """A T5 that answers questions with "Yes" or "No", such as MingZhong/unieval-dialog.

    ``model`` is a local folder or the name of a Hub model that is on this disk, ``revision`` a branch, tag or commit
    of the latter; nothing is downloaded. Questions of more than ``max_tokens`` tokens lose their end, which is
    UniEval's rule too: the history or the fact, since the response stands before them. Batches are sorted by length;
    in float32 a score does not depend on its batch (to 1e-5). T5 overflows in float16: on a GPU with little memory
    take bfloat16.

    Raises UsageError where the model is not on this disk, is no encoder-decoder, or starts "Yes" and "No"
    alike.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 8,
        max_tokens: int = 1024,
    ) -> None:
        from transformers import AutoModelForSeq2SeqLM

        located = locate(ModelConfig.model_validate({"name": model, "revision": revision}))
        folder = located.folder
        with quiet_libraries():
            self._tokenizer = tokenizer_in(model, folder)
            try:
                self._model = loaded(AutoModelForSeq2SeqLM, model, folder, torch_dtype_named(dtype), device)
            except ValueError:
                raise UsageError(f"{model} can't answer UniEval's questions: it is no encoder-decoder") from None
        self._yes, self._no = (self._tokenizer(word)["input_ids"][0] for word in ("Yes", "No"))
        if self._yes == self._no:
            raise UsageError(f"the tokenizer of {model} starts 'Yes' and 'No' with the same token")
        self.markers = Markers(self._tokenizer)
        self._device = device
        self._batch_size = batch_size
        self._max_tokens = max_tokens
        self.identity = f"{located.label} {located.identity} {dtype} {max_tokens} tokens"

    def scorer(self, dimension: str) -> UniEvalScorer:
        """Raises UsageError for a dimension that is none of QUESTIONS."""
        if dimension not in QUESTIONS:
            raise UsageError(f"UniEval has no dimension {dimension!r}; there are: {', '.join(QUESTIONS)}")
        return UniEvalScorer(self, dimension)

    def yes(self, questions: Sequence[str]) -> list[float]:
        """P(Yes) / (P(Yes) + P(No)) for each question, 0 to 1, at the decoder's first position.

        The probabilities are a softmax over the whole vocabulary, whose denominator cancels out: what remains
        is the logistic function of the difference of two logits. A word of several tokens counts by its
        first.
        """
        import torch

        rows = [self._tokenizer(text, truncation=True, max_length=self._max_tokens)["input_ids"] for text in questions]
        config = self._model.config
        scores = [0.0] * len(rows)
        with torch.inference_mode():
            for indices, ids, mask in padded_batches(rows, self._batch_size, config.pad_token_id, self._device):
                start = torch.full((len(indices), 1), config.decoder_start_token_id, device=self._device)
                logits = self._model(input_ids=ids, attention_mask=mask, decoder_input_ids=start).logits
                first = logits[:, 0].float()  # (B, V)
                values = torch.sigmoid(first[:, self._yes] - first[:, self._no]).tolist()
                for i, value in zip(indices, values, strict=True):
                    scores[i] = value
        return scores


class UniEvalScorer:
    """One dimension of UniEval; its name is the dimension's.

    The response is the example's output; the dialogue history is its prompt (the instruction, and the input
    under it). UniEval's own examples end a history with a blank line. It is left out here: T5's tokenizer
    takes line breaks for spaces and drops those at the end, so the model would not see it.

    The fact, for engagingness and groundedness, is the example's input, and "_nofact" (UniEval's own word for
    none) where it has none. That is our choice: a pair has nothing else an answer could be grounded in.

    All dimensions are in 0 to 1, save engagingness: UniEval adds up the scores of a response's sentences, so that
    longer responses may score higher and an empty one scores 0. Sentences are split at white space behind ".", "!"
    and "?" (UniEval asks NLTK's model, which needs a download; abbreviations make a difference).

    A "</s>" inside a text would end its part of the question, so it is broken by a space.
    """

    low = 0.0
    better: Better = "high"
    cost: Cost = "forward pass"

    def __init__(self, unieval: UniEval, dimension: str) -> None:
        self.name = dimension
        self.high = math.inf if dimension == "engagingness" else 1.0
        self._unieval = unieval
        self._question = QUESTIONS[dimension]
        self.identity = f"1 {dimension} {unieval.identity}"

    def score(self, examples: Sequence[Example]) -> list[float]:
        """One number an example, in their order."""
        parts = [self._responses(example) for example in examples]
        values = iter(self._unieval.yes([question for questions in parts for question in questions]))
        return [math.fsum(next(values) for _ in questions) for questions in parts]

    def _responses(self, example: Example) -> list[str]:
        prompt, output, input = (
            self._unieval.markers.broken(t) for t in (example.prompt, example.output, example.input)
        )
        responses = [output]
        if self.name == "engagingness":
            responses = _SENTENCE_END.split(output.strip()) if output.strip() else []
        return [self._question.format(x=prompt, y=response, fact=input or _NO_FACT) for response in responses]
