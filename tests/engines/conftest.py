"""The two engines on the tiny model, in float32, and the network that they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from engine_cases import ENGINES, GREEDY, PROMPTS, EnginePair, Made, adapt, config_of, written
from transformers import AutoModelForCausalLM, AutoTokenizer

from refine_af.engines.base import Completion, Engine
from refine_af.parts import Parts


@pytest.fixture(scope="session")
def tiny_model(wordy_models: tuple[Path, Path]) -> Path:
    """Weights whose greedy completions are long and differ."""
    return wordy_models[0]


@pytest.fixture(scope="session")
def tiny_base_model(wordy_models: tuple[Path, Path]) -> Path:
    return wordy_models[1]


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Parts of the tiny model for an engine, with float32 weights."""

    def make(engine: str, *, model: Path = tiny_model, batch_size: int = 32, threads: int = 1) -> Parts:
        return Parts(config_of(model, engine, batch_size, threads), tmp_path_factory.mktemp("scratch"))

    return make


@pytest.fixture(scope="module")
def both(made: Made) -> EnginePair:
    return made("ctranslate2").initial_engine, made("transformers").initial_engine


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, made: Made) -> Engine:
    return made(request.param).initial_engine


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> tuple[Any, Any]:
    """The network and the tokenizer, loaded without the product."""
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    adapt(AutoModelForCausalLM.from_pretrained(tiny_model)).save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture(scope="module")
def adapted_text(made: Made) -> Sequence[Completion]:
    """What the network writes greedily with the adapter in place."""
    parts = made("transformers")
    adapt(parts.network)
    return written(parts.shared_engine(adapter=True), PROMPTS, GREEDY, seed=0)
