"""What the evaluator sees of a pair: some forty numbers, from a frozen language model, from sentence embeddings, and
from the words themselves. None of them says by itself whether a pair is good."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from refine_af.feedback.base import Example
from refine_af.feedback.embedding import Embedder
from refine_af.feedback.format import FormatScorer
from refine_af.feedback.likelihood import Reading
from refine_af.feedback.passages import sentences
from refine_af.feedback.rules import VarietyScorer
from refine_af.novelty import tokens

Matrix = npt.NDArray[np.float32]

_NEVER = -12.0  # nats: the log-probability of what has no place in a text this short
_PIECES = 4  # an output is compared with its task in so many pieces at most,
_PIECE = 6  # each of so many words at least
_MARKS = frozenset("<>#*`{}|=/\\_~^")
_STOCK = re.compile(
    r"\b(?:sure|certainly|of course|absolutely|great question|happy to|glad to|thank you|thanks|hope (?:this|that|it)|"
    r"let me know|feel free|hesitate|anything else|further questions|an ai|language model|here (?:is|are|you go))\b",
    re.IGNORECASE,
)
_VARIETY, _FORMAT = VarietyScorer(), FormatScorer()


def features(examples: Sequence[Example], readings: Sequence[Reading], embedder: Embedder) -> Matrix:
    """(n, :data:`WIDTH`), in the order of :func:`of_model`, :func:`of_meaning` and :func:`of_words`."""
    meaning = of_meaning(examples, embedder)
    rows = [
        [*of_model(reading), *near, *of_words(example)]
        for example, reading, near in zip(examples, readings, meaning, strict=True)
    ]
    return np.array(rows, np.float32).reshape(len(examples), -1)


def of_model(reading: Reading) -> list[float]:
    """How likely the output is: in the mean, where it is least so, where it begins and ends; how much likelier other
    words would have been, which tells an odd text from an odd task; and where an end would have been likely, of the
    output or of a sentence, which tells outputs that were cut and outputs that run on."""
    given, alone = reading.given, reading.alone
    chosen, peaks, ends, closings = given.log_probs, given.peaks, given.ends, given.closings
    if not len(chosen):
        chosen = peaks = alone = np.full(1, _NEVER, np.float32)
    half, fifth = len(chosen) // 2, max(1, len(chosen) // 5)
    inside = float(ends[1:-1].max()) if len(ends) > 2 else _NEVER
    closed_inside = float(closings[1:-1].mean()) if len(closings) > 2 else _NEVER
    gains, missed = chosen - alone, chosen - peaks
    return [
        float(chosen.mean()),
        float(np.sort(chosen)[:fifth].mean()),
        float(chosen.std()),
        float(chosen[:3].mean()),
        float(chosen[-3:].mean()),
        float(chosen[half:].mean() - chosen[: half or 1].mean()),
        float(ends[-1]),
        inside,
        float(ends[-1]) - inside,
        float(ends[0]),
        reading.pmi,
        float(gains[half:].mean()),
        float(alone.mean()),
        float(peaks.mean()),
        float(missed.mean()),
        float(np.sort(missed)[:fifth].mean()),
        float((missed > -1e-6).mean()),
        float(closings[-1]),
        float(closings[-1]) - closed_inside,
    ]


def of_meaning(examples: Sequence[Example], embedder: Embedder) -> list[list[float]]:
    """Cosines of the output with instruction, input and both, and of its pieces with the task and with each other: an
    output that wanders off has a piece that is far from both."""
    pieces = [_pieces(e.output) for e in examples]
    wholes = [t for e in examples for t in (e.instruction, e.input or e.instruction, e.prompt, e.output)]
    vectors = embedder.embed([*wholes, *(p for parts in pieces for p in parts)])
    rows, at = [], len(wholes)
    for place, parts in enumerate(pieces):
        instruction, input, prompt, output = vectors[4 * place : 4 * place + 4]
        split = vectors[at : at + len(parts)]  # (pieces, d)
        at += len(parts)
        near, neighbours = split @ prompt, np.einsum("pd,pd->p", split[1:], split[:-1])
        rows.append(
            [
                float(output @ instruction),
                float(output @ input),
                float(output @ prompt),
                float(near.min()),
                float(near[-1]),
                float(near[-1] - near[0]),
                float(neighbours.min()) if len(neighbours) else 0.5,
            ]
        )
    return rows


def _pieces(text: str) -> list[str]:
    """Up to four pieces of about as many words, that end with a sentence or a line where one ends near."""
    size = max(_PIECE, -(-len(text.split()) // _PIECES))
    pieces: list[str] = []
    for sentence in sentences(text):
        words = sentence.split()
        if pieces and len(pieces[-1].split()) + len(words) / 2 <= size:
            pieces[-1] = f"{pieces[-1]} {sentence}"
        else:
            pieces += [" ".join(words[i : i + size]) for i in range(0, len(words), size)]
    return pieces or [text]


def of_words(example: Example) -> list[float]:
    """Repetition, copying, length, ending, signs and stock phrases."""
    output = example.output.strip()
    words = output.split()
    bigrams, plain = _bigrams(output), tokens(output)
    from_instruction, from_input = _bigrams(example.instruction), _bigrams(example.input)
    signs = max(1, len(output))
    return [
        _VARIETY.score([example])[0],
        len(set(plain)) / len(plain) if plain else 1.0,
        _covered(bigrams, from_instruction),
        _covered(bigrams, from_input),
        _covered(from_instruction, bigrams),
        _covered(from_input, bigrams),
        float(np.log1p(len(words))),
        _FORMAT.score([example])[0],
        sum(ord(sign) > 127 for sign in output) / signs,
        sum(sign in _MARKS for sign in output) / signs,
        sum(map(len, words)) / max(1, len(words)),
        min(3.0, len(_STOCK.findall(output)) * 20 / max(20, len(words))),
    ]


def _bigrams(text: str) -> Counter[tuple[str, str]]:
    words = tokens(text)
    return Counter(zip(words, words[1:]))  # noqa: B905 -- neighbours: one shorter on purpose


def _covered(these: Counter[tuple[str, str]], by: Counter[tuple[str, str]]) -> float:
    """The share of these bigrams that the others hold too."""
    return (these & by).total() / these.total() if these else 0.0


WIDTH = 19 + 7 + 12
