"""What fine-tuning leaves behind: an adapter, and the network as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from refine_af.config import Config
from refine_af.parts import Parts
from refine_af.run import Run
from refine_af.stages import finetune

PROMPTS = [["Describe a bird", "Write a story about a garden"]]


def test_the_model_that_was_tuned_answers_as_one_that_is_loaded_anew(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Parts] = []
    trainer = finetune._trainer

    def seen(context: object, *rest: object) -> object:
        used.append(context.parts)  # type: ignore[attr-defined]
        return trainer(context, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(finetune, "_trainer", seen)
    config = tiny_config.model_copy(update={"model": tiny_config.model.model_copy(update={"engine": "transformers"})})
    Run(config, tmp_path / "run").execute(until="finetune")
    answers = []
    for parts in (used[0], Parts(config, tmp_path / "scratch")):
        with parts.adapted_engine(tmp_path / "run" / "model") as engine:
            answers.append([one.token_ids for one in engine.answers(PROMPTS, 12)[0]])
    assert answers[0] == answers[1]
    assert "forward" not in vars(used[0].network)
