"""When a row of tokens that grows one by one has come to what stops it, without decoding it at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refine_af.engines.base import Completion, Stop

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\ufffd"  # a character of which the token has some bytes only


class Ending:
    """Asked after each token of a row. Only a token in which a stop string may end makes it decode the row."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Stop) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._letters = stop.last_letters | {_INCOMPLETE}
        self._possible: dict[int, bool] = {}

    def is_reached(self, row: Sequence[int]) -> bool:
        """Whether the last token of the row, of what was written alone, is that which completed a stop string."""
        return self._may_end(row[-1]) and self._stop.cut(self._tokenizer.decode(row))[1]

    def until_reached(self, row: Sequence[int]) -> Sequence[int]:
        """The row up to the token that completed a stop string: all of it where none did."""
        return next((row[:n] for n in range(1, len(row) + 1) if self.is_reached(row[:n])), row)

    def _may_end(self, token: int) -> bool:
        if token not in self._possible:
            # Some tokenizers leave out the space that a text begins with, so that one may be in any token.
            text = " " + self._tokenizer.decode([token])
            self._possible[token] = not self._letters.isdisjoint(text)
        return self._possible[token]


def completion_of(
    tokenizer: PreTrainedTokenizerBase,
    row: Sequence[int],
    stop: Stop,
    log_probs: Sequence[float] | None,
    *,
    end_token: bool,
) -> Completion:
    """What a row of written tokens comes to. ``end_token``: whether its last token ends it and is no text.

    The row may go on behind what stops it; that, and what of ``log_probs`` belongs to it, is left out.
    """
    text, found = stop.cut(tokenizer.decode(row[:-1] if end_token else row, skip_special_tokens=False))
    if found:
        row = Ending(tokenizer, stop).until_reached(row)
    kept = None if log_probs is None else tuple(log_probs[: len(row)])
    return Completion(text, tuple(row), end_token or found, kept)
