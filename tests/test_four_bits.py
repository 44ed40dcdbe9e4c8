"""A base whose weights have four bits: the whole way on it, with the adapters of training on top."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from refine_af.config import Config, ModelConfig
from refine_af.errors import UsageError
from refine_af.models import check_model
from refine_af.parts import Parts
from refine_af.run import Run, open_run


@pytest.fixture(scope="module")
def whole(tiny_config: Config, tiny_wide_model: Path) -> Config:
    values = tiny_config.model_dump()
    return Config.model_validate(values | {"model": values["model"] | {"name": str(tiny_wide_model)}})


@pytest.fixture(scope="module")
def config(whole: Config) -> Config:
    values = whole.model_dump()
    return Config.model_validate(values | {"model": values["model"] | {"dtype": "nf4", "engine": "auto"}})


def test_a_run_trains_and_writes_on_a_quantised_base(config: Config, tmp_path: Path) -> None:
    Run(config, tmp_path / "run").execute()
    with open_run(tmp_path / "run") as store:
        assert {row["model"] for row in store.query("SELECT DISTINCT model FROM instances")}
        assert store.metric("policy", "held_out_readable_difference")
        # An iteration whose rewards are all alike has no gradient.
        differ = (
            "SELECT iteration FROM rollouts WHERE split = 'train' GROUP BY iteration HAVING COUNT(DISTINCT reward) > 1"
        )
        told = {row["iteration"] for row in store.query(differ)}
        norms = dict(store.metric("policy", "gradient_norm"))
        assert told
        assert all(norms[iteration] > 0 for iteration in told), "it is learnt through the base"
    for adapter in ("policy", "model"):
        weights = load_file(tmp_path / "run" / adapter / "adapter_model.safetensors")
        assert all(torch.isfinite(one).all() for one in weights.values())
        assert any(one.abs().max() > 0 for name, one in weights.items() if "lora_B" in name)


def test_the_quantised_network_is_smaller_and_close_to_the_whole_one(
    config: Config, whole: Config, tmp_path: Path
) -> None:
    texts = [("What is it?", " A bird."), ("Say no.", " No, thank you.")]
    small, large = Parts(config, tmp_path / "a"), Parts(whole, tmp_path / "b")
    assert small.engine_name == "transformers"
    assert small.precision == "nf4-float32"
    assert small.network.get_memory_footprint() < large.network.get_memory_footprint()
    ours, theirs = (parts.shared_engine(adapter=False).log_probs(texts) for parts in (small, large))
    for one, other in zip(ours, theirs, strict=True):
        assert float(abs(one - other).mean()) < 0.5, "nats a token"


def test_it_is_not_ctranslate2s() -> None:
    with pytest.raises(ValidationError, match="ctranslate2 has weights of its own"):
        ModelConfig(dtype="nf4", engine="ctranslate2")


def test_without_the_package_it_is_told_how_to_get_it(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "bitsandbytes" else there(name, *rest)
    )
    with pytest.raises(UsageError, match="pip install bitsandbytes"):
        check_model(config.model)
