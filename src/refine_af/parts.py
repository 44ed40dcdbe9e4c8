"""What stages share and what is dear to load: tokenizer, engines, network, feedback. Made when first used."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from refine_af.config import Config, ScorerConfig, ServerConfig
from refine_af.ends import Ends, find_ends
from refine_af.engines.base import Engine
from refine_af.environment import give_back_memory
from refine_af.errors import UsageError
from refine_af.feedback.base import Example, Scorer
from refine_af.loading import load_model, load_tokenizer, torch_device, torch_dtype
from refine_af.model_settings import model_settings
from refine_af.models import LocatedModel, build_once, cache_folder, locate
from refine_af.planning.hardware import usable_cores
from refine_af.prompts.dialect import Dialect
from refine_af.weights import check_embeddings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from refine_af.endpoint import Endpoint
    from refine_af.engines.fused import MakeProduct
    from refine_af.engines.vllm import VllmServer
    from refine_af.feedback.catalogue import Workshop
    from refine_af.feedback.composite import Composite
    from refine_af.feedback.embedding import Embedder
    from refine_af.store import Store


class Parts:
    """The parts of one run, for one config; ``scratch`` is a folder for what a process needs and nobody keeps.
    ``tokenizer_folder``: whose tokenizer speaks to the model, where it isn't the model's own."""

    def __init__(self, config: Config, scratch: Path, tokenizer_folder: Path | None = None) -> None:
        self.config = config
        self._scratch = scratch
        self._tokenizer_folder = tokenizer_folder
        self._feedback: Composite | None = None
        self._witness: Scorer | None = None
        self._workshop: Workshop | None = None

    def with_model(self, name: str, revision: str | None) -> Parts:
        """The parts of another model, on the same device and with the same precision; these where it is the same."""
        model = self.config.model
        if (name, revision) == (model.name, model.revision):
            return self
        changed: dict[str, object] = {"name": name, "revision": revision}
        if model.engine == "vllm":  # its server has the run's model alone
            changed |= {"engine": "auto", "server": ServerConfig()}
        other = model.model_copy(update=changed)
        return Parts(self.config.model_copy(update={"model": other}), self._scratch)

    def with_config(self, config: Config) -> Parts:
        """These parts for a config that differs in its seed or its feedback, and in nothing that decides what is loaded
        of the model. What is loaded is shared; the reward, with its anchors and its calibration, is made anew."""
        other = copy(self)
        other.config = config
        other._feedback = other._witness = other._workshop = None
        return other

    @property
    def threads(self) -> int:
        return self.config.threads or usable_cores()

    @cached_property
    def located(self) -> LocatedModel:
        return locate(self.config.model)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer = load_tokenizer(self.located, self._tokenizer_folder)
        if self.config.model.chat_template == "none":
            tokenizer.chat_template = None
        return tokenizer

    @cached_property
    def ends(self) -> Ends:
        return find_ends(self.located.folder, self.tokenizer)

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
        network = load_model(self.located, self.config.model)
        check_embeddings(self.located.label, network, self.tokenizer.get_vocab().values())
        return network

    def _network_to_convert(self) -> PreTrainedModel:
        """In float32, whatever torch trains in: CTranslate2 computes in it beside int8 on a CPU, and in bfloat16 a
        merged adapter would be rounded away."""
        return self._fresh_network().float()

    @cached_property
    def engine_name(self) -> str:
        """What generates."""
        if self.config.model.engine != "ctranslate2":
            return "vllm" if self.config.model.engine == "vllm" else "transformers"
        from refine_af.engines.ctranslate2 import can_convert

        architecture = type(model_settings(self.located.folder)).__name__
        if not can_convert(architecture):
            raise UsageError(f"ctranslate2 doesn't know the architecture {architecture}; set model.engine=transformers")
        return "ctranslate2"

    @property
    def computes_int8(self) -> bool:
        """Whether torch computes in int8 what is not trained: engines' copies, and the embedded encoder."""
        from refine_af.engines.int8 import computes_int8

        return self.config.model.is_rounded(cpu=torch_device(self.config.model) == "cpu") and computes_int8()

    @property
    def product(self) -> MakeProduct | None:
        """What the linear layers of the copy are that a transformers engine works on; None where there is no copy."""
        from refine_af.engines.int8 import Int8Product
        from refine_af.engines.packed import PackedProduct, can_pack

        if self.computes_int8:
            return Int8Product
        cpu = torch_device(self.config.model) == "cpu"
        if can_pack() and self.config.model.is_packed(self.network.num_parameters(), cpu=cpu):
            return PackedProduct
        return None

    @cached_property
    def initial_engine(self) -> Engine:
        """The untouched model's engine: the initial policy, the reference of the likelihoods, the base."""
        if self.engine_name == "transformers":
            return self._reading_engine
        if self.engine_name == "vllm":
            return self._vllm_engine(self._server.endpoint, lambda: self._reading_engine)
        folder = build_once(
            cache_folder() / "ctranslate2" / f"{self.located.label}-{self.located.identity}-{self.precision}",
            lambda to: self._convert(self._network_to_convert(), to),
        )
        return self._ctranslate2_engine(folder)

    @cached_property
    def _reading_engine(self) -> Engine:
        """Of the untouched model in torch: one, since each may have a copy."""
        return self.shared_engine(adapter=False)

    @property
    def engine_identity(self) -> str:
        """Changes with all that the untouched model's likelihoods depend on: weights, engine, device and precision."""
        device = torch_device(self.config.model)
        reader = "ctranslate2" if self.engine_name == "ctranslate2" else "transformers"
        return f"{self.located.identity} {reader} {device} {self.precision}"

    @property
    def network_identity(self) -> str:
        """Changes with all that gradients of the untouched model depend on."""
        model = self.config.model
        dtype = "nf4" if model.dtype == "nf4" else str(torch_dtype(model)).removeprefix("torch.")
        return f"{self.located.identity} {torch_device(model)} {dtype}"

    @property
    def precision(self) -> str:
        """What likelihoods are computed in, and completions too unless a server makes them."""
        dtype = str(torch_dtype(self.config.model)).removeprefix("torch.")
        if self.config.model.dtype == "nf4":
            return f"nf4-{dtype}"
        # What is rounded is what torch loads, so its precision is a part of the engine's.
        if self.engine_name != "ctranslate2":
            return f"{dtype}-int8" if self.computes_int8 else dtype
        return f"{dtype}-{self.config.model.quantization}"

    @contextmanager
    def adapted_engine(self, adapter: Path | None) -> Iterator[Engine]:
        """The model with the LoRA adapter of a folder, while the context lasts; without one, the untouched model."""
        if adapter is None:
            yield self.initial_engine
            return
        if self.engine_name == "vllm":
            with self._server.adapter(adapter) as endpoint:
                yield self._vllm_engine(endpoint, None)
            return
        if self.engine_name == "transformers":
            with self._adapted_network(adapter) as engine:
                yield engine
            return
        from refine_af.adapters import merged

        network = merged(self._network_to_convert(), adapter)
        folder = self._scratch / "engine"
        shutil.rmtree(folder, ignore_errors=True)
        self._convert(network, folder)
        del network
        try:
            yield self._ctranslate2_engine(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            give_back_memory()  # the copy that was merged, and what the engine generated with

    @contextmanager
    def reading(self, engine: Engine, adapter: Path | None) -> Iterator[Engine]:
        """What reads likelihoods with the adapter, given :meth:`adapted_engine`'s engine: that itself, or one in torch
        where a server writes, which tells none."""
        if adapter is None or self.engine_name != "vllm":
            yield engine
            return
        with self._adapted_network(adapter) as reader:
            yield reader

    @contextmanager
    def _adapted_network(self, adapter: Path) -> Iterator[Engine]:
        """The transformers engine with the adapter, which is on :attr:`network` while the context lasts."""
        from refine_af.adapters import put_on

        adapted = put_on(self.network, adapter)
        try:
            yield self.shared_engine(adapter=True)
        finally:
            adapted.unload()

    def shared_engine(self, *, adapter: bool) -> Engine:
        """The transformers engine on :attr:`network`, with the adapter that is on it (where the engine works on a copy:
        when it is first asked) or with that switched off."""
        from refine_af.engines.transformers import TransformersEngine

        return TransformersEngine(
            self.network,
            self.tokenizer,
            model=self.located.label,
            ends=self.ends,
            batch_size=self.config.model.batch_size,
            adapter=adapter,
            product=self.product,
        )

    def _convert(self, network: PreTrainedModel, folder: Path) -> None:
        from refine_af.engines.ctranslate2 import convert

        convert(network, self.tokenizer, folder, self.config.model.quantization)

    def _ctranslate2_engine(self, folder: Path) -> Engine:
        from refine_af.engines.ctranslate2 import CTranslate2Engine

        return CTranslate2Engine(
            folder,
            self.tokenizer,
            model=self.located.label,
            ends=self.ends,
            batch_size=self.config.model.batch_size,
            threads=self.threads,
        )

    @cached_property
    def _server(self) -> VllmServer:
        from refine_af.engines.vllm import VllmServer

        server = VllmServer(self.config.model)
        server.check_tokens(self.tokenizer)
        return server

    def _vllm_engine(self, endpoint: Endpoint, reader: Callable[[], Engine] | None) -> Engine:
        from refine_af.engines.vllm import VllmEngine

        return VllmEngine(endpoint, self.tokenizer, model=self.located.label, ends=self.ends, reader=reader)

    @cached_property
    def encoder(self) -> Embedder:
        """The embedded sentence encoder. What rounding does was measured for it alone."""
        import torch

        from refine_af.feedback.embedding import Embedder

        torch.set_num_threads(self.threads)
        return Embedder(device=torch_device(self.config.model), int8=self.computes_int8)

    def feedback(self, seeds: list[Example], memory: Store | None = None) -> Composite:
        """The reward that the config names, made once; ``seeds`` are pairs by people, for calibration. Scores that the
        memory holds are not computed again."""
        if self._feedback is None:
            from refine_af.feedback.make import make_feedback

            made = make_feedback(self._workshop_for(seeds, memory))
            self._feedback = made if memory is None else made.remembering(memory)
        return self._feedback

    def witness(self, seeds: list[Example], memory: Store) -> Scorer:
        """The scorer ``policy.guards.witness``, made once."""
        if self._witness is None:
            from refine_af.feedback.catalogue import make_scorer

            name = self.config.policy.guards.witness
            assert name is not None
            self._witness = make_scorer(self._workshop_for(seeds, memory), name, ScorerConfig())
        return self._witness

    def _workshop_for(self, seeds: list[Example], memory: Store | None) -> Workshop:
        """One for reward and witness, so that a model that both read with is loaded once."""
        from refine_af.feedback.catalogue import Workshop

        if self._workshop is None:
            self._workshop = Workshop(self, seeds, memory)
        return self._workshop
