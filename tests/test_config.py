"""Promises of the configuration: presets load, mistakes are named in one line, what is written is read back."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from refine_af.config import PRESETS, Config, as_yaml, differences, load_config
from refine_af.errors import UsageError


def config_file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads_and_is_read_back_from_its_yaml(tmp_path: Path, name: str) -> None:
    config = load_config(preset=name)
    assert load_config(config_file(tmp_path, as_yaml(config))) == config


def test_the_papers_presets_are_its_models_and_numbers() -> None:
    names = {name: load_config(preset=name) for name in PRESETS if name.startswith("paper-")}
    assert {c.model.name for c in names.values()} == {
        "meta-llama/Llama-2-7b-hf",
        "meta-llama/Llama-2-13b-hf",
        "mistralai/Mistral-7B-v0.1",
    }
    assert sum(c.instructions.target for c in names.values()) == 45_000
    assert {c.feedback.name for c in names.values()} == {"instructmining_v2"}


def test_with_nothing_asked_the_embedded_preset_is_meant() -> None:
    assert load_config() == load_config(preset="embedded")
    assert load_config().model.name == "embedded"


def test_a_file_is_laid_over_the_preset_that_it_names(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, "preset: embedded\npolicy: {lora: {rank: 2}}\n"))
    assert config.policy.lora.rank == 2
    assert config.policy.lora.alpha == load_config(preset="embedded").policy.lora.alpha
    assert config.instructions == load_config(preset="embedded").instructions


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_a_file_without_options_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert load_config(config_file(tmp_path, text)) == Config()


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("seed=7", "seed", 7),
        ("policy.learning_rate=1e-4", "policy.learning_rate", 1e-4),
        ("policy.learning_rate=1.5E-05", "policy.learning_rate", 1.5e-5),
        ("policy.learning_rate=0.25", "policy.learning_rate", 0.25),
        ("policy.lora.rank=4", "policy.lora.rank", 4),
        ("policy.lora.targets=[q_proj, k_proj]", "policy.lora.targets", ["q_proj", "k_proj"]),
        ("policy.lora={rank: 4, alpha: 8}", "policy.lora.alpha", 8),
        ("feedback.weights.pmi=0.5", "feedback.weights.pmi", 0.5),
        ("feedback.weights={pmi: 1, variety: 0}", "feedback.weights", {"pmi": 1.0, "variety": 0.0}),
        ("instances.min_reward=-0.5", "instances.min_reward", -0.5),
        ("instances.min_reward=null", "instances.min_reward", None),
        ("model.name=some/model=x", "model.name", "some/model=x"),
        ("model.name=./a b", "model.name", "./a b"),
        ("model.revision='1234567'", "model.revision", "1234567"),
        ("model.revision='12e4567'", "model.revision", "12e4567"),
        (' policy.iterations = 3', "policy.iterations", 3),
    ],
)  # fmt: skip
def test_set_reads_yaml_values_under_dotted_keys(override: str, key: str, expected: Any) -> None:
    value: Any = load_config(overrides=[override]).model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    assert value == expected


@pytest.mark.parametrize("name", ["tasks.jsonl", "2024", "1e5", "nan", "true", "täsks.jsonl", "😀.jsonl", "a: b #c"])
def test_any_file_name_can_be_given_as_a_quoted_value(name: str) -> None:
    for quoted in (json.dumps(name, ensure_ascii=False), "'" + name + "'"):
        assert load_config(overrides=[f"seeds.path={quoted}"]).seeds.path == name


def test_a_later_set_wins_and_leaves_its_neighbours(tmp_path: Path) -> None:
    file = config_file(tmp_path, "policy: {iterations: 1, rollouts: 6}")
    policy = load_config(file, overrides=["policy.iterations=2", "policy.iterations=3"]).policy
    assert (policy.iterations, policy.rollouts) == (3, 6)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("policy=3", "option policy in .* holds options of its own, such as policy.algorithm; found 3$"),
        ("policy.lora=[1]", "option policy.lora in .* such as policy.lora.rank; found \\[1\\]$"),
        ("feedback.weights=3", "must hold names and values, as in {name: value}, found 3$"),
        (
            "experiment.arms=[3]",
            "option experiment.arms.0 .*: must hold names and values, as in {name: value}, found 3$",
        ),
        ("feedback.weights={likelihood:1}", "found None; write a space after ':'$"),
        ("policy.value_clip_range=0.2", "option policy.value_clip_range in .* was removed from refine-af: delete it$"),
        ("policy={iterations:3}", "unknown option 'policy.iterations:3' in .*; write a space after ':'; known there: "),
        ("feedback.scorers={likelihood:3}", "; write a space after ':'$"),
    ],
)
def test_a_value_in_place_of_options_and_a_missing_space_are_told(override: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_config(overrides=[override])


@pytest.mark.parametrize("override", ["seed", "=3", "", " =3"])
def test_a_set_without_key_or_value_is_refused(override: str) -> None:
    with pytest.raises(UsageError, match="must read key=value"):
        load_config(overrides=[override])


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("sed=1", "'seed'"),
        ("polcy=1", "'policy'"),
        ("policy.iteration=1", "'iterations'"),
        ("policy.lora.rnak=1", "'rank'"),
        ("instructions.sampling.temprature=1", "'temperature'"),
    ],
)
def test_an_unknown_key_is_named_in_full_with_the_nearest_known_one(override: str, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(overrides=[override])
    message = str(caught.value)
    assert f"unknown option {override.split('=')[0]!r}" in message
    assert f"did you mean {nearest}?" in message
    assert "known there: " in message


def test_an_unknown_key_like_no_other_is_told_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"unknown option 'policy\.zzz'") as caught:
        load_config(overrides=["policy.zzz=1"])
    assert "did you mean" not in str(caught.value)
    assert "iterations, rollouts" in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "seed=-1", "seed=1.5", "seed=x", "seeds.held_out=1.1", "seeds.held_out=-0.1", "policy.rollouts=1",
        "policy.learning_rate=0", "policy.learning_rate=1", "policy.learning_rate=nan", "policy.clip_range=1",
        "policy.gamma=0", "policy.algorithm=dpo", "policy.lora.targets=[]", "policy.lora.rank=0",
        "instructions.novelty_threshold=0", "instructions.novelty_threshold=1.01", "instructions.demonstrations=16",
        "instances.per_instruction=6", "instances.sampling.temperature=-1", "instances.sampling.top_p=0",
        "instances.sampling.repetition_penalty=0.9", "evaluation.cut=word", "model.name=''", "model.engine=tgi",
        "policy=3", "policy.iterations=", "seed.x=1",
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_told_with_its_key_in_one_line(override: str) -> None:
    key = override.split("=")[0].removesuffix(".x")
    with pytest.raises(UsageError, match=f"option {key}") as caught:
        load_config(overrides=[override])
    assert "found" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    [
        "policy.fault_penalty=inf",
        "policy.kl_coefficient=inf",
        "policy.kl_target=inf",
        "instances.min_reward=nan",
    ],
)
def test_a_number_that_is_not_finite_is_refused(override: str) -> None:
    with pytest.raises(UsageError, match="option"):
        load_config(overrides=[override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seed: 1\nmodel: [", "line 2 is not YAML"),
        ("seed: 1\n\tmodel: 2", "line 2 is not YAML"),
        ("- seed", "must be a mapping"),
        ("seed", "must be a mapping"),
        ("1: 2", "option 1"),
        ("preset: embeded", "no preset 'embeded', did you mean 'embedded'"),
        (b"seed: \xff", "not UTF-8"),
        ("seed: 1\n\x07", "is not YAML"),
        ("instructions: {target: 5}\ninstructions: {min_words: 3}", "line 2 is not YAML: instructions stands twice"),
        ("policy:\n  iterations: 1\n  kind: x\n  iterations: 2", "line 4 is not YAML: iterations stands twice"),
        ("seed: 2024-02-30", "is not YAML: a value can't be read .day is out of range for month"),
        (f"seed: {'1' * 5000}", "is not YAML: a value can't be read .Exceeds the limit"),
        ("seed: !!int x", "is not YAML: a value can't be read"),
        ("[" * 20_000, "line 1 is not YAML: more than 100 lists or mappings in one another"),
        ("seed: -1", "option seed"),
        ("instructions: {target: yes}", "option instructions.target in .*: must be a number, found True"),
        ("policy: {kl_coefficient: on}", "option policy.kl_coefficient in .*: must be a number, found True"),
        ("policy: {importance_cap: true}", "option policy.importance_cap in .*: must be a number, found True"),
        ("policy: {report_to: wandb}", r"policy.report_to in .*: must be a list, as in \[one, two\], found"),
        (
            "policy: {lora: {targets: []}}",
            "policy.lora.targets in .*: the list should have at least 1 item, not 0, found",
        ),
        ("feedback: {name: no}", "feedback.name in .*: must be text; put yes, no, on and off in quotes, found False"),
        ("policy: {lora: {rnak: 1}}", "did you mean 'rank'"),
    ],
)
def test_a_fault_in_a_file_is_one_line_that_names_the_file(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_config(config_file(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert "preset" in message or "config.yaml" in str(caught.value)


def test_anchors_that_nest_in_one_another_are_one_short_line(tmp_path: Path) -> None:
    lines = ["a0: &a0 x"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)] + ["seed: *a11"]
    with pytest.raises(UsageError) as caught:
        load_config(config_file(tmp_path, "\n".join(lines)))
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("override", ["policy={iterations: 1, iterations: 2}", "policy.lora={rank: 1, rank: 2}"])
def test_a_key_that_stands_twice_in_set_is_told(override: str) -> None:
    with pytest.raises(UsageError, match=r"^--set .* is not YAML: (iterations|rank) stands twice; keep one of them"):
        load_config(overrides=[override])


@pytest.mark.parametrize("sign", ["\n", "[", "1", '"', "{", "- "])
def test_a_long_file_of_one_sign_is_read_or_refused_in_no_time(sign: str, tmp_path: Path) -> None:
    path, started = config_file(tmp_path, sign * (100_000 // len(sign))), time.process_time()
    with suppress(UsageError):
        load_config(path)
    assert time.process_time() - started < 0.05


def test_anchors_and_merge_keys_are_yaml(tmp_path: Path) -> None:
    text = "finetune: {lora: &lora {rank: 4, alpha: 8}}\npolicy: {lora: {<<: *lora, rank: 2}}"
    config = load_config(config_file(tmp_path, text))
    assert (config.policy.lora.rank, config.policy.lora.alpha, config.finetune.lora.rank) == (2, 8, 4)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there; `refine-af config init`"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UsageError, match="can't be read"):
        load_config(tmp_path)


def test_file_and_preset_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        load_config(config_file(tmp_path, ""), preset="embedded")


def test_an_unknown_preset_is_told_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no preset 'paper-llama-7b', did you mean 'paper-llama2-7b'") as caught:
        load_config(preset="paper-llama-7b")
    assert all(name in str(caught.value) for name in PRESETS)


@pytest.mark.parametrize("path", ["1e5", "null", "yes", "a\nb", "x" * 300, "ünï 😀.jsonl", "'\"#:", "\u2028"])
def test_yaml_gives_back_any_text(tmp_path: Path, path: str) -> None:
    config = Config.model_validate({"seeds": {"path": path}, "policy": {"learning_rate": 1e-5}})
    assert load_config(config_file(tmp_path, as_yaml(config))) == config


def test_the_yaml_shows_every_option() -> None:
    assert yaml.safe_load(as_yaml(Config())) == Config().model_dump(mode="json")


def test_every_option_has_a_line_of_help() -> None:
    def undescribed(section: Any, prefix: str = "") -> list[str]:
        missing = []
        for name, field in section.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                missing += undescribed(field.annotation, f"{prefix}{name}.")
            elif not field.description:
                missing.append(prefix + name)
        return missing

    assert undescribed(Config) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {}, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 -> 2"]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c: 1 -> 2"]),
        ({"a": 1}, {}, ["a: 1 -> None"]),
        ({}, {"a": {"b": 1}}, ["a: None -> {'b': 1}"]),
        ({"a": [1]}, {"a": [2]}, ["a: [1] -> [2]"]),
        ({"a": 1, "b": 1}, {"b": 2, "c": 3}, ["a: 1 -> None", "b: 1 -> 2", "c: None -> 3"]),
    ],
)
def test_differences_are_lines_of_dotted_keys(old: dict[str, Any], new: dict[str, Any], expected: list[str]) -> None:
    assert differences(old, new) == expected


def test_a_config_differs_from_its_own_json_in_nothing() -> None:
    for name in PRESETS:
        dumped = load_config(preset=name).model_dump(mode="json")
        assert differences(json.loads(json.dumps(dumped)), dumped) == []


@pytest.mark.parametrize(("given", "language"), [("zh", "zh"), ("no", "no"), ("pt-BR", "pt-BR"), ('"no"', "no")])
def test_a_language_is_a_code(given: str, language: str) -> None:
    config = load_config(overrides=[f"language={given}"])
    assert config.language == language
    assert not config.reads.is_english


@pytest.mark.parametrize("given", ["Chinese", "7", "[zh]", "null"])
def test_what_is_no_language_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match="option language"):
        load_config(overrides=[f"language={given}"])
