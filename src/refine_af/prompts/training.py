"""A pair as the token ids that a model is trained on: the same in fine-tuning and in what foresees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from refine_af.feedback.base import Example
from refine_af.prompts.answers import asked
from refine_af.prompts.dialect import Frame

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class TrainingText:
    """``response`` is learnt behind ``prompt``; neither is empty. It ends with the end token unless it was cut."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    is_cut: bool


class TrainingTexts:
    """Pairs in the words of ``frame``, of at most ``longest`` tokens. ``closing`` is the token that ends an answer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, frame: Frame, closing: int, longest: int) -> None:
        self.frame = frame
        self._tokenizer = tokenizer
        self._closing = closing
        self._longest = longest

    def __call__(self, pair: Example) -> TrainingText:
        prompt = self.encoded(self.frame.prompt(asked(pair.instruction, pair.input)))
        response = [*self.encoded(pair.output), self._closing]
        whole = len(prompt) + len(response)
        if len(prompt) >= self._longest:
            prompt = prompt[-(self._longest // 2) :]  # the end of the prompt is what an answer follows from
        response = response[: self._longest - len(prompt)]
        return TrainingText(tuple(prompt), tuple(response), len(prompt) + len(response) < whole)

    def encoded(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids
