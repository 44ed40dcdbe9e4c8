"""Rows for tests, each of which says what matters to it and leaves the rest at something ordinary."""

from __future__ import annotations

from typing import Any

from refine_af.records import Instance, Instruction, Rollout, SeedTask


def task(instruction: str = "Do it", input: str = "", output: str = "done", **changes: Any) -> SeedTask:
    """A seed task whose id is its instruction, and which is no classification."""
    row: dict[str, Any] = {"id": instruction, "is_classification": False}
    return SeedTask(instruction=instruction, input=input, output=output, **(row | changes))


def instruction(id: str, **changes: Any) -> Instruction:
    """A generated instruction whose kinds are not decided."""
    row: dict[str, Any] = {
        "id": id, "text": f"Do {id}", "is_classification": None, "needs_input": None, "origin": "generated", "round": 1,
        "model": "m", "prompt_ids": (), "nearest_id": None, "nearest_rouge_l": None, "status": "kept",
    }  # fmt: skip
    return Instruction(**(row | changes))


def seed(id: str, **changes: Any) -> Instruction:
    """A seed's instruction."""
    return instruction(id, **{"origin": "seed", "round": 0, "model": "people"} | changes)


def instance(id: str, instruction_id: str = "a", **changes: Any) -> Instance:
    """A sound pair of the tuned policy without an input."""
    row: dict[str, Any] = {
        "id": id, "instruction_id": instruction_id, "input": "", "output": f"out {id}", "model": "m", "policy": "tuned",
    }  # fmt: skip
    return Instance(**(row | changes))


def rollout(position: int, **changes: Any) -> Rollout:
    """A sound pair of the first iteration."""
    row: dict[str, Any] = {
        "iteration": 1, "position": position, "split": "train", "instruction_id": "a", "input": "", "text": "t",
        "fault": None, "tokens": 3, "ended": True, "reward": 0.0,
        "sound": True,
    }  # fmt: skip
    return Rollout(**(row | changes))
