"""What stages share and what is dear to load: tokenizer, engines, network, feedback. Made when first used."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from refine_af.config import Config
from refine_af.engines.base import Engine
from refine_af.errors import UsageError
from refine_af.feedback.base import Example, Feedback
from refine_af.models import (
    LocatedModel,
    build_once,
    cache_folder,
    load_model,
    load_tokenizer,
    locate,
    torch_device,
    torch_dtype,
)
from refine_af.planning.hardware import usable_cores
from refine_af.prompts.answers import answer_frame
from refine_af.prompts.dialect import Dialect

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Parts:
    """The parts of one run, for one config; ``scratch`` is a folder for what a process needs and nobody keeps."""

    def __init__(self, config: Config, scratch: Path) -> None:
        self._config = config
        self._scratch = scratch
        self._feedback: Feedback | None = None

    @property
    def threads(self) -> int:
        return self._config.threads or usable_cores()

    @cached_property
    def located(self) -> LocatedModel:
        return locate(self._config.model)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.located)

    @cached_property
    def dialect(self) -> Dialect:
        return Dialect(self.tokenizer)

    @cached_property
    def network(self) -> PreTrainedModel:
        """The model in torch. Adapters are put on it to be trained and taken off again; its weights never change."""
        return self._fresh_network()

    def _fresh_network(self) -> PreTrainedModel:
        import torch

        torch.set_num_threads(self.threads)
        return load_model(self.located, self._config.model)

    @cached_property
    def engine_name(self) -> str:
        """The engine that "auto" stands for: ctranslate2 on a CPU where it knows the architecture."""
        asked = self._config.model.engine
        if asked == "transformers":
            return asked
        from transformers import AutoConfig

        from refine_af.engines.ctranslate2 import can_convert

        architecture = type(AutoConfig.from_pretrained(self.located.folder)).__name__
        convertible = can_convert(architecture)
        if asked == "ctranslate2" and not convertible:
            raise UsageError(f"ctranslate2 doesn't know the architecture {architecture}; set model.engine=transformers")
        on_cpu = asked == "ctranslate2" or torch_device(self._config.model) == "cpu"
        return "ctranslate2" if convertible and on_cpu else "transformers"

    @cached_property
    def initial_engine(self) -> Engine:
        """The untouched model's engine: the initial policy, the reference of the likelihoods, the base."""
        if self.engine_name == "transformers":
            return self.shared_engine(adapter=False)
        # The weights are quantised from what torch loads, so its precision is a part of theirs.
        dtype = str(torch_dtype(self._config.model)).removeprefix("torch.")
        precision = f"{dtype}-{self._config.model.quantization}"
        folder = build_once(
            cache_folder() / "ctranslate2" / f"{self.located.label}-{self.located.identity}-{precision}",
            lambda to: self._convert(self._fresh_network(), to),
        )
        return self._ctranslate2_engine(folder)

    @contextmanager
    def adapted_engine(self, adapter: Path) -> Iterator[Engine]:
        """The model with the LoRA adapter of a folder, while the context lasts."""
        from peft import PeftModel

        if self.engine_name == "transformers":
            adapted = PeftModel.from_pretrained(self.network, str(adapter))
            try:
                yield self.shared_engine(adapter=True)
            finally:
                adapted.unload()
            return
        merged = PeftModel.from_pretrained(self._fresh_network(), str(adapter)).merge_and_unload()
        folder = self._scratch / "engine"
        shutil.rmtree(folder, ignore_errors=True)
        self._convert(merged, folder)
        del merged
        try:
            yield self._ctranslate2_engine(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def shared_engine(self, *, adapter: bool) -> Engine:
        """The transformers engine on :attr:`network`, with the adapter that is on it or with that switched off."""
        from refine_af.engines.transformers import TransformersEngine

        return TransformersEngine(
            self.network,
            self.tokenizer,
            model=self.located.label,
            batch_size=self._config.model.batch_size,
            adapter=adapter,
        )

    def _convert(self, network: PreTrainedModel, folder: Path) -> None:
        from refine_af.engines.ctranslate2 import convert

        convert(network, self.tokenizer, folder, self._config.model.quantization)

    def _ctranslate2_engine(self, folder: Path) -> Engine:
        from refine_af.engines.ctranslate2 import CTranslate2Engine

        return CTranslate2Engine(
            folder,
            self.tokenizer,
            model=self.located.label,
            batch_size=self._config.model.batch_size,
            threads=self.threads,
        )

    def feedback(self, seeds: list[Example]) -> Feedback:
        """The reward that the config names; ``seeds`` are pairs by people, for calibration. Made once."""
        if self._feedback is None:
            self._feedback = self._made_feedback(seeds)
        return self._feedback

    def _made_feedback(self, seeds: list[Example]) -> Feedback:
        config = self._config.feedback
        if config.name == "embedded":
            from refine_af.feedback.embedded import embedded_feedback

            return embedded_feedback(self.initial_engine, answer_frame(self.dialect), seeds, config.weights)
        if config.name == "instructmining_v2":
            from refine_af.feedback.instructmining import load_instructmining_v2

            return load_instructmining_v2(config, torch_device(self._config.model))
        from refine_af.feedback.custom import load_custom

        return load_custom(config.name)
