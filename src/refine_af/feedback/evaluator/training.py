"""Trains the evaluator: people's pairs, the same pairs spoilt by rules and by the model's own hand, features, a head.

It takes a minute or two on a laptop, once for a model and its seeds: the head is kept in the cache.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from refine_af.config import SamplingConfig
from refine_af.engines.base import Engine, Prompts
from refine_af.feedback.base import Example
from refine_af.feedback.embedding import Embedder
from refine_af.feedback.evaluator.corruptions import RULES, corrupted
from refine_af.feedback.evaluator.exercises import exercises
from refine_af.feedback.evaluator.features import features
from refine_af.feedback.evaluator.head import Head, train
from refine_af.feedback.evaluator.styles import dressed
from refine_af.feedback.likelihood import TaskLikelihood
from refine_af.files import write_text
from refine_af.models import build_once, cache_folder
from refine_af.records import content_id, derived_random

VERSION = "3"  # to be raised with every change of features, rules or training
GOOD = "people's"
_OF_EACH_PAIR = 5  # spoilt pairs, of different kinds
_SHOWN = 24  # words before and behind which the model goes on by itself
_CONTINUATION = SamplingConfig(max_tokens=32, temperature=1.0, top_p=1.0)
_CONTINUED = 24  # pairs that the model spoils, of each kind


def trained_head(
    pairs: Sequence[Example], engine: Engine, measure: TaskLikelihood, embedder: Embedder, identity: str
) -> Head:
    """The head for these pairs and models, out of the cache where it is. ``identity`` names all that it depends on."""
    folder = cache_folder() / "evaluator" / content_id(identity)

    def build(target: Path) -> None:
        rows = training_rows(pairs, engine)
        seen = features([e for _, _, e in rows], measure([e for _, _, e in rows]), embedder)
        head, areas = train(seen, [kind for kind, _, _ in rows], [place for _, place, _ in rows], GOOD)
        write_text(target / "areas.json", json.dumps({"rows": len(rows), "areas": areas}, indent=2) + "\n")
        head.save(target / "head.npz")

    return Head.load(build_once(folder, build) / "head.npz")


def training_rows(pairs: Sequence[Example], engine: Engine) -> list[tuple[str, int, Example]]:
    """(kind, place of the pair, example): each pair as it is, and spoilt in some ways, each way about as often."""
    pairs = [*pairs, *exercises(derived_random("exercises"), pairs, 3 * len(pairs) // 2)]
    pairs = [dressed(derived_random("style", e.instruction, e.input, e.output), e) for e in pairs]
    rows = [(GOOD, place, pair) for place, pair in enumerate(pairs)]
    used = dict.fromkeys(RULES, 0)
    for place, pair in enumerate(pairs):
        chance = derived_random("evaluator", pair.instruction, pair.input, pair.output)
        # The rarest kinds first, in an order of chance among those that are as rare.
        kinds = sorted(RULES, key=lambda kind: (used[kind], chance.random()))
        spoilt = ((kind, bad) for kind in kinds if (bad := corrupted(chance, RULES[kind], pairs, place)) is not None)
        for kind, bad in islice(spoilt, _OF_EACH_PAIR):
            rows.append((kind, place, bad))
            used[kind] += 1
    return rows + _continued(pairs, engine)


def _continued(pairs: Sequence[Example], engine: Engine) -> list[tuple[str, int, Example]]:
    """Pairs that the model spoils: it goes on from the task as from any text, or runs on behind an answer."""
    step = max(1, len(pairs) // (2 * _CONTINUED))
    places = list(range(0, len(pairs), step))[: 2 * _CONTINUED]
    beginnings = []
    for turn, place in enumerate(places):
        pair = pairs[place]
        text = pair.prompt if turn % 2 else f"{pair.prompt}\n{pair.output}"
        beginnings.append(" ".join(text.split(" ")[-_SHOWN:]) + "\n")
    (completions,) = engine.generate([Prompts("", tuple(beginnings))], _CONTINUATION, seed=0)
    rows = []
    for turn, (place, completion) in enumerate(zip(places, completions, strict=True)):
        pair, text = pairs[place], completion.text.strip()
        if text:
            kind, output = ("off by itself", text) if turn % 2 else ("runs on", f"{pair.output} {text}")
            rows.append((kind, place, Example(pair.instruction, pair.input, output)))
    return rows
