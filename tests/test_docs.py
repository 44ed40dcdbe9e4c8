"""What the documents say of the commands and options is what these are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from refine_af.config import Config, load_config
from refine_af.feedback.check import check_feedback

ROOT = Path(__file__).parents[1]


def test_the_page_of_commands_is_what_help_prints() -> None:
    code = "import sys; sys.path.insert(0, 'docs'); import make_commands as m; sys.stdout.write(m.commands_page())"
    made = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert made == (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), "run `make docs`"


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/method.md", "CONTRIBUTING.md"])
def test_every_link_leads_to_a_file(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_every_config_that_the_guide_shows_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```(yaml|python)\n(.*?)```", (ROOT / "docs" / "guide.md").read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_reward.py").write_text(next(code for _, code in blocks if "def short_and_grounded" in code))
    configs = [text for kind, text in blocks if kind == "yaml"]
    assert len(configs) >= 2
    for text in configs:
        (tmp_path / "shown.yaml").write_text(text, encoding="utf-8")
        check_feedback(load_config(tmp_path / "shown.yaml").feedback)
    sys.modules.pop("my_reward", None)


@pytest.mark.parametrize("page", ["README.md", "docs/guide.md", "docs/method.md"])
def test_every_option_that_is_named_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    sections = {name: set(field.annotation.model_fields) for name, field in Config.model_fields.items()
                if hasattr(field.annotation, "model_fields")}  # fmt: skip
    for section, option in re.findall(r"`(?:--set )?([a-z]+)\.([a-z_]+)[`=.]", text):
        if section in sections:
            assert option in sections[section], f"{section}.{option}"


def test_every_promise_has_a_test_that_holds_it() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    rows = guide.partition("## Right, or refused")[2].partition("\n## ")[0].splitlines()
    promises = [row for row in rows if row.startswith("| ")][1:]
    assert len(promises) >= 20
    for promise in promises:
        held_by = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert held_by, promise
        for file, test in held_by:
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_what_the_checks_of_a_model_cost_is_what_was_measured() -> None:
    measured = json.loads((ROOT / "benchmarks" / "loading.json").read_text(encoding="utf-8"))["median_seconds_more"]
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert f"The checks of a model cost {measured:.2f} s" in guide
    assert measured <= 0.5
