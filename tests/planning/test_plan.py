"""What `plan` promises: every preset has one, its sums add up, and it neither downloads nor imports torch."""

from __future__ import annotations

import io
import json
import re
import socket
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from refine_af.config import PRESETS, load_config
from refine_af.planning import Gpu, Hardware, Plan, make_plan, render
from refine_af.planning.hardware import has_int8_instructions
from refine_af.planning.models import find_facts, known_facts
from refine_af.planning.plan import StagePlan
from refine_af.planning.units import count, duration

LAPTOP = Hardware(cores=2, memory_gb=16.0, disk_free_gb=100.0)
SERVER = Hardware(cores=16, memory_gb=128.0, gpus=(Gpu("A100", 85.9),), disk_free_gb=500.0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def plan_of(preset: str, *overrides: str, hardware: Hardware = SERVER) -> Plan:
    return make_plan(load_config(preset=preset, overrides=overrides), 175, hardware)


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_plan_whose_parts_add_up(preset: str) -> None:
    plan = plan_of(preset)
    assert [stage.name for stage in plan.stages] == [
        "seeds", "instructions", "policy", "instances", "finetune", "evaluate", "arms", "report",
    ]  # fmt: skip
    seconds = [piece.seconds for stage in plan.stages for piece in stage.pieces]
    assert all(s is not None and s >= 0 for s in seconds)
    assert plan.hours == pytest.approx(sum(s for s in seconds if s is not None) / 3600)
    assert plan.peak_memory_gb == max(sum(part.gb for part in stage.memory) for stage in plan.stages)
    assert plan.assumptions


@pytest.mark.parametrize("preset", PRESETS)
def test_a_plan_is_json_with_its_totals(preset: str) -> None:
    plan = plan_of(preset)
    values = json.loads(json.dumps(plan.as_dict()))
    assert values["total"]["hours"] == pytest.approx(plan.hours)
    assert values["total"]["completion_tokens"] == sum(s["completion_tokens"] for s in values["stages"])


@pytest.mark.parametrize("preset", PRESETS)
def test_no_line_is_cut_or_wider_than_the_screen(preset: str) -> None:
    plan = plan_of(preset)
    out = io.StringIO()
    render(plan, {}, Console(file=out, width=100))
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    shown = re.sub(r"\s+", " ", text)
    assert all(assumption in shown for assumption in plan.assumptions)


def test_twice_the_iterations_are_twice_the_rollout_tokens_and_training() -> None:
    once = plan_of("embedded", "policy.iterations=8").stage("policy")
    twice = plan_of("embedded", "policy.iterations=16").stage("policy")
    for field in ("prompt_tokens", "completion_tokens"):
        assert getattr(twice.piece("rollouts"), field) == pytest.approx(
            2 * getattr(once.piece("rollouts"), field), abs=1
        )
    assert twice.trained_tokens == pytest.approx(2 * once.trained_tokens, abs=1)


def test_the_control_trains_no_policy_and_writes_half_the_pairs() -> None:
    tuned, control = plan_of("embedded"), plan_of("embedded", "policy.algorithm=none")
    assert control.stage("policy").hours == 0
    assert control.stage("instances").completion_tokens * 2 == pytest.approx(
        tuned.stage("instances").completion_tokens, abs=1
    )


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_groups_cost_what_ppo_costs(algorithm: str) -> None:
    ppo, groups = plan_of("embedded"), plan_of("embedded", f"policy.algorithm={algorithm}")
    assert groups.stage("policy").pieces == ppo.stage("policy").pieces
    assert groups.stage("instances").completion_tokens == ppo.stage("instances").completion_tokens
    assert f"{algorithm.upper()}: 8 iterations of 32 rollouts in groups of 4" in groups.stage("policy").words


@pytest.mark.parametrize(("action", "turns"), [("pair", 2), ("answer", 1)])
@pytest.mark.parametrize("algorithm", ["ppo", "grpo", "rloo"])
def test_training_learns_from_both_turns_of_a_pair_that_has_two_or_from_its_answer(
    algorithm: str, action: str, turns: int
) -> None:
    def trained(inputs: str) -> float:
        settings = ["policy.epochs=1", f"policy.algorithm={algorithm}", f"instances.inputs={inputs}"]
        return plan_of("embedded", *settings, f"policy.action={action}").stage("policy").trained_tokens

    assert trained("always") == pytest.approx(turns * trained("never"), rel=0.01)


def test_best_of_n_writes_as_much_as_training_and_the_tuned_pairs_would() -> None:
    ppo, best = plan_of("embedded"), plan_of("embedded", "policy.algorithm=best_of_n")
    assert best.stage("policy").hours == 0
    sampled = ppo.stage("policy").piece("rollouts").completion_tokens
    half = ppo.stage("instances").completion_tokens / 2  # the other half is the control's
    # Shared out evenly and rounded up: less than one more for each of 66 instructions.
    assert sampled + half <= best.stage("instances").completion_tokens < sampled + half + 66 * 27


def test_arms_cost_trainings_evaluations_and_best_of_ns_candidates_and_nothing_without_them() -> None:
    none = plan_of("embedded")
    assert (none.stage("arms").hours, none.stage("arms").pieces) == (0, ())
    few = plan_of("embedded", "experiment.arms=[initial, tuned]")
    many = plan_of("embedded", "experiment.arms=[initial, tuned]", "experiment.seeds=[0, 1, 2]")
    best = plan_of("embedded", "experiment.arms=[initial, tuned, best_of_n]")
    assert few.hours > none.hours
    assert many.stage("arms").trained_tokens == pytest.approx(3 * few.stage("arms").trained_tokens, abs=1)
    # The base answers once, whatever is trained.
    answers = [plan.stage("arms").piece("answers").completion_tokens for plan in (few, many)]
    assert answers[1] == pytest.approx(answers[0] / 3 * 7, abs=1)
    sampled = none.stage("policy").piece("rollouts").completion_tokens
    written = best.stage("arms").piece("candidates of best_of_n").completion_tokens
    assert sampled <= written < sampled + 56 * 27
    again = plan_of("embedded", "experiment.arms=[initial, tuned]", "experiment.policy_seeds=[0, 1, 2]").stage("arms")
    assert again.trained_tokens > 3 * few.stage("arms").trained_tokens
    assert again.piece("rollouts").completion_tokens == pytest.approx(sampled, abs=1)
    assert sum(piece.name == "rollouts" for piece in again.pieces) == 2
    assert "the policy is trained and writes 2 times more" in again.words


def test_what_feedback_of_an_arms_own_reads_is_counted_once_for_a_pair() -> None:
    tuned, nonsense = "{name: own, policy: tuned, feedback: embedded}", "spoil: last_word, feedback: embedded}"
    settings = (
        "feedback={name: format}",
        f"experiment.arms=[initial, {tuned}, {{name: odd, policy: tuned, {nonsense}]",
    )
    gradients = plan_of("embedded", *settings).stage("arms").piece("rewards: gradients")
    both_policies = plan_of("embedded").stage("instances").piece("rewards: gradients")
    assert gradients.trained_tokens == pytest.approx(both_policies.trained_tokens / 2, rel=0.01)


def test_the_tasks_of_an_experiment_are_counted(tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.jsonl"
    rows = [{"instruction": "Say it", "input": str(i), "output": "it"} for i in range(10)]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("experiment.arms=[initial, tuned]", f"experiment.tasks={tasks}", "experiment.instances=4")
    assert "answer 4 instances each" in plan_of("embedded", *options).stage("arms").words


def test_a_7b_in_bfloat16_weighs_13_5_gb_twice_that_in_float32_and_3_9_gb_in_four_bits() -> None:
    for overrides, expected in (((), 13.5), (("model.dtype=float32",), 27.0), (("model.dtype=nf4",), 3.9)):
        stage = plan_of("paper-llama2-7b", *overrides).stage("evaluate")
        weights = next(part for part in stage.memory if part.name == "weights")
        assert weights.gb == pytest.approx(expected, abs=0.5)


def test_a_13b_needs_more_of_everything_than_a_7b() -> None:
    small, large = plan_of("paper-llama2-7b"), plan_of("paper-llama2-13b")
    assert large.hours is not None
    assert small.hours is not None
    assert large.hours > 1.3 * small.hours
    assert (large.peak_memory_gb or 0) > (small.peak_memory_gb or 0)
    assert large.disk_gb > small.disk_gb


def test_grouped_key_value_heads_shrink_the_cache() -> None:
    def cache(preset: str) -> float:
        return next(p.gb for p in plan_of(preset).stage("instances").memory if p.name == "key-value cache")

    assert cache("paper-mistral-7b") == pytest.approx(cache("paper-llama2-7b") / 4)


def test_training_follows_from_its_formula() -> None:
    piece = plan_of("paper-llama2-7b").stage("policy").piece("updates")
    assert piece.seconds == pytest.approx(piece.trained_tokens * 4 * 6_738_415_616 / (312e12 * 0.35), rel=1e-6)


def test_checkpointing_trades_activations_for_passes() -> None:
    def policy(*, on: bool) -> StagePlan:
        few = "model.batch_size=1"  # so that training is what needs most
        return plan_of("paper-llama2-7b", few, f"policy.gradient_checkpointing={on}").stage("policy")

    plain, again = policy(on=False), policy(on=True)

    def activations(stage: StagePlan) -> float:
        return next(part.gb for part in stage.memory if part.name == "activations")

    assert activations(again) < activations(plain) / 5
    assert again.piece("activations again").scored_tokens == again.piece("updates").trained_tokens


def test_a_critic_with_an_adapter_doubles_what_is_trained_and_its_memory() -> None:
    few = "model.batch_size=1"  # so that training is what needs most
    head, own = (plan_of("paper-llama2-7b", few, f"policy.critic={c}").stage("policy") for c in ("head", "adapter"))
    assert own.trained_tokens == pytest.approx(2 * head.trained_tokens, abs=1)
    for name in ("adapter", "activations"):
        gb = [next(part.gb for part in stage.memory if part.name == name) for stage in (head, own)]
        assert gb[1] == pytest.approx(2 * gb[0])


def test_a_machine_without_gpu_is_told_what_is_missing() -> None:
    fit = plan_of("paper-llama2-7b", hardware=LAPTOP).fit
    assert fit.ok is False
    assert "GPU is missing" in fit.findings[0].text
    assert any("model.batch_size=" in finding.text for finding in fit.findings)


def test_what_fits_a_laptop_and_what_fits_no_disk() -> None:
    assert plan_of("embedded", hardware=LAPTOP).fit.ok is True
    full = Hardware(cores=2, memory_gb=16.0, disk_free_gb=0.1)
    assert plan_of("embedded", hardware=full).fit.ok is False
    assert plan_of("embedded", hardware=Hardware(cores=2, memory_gb=1.0)).fit.ok is False
    assert plan_of("paper-llama2-7b", hardware=SERVER).fit.ok is True


def test_without_instructions_for_int8_a_cpu_takes_longer_and_generates_in_float32() -> None:
    old = replace(LAPTOP, int8=False)
    fast, slow = (plan_of("embedded", hardware=machine) for machine in (LAPTOP, old))
    assert fast.hours is not None
    assert slow.hours is not None
    assert slow.hours > 1.4 * fast.hours
    assert "without instructions for int8" in slow.reference
    sizes = []
    for plan, precision in ((fast, "int8"), (slow, "float32")):
        (copies,) = (part for part in plan.stage("instances").memory if part.name == "engine's copies")
        assert precision in copies.formula
        sizes.append(copies.gb)
    assert sizes[1] == pytest.approx(4 * sizes[0])
    rounds_anyway = plan_of("embedded", "model.engine=ctranslate2", hardware=old)
    (copies,) = (part for part in rounds_anyway.stage("instances").memory if part.name == "engine's copies")
    assert "int8" in copies.formula


def test_the_plan_knows_of_the_instructions_that_torch_finds() -> None:
    from refine_af.engines.int8 import computes_int8

    assert has_int8_instructions() == computes_int8()


def test_a_model_of_unknown_size_has_tokens_but_no_hours_and_says_what_to_do() -> None:
    plan = plan_of("embedded", "model.name=someone/unheard-of")
    assert plan.hours is None
    assert plan.stage("policy").completion_tokens > 0
    assert plan.fit.ok is None
    assert "hf download someone/unheard-of config.json" in plan.problem
    json.dumps(plan.as_dict())
    render(plan, {}, Console(file=io.StringIO(), width=100))


def test_a_folder_is_measured_by_its_files(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    facts, problem = find_facts(str(tmp_path))
    known = known_facts("embedded")
    assert (facts is not None, problem) == (True, "")
    assert facts is not None
    assert known is not None
    assert facts.parameters == known.parameters  # by the formula, since there are no weights
    header = json.dumps({"w": {"dtype": "F32", "shape": [10, 7], "data_offsets": [0, 280]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    counted, _ = find_facts(str(tmp_path))
    assert counted is not None
    assert counted.parameters == 70


@pytest.mark.parametrize("name", ["meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-13b-hf", "mistralai/Mistral-7B-v0.1"])
def test_the_tables_counts_follow_from_the_tables_sizes(name: str) -> None:
    facts = known_facts(name)
    assert facts is not None
    attention = facts.hidden * facts.head_dim * (2 * facts.heads + 2 * facts.kv_heads)
    block = attention + 3 * facts.hidden * facts.intermediate + 2 * facts.hidden
    assert facts.parameters == facts.layers * block + 2 * facts.vocabulary * facts.hidden + facts.hidden


@pytest.mark.parametrize("content", ["not json", "[]", "{}", '{"hidden_size": "many"}'])
def test_a_config_json_that_is_none_is_explained(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    facts, problem = find_facts(str(tmp_path))
    assert facts is None
    assert str(tmp_path) in problem


def test_a_plan_imports_no_torch() -> None:
    code = (
        "import sys; from refine_af.config import load_config; from refine_af.planning import make_plan\n"
        "make_plan(load_config(preset='paper-llama2-7b'), 175)\n"
        "print([m for m in ('torch', 'transformers', 'ctranslate2') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_numbers_read_as_people_write_them() -> None:
    assert [count(n) for n in (812, 6_090, 999_600, 6_738_415_616)] == ["812", "6.09 k", "1 M", "6.74 G"]
    assert [duration(s) for s in (12, 510, 93_600, 460_000)] == ["12 s", "8.5 min", "26 h", "5.3 days"]


def test_validating_the_reward_is_counted_apart_and_grows_with_the_pairs() -> None:
    some, more = plan_of("embedded"), plan_of("embedded", "instructions.target=132")
    assert some.validation.hours
    assert more.validation.hours
    assert more.validation.trained_tokens == pytest.approx(2 * some.validation.trained_tokens, rel=0.01)
    assert some.validation.trained_tokens == pytest.approx(21 * some.stage("finetune").trained_tokens, abs=21)
    assert "21 students" in some.validation.words
    assert some.hours == pytest.approx(sum(stage.hours or 0 for stage in some.stages)), "no part of the run's time"
