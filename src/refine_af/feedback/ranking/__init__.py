"""Scores any file of instruction, input and output: reads it, judges it in chunks, and sums up what the reward is made
of."""

from refine_af.feedback.ranking.job import rank_file
from refine_af.feedback.ranking.rank import Ranked

__all__ = ["Ranked", "rank_file"]
