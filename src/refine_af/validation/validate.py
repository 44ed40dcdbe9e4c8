"""What `refine-af validate-feedback` does: students of a run's candidates, chosen in several ways, are compared."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from refine_af.config import Config
from refine_af.errors import UsageError
from refine_af.evaluation.likelihood import Questions
from refine_af.evaluation.references import Measured, of_seeds, of_tasks
from refine_af.exhaustion import exhaustion_explained
from refine_af.feedback.base import Example, Feedback
from refine_af.feedback.check import check_anchors, check_feedback
from refine_af.feedback.judging import judge_all
from refine_af.files import write_text
from refine_af.parts import Parts
from refine_af.progress import Progress
from refine_af.records import content_id
from refine_af.run import open_run
from refine_af.stages.candidates import by_instruction
from refine_af.stages.context import calibration_pairs, generated_instructions, seed_tasks
from refine_af.store import Store
from refine_af.validation.choices import BEST, CHANCE, WORST, Candidate, Group, by_chance, by_reward, nonsense
from refine_af.validation.gains import Gain, gains
from refine_af.validation.students import Students
from refine_af.validation.verdict import verdict

_FEWEST = 20  # instructions with candidates to choose from: a student of fewer pairs learns too little to tell
_FEWEST_TASKS = 5  # of a file: intervals are over tasks, and of fewer they say nothing
_WITH_LESS_MEMORY = "go on with --set finetune.micro_batch=1, or with a smaller feedback.batch_size or model.batch_size"
FOLDER = "validation"


@dataclass(frozen=True, slots=True)
class Validated:
    """Of each arm the mean words of its answers, and its students' gains over those of chance."""

    reward: str
    instructions: int
    candidates: int
    trainings: int
    questions: int
    words: dict[str, float]
    gains: dict[str, dict[str, Gain]]
    verdict: str

    def summary(self) -> dict[str, Any]:
        return asdict(self)


def validate(folder: Path, config: Config, tasks: Path | None, trainings: int, progress: Progress) -> Validated:
    """Of a run's candidates by its initial policy: students on the best and the worst by the config's reward, on a
    choice by chance and on nonsense are asked held-out seeds, or the tasks of a file. Each student is kept in the run's
    folder once it is measured, so that the same command goes on.

    Raises UsageError for a run without enough candidates, and for what can't be asked.
    """
    with open_run(folder) as store:
        groups = candidates(store)
        held_out, shown = seed_tasks(store, "held_out"), seed_tasks(store, "kept")
    if len(groups) < _FEWEST:
        raise UsageError(
            f"{folder}: {len(groups)} instructions have two or more pairs, and {_FEWEST} are needed; finish that run, "
            "or start one with more instances.candidates or a higher instructions.target"
        )
    seeds = calibration_pairs(shown, config)
    check_feedback(config.feedback, len(seeds))
    check_anchors(config)
    work = folder / FOLDER
    with (
        exhaustion_explained(folder, _WITH_LESS_MEMORY),
        tempfile.TemporaryDirectory(prefix="refine-af-") as scratch,
    ):
        work.mkdir(exist_ok=True)
        parts = Parts(_exact(config), Path(scratch))
        questions = of_seeds(parts, held_out) if tasks is None else of_tasks(parts, tasks, fewest=_FEWEST_TASKS)
        if not questions:
            raise UsageError(
                f"{folder}: {len(held_out)} held-out seed tasks are too few to test the fine-tuned models; give "
                "--tasks, or start a run with a higher seeds.held_out"
            )
        progress.note(f"{folder}: {sum(map(len, groups))} candidates for {len(groups)} instructions are being judged")
        with Store(work / "scores.db") as memory:
            scored = judged(groups, parts.feedback(seeds, memory), progress)
        arms = [arms_of(scored, config.seed + training) for training in range(trainings)]
        students = Students(parts, questions, work / "students.jsonl", progress.note, by_task=tasks is not None)
        results = _tuned(students, arms, progress)
    found = _compared(config.feedback.name, groups, arms, results, questions)
    name = content_id(config.feedback.model_dump_json(), str(tasks))
    write_text(work / f"{name}.json", json.dumps(found.summary(), indent=2, ensure_ascii=False) + "\n")
    return found


def candidates(store: Store) -> list[list[Candidate]]:
    """Of each generated instruction the pairs that the initial policy wrote, those of the arm best_of_n among them,
    where there are two or more, with the run's own rewards."""
    texts = {one.id: one.text for one in generated_instructions(store)}
    groups = by_instruction(store.instances(policy="initial") + store.instances(policy="best_of_n"))
    return [
        [Candidate(Example(texts[id], one.input, one.output), one.reward or 0.0, one.sound) for one in members]
        for id, members in sorted(groups.items())
        if id in texts and len(members) > 1
    ]


def judged(groups: Sequence[Group], reward: Feedback, progress: Progress) -> list[list[Candidate]]:
    """The same candidates by another reward."""
    judgements = iter(judge_all(reward, [one.pair for group in groups for one in group], progress, "candidates"))
    return [[Candidate(one.pair, (j := next(judgements)).reward, j.sound) for one in group] for group in groups]


def arms_of(groups: Sequence[Group], seed: int) -> dict[str, list[Example]]:
    """The data sets of one training, chance first."""
    chosen = by_chance(groups, seed)
    return {
        CHANCE: chosen,
        BEST: by_reward(groups),
        WORST: by_reward(groups, highest=False),
        **nonsense(groups, chosen, seed),
    }


def _exact(config: Config) -> Config:
    """Students differ by hundredths of a nat, which int8 would hide; two pairs at once make the same student as more,
    with less padding."""
    return config.model_copy(
        update={
            "model": config.model.model_copy(update={"quantization": "float32"}),
            "finetune": config.finetune.model_copy(update={"micro_batch": min(2, config.finetune.micro_batch)}),
        }
    )


def _tuned(
    students: Students, arms: Sequence[dict[str, list[Example]]], progress: Progress
) -> dict[str, list[Measured]]:
    results: dict[str, list[Measured]] = {name: [] for name in arms[0]}
    progress.begin("students", len(arms) * len(results), "students", 0)
    for training, sets in enumerate(arms):
        for name, pairs in sets.items():
            results[name].append(students.tuned_on(name, pairs, training))
            progress.update(sum(map(len, results.values())), {"last": name})
    return results


def _compared(
    reward: str,
    groups: Sequence[Group],
    arms: Sequence[dict[str, list[Example]]],
    results: dict[str, list[Measured]],
    questions: Sequence[Questions],
) -> Validated:
    over = {name: gains(results[CHANCE], found) for name, found in results.items() if name != CHANCE}
    words = {name: fmean(len(p.output.split()) for sets in arms for p in sets[name]) for name in results}
    return Validated(
        reward,
        instructions=len(groups),
        candidates=sum(map(len, groups)),
        trainings=len(arms),
        questions=sum(len(one.references) for one in questions),
        words=words,
        gains=over,
        verdict=verdict(reward, over),
    )
