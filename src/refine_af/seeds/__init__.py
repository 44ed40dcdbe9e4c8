"""Seed tasks: the built-in ones, and a user's own from JSONL (Self-Instruct's format or a simple one) or CSV."""

from refine_af.seeds.hold_out import built_in_tasks, choose_held_out, shown_tasks
from refine_af.seeds.load import LoadedSeeds, load_seeds

__all__ = ["LoadedSeeds", "built_in_tasks", "choose_held_out", "load_seeds", "shown_tasks"]
