"""What data sets make of the model that is tuned on them, told apart from what their style alone does.

    python benchmarks/students.py NAME=FILE ... [--control NAME] [--seeds 0 1 2] [--journal FILE] [--out FILE]

Each data set, JSONL of instruction, input and output, is tuned on as it is, with its answers shuffled among its
instructions, and with the last word of each answer alone: nonsense that a measure must not reward. A student is
measured by how likely it finds the references of tasks that people wrote. Started again, it reads the students that its
journal holds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from references import FIGURES, LONGEST_PROMPT, Measured, Questions, development_questions, measured

from refine_af.config import Config, load_config
from refine_af.environment import give_back_memory, quiet_libraries
from refine_af.errors import RefineError, UsageError
from refine_af.evaluation.significance import paired_difference
from refine_af.feedback.base import Example
from refine_af.files import write_text
from refine_af.parts import Parts
from refine_af.progress import Silent
from refine_af.records import Instance, Instruction, content_id, derived_random, derived_seed
from refine_af.seeds.load import load_seeds
from refine_af.stages.context import Context
from refine_af.stages.finetune import tune
from refine_af.store import Store
from refine_af.user_files import json_rows, read_text

ROOT = Path(__file__).resolve().parents[1]
TASKS = ROOT.parent / "shared/data/superni_train_small.jsonl.gz"
UNTOUCHED = "untouched"
# The embedded preset, read in float32, since students differ by hundredths of a nat. Two pairs at once make the same
# student as eight, with less padding and less memory.
SETTINGS = (
    "model.quantization=float32",
    "finetune.learning_rate=3e-4",
    "finetune.micro_batch=2",
    "finetune.checkpoint_steps=1000",
    "finetune.lora={rank: 16, alpha: 32, targets: [q_proj, v_proj]}",
)


# -- data sets and their arms --------------------------------------------------------------------------


def read_pairs(path: Path) -> list[Example]:
    """The pairs of a JSONL file of instruction, input and output. Raises UsageError naming the line of an empty one."""
    pairs = []
    for place, number, row in json_rows(read_text(path, str(path)), str(path), "instruction and output"):
        texts = [row.get(name) or "" for name in ("instruction", "input", "output")]
        if not all(isinstance(text, str) for text in texts) or not texts[0].strip() or not texts[2].strip():
            raise UsageError(f"{path}, {place} {number}: needs an instruction and an output that are text, not empty")
        pairs.append(Example(*texts))
    return pairs


def arms_of(name: str, pairs: Sequence[Example], seed: int = 0) -> dict[str, list[Example]]:
    """The data set as it is, and its two nonsense arms, by the names that they have in the table."""
    return {name: list(pairs), f"{name}, shuffled": shuffled(pairs, seed), f"{name}, last word": last_words(pairs)}


def shuffled(pairs: Sequence[Example], seed: int = 0) -> list[Example]:
    """Each answer behind another pair's instruction and input; no pair keeps its own. Raises UsageError for one pair
    alone."""
    if len(pairs) < 2:
        raise UsageError(f"answers of {len(pairs)} pairs can't be shuffled; give two at least")
    random, order = derived_random(seed, "shuffled answers"), list(range(len(pairs)))
    while any(place == other for place, other in enumerate(order)):
        random.shuffle(order)
    return [Example(own.instruction, own.input, pairs[i].output) for own, i in zip(pairs, order, strict=True)]


def last_words(pairs: Sequence[Example]) -> list[Example]:
    return [Example(one.instruction, one.input, one.output.split()[-1]) for one in pairs]


def words(pairs: Sequence[Example]) -> float:
    """The mean length of an answer."""
    return fmean(len(one.output.split()) for one in pairs)


# -- students ------------------------------------------------------------------------------------------


def say(text: str) -> None:
    print(text, flush=True)


class Students:
    """Tunes the model on pairs and measures it by ``questions``; each student once, as long as ``journal`` is kept.

    A student of the journal is known by its pairs in their order, its seed, the config's model and fine-tuning, and
    the questions. One process at a time may write a journal.
    """

    def __init__(
        self,
        parts: Parts,
        questions: Sequence[Questions],
        journal: Path,
        note: Callable[[str], None] = say,
    ) -> None:
        self._parts = parts
        self._questions = questions
        self._journal = journal
        self._note = note
        self._known: dict[str, Measured] = {}
        if journal.is_file():
            *lines, half = journal.read_text(encoding="utf-8").split("\n")
            self._known = {row["key"]: row["tasks"] for row in map(json.loads, lines)}
            if half:  # left by a process that was killed
                write_text(journal, "".join(f"{line}\n" for line in lines))

    def untouched(self) -> Measured:
        """The model as it is."""
        return self._student(UNTOUCHED, [], None)

    def tuned_on(self, name: str, pairs: Sequence[Example], seeds: Sequence[int]) -> list[Measured]:
        """One student a training seed. Students of one seed begin at the same adapter, whatever they are tuned on."""
        return [self._student(name, pairs, seed) for seed in seeds]

    def _student(self, name: str, pairs: Sequence[Example], seed: int | None) -> Measured:
        key = self._key(pairs, seed)
        if key not in self._known:
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix="refine-af-student-") as folder:
                adapter = None if seed is None else self._tuned(pairs, seed, Path(folder))
                trained = time.perf_counter()
                with self._parts.adapted_engine(adapter) as engine:
                    found = measured(engine, self._questions)
            give_back_memory()
            seconds = {"training": round(trained - started, 1), "measure": round(time.perf_counter() - trained, 1)}
            row = {"key": key, "name": name, "seed": seed, "pairs": len(pairs), "seconds": seconds, "tasks": found}
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._known[key] = found
            self._note(f"{name}, seed {seed}: {seconds['training']} s to train, {seconds['measure']} s to measure")
        return self._known[key]

    def _key(self, pairs: Sequence[Example], seed: int | None) -> str:
        config = self._parts.config
        settings = [config.model.model_dump(mode="json"), config.finetune.model_dump(mode="json")]
        texts = [[asdict(one) for one in pairs], seed, settings, [asdict(one) for one in self._questions]]
        return content_id(json.dumps(texts, sort_keys=True))

    def _tuned(self, pairs: Sequence[Example], seed: int, folder: Path) -> Path:
        """The adapter's folder in ``folder``, by the product's own fine-tuning."""
        model = self._parts.located.label
        ids = {text: content_id("instruction", text) for text in (one.instruction for one in pairs)}
        rows = [
            Instance(str(place), ids[one.instruction], one.input, one.output, model, "initial")
            for place, one in enumerate(pairs)
        ]
        with Store(folder / "run.db") as store:
            store.add_instructions(
                Instruction(id, text, None, None, "generated", 0, model, (), None, None, "kept")
                for text, id in ids.items()
            )
            context = Context(self._parts.config, store, folder, self._parts, _Notes(self._note))
            tune(context, rows, folder / "adapter", derived_seed("student", seed), "student")
        return folder / "adapter"


class _Notes(Silent):
    """Shows what a user should read, and no more."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def note(self, text: str) -> None:
        self._note(text)


