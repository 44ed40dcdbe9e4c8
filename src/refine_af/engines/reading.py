"""Which texts a pass over prompts reads together, so that what they begin with is read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from refine_af.engines.base import common_beginning

_LONGEST_RUN = 64  # texts; a longer one spares little more, and is looked for in as much time
_COST = 8  # of a run with something to share, in tokens: its attention is computed in two parts

Text = tuple[list[int], range]  # tokens, and the places in which logits are wanted


@dataclass
class Cluster:
    """Texts, by their numbers, of which the first ``shared`` tokens are the same and are wanted of none."""

    shared: int
    texts: list[int] = field(default_factory=list)


def clusters(texts: Sequence[Text]) -> list[Cluster]:
    """All texts, sorted, in the runs that spare most tokens: those of a run are read behind what all of it share."""
    order = sorted(range(len(texts)), key=lambda i: texts[i][0])
    alone = [min(len(texts[i][0]) - 1, texts[i][1].start) for i in order]  # the most that each could share
    alike = [common_beginning([texts[a][0], texts[b][0]]) for a, b in zip(order, order[1:], strict=False)]
    best: list[tuple[float, int, int]] = [(0, 0, 0)]  # of the first n: tokens spared, the last run's start and share
    for end in range(1, len(order) + 1):
        ways = [(best[end - 1][0], end - 1, 0)]
        shared = alone[end - 1]
        for start in range(end - 2, max(-1, end - 1 - _LONGEST_RUN), -1):
            shared = min(shared, alone[start], alike[start])
            if not shared:
                break
            ways.append((best[start][0] + (end - start - 1) * shared - _COST, start, shared))
        best.append(max(ways))
    made = []
    end = len(order)
    while end:
        _, start, shared = best[end]
        made.append(Cluster(shared, order[start:end]))
        end = start
    return made[::-1]


def packs(texts: Sequence[Text], most_tokens: int, most_places: int) -> Iterator[list[Cluster]]:
    """The texts in packs for at most so many tokens and wanted places, or of one text. A cluster that doesn't fit goes
    on in the next pack, where its beginning is read again."""
    pack: list[Cluster] = []
    tokens = places = 0
    for cluster in clusters(texts):
        part: Cluster | None = None
        for number in cluster.texts:
            text, wanted = texts[number]
            more = len(text) - (cluster.shared if part else 0)
            if pack and (tokens + more > most_tokens or places + len(wanted) > most_places):
                yield pack
                pack, part, tokens, places, more = [], None, 0, 0, len(text)
            if part is None:
                part = Cluster(cluster.shared)
                pack.append(part)
            part.texts.append(number)
            tokens += more
            places += len(wanted)
    if pack:
        yield pack
