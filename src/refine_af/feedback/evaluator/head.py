"""Tells good pairs from spoilt ones by their features: several small networks, each trained without a fifth of the
tasks, so that what they say of a task that they have not seen is known before they are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from refine_af.evaluation.ranking import auc
from refine_af.feedback.evaluator.features import Matrix

Floats = npt.NDArray[np.float32]

FOLDS = 5
_OF_EACH_FOLD = 4  # networks, whose mean varies less with where they began
_HIDDEN = 64
_STEPS = 300
_LEARNING_RATE = 0.01
_WEIGHT_DECAY = 0.1
_NOISE = 0.5  # spreads, added to the features at each step
_DROPOUT = 0.1
_FARTHEST = 3.0  # spreads from the middle: beyond what was trained on, a feature counts no more


@dataclass(frozen=True, slots=True)
class Head:
    """The mean of networks of one hidden layer. Shapes: F features, K networks, H hidden units."""

    middle: Floats  # (F,)
    spread: Floats  # (F,)
    inner: Floats  # (K, F, H)
    inner_bias: Floats  # (K, H)
    outer: Floats  # (K, H)
    outer_bias: Floats  # (K,)
    # What people's pairs get from the networks that have not seen their tasks.
    good_mean: float
    good_spread: float

    def score(self, features: Matrix) -> Floats:
        """(n,) of features (n, F): above 0 a pair is more like people's than like a spoilt one."""
        found: Floats = self.each(features).mean(axis=0)
        return found

    def each(self, features: Matrix) -> Floats:
        """(K, n), network by network."""
        inputs = np.clip((features - self.middle) / self.spread, -_FARTHEST, _FARTHEST)
        hidden = np.tanh(np.einsum("nf,kfh->knh", inputs, self.inner) + self.inner_bias[:, None])
        found: Floats = np.einsum("knh,kh->kn", hidden, self.outer) + self.outer_bias[:, None]
        return found

    def save(self, path: Path) -> None:
        np.savez(path, **{name: getattr(self, name) for name in self.__slots__})

    @classmethod
    def load(cls, path: Path) -> Head:
        with np.load(path) as kept:
            arrays = {name: kept[name] for name in cls.__slots__}
        numbers: dict[str, Any] = {name: float(a) if a.ndim == 0 else a for name, a in arrays.items()}
        return cls(**numbers)


def train(features: Matrix, kinds: Sequence[str], tasks: Sequence[int], good: str) -> tuple[Head, dict[str, float]]:
    """A head from rows of features (n, F), each of a kind and a task, of which the kind ``good`` is people's.

    Also the area under the ROC curve of people's pairs against each other kind, every row judged by the network that
    has not seen its task.
    """
    folds = np.array(tasks) % FOLDS
    low, middle, high = np.percentile(features, [10, 50, 90], axis=0)
    spread = np.maximum((high - low) / 2.56, 0.01).astype(np.float32)  # 2.56 spreads of a normal distribution
    middle = middle.astype(np.float32)
    inputs = np.clip((features - middle) / spread, -_FARTHEST, _FARTHEST)
    networks = [
        _network(inputs[folds != k % FOLDS], _list(kinds, folds != k % FOLDS), good, k)
        for k in range(FOLDS * _OF_EACH_FOLD)
    ]
    inner, inner_bias, outer, outer_bias = (np.stack(parts) for parts in zip(*networks, strict=True))
    head = Head(middle, spread, inner, inner_bias, outer, outer_bias, 0.0, 1.0)
    by_fold = head.each(features).reshape(_OF_EACH_FOLD, FOLDS, -1).mean(axis=0)  # (folds, n)
    unseen = by_fold[folds, np.arange(len(folds))]  # (n,)
    by_kind = {kind: unseen[[k == kind for k in kinds]] for kind in dict.fromkeys(kinds)}
    people = by_kind.pop(good)
    areas = {kind: auc(people.tolist(), found.tolist()) for kind, found in by_kind.items()}
    # Only differences were learnt: zero is put halfway between people's pairs and the spoilt ones.
    halfway = float(people.mean() + np.mean([found.mean() for found in by_kind.values()])) / 2
    head = replace(
        head,
        outer_bias=(outer_bias - halfway).astype(np.float32),
        good_mean=float(people.mean()) - halfway,
        good_spread=float(people.std()),
    )
    return head, areas


def _list(kinds: Sequence[str], chosen: npt.NDArray[np.bool_]) -> list[str]:
    return [kind for kind, taken in zip(kinds, chosen, strict=True) if taken]


def _network(inputs: Matrix, kinds: Sequence[str], good: str, seed: int) -> tuple[Floats, Floats, Floats, Floats]:
    """One network's weights, by which people's pairs come before spoilt ones.

    The loss is the logistic one of each difference between a good pair and a spoilt one, the mean over both and then
    over kinds: a smooth stand-in for what is to be small, one minus the area under the ROC curve (RankNet, Burges et
    al. 2005). Each kind weighs the same, however many pairs it has.
    """
    import torch

    people = torch.tensor([place for place, kind in enumerate(kinds) if kind == good])
    spoilt = torch.tensor([place for place, kind in enumerate(kinds) if kind != good])
    counts = Counter(kind for kind in kinds if kind != good)
    weights = torch.tensor([1 / (counts[kind] * len(counts) * len(people)) for kind in kinds if kind != good])
    x = torch.tensor(inputs)
    with _own_randomness(seed):
        network = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], _HIDDEN),
            torch.nn.Tanh(),
            torch.nn.Dropout(_DROPOUT),
            torch.nn.Linear(_HIDDEN, 1),
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
        for _ in range(_STEPS):
            found = network(x + _NOISE * torch.randn_like(x)).squeeze(-1)  # (n,)
            behind = torch.nn.functional.softplus(found[spoilt] - found[people][:, None])  # (people, spoilt)
            optimizer.zero_grad()
            (behind * weights).sum().backward()
            optimizer.step()
            schedule.step()
    first, last = network[0], network[3]
    # In one order in memory, as they come back from a file, so that sums are the same to the last bit.
    inner, inner_bias, outer, outer_bias = (
        p.detach().numpy().copy(order="C") for p in (first.weight.T, first.bias, last.weight[0], last.bias[0])
    )
    return inner, inner_bias, outer, outer_bias


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """The same network in any process: one thread, and a random state that leaves the caller's alone."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