def student_config(threads: int = 0, settings: Sequence[str] = ()) -> Config:
    return load_config(preset="embedded", overrides=[*SETTINGS, f"threads={threads}", *settings])


# -- comparison ----------------------------------------------------------------------------------------


def compared(control: Sequence[Measured], arm: Sequence[Measured], seed: int = 0) -> dict[str, dict[str, float]]:
    """Of each figure what the arm's students have over the control's: each task's mean over the students, the mean
    over tasks, its 95 % interval (percentile bootstrap over tasks, 10,000 resamples), tasks won and lost."""
    found = {}
    for figure in FIGURES:
        before, after = _by_task(control, figure), _by_task(arm, figure)
        gains = [a - b for a, b in zip(after, before, strict=True)]
        better = -1 if figure == "loss" else 1
        won, lost = sum(better * gain > 0 for gain in gains), sum(better * gain < 0 for gain in gains)
        found[figure] = {**asdict(paired_difference(before, after, seed=seed)), "won": won, "lost": lost}
    return found


def _by_task(students: Sequence[Measured], figure: str) -> list[float]:
    return [fmean(one[task][figure] for one in students) for task in students[0]]


def table(control: str, lengths: Mapping[str, float], results: Mapping[str, Sequence[Measured]]) -> list[str]:
    """Lines of Markdown: each arm over the control, which has its own figures below its name. ``lengths``: mean words
    of an answer, of the arms that have pairs."""
    lines = ["| arm | words | content | margin | loss (lower is better) | end |", "|---|---|---|---|---|---|"]
    for name, students in results.items():
        if name == control:
            own = [f"{fmean(_by_task(students, figure)):.3f}" for figure in FIGURES]
            cells = [f"control: {name}", _length(lengths, name), *own]
        else:
            one = compared(results[control], students)
            shown = [_interval(one["content"]), _interval(one["margin"])]
            cells = [name, _length(lengths, name), *shown, *(f"{one[figure]['mean']:+.3f}" for figure in FIGURES[2:])]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _length(lengths: Mapping[str, float], name: str) -> str:
    return f"{lengths[name]:.1f}" if name in lengths else ""


