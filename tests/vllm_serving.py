"""A server that answers as vLLM 0.32 was seen to, with a real model behind it that transformers computes.

It is told nothing of the product: it decodes token by token from token ids, stops at strings as vLLM does, and reads
adapters from folders with peft.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

Answer = tuple[int, Any, dict[str, str]]


class TinyVllm:
    """``adapters``: the names of those that are loaded. ``lora``: whether they may be loaded while it runs."""

    def __init__(self, model: Path, *, names: tuple[str, ...] = ("tiny",), lora: bool = True) -> None:
        self._folder = model
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._networks = dict.fromkeys(names, AutoModelForCausalLM.from_pretrained(model).eval())
        self._names = names
        self._lora = lora
        self._lock = threading.Lock()
        self.loaded: list[str] = []

    @property
    def adapters(self) -> set[str]:
        return set(self._networks) - set(self._names)

    def __call__(self, request: dict[str, Any]) -> Answer:
        with self._lock:
            if not request:
                return 200, {"data": [self._card(name) for name in self._networks]}, {}
            if "prompt" in request:
                return self._complete(request)
            return self._change(request) if self._lora else (404, {"detail": "Not Found"}, {})

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "parent": self._names[0] if name in self.adapters else None}

    def _change(self, request: dict[str, Any]) -> Answer:
        name = request["lora_name"]
        if "lora_path" in request:
            network = AutoModelForCausalLM.from_pretrained(self._folder)
            self._networks[name] = PeftModel.from_pretrained(network, request["lora_path"]).merge_and_unload().eval()
            self.loaded.append(request["lora_path"])
            return 200, f"Success: LoRA adapter '{name}' added successfully.", {}
        if name not in self.adapters:
            return 404, {"error": {"message": f"The lora adapter '{name}' cannot be found."}}, {}
        del self._networks[name]
        return 200, f"Success: LoRA adapter '{name}' removed successfully.", {}

    @torch.no_grad()
    def _complete(self, request: dict[str, Any]) -> Answer:
        if request["model"] not in self._networks:
            return 404, {"error": {"message": f"The model `{request['model']}` does not exist."}}, {}
        network, prompt = self._networks[request["model"]], request["prompt"]
        chance = torch.Generator().manual_seed(request.get("seed", 0))
        written: list[int] = []
        log_probs: list[float] = []
        reason: tuple[str, str | int | None] = ("length", None)
        while len(written) < request["max_tokens"]:
            logits = network(input_ids=torch.tensor([prompt + written])).logits[0, -1]
            written.append(self._next(logits, request, chance))
            log_probs.append(float(logits.log_softmax(-1)[written[-1]]))
            if written[-1] in (self._tokenizer.eos_token_id, *request.get("stop_token_ids", ())):
                reason = ("stop", None if written[-1] == self._tokenizer.eos_token_id else written[-1])
                break
            text = self._tokenizer.decode(written)
            if found := [s for s in request.get("stop", ()) if s in text]:
                reason = ("stop", found[0])
                break
        echoed = self._tokenizer.decode(prompt) if request.get("echo") else ""
        choice = {
            "text": echoed + self._tokenizer.decode(written, skip_special_tokens=True),
            "token_ids": written if request.get("return_token_ids") else None,
            "logprobs": {"token_logprobs": log_probs} if "logprobs" in request else None,
            "finish_reason": reason[0],
            "stop_reason": reason[1],
        }
        return 200, {"choices": [choice]}, {}

    @staticmethod
    def _next(logits: torch.Tensor, request: dict[str, Any], chance: torch.Generator) -> int:
        if request["temperature"] == 0:
            return int(logits.argmax())
        return int(torch.multinomial((logits / request["temperature"]).softmax(-1), 1, generator=chance))
