"""Of every architecture that was tried: it is right, or refused in one line; and the guide's table says what was
found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import transformers

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import architectures  # noqa: E402
from tiny_models import ARCHITECTURES  # noqa: E402

KNOWN = json.loads((ROOT / "benchmarks" / "architectures.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_is_right_or_refused(name: str) -> None:
    """Greedy answers and log-probabilities, alone and in batches, with PPO's adapter and without."""
    found = architectures.as_row(architectures.examine(name))
    assert found["verdict"] in ("right", "refused"), found
    assert "\n" not in found["refused"] + found["training_refused"]
    if transformers.__version__ == KNOWN["transformers"]:
        known = KNOWN["architectures"][name]
        for fact in ("verdict", "refused", "decoder", "beginnings_shared", "training_refused"):
            assert found[fact] == known[fact], "run benchmarks/architectures.py"


def test_the_guides_table_is_what_was_found() -> None:
    assert architectures.table(KNOWN) in (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    assert list(KNOWN["architectures"]) == list(ARCHITECTURES)
    assert sum(one["verdict"] == "right" for one in KNOWN["architectures"].values()) >= 25
