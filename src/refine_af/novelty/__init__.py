"""Novelty by ROUGE-L: which kept text a new one repeats, decided exactly as `rouge-score` decides it."""

from refine_af.language.official import tokens
from refine_af.novelty.index import NoveltyIndex
from refine_af.novelty.rouge import rouge_l

__all__ = ["NoveltyIndex", "rouge_l", "tokens"]
