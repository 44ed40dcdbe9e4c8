"""Engines and adapters: on the network or from a folder, merged exactly, and never left behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_cases import ENGINES, GREEDY, PROMPTS, SCORED, EnginePair, Made, adapt, config_of, written
from peft import PeftModel
from transformers import AutoModelForCausalLM

from refine_af.engines.base import Completion
from refine_af.engines.transformers import TransformersEngine
from refine_af.parts import Parts


def test_the_engine_without_adapter_ignores_the_one_on_the_network(
    made: Made, adapted_text: Sequence[Completion], both: EnginePair
) -> None:
    untouched = written(both[1], PROMPTS, GREEDY, seed=0)
    assert adapted_text != untouched
    parts = made("transformers")
    adapt(parts.network)
    without, with_it = parts.shared_engine(adapter=False), parts.shared_engine(adapter=True)
    assert written(without, PROMPTS, GREEDY, seed=0) == untouched
    assert written(with_it, PROMPTS, GREEDY, seed=0) == adapted_text, "it is switched on again afterwards"
    untouched_scores = both[1].log_probs(SCORED)
    assert all(map(np.array_equal, without.log_probs(SCORED), untouched_scores))
    assert not all(map(np.array_equal, with_it.log_probs(SCORED), untouched_scores))


@pytest.mark.parametrize("name", ENGINES)
def test_an_adapter_from_a_folder_writes_as_the_network_with_it_in_place(
    name: str, made: Made, adapter: Path, adapted_text: Sequence[Completion], both: EnginePair
) -> None:
    parts = made(name)
    for _ in range(2):
        with parts.adapted_engine(adapter) as engine:
            assert written(engine, PROMPTS, GREEDY, seed=0) == adapted_text
    assert written(parts.initial_engine, PROMPTS, GREEDY, seed=0) == written(both[1], PROMPTS, GREEDY, seed=0)


def test_where_torch_trains_in_bfloat16_an_adapter_is_merged_in_float32(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    config = config_of(tiny_model, "ctranslate2", 32, 1)
    parts = Parts(
        config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})}), tmp_path / "scratch"
    )
    network = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).float().eval()
    beside = PeftModel.from_pretrained(network, str(adapter))
    engine = TransformersEngine(beside, parts.tokenizer, model="tiny", ends=parts.ends, batch_size=32, adapter=True)
    expected = engine.log_probs(SCORED)
    with parts.adapted_engine(adapter) as engine:
        found = engine.log_probs(SCORED)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=2e-4)


def test_an_adapter_from_a_folder_leaves_the_shared_network_bit_for_bit(made: Made, adapter: Path) -> None:
    parts = made("transformers")
    before = {name: value.clone() for name, value in parts.network.state_dict().items()}
    with parts.adapted_engine(adapter) as engine:
        written(engine, PROMPTS, GREEDY, seed=0)
    after = parts.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(p.requires_grad for p in parts.network.parameters())


@pytest.mark.parametrize("name", ENGINES)
def test_the_weights_of_a_run_do_not_depend_on_the_precision_of_a_run_before(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was converted from bfloat16 weights is no conversion of the float32 ones."""

    def scores(dtype: str) -> list[float]:
        config = config_of(tiny_model, name, 32, 1)
        config = config.model_copy(update={"model": config.model.model_copy(update={"dtype": dtype})})
        return [float(one.sum()) for one in Parts(config, tmp_path / "scratch").initial_engine.log_probs(SCORED)]

    monkeypatch.setenv("REFINE_AF_CACHE", str(tmp_path / "one"))
    expected = scores("float32")
    monkeypatch.setenv("REFINE_AF_CACHE", str(tmp_path / "other"))
    assert scores("bfloat16") != pytest.approx(expected, abs=1e-3)
    assert scores("float32") == pytest.approx(expected, abs=1e-5)
