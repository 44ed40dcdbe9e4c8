"""What passes over prompts read, so that what several texts begin with is read once, however they branch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

_COST = 32  # of a piece that several texts go on from, in tokens: their attention is computed in one part more

Text = tuple[list[int], range]  # tokens, and the places in which logits are wanted


@dataclass(eq=False)
class Piece:
    """Tokens that one text has or several have in common, behind those of another piece."""

    tokens: list[int]
    behind: Piece | None


@dataclass
class Pack:
    """What one pass reads: ``pieces``, each after that which it goes on from; ``wanted``, the places among all their
    tokens in which logits are; of each text, by its number, which of ``wanted`` are its own, in order."""

    pieces: list[Piece] = field(default_factory=list)
    wanted: list[int] = field(default_factory=list)
    texts: dict[int, list[int]] = field(default_factory=dict)


def packs(texts: Sequence[Text], most_tokens: int, most_places: int) -> Iterator[Pack]:
    """The texts in packs of at most so many tokens and wanted places, or of one text. Texts that begin alike come one
    after another; where they don't fit into a pack, the next one reads their beginning again."""
    packing = _Packing(most_tokens, most_places)
    for number, node in _tree([tokens for tokens, _ in texts]).items():
        path = node.path()
        if not packing.takes(number, path, *texts[number]):
            yield packing.pack
            packing = _Packing(most_tokens, most_places)
            packing.takes(number, path, *texts[number])
    if packing.pack.texts:
        yield packing.pack


@dataclass(eq=False)
class _Node:
    """Where texts part or end: each that goes through it has the same first ``stop`` tokens."""

    stop: int
    parent: _Node | None
    children: list[_Node] = field(default_factory=list)
    ends: bool = False  # a text does

    @property
    def start(self) -> int:
        return self.parent.stop if self.parent else 0

    def path(self) -> list[_Node]:
        """From the first piece to this one."""
        nodes: list[_Node] = []
        node: _Node | None = self
        while node is not None and node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]

    def settle(self) -> None:
        """Once all behind it is known, while it is the last child: its children read its tokens themselves, each its
        own, where that costs less."""
        spared = (len(self.children) + self.ends - 1) * (self.stop - self.start)
        if self.parent is not None and self.children and spared < _COST:
            for child in self.children:
                child.parent = self.parent
            itself = [self] if self.ends else []
            self.parent.children[-1:] = [*itself, *self.children]
            self.children = []


def _tree(texts: Sequence[list[int]]) -> dict[int, _Node]:
    """Where each text ends, by its number, in the order in which they branch."""
    path = [_Node(0, None)]
    before: list[int] = []
    ends: dict[int, _Node] = {}
    for number in sorted(range(len(texts)), key=lambda i: texts[i]):
        text = texts[number]
        shared = _alike(before, text)
        while path[-1].stop > shared:
            left = path.pop()
            if path[-1].stop < shared:
                path.append(_Node(shared, path[-1], [left]))
                path[-2].children[-1] = path[-1]
                left.parent = path[-1]
            left.settle()
        if len(text) > shared:
            path.append(_Node(len(text), path[-1]))
            path[-2].children.append(path[-1])
        path[-1].ends = True
        ends[number] = path[-1]
        before = text
    while len(path) > 1:
        path.pop().settle()
    return ends


class _Packing:
    """A pack in the making."""

    def __init__(self, most_tokens: int, most_places: int) -> None:
        self.pack = Pack()
        self._most_tokens = most_tokens
        self._most_places = most_places
        self._tokens = 0
        self._pieces: dict[_Node, tuple[Piece, int]] = {}  # with the place of each one's first token
        self._numbers: dict[int, int] = {}  # of the wanted places

    def takes(self, number: int, path: Sequence[_Node], tokens: list[int], wanted: range) -> bool:
        """Whether the text fits, and is in the pack now; the first one always does."""
        read = self._tokens
        new: dict[_Node, int] = {}
        places: list[int] = []
        for node in path:
            if node in self._pieces:
                start = self._pieces[node][1]
            else:
                start = new[node] = read
                read += node.stop - node.start
            here = range(max(wanted.start, node.start), min(wanted.stop, node.stop))
            places += [start + place - node.start for place in here]
        more = [place for place in places if place not in self._numbers]
        count = len(self._numbers) + len(more)
        if self.pack.texts and (read > self._most_tokens or count > self._most_places):
            return False
        for node, start in new.items():
            behind = self._pieces[node.parent][0] if node.parent in self._pieces else None
            piece = Piece(tokens[node.start : node.stop], behind)
            self._pieces[node] = piece, start
            self.pack.pieces.append(piece)
        self._tokens = read
        self._numbers |= {place: len(self._numbers) + i for i, place in enumerate(more)}
        self.pack.wanted += more
        self.pack.texts[number] = [self._numbers[place] for place in places]
        return True


def _alike(one: list[int], other: list[int]) -> int:
    """How many tokens both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