def _interval(one: Mapping[str, float]) -> str:
    return f"{one['mean']:+.3f} ({one['low']:.3f} to {one['high']:.3f}) {one['won']}:{one['lost']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="NAME=FILE", help="a data set; without =FILE the built-in seeds")
    parser.add_argument("--control", default=UNTOUCHED, help="the arm that others are compared with")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="trainings of each arm")
    parser.add_argument("--questions", type=Path, default=TASKS, help="the tasks that students are measured by")
    parser.add_argument("--tasks", type=int, default=99)
    parser.add_argument("--instances", type=int, default=5, help="of each task")
    parser.add_argument("--longest", type=int, default=LONGEST_PROMPT, help="prompt, in tokens: what the time hangs on")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--journal", type=Path, default=Path(tempfile.gettempdir()) / "refine-af-students.jsonl")
    parser.add_argument("--out", type=Path, help="JSON file for the figures behind the table")
    given = parser.parse_args()
    quiet_libraries()
    try:
        run(given)
    except RefineError as error:
        sys.exit(f"{error}")


def run(given: argparse.Namespace) -> None:
    arms: dict[str, list[Example]] = {}
    for one in given.data:
        name, _, file = one.partition("=")
        if name in arms:
            raise UsageError(f"two data sets are named {name}; give each its own name")
        arms |= arms_of(name, read_pairs(Path(file)) if file else built_in())
    if given.control not in (UNTOUCHED, *arms):
        raise UsageError(f"--control {given.control}: no such arm; there are: {', '.join((UNTOUCHED, *arms))}")
    with tempfile.TemporaryDirectory(prefix="refine-af-") as scratch:
        parts = Parts(student_config(given.threads), Path(scratch))
        sizes = {"tasks": given.tasks, "instances": given.instances, "longest": given.longest}
        questions = development_questions(parts, given.questions, **sizes)
        students = Students(parts, questions, given.journal)
        results = {UNTOUCHED: [students.untouched()]}
        results |= {name: students.tuned_on(name, pairs, given.seeds) for name, pairs in arms.items()}
    lengths = {name: words(pairs) for name, pairs in arms.items()}
    print(f"{len(questions)} tasks, {sum(len(one.sources) for one in questions)} instances, seeds {given.seeds}")
    print("\n".join(table(given.control, lengths, results)))
    if given.out:
        gains = {name: compared(results[given.control], one) for name, one in results.items()}
        found = {"control": given.control, "seeds": given.seeds, "words": lengths, "gains": gains, "students": results}
        write_text(given.out, json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def built_in() -> list[Example]:
    return [Example(one.instruction, one.input, one.output) for one in load_seeds(None).tasks]


if __name__ == "__main__":
    main()
