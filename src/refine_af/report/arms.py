"""The arms of a run as the report shows them, read from its database."""

from __future__ import annotations

import json
from dataclasses import dataclass

from refine_af.config import Arm
from refine_af.evaluation.compare import Comparison
from refine_af.experiment.policies import AcrossPolicies, read_across, read_scores
from refine_af.store import Store

BASE = "base"


@dataclass(frozen=True, slots=True)
class SizedComparison:
    """A comparison of data sets of ``size`` instructions; ``seed`` None: pooled over all seeds."""

    size: int
    seed: int | None
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class Arms:
    """``names``: the control first. ``learnt``: whether a tuned policy's arm stands against it. ``counts`` tell how the
    data sets came about; ``scores`` are (ROUGE-L, exact match), means over instances, of the base under ("base", 0, 0)
    and of each training of the run's own policy under (arm, size, seed). ``across``: what holds across policies, where
    there are several, and ``pooled_scores``: each arm's over all of them."""

    names: list[str]
    learnt: bool
    sizes: list[int]
    seeds: list[int]
    counts: dict[str, int]
    scores: dict[tuple[str, int, int], tuple[float, float]]
    instances: int
    comparisons: list[SizedComparison]
    across: list[AcrossPolicies]
    pooled_scores: dict[str, tuple[float, float]]

    def pooled(self, control: str, size: int | None = None) -> Comparison:
        """The comparison with a control over all seeds; of the largest data sets without a size."""
        wanted = (size or self.sizes[-1], None, control)
        return next(c.comparison for c in self.comparisons if (c.size, c.seed, c.comparison.control) == wanted)


def collect_arms(store: Store) -> Arms | None:
    """None where there are no arms, or nothing of theirs has been compared yet."""
    from pydantic import TypeAdapter

    reader = TypeAdapter(Comparison)
    comparisons = [
        SizedComparison(row["size"], row["seed"], reader.validate_python(json.loads(row["comparison"])))
        for row in store.query("SELECT size, seed, comparison FROM comparisons ORDER BY rowid")
    ]
    if not comparisons:
        return None
    against_base = next(one.comparison for one in comparisons if one.comparison.control == BASE)
    counts = store.query("SELECT name, value FROM metrics WHERE stage = 'arms' AND step = 0")
    values: dict[str, dict[str, float]] = {}
    for row in store.query(
        "SELECT stage, name, value FROM metrics WHERE stage LIKE 'arms/%' AND step = 0 ORDER BY stage"
    ):
        values.setdefault(row["stage"].removeprefix("arms/"), {})[row["name"]] = row["value"]
    scores = {_key(name): (found["rouge_l"], found["exact_match"]) for name, found in values.items()}
    trained = [key for key in scores if key[0] != BASE]
    arms = [Arm.model_validate(one) for one in (store.run_config() or {})["experiment"]["arms"]]
    names = [versus.name for versus in against_base.against]
    return Arms(
        names=names,
        learnt=any(arm.policy == "tuned" and arm.spoil is None for arm in arms[1:]),
        sizes=sorted({size for _, size, _ in trained}),
        seeds=list(dict.fromkeys(seed for _, _, seed in sorted(trained, key=lambda key: key[2]))),
        counts={row["name"]: int(row["value"]) for row in counts},
        scores=scores,
        instances=int(values[BASE]["instances"]),
        comparisons=comparisons,
        across=read_across(store, names),
        pooled_scores=read_scores(store, names),
    )


def _key(name: str) -> tuple[str, int, int]:
    """A training's name, ``tuned-size100-seed0``, taken apart."""
    arm, _, rest = name.partition("-size")
    size, _, seed = rest.partition("-seed")
    return arm, int(size or 0), int(seed or 0)
