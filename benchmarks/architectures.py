"""Which architectures are right, and which are refused: tiny random models, against transformers alone.

    python benchmarks/architectures.py [NAME ...]

Each model is saved, loaded and asked as a run asks it: greedy answers to prompts of several lengths, some with a
beginning in common; log-probabilities of texts and of what is sampled; those that PPO finds, and answers with PPO's
adapter on. All of it is compared to transformers' own `generate` and forward pass of each text alone. Without a name,
writes architectures.json beside, and the table of the guide.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from section import ROOT, write_section
from tiny_models import ARCHITECTURES, END, save_tiny

from refine_af.config import LoraSettings, SamplingConfig, load_config
from refine_af.engines.base import Prompts
from refine_af.engines.transformers import TransformersEngine
from refine_af.errors import RefineError
from refine_af.lora import adaptable_layers, bare_network, check_layers
from refine_af.parts import Parts
from refine_af.rl.actor_critic import ActorCritic, Trajectory

RESULTS = Path(__file__).with_suffix(".json")
CLOSE = 1e-4  # nats
MOST = 5  # new tokens
ASKED = [["abcdefgh", "abcdXY", "abcdefghijklm"], ["hello1world2this3is4long5enough"]]
SCORED = [("abcdef", "ghi"), ("abcdef", "XYZ0123"), ("", "hello"), ("hello1world2this3is4long5enough", "ABCDEFGH")]
SAMPLED = Prompts("abcd", ("efg", "XYZ01", "mnopqrstuvw"))
FREE = SamplingConfig(max_tokens=6, temperature=1.0, top_p=1.0, top_k=0)
TEMPERATURE = 0.8
ROWS = [
    Trajectory((9, 30, 50, 11), (40, 51), (20, 19, 10, 7, 15)),
    Trajectory((9, 30, 50, 11), (4,), (33, 8)),
    Trajectory((), tuple(range(5, 17)), (44, 45, 46)),
]


@dataclass(frozen=True)
class Found:
    """``refused`` is what is said in place of working, else empty. ``other_answers`` counts rows, alone and in batches;
    distances are the greatest, in nats. ``training_refused``: what training alone says."""

    network: str
    refused: str = ""
    decoder: str = ""
    beginnings_shared: bool = False
    other_answers: int = 0
    log_probs: float = 0.0
    training_refused: str = ""
    training_log_probs: float = 0.0

    @property
    def is_right(self) -> bool:
        return not self.other_answers and max(self.log_probs, self.training_log_probs) <= CLOSE


def examine(name: str) -> Found:
    """Of a tiny model of an architecture. Lets through what isn't refused in one line of ours."""
    with tempfile.TemporaryDirectory() as folder:
        save_tiny(name, Path(folder))
        settings = [f"model.name={folder}", "model.quantization=float32", "model.device=cpu", "threads=1"]
        parts = Parts(load_config(overrides=[*settings, "model.batch_size=4"]), Path(folder) / "scratch")
        network = type(bare_network(Path(folder))).__name__
        try:
            return _found(network, parts)
        except RefineError as error:
            return Found(network, refused=str(error).replace(parts.located.label, name))


def _found(network: str, parts: Parts) -> Found:
    engine = parts.initial_engine
    assert isinstance(engine, TransformersEngine)
    others, distance = _compared(engine, parts)
    decoder = "ours" if engine._decoder is not None else "its own"
    if decoder == "its own" and not engine._own_generate._pads:
        decoder += ", rows of one length"
    try:
        shared, ppo, adapted = _trained(parts)
    except RefineError as error:
        return Found(network, "", decoder, False, others, distance, str(error))
    both = others + adapted[0], max(distance, adapted[1])
    return Found(network, "", decoder, shared, *both, "", ppo)


def _compared(engine: TransformersEngine, parts: Parts) -> tuple[int, float]:
    """How many greedy answers are others than the network's, and how far log-probabilities are from its own."""
    network, encode = parts.network, parts.tokenizer.encode
    made = engine.answers(ASKED, MOST)
    others = 0
    for group, answers in zip(ASKED, made, strict=True):
        for prompt, answer in zip(group, answers, strict=True):
            expected = _generated(network, encode(prompt))
            others += list(answer.token_ids) != expected
            others += list(engine.answers([[prompt]], MOST)[0][0].token_ids) != expected
    distances = [0.0]
    for (before, after), found in zip(SCORED, engine.log_probs(SCORED), strict=True):
        distances.append(_far(found.tolist(), _own(network, encode(before) or [END], encode(after))))
    (sampled,) = engine.generate([SAMPLED], FREE, seed=0, log_probs=True)
    for suffix, one in zip(SAMPLED.suffixes, sampled, strict=True):
        expected_ones = _own(network, encode(SAMPLED.prefix + suffix), list(one.token_ids))
        distances.append(_far(list(one.log_probs or ()), expected_ones))
    return others, max(distances)


