"""What `refine-af evaluate` does: asks a model every instance, keeps answers as they come, scores them at the end."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from refine_af.config import Config, differences, shown_differences
from refine_af.errors import RefineError, UsageError
from refine_af.evaluation.likelihood import Figures, figures, questions_of, rounded
from refine_af.evaluation.likelihood import summary as likelihood_summary
from refine_af.evaluation.scores import ScoredAnswer, score_answers, summary
from refine_af.evaluation.subject import PromptForm, Subject, find_subject
from refine_af.evaluation.tasks import EvaluationTask, load_tasks, references, tasks_id
from refine_af.exhaustion import exhaustion_explained
from refine_af.files import check_folder, make_folder, one_process, write_text
from refine_af.language import ENGLISH, Language, unseen_note
from refine_af.progress import Progress
from refine_af.prompts.answers import Cut, cut_answer, scored_part
from refine_af.prompts.super_ni import Source, source

STAGE = "evaluate"
_JOURNAL = "answers.jsonl"  # the settings, then each answer as it came


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is asked, and what of its answer counts; lengths in tokens. ``likelihood``: of each task so many
    references are scored behind as many prompts; None: none."""

    shots: int = 0
    max_source: int = 1024
    max_target: int = 128
    cut: Cut = "none"
    instances: int | None = None  # the first ones of each task; None: all
    likelihood: int | None = None
    language: Language = ENGLISH  # by whose words answers are scored


def evaluate(
    model: str,
    tasks: Path,
    out: Path,
    config: Config,
    options: Options,
    progress: Progress,
    *,
    prompt: PromptForm = "auto",
    served: str | None = None,
) -> dict[str, Any]:
    """Evaluates, or goes on where ``out`` stopped; returns what ``scores.json`` holds.

    Raises UsageError, before anything is written, for tasks or a model that can't be had and for a folder of another
    evaluation.
    """
    loaded = load_tasks(tasks, options.instances)
    remedy = f"go on with --set model.batch_size, under {config.model.batch_size}"
    with exhaustion_explained(out, remedy), tempfile.TemporaryDirectory(prefix="refine-af-") as scratch:
        check_folder(out)
        subject = find_subject(model, config, prompt, served, Path(scratch))
        if options.likelihood is not None and not subject.scores:
            engine = subject.settings["engine"]
            other = "set model.engine=transformers" if engine == "vllm" else "give the model's folder or Hub name"
            raise UsageError(f"--likelihood can't be had from {engine}; leave it out, or {other}")
        _check_lengths(subject, loaded.tasks, options)
        _refuse_other_settings(out, all_settings(subject, loaded.tasks, options))
        unseen = unseen_note(references(loaded.tasks), "the references", options.language, "--language")
        for note in (*loaded.notes, *filter(None, (unseen,))):
            progress.note(note)
        if not is_complete(out):
            subject.try_out()
        make_folder(out)
        with one_process(out):
            if is_complete(out):
                progress.note(f"{out} holds this evaluation already")
            evaluate_subject(subject, loaded.tasks, options, out, progress)
    return _read_scores(out)


def evaluate_subject(
    subject: Subject,
    tasks: tuple[EvaluationTask, ...],
    options: Options,
    out: Path,
    progress: Progress,
    *,
    name: str = STAGE,
) -> None:
    """Makes the evaluation's folder ``out`` complete, which it may be already; ``name`` is what progress calls it.

    Raises UsageError where the folder is of another evaluation.
    """
    settings = all_settings(subject, tasks, options)
    _refuse_other_settings(out, settings)
    if not is_complete(out):
        make_folder(out)
        _complete(subject, tasks, options, settings, out, progress, name)


def is_complete(out: Path) -> bool:
    return (out / "scores.json").is_file()


def all_settings(subject: Subject, tasks: tuple[EvaluationTask, ...], options: Options) -> dict[str, Any]:
    """All that scores depend on, as it stands in ``scores.json``."""
    protocol = {f.name: getattr(options, f.name) for f in fields(options) if f.name != "language"}
    read = {"tokenization": options.language.tokenization}
    return {**subject.settings, **protocol, **read, "tasks": tasks_id(tasks)}


def _refuse_other_settings(out: Path, settings: dict[str, Any]) -> None:
    if is_complete(out):
        known = _settings_of(out / "scores.json", _read_scores(out))
    elif (out / _JOURNAL).is_file():
        rows = _whole_lines(out / _JOURNAL)
        if not rows:  # the process was killed before it had written a line
            return
        known = _settings_of(out / _JOURNAL, rows[0])
    elif out.is_dir() and any(not file.name.startswith(".") for file in out.iterdir()):
        raise UsageError(f"{out} holds other files and no evaluation; name another --out")
    else:
        return
    known = {"tokenization": ENGLISH.tokenization, **known}  # which older evaluations didn't name
    if changed := [_told(line) for line in differences(known, settings)]:
        raise UsageError(
            f"{out} was begun with other settings (then -> now: {shown_differences(changed)}): "
            "use the old ones, or another --out"
        )


