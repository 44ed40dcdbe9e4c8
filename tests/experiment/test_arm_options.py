"""What is wrong with an experiment is told in one line before a run writes anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from refine_af.cli_options import made_config
from refine_af.errors import UsageError
from refine_af.run import Run

REWARD = "feedback={name: composite, scorers: {variety: {}, format: {}}}"  # no model to be trained for it


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["experiment.arms=[tuned]"], "arms has tuned alone"),
        (["experiment.arms=[initial, initial]"], "arms names one twice"),
        (
            ["experiment.arms=[initial, tuned]", "policy.algorithm=none"],
            "policy.algorithm=none trains nothing: set it to ppo",
        ),
        (["experiment.arms=[initial, best_of_n]", "policy.algorithm=best_of_n"], "it is no control"),
        (
            ["experiment.arms=[initial, tuned]", "experiment.sizes=[15]"],
            r"experiment\.sizes \(15\) is over instructions\.target \(14\): raise",
        ),
        (["experiment.arms=[initial, tuned]", "experiment.tasks=nowhere.jsonl"], "nowhere.jsonl"),
        (["experiment.arms=[initial, tuned]", "seeds.held_out=0"], "leaves no seed task"),
        (["experiment.arms=[initial, tuned]", "experiment.shots=2"], "have no examples"),
        (["experiment.arms=[initial, tuned]", "experiment.policy_seeds=[0, 2, 2]"], "policy_seeds names one twice"),
        (
            ["experiment.arms=[initial, {name: other, policy: initial, feedback: own_word}]"],
            r"experiment\.arms: feedback: no feedback named 'own_word', did you mean 'own_words'",
        ),
        (
            ["experiment.arms=[initial, {name: other, policy: initial, choose: first, feedback: own_words}]"],
            "arm other: choose=first asks no feedback; leave feedback out, or choose best",
        ),
        (["experiment.arms=[initial, tuned]", "experiment.policy_seeds=[1, 2]"], "must begin with 0, the run's own"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_written(
    changes: list[str], told: str, tiny_settings: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        Run(made_config(None, None, None, [*tiny_settings, REWARD, *changes]), tmp_path / "run").execute()
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_chat_prompt_without_a_template_is_refused_before_the_run(
    tiny_base_model: Path, tiny_settings: list[str], tmp_path: Path
) -> None:
    changes = [f"model.name={tiny_base_model}", "experiment.arms=[initial, tuned]", "experiment.prompt=chat"]
    with pytest.raises(UsageError, match="no chat template"):
        Run(made_config(None, None, None, [*tiny_settings, REWARD, *changes]), tmp_path / "run").execute()
    assert not (tmp_path / "run").exists()