def _trained(parts: Parts) -> tuple[bool, float, tuple[int, float]]:
    """With an adapter as training would leave it: whether PPO computes beginnings once, how far its log-probabilities
    are, of the policy and of the reference, and what :func:`_compared` finds."""
    lora = LoraSettings(rank=4, alpha=8, targets=_targets(parts))
    actor = ActorCritic(parts.network, lora, temperature=TEMPERATURE, label="the model", seed=0)
    try:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for one in actor.adapter_parameters():
                one.copy_(torch.randn(one.shape, generator=generator) * 0.3)
        found = actor.evaluate(ROWS).log_probs
        found.sum().backward()
        distances = [_far(found.tolist(), _rows(actor))]
        distances.append(_far(torch.cat([actor.evaluate([row]).log_probs for row in ROWS]).tolist(), found.tolist()))
        with actor.reference(), torch.no_grad():
            distances.append(_far(actor.evaluate(ROWS).log_probs.tolist(), _rows(actor)))
        engine = parts.shared_engine(adapter=True)
        assert isinstance(engine, TransformersEngine)
        return actor._reader.shares, max(distances), _compared(engine, parts)
    finally:
        actor.release()


def _targets(parts: Parts) -> tuple[str, ...]:
    """The layers that usually get adapters, or else all that may."""
    layers = adaptable_layers(parts.network)
    usual = tuple(one for one in ("q_proj", "v_proj") if one in layers)
    bare = bare_network(parts.located.folder)
    return usual or tuple(one for one in sorted(layers) if _may_be_adapted(one, bare))


def _may_be_adapted(layer: str, network: Any) -> bool:
    try:
        check_layers("policy.lora", LoraSettings(targets=(layer,)), network, "")
    except RefineError:
        return False
    return True


@torch.no_grad()
def _generated(network: Any, tokens: list[int]) -> list[int]:
    """By transformers alone."""
    ids = torch.tensor([tokens])
    made = network.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=MOST, do_sample=False, eos_token_id=END, pad_token_id=0
    )
    written: list[int] = made[0, len(tokens) :].tolist()
    return written


@torch.no_grad()
def _own(network: Any, before: Sequence[int], after: Sequence[int], temperature: float = 1.0) -> list[float]:
    """Log-probabilities by the network's forward pass over this text alone."""
    logits = network(input_ids=torch.tensor([[*before, *after]]), use_cache=False).logits[0, len(before) - 1 : -1]
    found: list[float] = (logits / temperature).log_softmax(-1)[range(len(after)), list(after)].tolist()
    return found


def _rows(actor: ActorCritic) -> list[float]:
    rows = [(row.prefix_ids + row.prompt_ids, row.response_ids) for row in ROWS]
    return [one for before, after in rows for one in _own(actor.policy, before, after, TEMPERATURE)]


def _far(found: Sequence[float], expected: Sequence[float]) -> float:
    return max(abs(a - b) for a, b in zip(found, expected, strict=True))


def table(results: dict[str, Any]) -> str:
    """For the guide."""
    lines = ["| Architecture | Decoded by | Trained with | |", "|---|---|---|---|"]
    for name, one in results["architectures"].items():
        if one["refused"]:
            lines.append(f"| {name} | | | refused: {one['refused']} |")
            continue
        with_ = "beginnings computed once" if one["beginnings_shared"] else "each row by itself"
        trained = one["training_refused"] or with_
        lines.append(f"| {name} | {one['decoder']} | {trained} | {one['verdict']} |")
    return "\n".join(lines)


def as_row(found: Found) -> dict[str, Any]:
    verdict = "refused" if found.refused else "right" if found.is_right else "wrong"
    row = asdict(found)
    for name in ("log_probs", "training_log_probs"):
        row[name] = float(f"{row[name]:.1e}")
    return {"verdict": verdict, **row}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("names", nargs="*", help="architectures to look at, without writing anything")
    given = arguments.parse_args()
    transformers.utils.logging.set_verbosity_error()
    found = {}
    for name in given.names or ARCHITECTURES:
        found[name] = as_row(examine(name))
        print(name, json.dumps(found[name]), flush=True)
    if not given.names:
        results = {"transformers": transformers.__version__, "torch": torch.__version__, "architectures": found}
        RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        write_section("architectures", "architectures.py", table(results), ROOT / "docs" / "guide.md")


if __name__ == "__main__":
    main()
