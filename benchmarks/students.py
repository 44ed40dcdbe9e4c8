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
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean

from refine_af.config import Config, load_config
from refine_af.environment import quiet_libraries
from refine_af.errors import RefineError, UsageError
from refine_af.evaluation.references import FIGURES, LONGEST_PROMPT, Measured, of_tasks
from refine_af.feedback.base import Example
from refine_af.files import write_text
from refine_af.parts import Parts
from refine_af.seeds.load import load_seeds
from refine_af.user_files import json_rows, read_text
from refine_af.validation.choices import last_words, shuffled
from refine_af.validation.gains import by_unit, gains
from refine_af.validation.students import UNTOUCHED, Students

ROOT = Path(__file__).resolve().parents[1]
TASKS = ROOT.parent / "shared/data/superni_train_small.jsonl.gz"
# The embedded preset, read in float32, since students differ by hundredths of a nat. Two pairs at once make the same
# student as eight, with less padding and less memory.
SETTINGS = (
    "model.quantization=float32",
    "finetune.learning_rate=3e-4",
    "finetune.micro_batch=2",
    "finetune.checkpoint_steps=1000",
    "finetune.lora={rank: 16, alpha: 32, targets: [q_proj, v_proj]}",
)


def student_config(threads: int = 0, settings: Sequence[str] = ()) -> Config:
    return load_config(preset="embedded", overrides=[*SETTINGS, f"threads={threads}", *settings])


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


def words(pairs: Sequence[Example]) -> float:
    """The mean length of an answer."""
    return fmean(len(one.output.split()) for one in pairs)


def table(control: str, lengths: Mapping[str, float], results: Mapping[str, Sequence[Measured]]) -> list[str]:
    """Lines of Markdown: each arm over the control, which has its own figures below its name. ``lengths``: mean words
    of an answer, of the arms that have pairs."""
    lines = ["| arm | words | content | margin | loss (lower is better) | end |", "|---|---|---|---|---|---|"]
    for name, students in results.items():
        if name == control:
            own = [f"{fmean(by_unit(students, figure)):.3f}" for figure in FIGURES]
            cells = [f"control: {name}", _length(lengths, name), *own]
        else:
            one = gains(results[control], students)
            shown = [str(one["content"]), str(one["margin"])]
            cells = [name, _length(lengths, name), *shown, *(f"{one[figure].mean:+.3f}" for figure in FIGURES[2:])]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _length(lengths: Mapping[str, float], name: str) -> str:
    return f"{lengths[name]:.1f}" if name in lengths else ""


def say(text: str) -> None:
    print(text, flush=True)


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
        questions = of_tasks(parts, given.questions, **sizes)
        students = Students(parts, questions, given.journal, say)
        results = {UNTOUCHED: [students.untouched()]}
        for name, pairs in arms.items():
            results[name] = [students.tuned_on(name, pairs, seed) for seed in given.seeds]
    lengths = {name: words(pairs) for name, pairs in arms.items()}
    print(f"{len(questions)} tasks, {sum(len(one.sources) for one in questions)} instances, seeds {given.seeds}")
    print("\n".join(table(given.control, lengths, results)))
    if given.out:
        control = results[given.control]
        over = {name: {k: asdict(g) for k, g in gains(control, one).items()} for name, one in results.items()}
        found = {"control": given.control, "seeds": given.seeds, "words": lengths, "gains": over, "students": results}
        write_text(given.out, json.dumps(found, indent=2, ensure_ascii=False) + "\n")


def built_in() -> list[Example]:
    return [Example(one.instruction, one.input, one.output) for one in load_seeds(None).tasks]


if __name__ == "__main__":
    main()