# Settings whose values are hashes: that they differ is all that can be said.
_HASHES = {
    "tasks": "other tasks, or their file has changed",
    "weights": "another model, or its files have changed or moved",
    "template": "another chat template",
}


def _told(difference: str) -> str:
    return _HASHES.get(difference.split(":")[0], difference)


def _settings_of(file: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """What ``row`` of the file says that the evaluation was begun with."""
    settings = row.get("settings")
    if not isinstance(settings, dict):
        raise _damaged(file)
    return settings


def _read_scores(out: Path) -> dict[str, Any]:
    return _decoded((out / "scores.json").read_bytes(), out / "scores.json")


def _decoded(raw: bytes, file: Path) -> dict[str, Any]:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise _damaged(file)
    return row


def _damaged(file: Path) -> UsageError:
    return UsageError(f"{file} is damaged; name another --out, or remove its folder")


def _complete(
    subject: Subject,
    tasks: tuple[EvaluationTask, ...],
    options: Options,
    settings: dict[str, Any],
    out: Path,
    progress: Progress,
    name: str,
) -> None:
    journal = out / _JOURNAL
    if journal.exists():
        _take_off_half_a_line(journal)
    if not journal.exists() or not journal.stat().st_size:
        write_text(journal, _line({"settings": settings}))
    rows = _whole_lines(journal)
    answers = {row["id"]: row["answer"] for row in rows if "id" in row}
    silences = Counter(name for row in rows for name in row.get("without_text", ()))
    total = sum(len(task.instances) for task in tasks)
    progress.begin(name, total, "answers", len(answers))
    if len(answers) < total:
        silences += _ask(subject, tasks, options, answers, journal, progress)
    found = _likelihoods(subject, tasks, options, rows, journal, progress, name)
    scored = _scored(tasks, answers, options)
    write_text(out / "predictions.jsonl", "".join(_line(one.as_row()) for one in scored))
    # Last, since its presence proves the evaluation complete.
    told = {"without_text": dict(silences)} if silences else {}
    all_scores = {**summary(scored), **told, **found, "settings": settings}
    write_text(out / "scores.json", json.dumps(all_scores, indent=2) + "\n")
    journal.unlink()
    progress.end(f"ROUGE-L {fmean(one.rouge_l for one in scored):.2f} on {total} instances of {len(tasks)} tasks")


def _ask(
    subject: Subject,
    tasks: tuple[EvaluationTask, ...],
    options: Options,
    answers: dict[str, str],
    journal: Path,
    progress: Progress,
) -> Counter[str]:
    """Adds to ``answers`` and the journal what is missing, a unit of whole tasks at a time. Returns how many of the new
    answers have no text, by what came in its place.

    Units and groups are the same in every process, so that a model's answers are too. Raises RefineError where no
    answer at all had a text.
    """
    silences: Counter[str] = Counter()
    values = [one.rouge_l for one in _scored(tasks, answers, options) if not one.missing]
    stop = scored_part(options.cut)
    with subject.at_work() as model, journal.open("a", encoding="utf-8") as file:
        for unit in _units(tasks, subject.unit):
            if all(one.id in answers for task in unit for one in task.instances):
                continue
            groups = [group for task in unit for group in _groups(task, subject, options)]
            sources = [[one.text for one in group.values()] for group in groups]
            replies = model.answers(sources, options.max_target, stop)
            new: dict[str, str] = {}
            for group, texts in zip(groups, replies, strict=True):
                new.update(zip(group, texts, strict=True))
            answers.update(new)
            silent = subject.silences.copy()
            subject.silences.clear()
            if silent and not any(answers.values()):
                name, place = subject.settings["model"], subject.settings["engine"]
                raise RefineError(f"{place} gave no text in {len(new)} answers: {_listed(silent)} (model {name})")
            silences += silent
            file.write("".join(_line({"id": id, "answer": text}) for id, text in new.items()))
            if silent:
                file.write(_line({"without_text": list(silent.elements())}))
            file.flush()
            values += [one.rouge_l for one in _scored(unit, new, options)]
            progress.update(len(answers), {"ROUGE-L": f"{fmean(values):.1f}"})
    return silences


def silence_told(scores: Mapping[str, Any]) -> list[str]:
    """What a user should know of answers that had no text, a sentence or none."""
    silences: dict[str, int] = scores.get("without_text", {})
    if not silences:
        return []
    count = f"{sum(silences.values()):,} of {scores['instances']:,} answers have no text and are scored as empty"
    return [f"{count}: {_listed(silences)}"]


def _listed(silences: Mapping[str, int]) -> str:
    listed = "; ".join(f"{count:,} {silence}" for silence, count in silences.items())
    return listed + ("; raise --max-target" if "finish_reason length" in listed else "")


_TASKS_AT_ONCE = 8  # whose references are scored together, which is a row of the journal each


def _likelihoods(
    subject: Subject,
    tasks: tuple[EvaluationTask, ...],
    options: Options,
    rows: Sequence[Mapping[str, Any]],
    journal: Path,
    progress: Progress,
    name: str,
) -> dict[str, Any]:
    """What of the scores is about the references' likelihood, under its name; empty where it was not asked for."""
    if options.likelihood is None:
        return {}
    lengths = (options.shots, options.max_source, options.max_target)
    questions = questions_of(tasks, options.likelihood, *lengths, subject.ruler)
    found = {row["task"]: Figures(**row["likelihood"]) for row in rows if "likelihood" in row}
    progress.begin(f"{name}: likelihood", len(questions), "tasks", len(found))
    missing = [one for one in questions if one.task not in found]
    if missing:
        with subject.at_work() as model, journal.open("a", encoding="utf-8") as file:
            for start in range(0, len(missing), _TASKS_AT_ONCE):
                some = missing[start : start + _TASKS_AT_ONCE]
                scores = iter(model.token_scores([text for one in some for text in one.texts()]))
                new = {one.task: rounded(figures([next(scores) for _ in one.texts()])) for one in some}
                file.write("".join(_line({"task": task, "likelihood": asdict(one)}) for task, one in new.items()))
                file.flush()
                found |= new
                progress.update(len(found), {"content": f"{fmean(one.content for one in found.values()):.2f}"})
    if left_out := len(tasks) - len(questions):
        progress.note(f"{left_out} tasks get no likelihood: no reference within --max-target={options.max_target}")
    made = likelihood_summary(questions, {one.task: found[one.task] for one in questions}) if questions else {}
    if made.get("without_margin"):
        progress.note(
            f"{made['without_margin']} tasks get no margin: no two different references within "
            f"--max-target={options.max_target}"
        )
    return {"likelihood": made} if made else {}


def _check_lengths(subject: Subject, tasks: tuple[EvaluationTask, ...], options: Options) -> None:
    """Raises UsageError where a prompt and its answer may have more tokens than the model has positions."""
    if subject.positions is None:
        return
    room, around = subject.positions - options.max_target, subject.length("")
    if around + options.max_source <= room:
        return  # whatever they are
    sources = (one.text for task in tasks for group in _groups(task, subject, options) for one in group.values())
    longest = max(subject.length(text) for text in sources)
    if longest > room:
        lower = f"--max-source to {room - around}, or lower --max-target" if room > around else "--max-target"
        raise UsageError(
            f"a prompt of {longest} tokens and an answer of up to {options.max_target} go beyond the model's "
            f"{subject.positions} positions; lower {lower}"
        )


def _units(tasks: Iterable[EvaluationTask], size: int) -> Iterator[list[EvaluationTask]]:
    """Neighbours together, of ``size`` instances or somewhat more."""
    unit: list[EvaluationTask] = []
    for task in tasks:
        unit.append(task)
        if sum(len(one.instances) for one in unit) >= size:
            yield unit
            unit = []
    if unit:
        yield unit


def _groups(task: EvaluationTask, subject: Subject, options: Options) -> list[dict[str, Source]]:
    """A task's sources by instance id, those together that show as many examples: they begin alike."""
    groups: dict[int, dict[str, Source]] = {}
    for one in task.instances:
        examples = task.examples[: options.shots]
        made = source(task.definition, examples, one.input, subject.ruler, options.max_source)
        groups.setdefault(made.shown, {})[one.id] = made
    return list(groups.values())


def _scored(tasks: Iterable[EvaluationTask], answers: Mapping[str, str], options: Options) -> list[ScoredAnswer]:
    cut = {id: cut_answer(text, options.cut) for id, text in answers.items()}
    return score_answers(tasks, cut, options.language)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _whole_lines(journal: Path) -> list[dict[str, Any]]:
    """The rows of a journal, without a last line that a killed process left half written."""
    return [_decoded(line, journal) for line in journal.read_bytes().split(b"\n")[:-1]]


def _take_off_half_a_line(journal: Path) -> None:
    raw = journal.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole < len(raw):
        with journal.open("r+b") as file:
            file.truncate(whole)
