"""Promises of all that reads what models write and users bring: anything is read or refused in one line, in a time that
grows with its length alone; and what was written in a form is read back from it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refine_af.completions import AskAgainError, answer_of, first_choice
from refine_af.config import load_config
from refine_af.endpoint import Endpoint
from refine_af.errors import RefineError
from refine_af.evaluation.score import read_predictions
from refine_af.evaluation.tasks import load_tasks
from refine_af.feedback.judge import EndpointJudge
from refine_af.feedback.ranking.rows import read_pairs
from refine_af.filters import instruction_fault
from refine_af.novelty.screen import read_rows
from refine_af.prompts.answers import cut_answer
from refine_af.prompts.instructions import opening_of, parse_list
from refine_af.prompts.pairs import read_turn
from refine_af.prompts.pointing import points_at
from refine_af.seeds import load_seeds

EXAMPLES = int(os.environ.get("EXAMPLES", "500"))  # of each property; for a long look, more
SLOW = (
    0.05  # seconds for 100 kB of one sign; of many rows or columns, ten times as much: what is quadratic takes minutes
)
ONE_SIGN = ("digits", "quotes", "single quotes", "lines", "spaces")
ANY = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

READERS: dict[str, Callable[[Path], Any]] = {
    "seeds": lambda path: load_seeds(str(path)),
    "pairs": read_pairs,
    "novelty": read_rows,
    "tasks": load_tasks,
    "predictions": read_predictions,
    "config": load_config,
}
CONFIG = load_config().instructions
PARSERS: dict[str, Callable[[str], Any]] = {
    "list": lambda text: parse_list(text, 3, ended=len(text) % 2 == 0),
    "opening": lambda text: opening_of(f"Name {text}", 4),
    "turn": lambda text: read_turn("input", text, ended=True),
    "pointing": points_at,
    "rules of instructions": lambda text: instruction_fault(text, CONFIG),
    "cut": lambda text: [cut_answer(text, rule) for rule in ("none", "first_line", "blank_line")],
    "completion": lambda text: answer_of({"message": {"content": text}}),
}
NAMES = ["rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows.csv.gz", "rows.parquet", "rows.txt", "rows.yaml"]

_KEYS = """instruction input output Input context response prompt completion instances is_classification category task
    id definition references positive_examples instance_id prediction missing text messages conversations role from
    content value user assistant policy seed preset << a"""
keys = st.sampled_from(_KEYS.split())
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | keys
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4))
rows = st.lists(st.dictionaries(keys, values, max_size=5), max_size=4)
pieces = st.sampled_from(
    ['"', '""', "'", ",", ";", "\t", "|", "\n", "\r\n", "\r", "[", "]", "{", "}", ":", ": ", "- ", "sep=;", "\ufeff",
     "#", "&a ", "*a", "!!int ", "1. ", "2) ", "<think>", "</think>", "1", "0x", "2024-02-30", "yes", "null", "NaN",
     "1e999", "\\ud800", "\u2028", "\x00", "é", " ", "the text", "instruction", "output", "PAR1", "Name it."]
)  # fmt: skip
broken = st.lists(pieces | keys | st.text(max_size=4), max_size=30).map("".join)


def laid_out(found: list[dict[str, Any]], way: str) -> str:
    if way == "list":
        return json.dumps(found, indent=1)
    if way == "table":
        columns = list(dict.fromkeys(key for row in found for key in row))
        out = io.StringIO()
        table = csv.writer(out)
        table.writerows([columns, *([row.get(column, "") for column in columns] for row in found)])
        return out.getvalue()
    return "\n".join(json.dumps(row, indent=2 if way == "objects" else None) for row in found)


contents = (
    st.binary(max_size=60)
    | broken.map(lambda text: text.encode("utf-8", "replace"))
    | st.builds(laid_out, rows, st.sampled_from(["lines", "list", "objects", "table"])).map(
        lambda text: text.encode("utf-8", "replace")
    )
)


def one_line(work: Callable[[], Any]) -> None:
    """Does the work, which may raise what one line explains and nothing else."""
    told = ""
    try:
        work()
    except (RefineError, AskAgainError) as error:
        told = str(error)
    assert "\n" not in told


@pytest.mark.parametrize("reader", READERS)
@ANY
@given(name=st.sampled_from(NAMES), content=contents)
def test_any_file_is_read_or_refused_in_one_line(tmp_path: Path, reader: str, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    one_line(lambda: READERS[reader](path))


@pytest.mark.parametrize("parser", PARSERS)
@ANY
@given(text=broken | st.text())
def test_any_completion_is_read(parser: str, text: str) -> None:
    PARSERS[parser](text)


@ANY
@given(text=broken)
def test_any_value_of_an_option_is_read_or_refused_in_one_line(text: str) -> None:
    one_line(lambda: load_config(overrides=[f"policy.iterations={text}"]))


_PARTS = """choices message content text finish_reason error code refusal tool_calls logprobs top_logprobs token logprob
    reasoning token_ids token_logprobs type"""
parts = st.sampled_from(_PARTS.split())
tree = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(parts, inner, max_size=5))
choices = st.fixed_dictionaries({"choices": st.lists(st.dictionaries(parts, tree, max_size=5), max_size=2)})


@ANY
@given(body=tree | choices)
def test_any_body_of_an_endpoint_is_read_or_refused_in_one_line(body: Any) -> None:
    judge, endpoint = EndpointJudge("http://h/v1", "m"), Endpoint("evaluate", "http://h/v1", "m")
    decoded = lambda: endpoint._decoded("/x", httpx.Response(200, content=json.dumps(body).encode()))  # noqa: E731
    for read in (
        lambda: judge._read(decoded()),
        lambda: answer_of(first_choice(decoded())),
        lambda: answer_of(first_choice(decoded()), plain=True),
    ):
        one_line(read)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1, max_size=12).filter(str.strip)


@ANY
@given(
    pairs=st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=4),
    form=st.sampled_from(["lines", "list", "objects", ",", ";", "\t", "|"]),
    names=st.sampled_from([("instruction", "input", "output"), ("prompt", "Context", "response")]),
)
def test_pairs_are_read_back_from_every_form(
    tmp_path: Path, pairs: list[tuple[str, str, str]], form: str, names: tuple[str, str, str]
) -> None:
    if len(form) > 1:
        path = tmp_path / "pairs.json"
        path.write_text(laid_out([dict(zip(names, pair, strict=True)) for pair in pairs], form), "utf-8")
    else:
        path = tmp_path / "pairs.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=form, quoting=csv.QUOTE_ALL).writerows([names, *pairs])
    read = [(row.example.instruction, row.example.input, row.example.output) for row in read_pairs(path)]
    assert read == pairs


# -- time ----------------------------------------------------------------------------------------------

LONG = {
    name: (piece * 100_000)[:100_000]
    for name, piece in {
        "digits": "1", "quotes": '"', "single quotes": "'", "lines": "\n", "spaces": " ", "brackets": "[",
        "items": "1. a\n", "words": "a ", "thoughts": "<think>", "commas": "a,", "colons": ": a\n",
        "quoted": '"a,\n', "cells": '"a";',
    }.items()
}  # fmt: skip


def quick(work: Callable[[], Any], name: str) -> bool:
    """Once in ten times: on a busy machine any one may be slow."""

    def taken() -> float:
        started = time.process_time()
        with suppress(RefineError):
            work()
        return time.process_time() - started

    allowed = SLOW if name in ONE_SIGN else 10 * SLOW
    return any(taken() < allowed for _ in range(10))


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("parser", PARSERS)
def test_a_long_completion_takes_no_time(parser: str, name: str) -> None:
    assert quick(lambda: PARSERS[parser](LONG[name]), name)


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("reader", [reader for reader in READERS if reader != "config"])
def test_a_long_file_takes_no_time(tmp_path: Path, reader: str, name: str) -> None:
    for ending, before in (("jsonl", ""), ("jsonl", '{"instruction": "'), ("csv", ""), ("csv", "instruction,output\n")):
        path = tmp_path / f"rows.{ending}"
        path.write_text(before + LONG[name], "utf-8")
        assert quick(lambda path=path: READERS[reader](path), name)  # type: ignore[misc]
