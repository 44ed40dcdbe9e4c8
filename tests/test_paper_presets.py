"""The paper's presets run whole, from seeds to report, on tiny models of their architectures: whoever starts them on
the real ones has hours to lose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from refine_af.config import PRESETS, load_config
from refine_af.run import Run, open_run

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "paper-llama2-7b": ("Llama", {}),
    "paper-llama2-13b": ("Llama", {}),
    "paper-mistral-7b": ("Mistral", {"sliding_window": 256}),
}
# What is smaller, and a reward whose models are none of the paper's gigabytes; all else is the preset's.
SMALL = (
    "threads=1",
    "model.batch_size=16",
    "instructions.target=12",
    "instructions.prompts_per_round=8",
    "instructions.demonstrations=4",
    "instructions.max_demonstration_words=16",
    "instructions.max_words=60",
    "instructions.sampling={max_tokens: 60, temperature: 1.0, top_p: 1.0}",
    "feedback={name: composite, scorers: {variety: {}, format: {}}}",
    "policy.iterations=2",
    "policy.rollouts=8",
    "policy.minibatch=4",
    "policy.held_out=4",
    "instances.max_demonstration_words=24",
    "instances.demonstrations=2",
    "instances.sampling.max_tokens=40",
    "instances.sampling.top_p=1.0",
    "finetune.epochs=1",
    "finetune.batch_size=4",
    "finetune.max_length=128",
    "evaluation.max_tokens=12",
)


def test_each_paper_preset_is_run() -> None:
    assert set(FAMILIES) == {one for one in PRESETS if one.startswith("paper-")}


@pytest.mark.parametrize("preset", FAMILIES)
def test_a_paper_preset_runs_whole_on_a_tiny_model_of_its_architecture(
    preset: str, tmp_path: Path, tiny_family: Callable[..., Path]
) -> None:
    family, settings = FAMILIES[preset]
    model = tiny_family(family, **settings)
    config = load_config(preset=preset, overrides=[f"model.name={model}", *SMALL])
    Run(config, tmp_path / "run").execute()
    with open_run(tmp_path / "run") as store:
        assert all(row["status"] == "done" for row in store.query("SELECT status FROM stages"))
        assert len(store.metric("policy", "explained_variance")) == 2
        assert store.instances(selected=True)
    assert "</html>" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
