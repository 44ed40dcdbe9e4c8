"""Is a reward worth optimising? Students of what it chooses, of what it would choose last, of chance, and of nonsense.

    python benchmarks/reward_validity.py RUN [RUN ...] [--rewards NAME ...] [--trainings 3] [--table]

A pool is a run that has its pairs (`--set policy.algorithm=none --until instances`). Of each instruction one pair by
the initial policy is chosen: by the highest of each reward, by chance (another draw for each training), and in the
ways of nonsense; by the lowest of the rewards that `--worst` names. People's pairs, the shown seeds, stand beside them.
Nonsense and people's pairs are trained once in each pool, the rest `--trainings` times.
Students are asked tasks of Super-NI's train split. Each is kept in its pool's folder, so the same command goes on, and
processes of their own may work on other pools. `--table` trains nothing: it writes reward_validity.json and the section
of docs/benchmarks.md out of what is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from feedback import machine
from section import write_section
from students import TASKS, say, student_config, words

from refine_af.config import Config, FeedbackConfig
from refine_af.environment import give_back_memory, quiet_libraries
from refine_af.errors import RefineError, UsageError
from refine_af.evaluation.likelihood import Questions
from refine_af.evaluation.references import of_tasks
from refine_af.feedback.base import Example
from refine_af.parts import Parts
from refine_af.progress import Silent
from refine_af.records import derived_random
from refine_af.run import open_run
from refine_af.stages.context import calibration_pairs, seed_tasks
from refine_af.store import Store
from refine_af.validation.choices import CHANCE, Candidate, by_chance, by_reward, nonsense
from refine_af.validation.gains import Gain, gains
from refine_af.validation.students import Students
from refine_af.validation.validate import candidates, judged

RESULTS = Path(__file__).with_suffix(".json")
PEOPLE, OWN = "people's pairs", "the run's own reward"
_LONGEST = 100  # words of a pair by people: about what a student may be tuned on (finetune.max_length)


def _influence(**weights: float) -> dict[str, Any]:
    """Directions and what a spread of each is worth."""
    scorers = {d: {"use": "influence", "direction": d, "weight": weight} for d, weight in weights.items()}
    return {"name": "composite", "scorers": scorers}


REWARDS: dict[str, dict[str, Any]] = {
    "embedded": {"name": "embedded"},
    "contrastive + plain": _influence(contrastive=1, plain=1),
    "contrastive + 2 plain": _influence(contrastive=1, plain=2),
    "contrastive": _influence(contrastive=1),
    "plain": _influence(plain=1),
    "content": _influence(content=1),
    "contrastive + content": _influence(contrastive=1, content=1),
    "likelihood": {"name": "likelihood"},
    "pmi": {"name": "pmi"},
    "high IFD": {"name": "pmi", "scorers": {"pmi": {"weight": -1.0}}},
    "relevance": {"name": "relevance"},
    "own words": {"name": "own_words"},
    "long": {"name": "length"},
}


@dataclass(frozen=True, slots=True)
class Pool:
    """A run's candidates, each instruction's together, and pairs by people that the run may show."""

    folder: Path
    config: Config
    groups: list[list[Candidate]]  # with the run's own rewards
    people: list[Example]

    @property
    def seed(self) -> int:
        return self.config.seed

    def arms(
        self, rewards: Sequence[str], worst: Sequence[str], training: int, threads: int
    ) -> dict[str, list[Example]]:
        """The data sets of one training, by their names in the table."""
        chosen = by_chance(self.groups, training)
        made = {CHANCE: chosen}
        for name in rewards:
            scored = self.groups if name == OWN else self.judged_by(name, threads)
            made[f"best by {name}"] = by_reward(scored)
            if name in worst:
                made[f"worst by {name}"] = by_reward(scored, highest=False)
        if training > 0:  # what tells a sound measure is told by the first
            return made
        return made | nonsense(self.groups, chosen, training) | {PEOPLE: self.people[: len(chosen)]}

    def judged_by(self, name: str, threads: int) -> list[list[Candidate]]:
        """By a reward, in the run's config; the scores are kept in the pool's folder."""
        feedback = FeedbackConfig.model_validate(REWARDS[name])
        parts = Parts(self.config.model_copy(update={"feedback": feedback, "threads": threads}), self.folder)
        with open_run(self.folder) as store:
            seeds = calibration_pairs(seed_tasks(store, "kept"), self.config)
        with Store(self.folder / "validity.db") as memory:
            found = judged(self.groups, parts.feedback(seeds, memory), Silent())
        give_back_memory()
        return found


def pool_of(folder: Path, threads: int) -> Pool:
    with open_run(folder) as store:
        seed = (store.run_config() or {}).get("seed", 0)
        shown = [t for t in seed_tasks(store, "kept") if t.words() <= _LONGEST]
        groups = candidates(store)
    derived_random(seed, "people's pairs").shuffle(shown)
    people = [Example(t.instruction, t.input, t.output) for t in shown]
    return Pool(folder, student_config(threads, [f"seed={seed}"]), groups, people)


def train(pool: Pool, parts: Parts, questions: Sequence[Questions], given: argparse.Namespace) -> None:
    """Tunes and measures what is missing: all arms of a training before the next."""
    journal = pool.folder / "validity.jsonl"
    students = Students(parts, questions, journal, lambda text: say(f"{pool.folder.name}: {text}"))
    for training in range(given.trainings):
        for name, pairs in pool.arms(given.rewards, given.worst, training, given.threads).items():
            students.tuned_on(name, pairs, training)
    students.untouched()


# -- the table -----------------------------------------------------------------------------------------


def kept(pool: Pool) -> dict[tuple[str, int | None], dict[str, Any]]:
    """Arm and training to the student's row."""
    lines = (pool.folder / "validity.jsonl").read_text(encoding="utf-8").splitlines()
    return {(row["name"], row["seed"]): row for row in map(json.loads, lines)}


