"""Feedback that foresees learning: how far a step of training on a pair goes the way in which pairs by people become
likelier."""
