"""Promises of the data set's files: the selected rows and no others, the same in each format, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from example_rows import instance, instruction

from refine_af.config import Config
from refine_af.dataset import write
from refine_af.dataset.write import dataset_rows, write_dataset
from refine_af.files import write_text
from refine_af.store import Store

ODD = 'Ünï 😀 "quoted"\u2028\nnext, line'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "run.db") as opened:
        opened.add_instructions(
            [
                instruction("i1", text=f"Say {ODD}", is_classification=True),
                instruction("i2", text="Name a cat", is_classification=False),
                instruction("i3", text="Name a dog"),
            ]
        )
        opened.add_instances(
            [
                instance("p1", "i1", input=ODD, output="yes", reward=0.5, selected=True),
                instance("p2", "i1", input="other", output="no", reward=0.1),
                instance("p3", "i2", output=ODD, reward=-1.25, selected=True),
            ]
        )
        opened.add_scores([("p1", "pmi", 0.25, 0.1), ("p1", "likelihood", -1.0, 0.2), ("p2", "pmi", 9.0, 0.3)])
        yield opened


def rows(store: Store) -> list[dict[str, Any]]:
    return dataset_rows(store, store.instances(selected=True))


def jsonl(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]


def test_a_row_says_what_it_is_and_where_it_came_from(store: Store) -> None:
    first, second = rows(store)
    assert first == {
        "id": "p1",
        "instruction": f"Say {ODD}",
        "input": ODD,
        "output": "yes",
        "reward": 0.5,
        "scores": '{"likelihood": -1.0, "pmi": 0.25}',
        "is_classification": True,
        "instruction_id": "i1",
        "model": "m",
        "policy": "tuned",
    }
    assert (second["id"], second["input"], second["scores"]) == ("p3", "", "{}")


def test_both_formats_hold_the_same_rows(store: Store, tmp_path: Path) -> None:
    write_dataset(rows(store), tmp_path / "dataset", Config(), 4)
    assert jsonl(tmp_path / "dataset") == rows(store)
    assert pq.read_table(tmp_path / "dataset" / "train.parquet").to_pylist() == rows(store)


def test_writing_again_replaces_everything_and_leaves_nothing_over(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    write_dataset(rows(store), folder, Config(), 4)
    first = {p.name: p.read_bytes() for p in folder.iterdir()}
    write_dataset(rows(store), folder, Config(), 4)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == first
    assert set(first) == {"train.parquet", "train.jsonl", "README.md"}
    store.delete_instances(["p3"])
    write_dataset(rows(store), folder, Config(), 4)
    assert [r["id"] for r in jsonl(folder)] == ["p1"]


def test_without_a_selected_row_the_files_are_there_and_empty(tmp_path: Path) -> None:
    with Store(tmp_path / "run.db") as store:
        write_dataset(rows(store), tmp_path / "dataset", Config(), 4)
    assert jsonl(tmp_path / "dataset") == []
    assert pq.read_table(tmp_path / "dataset" / "train.parquet").num_rows == 0


def test_the_card_opens_with_yaml_that_the_hub_reads(store: Store, tmp_path: Path) -> None:
    write_dataset(rows(store), tmp_path, Config(), 4)
    _, front, body = (tmp_path / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    header = yaml.safe_load(front)
    assert header["configs"] == [{"config_name": "default", "data_files": "train.parquet"}]
    assert header["size_categories"] == ["n<1K"]
    assert "text-generation" in header["task_categories"]
    assert body.lstrip().startswith("# ")
    assert "2 pairs" in body
    assert "(m, tuned policy)" in body


@pytest.mark.parametrize(
    ("count", "category"),
    [
        (1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (9_999, "1K<n<10K"), (10_000, "10K<n<100K"),
        (99_999, "10K<n<100K"), (100_000, "100K<n<1M"), (999_999, "100K<n<1M"), (1_000_000, "1M<n<10M"),
    ],
)  # fmt: skip
def test_the_card_names_the_size_as_the_hub_does(store: Store, count: int, category: str) -> None:
    card = write._card(rows(store)[:1] * count, Config(), 4)
    assert f"size_categories: [{category}]" in card


def test_the_cards_example_stays_in_its_fence_whatever_the_output_holds(store: Store) -> None:
    row = rows(store)[0] | {"output": "```python\nprint()\n```"}
    lines = write._card([row], Config(), 4).split("\n")
    opening = next(i for i, line in enumerate(lines) if line.endswith("json") and line.startswith("```"))
    fence = lines[opening].removesuffix("json")
    closing = lines.index(fence, opening + 1)
    assert json.loads("\n".join(lines[opening + 1 : closing])) == row


def test_a_file_is_replaced_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "first")

    def fails(*_: object) -> None:
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="power cut"):
        write_text(path, "second")
    assert path.read_text() == "first"


@pytest.mark.parametrize("language", ["en", "no", "zh"])
def test_the_card_names_the_runs_language(store: Store, language: str) -> None:
    card = write._card(rows(store), Config(language=language), 4)
    assert yaml.safe_load(card.split("---\n")[1])["language"] == language
