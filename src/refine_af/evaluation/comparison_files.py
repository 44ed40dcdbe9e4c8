"""Reads a finished evaluation's folder, predictions.jsonl and scores.json, as compare.py wants it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from refine_af.errors import UsageError
from refine_af.evaluation.compare import Evaluation, Metric, Scored
from refine_af.evaluation.comparison_likelihood import Likelihoods, read_likelihoods
from refine_af.language import ENGLISH
from refine_af.user_files import json_rows, read_text

PREDICTIONS, SCORES = "predictions.jsonl", "scores.json"
_FIELDS = ("id", "task", "rouge_l", "exact_match")


def read_evaluation(folder: Path) -> Evaluation:
    """The evaluation in ``folder``, named as the folder was given.

    Raises UsageError, naming the file and the line, for what is no evaluation, is not finished, or can't be read.
    """
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is {'not a folder' if folder.exists() else 'not there'}; give an evaluation's folder"
        )
    predictions, scores = folder / PREDICTIONS, folder / SCORES
    # scores.json is written last: without it the evaluation has not ended.
    if not scores.exists():
        if predictions.exists():
            raise UsageError(f"{folder} holds an unfinished evaluation; the command that began it goes on from there")
        raise UsageError(f"{folder} holds no evaluation ({SCORES}); give a folder that evaluate or score has written")
    settings, metrics, likelihoods = _settings(scores)
    name = str(predictions)
    lines = json_rows(read_text(predictions, name), name, " or ".join(_FIELDS))
    rows = [_scored(f"{name}, {place} {number}", row) for place, number, row in lines]
    return Evaluation(str(folder), rows, settings, metrics, likelihoods)


def _settings(path: Path) -> tuple[dict[str, Any], dict[str, Metric], Likelihoods | None]:
    """The settings, the official metric of each category that names one, and the references' likelihoods."""
    try:
        found = json.loads(read_text(path, str(path), "a JSON file"))
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: broken JSON; evaluate or score again") from None
    settings, categories = (
        found.get(key, {}) if isinstance(found, dict) else None for key in ("settings", "categories")
    )
    if not isinstance(settings, dict) or not isinstance(categories, dict):
        raise UsageError(f"{path}: no scores of an evaluation; evaluate or score again")
    metrics: dict[str, Metric] = {}
    for name, category in categories.items():
        metric = category.get("metric", "rouge_l") if isinstance(category, dict) else None
        if metric not in ("rouge_l", "exact_match"):
            raise UsageError(f"{path}: category {name} has metric {metric}, not rouge_l or exact_match")
        metrics[name] = "exact_match" if metric == "exact_match" else "rouge_l"
    # Evaluations that are older than the option didn't name it.
    settings = {"tokenization": ENGLISH.tokenization, **settings} if settings else {}
    return settings, metrics, read_likelihoods(str(path), found.get("likelihood"))


def _scored(place: str, row: dict[str, Any]) -> Scored:
    for name in ("id", "task"):
        if not isinstance(row.get(name), str):
            raise UsageError(f"{place}: no {name}; give predictions as evaluate or score writes them")
    category = row.get("category")
    return Scored(
        id=row["id"],
        task=row["task"],
        category=category if isinstance(category, str) else "",
        rouge_l=_score(place, "rouge_l", row),
        exact_match=_score(place, "exact_match", row),
        missing=row.get("missing") is True,
    )


def _score(place: str, name: str, row: dict[str, Any]) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{place}: {name} is {json.dumps(value)}, not a number; evaluate or score again")
    if not 0 <= value <= 100:
        raise UsageError(f"{place}: {name} is {value}, not between 0 and 100; evaluate or score again")
    return float(value)
