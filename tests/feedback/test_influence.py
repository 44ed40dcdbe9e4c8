"""Influence as users meet it: a scorer of a reward, by anchors that are shown seeds, with a witness of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from refine_af.config import Config, load_config
from refine_af.errors import UsageError
from refine_af.feedback.base import Example
from refine_af.feedback.catalogue import Workshop
from refine_af.feedback.influence.anchors import DIRECTIONS, other_tasks
from refine_af.feedback.influence.scorer import Influence, InfluenceScorer
from refine_af.feedback.influence.split import split_anchors
from refine_af.parts import Parts
from refine_af.run import Run, open_run
from refine_af.seeds import shown_tasks

PAIRS = [
    Example("Name a colour of the sky.", "", "Blue, and red in the evening."),
    Example("Add the numbers.", "3 and 4", "7"),
    Example("Say hello to a friend.", "", "Hello, my friend! How have you been?"),
    Example("Is this sentence about food?", "The soup is too hot.", "Yes"),
    Example("List two animals.", "", "A cat\nA dog"),
]


@pytest.fixture
def workshop(tiny_config: Config, tmp_path: Path) -> Workshop:
    return Workshop(Parts(tiny_config, tmp_path), [])


@pytest.fixture(scope="module")
def influence(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Influence:
    return Workshop(Parts(tiny_config, tmp_path_factory.mktemp("scratch")), []).influence(witness=False)


def units(influence: Influence, pairs: Sequence[Example], less: Sequence[Example] = ()) -> Tensor:
    """Gradients of length 1 (n, p), of what is trained on; or of a contrast, without the end token."""
    gradients, row = influence._reader(), influence._row
    found = gradients.gradients([row(one, not less) for one in pairs])
    if less:
        found = found - gradients.gradients([row(one, False) for one in less])
    return found / found.norm(dim=1, keepdim=True)


def test_values_are_mean_cosines_with_the_anchors_gradients(influence: Influence) -> None:
    expected = (units(influence, PAIRS) @ units(influence, influence._anchors).T).mean(1)
    assert influence(PAIRS)[:, DIRECTIONS.index("plain")] == pytest.approx(expected.numpy(), abs=1e-4)


def test_the_contrast_is_that_of_an_answer_behind_its_own_task_and_behind_another(influence: Influence) -> None:
    anchors = influence._anchors
    others = other_tasks(anchors, influence._seed)
    apart = [Example(o.instruction, o.input, a.output) for a, o in zip(anchors, others, strict=True)]
    expected = (units(influence, PAIRS) @ units(influence, anchors, less=apart).T).mean(1)
    assert influence(PAIRS)[:, DIRECTIONS.index("contrastive")] == pytest.approx(expected.numpy(), abs=1e-4)


def test_an_anchor_is_scored_by_the_others(influence: Influence) -> None:
    anchors = units(influence, influence._anchors)
    expected = float((anchors @ anchors.T)[0, 1:].mean())
    assert influence(influence._anchors[:1])[0, DIRECTIONS.index("plain")] == pytest.approx(expected, abs=1e-4)


def test_a_value_is_the_same_in_any_batch(influence: Influence) -> None:
    alone = np.concatenate([influence([one]) for one in PAIRS])
    assert influence(PAIRS) == pytest.approx(alone, abs=1e-4)


def test_gradients_are_taken_once_for_all_directions(influence: Influence, monkeypatch: pytest.MonkeyPatch) -> None:
    first = InfluenceScorer(influence, "plain").score(PAIRS)
    monkeypatch.setattr(influence, "_values", lambda examples: pytest.fail("asked again"))
    assert InfluenceScorer(influence, "contrastive").score(PAIRS) != first


def test_directions_are_read_out_of_the_cache(workshop: Workshop, tiny_config: Config, tmp_path: Path) -> None:
    expected = workshop.influence(witness=False)(PAIRS)
    again = Workshop(Parts(tiny_config, tmp_path), []).influence(witness=False)
    again._build = lambda folder: pytest.fail("built again")  # type: ignore[method-assign]
    assert np.array_equal(again(PAIRS), expected)


def test_the_witness_has_other_anchors_and_another_student(workshop: Workshop) -> None:
    reward, witness = workshop.influence(witness=False), workshop.influence(witness=True)
    assert not set(reward._anchors) & set(witness._anchors)
    assert not np.allclose(reward(PAIRS), witness(PAIRS), atol=1e-3)


def test_anchors_are_shown_seeds(tiny_config: Config) -> None:
    shown = {t.instruction for t in shown_tasks(tiny_config.seeds, tiny_config.seed)}
    reward, witness = split_anchors(tiny_config)
    assert len(reward) == len(witness) == 48
    assert {one.instruction for one in (*reward, *witness)} <= shown


def test_another_task_has_an_input_where_its_anchor_has_one_and_another_output(tiny_config: Config) -> None:
    anchors = split_anchors(tiny_config)[0]
    for one, other in zip(anchors, other_tasks(anchors, 3), strict=True):
        assert bool(one.input) == bool(other.input)
        assert one.output != other.output


def own_seeds(count: int, folder: Path) -> str:
    rows = [{"instruction": f"Say the number {n}.", "input": "", "output": str(n)} for n in range(count)]
    (folder / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"seeds.path={folder / 'seeds.jsonl'}"


def test_a_few_seeds_of_the_users_own_are_joined_by_built_in_ones(tmp_path: Path) -> None:
    anchors = split_anchors(load_config(overrides=[own_seeds(10, tmp_path)]))
    assert [len(some) for some in anchors] == [8, 8]
    assert [sum("number" in one.instruction for one in some) for some in anchors] == [4, 4]
    anchors = split_anchors(load_config(overrides=[own_seeds(40, tmp_path)]))
    assert [sum("number" in one.instruction for one in some) for some in anchors] == [16, 16]


def test_too_few_anchors_are_told_before_a_run(tmp_path: Path, tiny_settings: list[str]) -> None:
    for reward in ("feedback.name=influence", "policy.guards.witness=influence_witness"):
        for few, said in (
            (
                ["seeds.held_out=0.95"],
                "^the built-in seeds: only .* seeds.held_out=0.95, .* need 16; lower seeds.held_out",
            ),
            (
                [own_seeds(12, tmp_path), "language=zh"],
                "seeds.jsonl: only .* need 16; add short ones, lower seeds.held_out",
            ),
        ):
            config = load_config(overrides=[*tiny_settings, *few, reward])
            with pytest.raises(UsageError, match=said):
                Run(config, tmp_path / "run").execute()
            assert not (tmp_path / "run").exists()


def test_a_run_is_paid_by_both_directions_and_watched_by_the_witness(tmp_path: Path, tiny_settings: list[str]) -> None:
    scorers = "{asked: {use: influence, direction: contrastive}, plain: {use: influence, direction: plain}}"
    chosen = ["feedback.name=composite", f"feedback.scorers={scorers}", "policy.guards.witness=influence_witness"]
    Run(load_config(overrides=[*tiny_settings, *chosen]), tmp_path / "run").execute(until="instances")
    with open_run(tmp_path / "run") as store:
        assert {row["scorer"] for row in store.query("SELECT DISTINCT scorer FROM scores")} == {"asked", "plain"}
        ((_, before),) = store.metric("policy", "held_out_witness_before")
    assert -1 <= before <= 1


def test_how_the_model_will_be_tuned_stays_as_the_reward_knows_it(tmp_path: Path, tiny_settings: list[str]) -> None:
    settings = [*tiny_settings, "feedback.name=influence"]
    Run(load_config(overrides=settings), tmp_path / "run").execute(until="policy")
    with pytest.raises(UsageError, match=r"finetune\.lora\.rank"):
        Run(load_config(overrides=[*settings, "finetune.lora.rank=2"]), tmp_path / "run").execute()
