"""Seed tasks: the built-in ones, and a user's own from JSONL (Self-Instruct's format or a simple one) or CSV."""

from refine_af.seeds.load import LoadedSeeds, load_seeds

__all__ = ["LoadedSeeds", "load_seeds"]
