"""The rows that a run reads and writes, and how a row gets its identity.

A row's id is a hash of its content, so the same text has the same id in every run, process and batch.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Literal

from refine_af.language import ENGLISH, Language

Origin = Literal["seed", "generated"]
PolicyName = Literal["seed", "initial", "tuned", "best_of_n"]


def content_id(*parts: str) -> str:
    """16 hexadecimal digits that depend on the parts and on where one ends and the next begins."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()


def derived_seed(*parts: object) -> int:
    """A 31-bit seed that is a function of the parts alone, e.g. ``derived_seed(seed, "instructions", 3)``."""
    return int(content_id(*map(str, parts)), 16) & 0x7FFFFFFF


def derived_random(*parts: object) -> random.Random:
    """A random generator whose stream is a function of the parts alone."""
    return random.Random(derived_seed(*parts))


@dataclass(frozen=True, slots=True)
class SeedTask:
    """A task written by a person: an instruction with one input-output pair."""

    id: str
    instruction: str
    input: str
    output: str
    is_classification: bool
    category: str = ""

    def words(self, language: Language = ENGLISH) -> int:
        """Length of instruction, input and output together, in words."""
        return language.count(f"{self.instruction} {self.input} {self.output}")


@dataclass(frozen=True, slots=True)
class Instruction:
    """An instruction of the run. ``status`` is "kept", or "held_out" for seeds kept back for evaluation.

    ``is_classification`` and ``needs_input`` are None in runs that are older than these columns' meaning.
    """

    id: str
    text: str
    is_classification: bool | None
    needs_input: bool | None  # whether an input belongs to it; of a seed, whether it has one
    origin: Origin
    round: int
    model: str
    prompt_ids: tuple[str, ...]  # ids of the demonstrations that were shown
    nearest_id: str | None
    nearest_rouge_l: float | None
    status: Literal["kept", "held_out"]


@dataclass(frozen=True, slots=True)
class Instance:
    """An input-output pair for an instruction, by a model under a policy, with its reward. One that is not ``sound``
    is at the reward's floor or failed one of its gates, and is never selected."""

    id: str
    instruction_id: str
    input: str
    output: str
    model: str
    policy: PolicyName
    reward: float | None = None
    selected: bool = False
    sound: bool = True


@dataclass(frozen=True, slots=True)
class Rejection:
    """A text that was written and not kept: where, why, and the number or detail that decided."""

    stage: str
    reason: str
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """A pair sampled to train or to measure the policy. ``split``: train, before or after.

    ``input`` and ``text`` (the output) are what was written; ``fault`` is the reason why that is no pair, None where it
    is one. ``tokens`` counts those of all turns, ``ended`` whether all of them ended. A pair that is not ``sound`` is
    at the reward's floor, or failed a gate.
    """

    iteration: int
    position: int
    split: Literal["train", "before", "after"]
    instruction_id: str
    input: str
    text: str
    fault: str | None
    tokens: int
    ended: bool
    reward: float
    sound: bool


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer to a held-out task, with its scores in [0, 100]."""

    model: Literal["base", "tuned"]
    task_id: str
    prediction: str
    rouge_l: float
    exact_match: float


@dataclass(frozen=True, slots=True)
class StageCounts:
    """What went through a stage; ``read == kept + rejected + failed`` is checked when the stage ends."""

    read: int = 0
    kept: int = 0
    rejected: int = 0
    failed: int = 0

    @property
    def balanced(self) -> bool:
        return self.read == self.kept + self.rejected + self.failed
