"""What makes a guard speak, what it does then, and which checkpoint is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refine_af.config import Config, GuardsConfig
from refine_af.errors import UsageError
from refine_af.evaluation.significance import Difference
from refine_af.rl.guards import Alarm, alarm
from refine_af.run import Run, open_run
from refine_af.stages import held_out
from refine_af.stages.held_out import Change, Witnessed
from refine_af.stages.policy import _next_cursor

GUARDS = GuardsConfig(kl_limit=2.0, diversity=0.5, patience=3)


def spoken(
    kl: list[float], distinct: list[float] | None = None, parsed: list[float] | None = None, **checks: float
) -> Alarm | None:
    """With a KL target of 10, so a limit of 20."""
    curves = {"kl": list(enumerate(kl, 1)), "distinct_2": list(enumerate(distinct or [0.9] * len(kl), 1))}
    curves["parsed_share"] = list(enumerate(parsed or [1.0] * len(kl), 1))
    curves |= {f"check/{name}": [(len(kl) - 1, value)] for name, value in checks.items()}
    return alarm(GUARDS, 10.0, curves)


def test_a_healthy_policy_hears_nothing() -> None:
    assert spoken([0, 5, 19.9]) is None
    assert spoken([0]) is None


def test_kl_over_the_limit_halves_the_steps_and_stops_where_it_stays() -> None:
    assert spoken([0, 5, 21]).action == "smaller steps"  # type: ignore[union-attr]
    assert spoken([0, 21, 22]).action == "smaller steps"  # type: ignore[union-attr]
    assert spoken([0, 21, 22, 23]).action == "stop"  # type: ignore[union-attr]
    assert spoken([0, 21, 22, 15, 23]).action == "smaller steps", "in a row"  # type: ignore[union-attr]
    far = {"kl": [(1, 1e9)], "distinct_2": [(1, 1.0)], "parsed_share": [(1, 1.0)]}
    assert alarm(GuardsConfig(kl_limit=None), 10.0, far) is None


def test_lost_diversity_stops_once_it_is_no_chance() -> None:
    kl = [0.0] * 5
    assert spoken(kl, [0.8, 0.8, 0.8, 0.3, 0.3]) is None
    found = spoken(kl, [0.8, 0.8, 0.39, 0.39, 0.3])
    assert found is not None
    assert (found.guard, found.action) == ("diversity", "stop")
    assert "0.30" in found.text
    assert "0.80" in found.text


def test_nothing_readable_stops_once_it_is_no_chance() -> None:
    kl = [0.0] * 4
    assert spoken(kl, parsed=[0.5, 0.0, 0.0, 0.1]) is None
    assert spoken(kl, parsed=[0.0, 0.5, 0.0, 0.0]) is None
    found = spoken(kl, parsed=[0.5, 0.0, 0.0, 0.0])
    assert found is not None
    assert (found.guard, found.action) == ("readability", "stop")


@pytest.mark.parametrize(
    ("gain_low", "witness_high", "speaks"),
    [(0.1, -0.1, True), (-0.1, -0.1, False), (0.1, 0.1, False), (-0.1, 0.1, False)],
)
def test_reward_that_rises_while_the_witness_falls_is_hacking_where_both_are_sure(
    gain_low: float, witness_high: float, speaks: bool
) -> None:
    gain = {"gain": 0.5, "gain_low": gain_low, "gain_high": 0.9}
    witness = {"witness_gain": -0.2, "witness_gain_low": -0.3, "witness_gain_high": witness_high}
    found = spoken([0, 0, 0], **gain, **witness)
    assert (found is not None) == speaks
    if found:
        assert (found.guard, found.action) == ("reward hacking", "smaller steps")


def checked_at(iterations: dict[int, bool], last: int) -> Alarm | None:
    """Checks of some iterations' policies, that find hacking or don't; ``last`` is the iteration that is looked at."""
    one = [(last, 1.0)]
    curves: dict[str, list[tuple[int, float]]] = {"kl": one, "distinct_2": one, "parsed_share": one}
    for part, fell in (("", -0.2), ("_low", -0.3), ("_high", -0.1)):
        curves[f"check/gain{part}"] = [(i, 0.5) for i in iterations]
        curves[f"check/witness_gain{part}"] = [(i, fell if found else 0.1) for i, found in iterations.items()]
    return alarm(GUARDS, 10.0, curves)


@pytest.mark.parametrize(
    ("checks", "action"),
    [
        ({4: True}, "smaller steps"),
        ({4: False, 8: True}, "smaller steps"),
        ({4: True, 8: True}, "stop"),
        ({4: True, 8: False, 12: True}, "smaller steps"),
        ({4: True, 8: True, 12: False}, None),
    ],
)
def test_hacking_stops_where_two_checks_in_a_row_find_it(checks: dict[int, bool], action: str | None) -> None:
    found = checked_at(checks, max(checks) + 1)
    assert (found and found.action) == action
    if found:
        assert ("two checks in a row" in found.text) == (action == "stop")


def test_a_check_of_an_earlier_iteration_does_not_speak_again() -> None:
    assert checked_at({4: True, 8: True}, last=10) is None


def test_the_checkpoint_that_is_kept_is_the_best_checked_one_that_no_guard_spoke_about() -> None:
    cursor: dict[str, Any] = {}
    lower, stop = Alarm("KL", "smaller steps", ""), Alarm("reward hacking", "stop", "")
    steps: list[tuple[dict[str, float], Alarm | None, int]] = [
        ({}, None, 1),
        ({}, None, 1),  # iteration 2 shows that checkpoint 1 is sound
        ({}, None, 2),
        ({}, lower, 2),
        ({"check/reward": 0.5}, None, 4),
        ({}, None, 4),
        ({"check/reward": 0.7}, None, 6),
        ({"check/reward": 0.6}, None, 6),
        ({"check/reward": 0.9}, stop, 6),
    ]
    for iteration, (checked, said, kept) in enumerate(steps, 1):
        cursor = _next_cursor(cursor, iteration, checked, said)
        assert cursor["kept"] == kept, iteration
    assert cursor["stopped"] == "reward hacking"


def test_a_stopped_policy_is_the_kept_one_and_the_run_says_so_and_goes_on(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_the_third(config: Any, target: float, curves: Any) -> Alarm | None:
        return Alarm("diversity", "stop", "told so") if curves["kl"][-1][0] == 3 else None

    monkeypatch.setattr("refine_af.stages.policy.alarm", at_the_third)
    policy = tiny_config.policy.model_copy(update={"iterations": 5, "held_out_every": 0})
    folder = tmp_path / "run"
    Run(tiny_config.model_copy(update={"policy": policy}), folder).execute(until="instances")
    kept = folder / "checkpoints" / "iteration-00001" / "adapter_model.safetensors"
    assert (folder / "policy" / "adapter_model.safetensors").read_bytes() == kept.read_bytes()
    with open_run(folder) as store:
        assert len(store.metric("policy", "kl")) == 3
        told = [e["text"] for e in store.query("SELECT text FROM events WHERE kind = 'warning' AND stage = 'policy'")]
        assert store.instances(policy="tuned")
    assert told == ["stopped at iteration 3 by the guard of diversity: told so; iteration 1 is kept"]


@pytest.mark.parametrize("checked", [True, False])
def test_hacking_that_shows_at_the_end_alone_goes_back_to_the_best_checked_policy(
    checked: bool, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rose, fell = Difference(0.5, 0.1, 0.9), Witnessed(0.6, 0.4, Difference(-0.2, -0.3, -0.1))
    real, compared = held_out.compare_held_out, []

    def first_one_hacks(context: Any, feedback: Any) -> Change:
        found = real(context, feedback)
        compared.append(context.store.query("SELECT text FROM rollouts WHERE split = 'after' ORDER BY position"))
        return Change(rose, 0.5, 0.5, None, fell) if len(compared) == 1 else found

    monkeypatch.setattr("refine_af.stages.policy.compare_held_out", first_one_hacks)
    monkeypatch.setattr("refine_af.stages.policy.alarm", lambda *_: None)  # whatever a tiny policy's checks may show
    settings = {"iterations": 5, "held_out_every": 2 if checked else 0, "held_out_samples": 4}
    policy, folder = tiny_config.policy.model_copy(update=settings), tmp_path / "run"
    Run(tiny_config.model_copy(update={"policy": policy}), folder).execute(until="policy")
    with open_run(folder) as store:
        told = [e["text"] for e in store.query("SELECT text FROM events WHERE kind = 'warning' AND stage = 'policy'")]
        kept = store.cursor("policy")["kept"] if checked else 5
        after = store.query("SELECT text FROM rollouts WHERE split = 'after' ORDER BY position")
        names = ("before", "after", "difference", "difference_low", "difference_high")
        kinds = ("witness", "fit")
        assert all(len(store.metric("policy", f"held_out_{kind}_{name}")) == 1 for kind in kinds for name in names)
        assert 0 < dict(store.metric("policy", "held_out_readable_after"))[0] < 1
        assert -3 < dict(store.metric("policy", "held_out_after"))[0] < 3
    weights = folder / "checkpoints" / f"iteration-{kept:05d}" / "adapter_model.safetensors"
    assert (folder / "policy" / "adapter_model.safetensors").read_bytes() == weights.read_bytes()
    said = "held-out reward rose by 0.50 but the check scorer (policy.guards.witness) fell by 0.200, both "
    said += "significant: maybe reward hacking"
    if checked:
        assert told == [f"stopped at iteration 5 by the guard of reward hacking: {said}; iteration {kept} is kept"]
        assert kept in (2, 4)
        assert len(compared) == 2
    else:
        assert told == [f"{said}; no earlier policy was checked, so the last is kept"]
        assert len(compared) == 1
    assert after == compared[-1]
    assert len(after) == 4 * policy.held_out


def test_smaller_steps_last_and_are_seen(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "refine_af.stages.policy.alarm",
        lambda config, target, curves: Alarm("KL", "smaller steps", "") if curves["kl"][-1][0] == 1 else None,
    )
    Run(tiny_config, tmp_path / "run").execute(until="policy")
    with open_run(tmp_path / "run") as store:
        assert [v for _, v in store.metric("policy", "step_scale")] == [1.0, 0.5, 0.5]
        checks = store.metric("policy", "check/gain")
        assert [step for step, _ in checks] == [2], "every second policy, and the last by the measure after"
        assert [step for step, _ in store.metric("policy", "check/reward")] == [2]


@pytest.mark.parametrize(
    ("witness", "reward", "message"),
    [
        ("length", "relevance", "has no better end"),
        ("coherrence", "relevance", "coherence"),
        ("relevance", "relevance", "part of the reward"),
        ("influence", "embedded", "part of the reward"),
    ],
)
def test_a_witness_that_can_bear_none_is_a_wrong_use(
    tiny_config: Config, tmp_path: Path, witness: str, reward: str, message: str
) -> None:
    guards = tiny_config.policy.guards.model_copy(update={"witness": witness})
    policy = tiny_config.policy.model_copy(update={"guards": guards})
    feedback = tiny_config.feedback.model_copy(update={"name": reward})
    with pytest.raises(UsageError, match=message):
        Run(tiny_config.model_copy(update={"policy": policy, "feedback": feedback}), tmp_path / "run").execute()
    assert not (tmp_path / "run").exists()
