"""What a run would refuse is told by `plan` and `doctor` in the same words, and a model that can't do leaves no
folder behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from refine_af.checks import checks, refusals
from refine_af.cli import app
from refine_af.config import Config, LoraSettings, load_config
from refine_af.doctor import examine
from refine_af.errors import UsageError
from refine_af.lora import adaptable_layers, check_layers
from refine_af.parts import Parts
from refine_af.run import Run
from refine_af.stages.trial import try_model

WRONG: dict[str, tuple[str, str]] = {
    "layers for adapters": ("finetune.lora.targets=[q_proj, v_prj]", "no such layers in .*: .*v_proj"),
    "seeds": ("seeds.path=./none.jsonl", "none.jsonl"),
    "feedback": ("feedback.name=influense", "did you mean 'influence'"),
    "witness": ("policy.guards.witness=nobody", "no scorer named 'nobody'"),
    "experiment": ("experiment={arms: [initial, tuned], tasks: ./none}", "none"),
}


def config_of(tiny_settings: list[str], *changes: str) -> Config:
    return load_config(overrides=[*tiny_settings, *changes])


@pytest.mark.parametrize("name", WRONG)
def test_what_a_run_refuses_plan_and_doctor_tell(name: str, tiny_settings: list[str], tmp_path: Path) -> None:
    change, told = WRONG[name]
    config = config_of(tiny_settings, change)
    with pytest.raises(UsageError, match=told) as raised:
        Run(config, tmp_path / "run").execute()
    assert not (tmp_path / "run").exists()
    said = str(raised.value)
    assert refusals(config, Parts(config, tmp_path))[name] == said
    assert said in [check.advice for check in examine(config, tmp_path)]
    (tmp_path / "c.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    plan = CliRunner().invoke(app, ["plan", "--config", str(tmp_path / "c.yaml"), "--json"])
    # What a plan itself has to read ends it.
    assert said == (str(plan.exception) if plan.exception else json.loads(plan.stdout)["refused"][name])


def test_a_config_that_works_is_refused_by_none(tiny_config: Config, tmp_path: Path) -> None:
    assert refusals(tiny_config, Parts(tiny_config, tmp_path)) == {}
    assert "nothing else would be refused" in [check.found for check in examine(tiny_config, tmp_path)]


def test_what_several_checks_say_is_told_once(tmp_path: Path) -> None:
    config = load_config(overrides=["seeds.held_out=1"])
    found = refusals(config, Parts(config, tmp_path))
    assert found == {"seeds": "seeds.held_out=1 takes all 175 seed tasks, and some are to be shown; lower it"}


def test_without_the_models_files_what_looks_into_them_is_not_asked(tmp_path: Path) -> None:
    config = load_config(overrides=["model.name=./none"])
    assert list(refusals(config, Parts(config, tmp_path))) == ["model"]


def test_plan_says_in_words_what_would_be_refused(tiny_arguments: list[str]) -> None:
    wrong = ["--set", "finetune.lora.targets=[v_prj]"]
    shown = CliRunner().invoke(app, ["plan", *tiny_arguments, *wrong]).stdout
    assert "A run would be refused now" in shown
    assert "v_prj" in shown
    assert "would be refused" not in CliRunner().invoke(app, ["plan", *tiny_arguments]).stdout


def test_no_check_loads_weights(tiny_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refine_af.parts.load_model", lambda *_: pytest.fail("weights were loaded"))
    config = config_of(tiny_settings)
    for _, check in checks(config, Parts(config, tmp_path)):
        check()


# -- what layers may get adapters ----------------------------------------------------------------------


def bare(name: str, **settings: Any) -> Any:
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 3}
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **sizes, **settings))


def test_layers_on_which_peft_puts_no_adapter_are_told_in_one_line() -> None:
    network = bare("mamba", state_size=4)
    with pytest.raises(UsageError, match=r"policy\.lora\.targets don't fit m: .*out_proj") as raised:
        check_layers("policy.lora", LoraSettings(targets=("out_proj",)), network, "m")
    assert "\n" not in str(raised.value)
    check_layers("policy.lora", LoraSettings(targets=("x_proj",)), network, "m")
    assert "x_proj" in adaptable_layers(network)  # the adapter is off again


def test_names_that_other_layers_have_too_get_no_adapters() -> None:
    """CTRL calls its blocks and the parts of their networks 0, 1 and 2."""
    assert adaptable_layers(bare("ctrl", dff=24, num_attention_heads=4)) == {"Wq", "Wk", "Wv", "dense"}


def test_routers_that_are_written_as_linear_layers_get_none() -> None:
    network = bare("phimoe", num_local_experts=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=8)
    assert "router" not in adaptable_layers(network)


# -- the model itself ----------------------------------------------------------------------------------


def saved(tiny_settings: list[str], folder: Path, name: str, targets: str, **settings: Any) -> list[str]:
    """Settings of a run on a random model with the tiny one's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(load_config(overrides=tiny_settings).model.name)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **sizes, **settings)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    adapted = [f"{section}.lora.targets=[{targets}]" for section in ("policy", "finetune")]
    return [*tiny_settings, f"model.name={folder}", *adapted]


def test_a_model_that_looks_ahead_is_refused_before_anything_is_written(
    tiny_settings: list[str], tmp_path: Path
) -> None:
    settings = saved(tiny_settings, tmp_path / "m", "bert", "query", intermediate_size=24)
    with pytest.raises(UsageError, match=r"m, a BertLMHeadModel, looks at what comes after a token"):
        Run(load_config(overrides=settings), tmp_path / "run").execute()
    assert not (tmp_path / "run").exists()


def test_settings_that_can_compute_nothing_are_told_in_one_line(tiny_settings: list[str], tmp_path: Path) -> None:
    settings = saved(tiny_settings, tmp_path / "m", "gptj", "q_proj", rotary_dim=64, n_positions=64)
    with pytest.raises(UsageError, match=r"m can't read a text \(.*\): a GPTJForCausalLM of these settings"):
        Run(load_config(overrides=settings), tmp_path / "run").execute()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_groups_train_every_model_that_ppo_trains(algorithm: str, tiny_settings: list[str], tmp_path: Path) -> None:
    """GPT-2 counts positions from the first column, which padding on the left would shift."""
    settings = saved(tiny_settings, tmp_path / "m", "gpt2", "c_attn")
    shape = ["policy.group_size=2", "policy.minibatch=2", "policy.micro_batch=2"]
    config = load_config(overrides=[*settings, *shape, f"policy.algorithm={algorithm}"])
    try_model(Parts(config, tmp_path))


def test_an_evaluation_of_a_model_that_looks_ahead_leaves_no_folder(tiny_settings: list[str], tmp_path: Path) -> None:
    saved(tiny_settings, tmp_path / "m", "bert", "query", intermediate_size=24)
    (tmp_path / "t.jsonl").write_text('{"task": "a", "instruction": "Name a colour.", "references": ["Blue"]}\n')
    given = [str(tmp_path / "m"), "--tasks", str(tmp_path / "t.jsonl"), "--out", str(tmp_path / "e")]
    shown = CliRunner().invoke(app, ["evaluate", *given])
    assert "looks at what comes after a token" in str(shown.exception)
    assert not (tmp_path / "e").exists()