def pooled(pools: Sequence[Pool]) -> dict[str, dict[str, Any]]:
    """Of each arm the gains over chance, each student against the chance student of its pool and training: means over
    students by task, intervals over tasks; and the same of each pool."""
    rows = [kept(pool) for pool in pools]
    names = dict.fromkeys(name for one in rows for name, _ in one)
    found = {}
    for name in names:
        pairs = [
            (i, one[CHANCE, training or 0]["tasks"], row["tasks"])
            for i, one in enumerate(rows)
            for (arm, training), row in one.items()
            if arm == name and (CHANCE, training or 0) in one
        ]
        if name == CHANCE or not pairs:
            continue
        found[name] = {
            "students": len(pairs),
            "gains": gains([c for _, c, _ in pairs], [a for _, _, a in pairs]),
            "by_pool": {
                pools[i].folder.name: gains([c for j, c, _ in pairs if j == i], [a for j, _, a in pairs if j == i])
                for i in sorted({i for i, _, _ in pairs})
            },
        }
    return found


def section(found: dict[str, Any]) -> str:
    lines = [
        "## Is a reward worth optimising? (`benchmarks/reward_validity.py`, `benchmarks/reward_validity.json`)",
        "",
        f"Machine: {found['machine']}. Pools: {', '.join(found['pools'])}; {found['questions']}.",
        "Gains over the students of chance, in nats, with 95 % intervals over tasks; tasks won : lost.",
        "",
        "| students of | students | words | margin | content | end | loss (less is better) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found["arms"].items():
        figures = {k: Gain(**g) for k, g in one["gains"].items()}
        length = "" if one["words"] is None else f"{one['words']:.1f}"
        cells = [name, str(one["students"]), length, str(figures["margin"]), str(figures["content"])]
        cells += [f"{figures['end'].mean:+.3f}", f"{figures['loss'].mean:+.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _sets(pool: Pool, given: argparse.Namespace) -> dict[str, list[Example]]:
    """The first training's data sets, by the rewards that the pool has a student of."""
    there = {name for name, _ in kept(pool)}
    rewards, worst = (
        [name for name in names if f"{which} by {name}" in there]
        for which, names in (("best", given.rewards), ("worst", given.worst))
    )
    return pool.arms(rewards, worst, 0, given.threads)


def write_table(pools: Sequence[Pool], questions: Sequence[Questions], given: argparse.Namespace) -> None:
    arms = {}
    sets = [_sets(pool, given) for pool in pools]
    for name, one in pooled(pools).items():
        by_pool = {pool: {k: asdict(g) for k, g in some.items()} for pool, some in one["by_pool"].items()}
        lengths = [words(arm[name]) for arm in sets if name in arm]  # none of a reward that is no more
        length = fmean(lengths) if lengths else None
        all_gains = {k: asdict(g) for k, g in one["gains"].items()}
        arms[name] = {"students": one["students"], "words": length, "gains": all_gains, "by_pool": by_pool}
    found = {
        "machine": machine(),
        "pools": [f"{pool.folder.name} ({len(pool.groups)} instructions)" for pool in pools],
        "questions": f"{len(questions)} tasks, {sum(len(one.references) for one in questions)} references",
        "chance_words": fmean(words(arm[CHANCE]) for arm in sets),
        "arms": arms,
    }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    write_section("reward validity", "reward_validity.py", section(found))
    print(section(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pools", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--rewards", nargs="+", choices=[OWN, *REWARDS], default=[*REWARDS, OWN])
    parser.add_argument("--worst", nargs="*", choices=[OWN, *REWARDS], default=[next(iter(REWARDS))])
    parser.add_argument("--trainings", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=99)
    parser.add_argument("--instances", type=int, default=4, help="of each task")
    parser.add_argument("--questions", type=Path, default=TASKS, help="the tasks that students are measured by")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--table", action="store_true", help="write the table out of the students that are kept")
    given = parser.parse_args()
    quiet_libraries()
    try:
        run(given)
    except RefineError as error:
        sys.exit(f"{error}")


def run(given: argparse.Namespace) -> None:
    pools = [pool_of(folder, given.threads) for folder in given.pools]
    for pool in pools:
        if len(pool.groups) < 2:
            raise UsageError(f"{pool.folder} has no candidates to choose from; run it with --until instances")
    with tempfile.TemporaryDirectory(prefix="refine-af-") as scratch:
        parts = Parts(student_config(given.threads), Path(scratch))
        questions = of_tasks(parts, given.questions, tasks=given.tasks, instances=given.instances)
        if given.table:
            write_table(pools, questions, given)
            return
        for pool in pools:
            train(pool, parts, questions, given)


if __name__ == "__main__":
    main()
