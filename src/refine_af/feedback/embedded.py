"""The reward that works offline: likelihood and mutual information under the frozen initial model, behind gates.

Either measure alone can be fooled: likelihood by rambling and repetition, mutual information by echoing the task. So
both enter as standard scores against the seeds, clipped; variety and own words are weighed beside them; and an output
that is empty, circular or a copy gets the floor. What is weighed how is our own choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from refine_af.engines.base import Engine
from refine_af.feedback.base import Example, Scorer
from refine_af.feedback.composite import Composite, Gate, calibrated, check_weights
from refine_af.feedback.likelihood import LikelihoodScorer, MutualInformationScorer, TaskLikelihood
from refine_af.feedback.rules import OwnWordsScorer, SubstanceScorer, VarietyScorer
from refine_af.prompts.dialect import Frame

WEIGHTS: dict[str, float] = {"likelihood": 0.3, "pmi": 0.4, "variety": 0.15, "own_words": 0.15}
FLOOR = -3.0


def embedded_feedback(
    engine: Engine, frame: Frame, seeds: Sequence[Example], weights: Mapping[str, float]
) -> Composite:
    """Calibrated on the seeds' pairs: a reward of 0 is that of a pair as a person writes it, −3 the floor.

    Raises UsageError for a weight whose name is no component.
    """
    check_weights("embedded", weights, list(WEIGHTS))
    measure = TaskLikelihood(engine, frame)
    variety, own_words = VarietyScorer(), OwnWordsScorer()
    scorers: list[Scorer] = [LikelihoodScorer(measure), MutualInformationScorer(measure), variety, own_words]
    final = {**WEIGHTS, **weights}
    return Composite(
        "embedded",
        [calibrated(scorer, final[scorer.name], seeds) for scorer in scorers],
        floor=FLOOR,
        gates=[Gate(SubstanceScorer(), 1.0), Gate(variety, 0.4), Gate(own_words, 0.1)],
    )
