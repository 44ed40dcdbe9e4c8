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

from refine_af.config import Config
from refine_af.errors import RefineError, UsageError
from refine_af.evaluation.folder import (
    JOURNAL,
    is_complete,
    line_of,
    read_scores,
    refuse_other_settings,
    take_off_half_a_line,
    whole_lines,
)
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
        refuse_other_settings(out, all_settings(subject, loaded.tasks, options))
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
    return read_scores(out)


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
    refuse_other_settings(out, settings)
    if not is_complete(out):
        make_folder(out)
        _complete(subject, tasks, options, settings, out, progress, name)


def all_settings(subject: Subject, tasks: tuple[EvaluationTask, ...], options: Options) -> dict[str, Any]:
    """All that scores depend on, as it stands in ``scores.json``."""
    protocol = {f.name: getattr(options, f.name) for f in fields(options) if f.name != "language"}
    read = {"tokenization": options.language.tokenization}
    return {**subject.settings, **protocol, **read, "tasks": tasks_id(tasks)}


def _complete(
    subject: Subject,
    tasks: tuple[EvaluationTask, ...],
    options: Options,
    settings: dict[str, Any],
    out: Path,
    progress: Progress,
    name: str,
) -> None:
    journal = out / JOURNAL
    if journal.exists():
        take_off_half_a_line(journal)
    if not journal.exists() or not journal.stat().st_size:
        write_text(journal, line_of({"settings": settings}))
    rows = whole_lines(journal)
    answers = {row["id"]: row["answer"] for row in rows if "id" in row}
    silences = Counter(name for row in rows for name in row.get("without_text", ()))
    total = sum(len(task.instances) for task in tasks)
    progress.begin(name, total, "answers", len(answers))
    if len(answers) < total:
        silences += _ask(subject, tasks, options, answers, journal, progress)
    found = _likelihoods(subject, tasks, options, rows, journal, progress, name)
    scored = _scored(tasks, answers, options)
    write_text(out / "predictions.jsonl", "".join(line_of(one.as_row()) for one in scored))
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
            file.write("".join(line_of({"id": id, "answer": text}) for id, text in new.items()))
            if silent:
                file.write(line_of({"without_text": list(silent.elements())}))
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
                file.write("".join(line_of({"task": task, "likelihood": asdict(one)}) for task, one in new.items()))
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
