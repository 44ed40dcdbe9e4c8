"""The reward that works offline: what a pair would teach, as far as the run's own model can foresee it, behind gates
for what that does not see.

Contrastive influence is paid where learning a pair makes an answer fit its own task rather than another; that on
content where it makes people's answers likelier, their ends apart. Alone, the first costs knowledge of answers and the
second attention to what is asked; students of what both choose together gain in both. Were the ends of answers in it,
the second would pay brevity. Among answers to one task it falls with their length all the same: to choose one of three
does no harm, but a policy that is trained on it learns to be brief, so that one is paid the first alone. See
docs/benchmarks.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from refine_af.feedback.catalogue import Workshop
from refine_af.feedback.composite import Component, Composite, Gate, check_weights
from refine_af.feedback.format import FormatScorer
from refine_af.feedback.passages import EchoScorer
from refine_af.feedback.people import BorrowedScorer
from refine_af.feedback.rules import AddedWordsScorer, SubstanceScorer, VarietyScorer

if TYPE_CHECKING:
    from refine_af.feedback.influence.anchors import Direction

_DIRECTIONS: tuple[Direction, ...] = ("contrastive", "content")
WEIGHTS: dict[str, float] = dict.fromkeys(_DIRECTIONS, 1 / 2)  # of the components, which a user may change by name
TRAINING_WEIGHTS: dict[str, float] = {"content": 0.0}  # among answers to one task it falls with their length
FLOOR = -3.0
_CLIP = 3.0  # spreads of people's pairs
# An answer in a whole sentence takes the question up: "The most popular sport among the five listed is football."
_ECHO_OF_INSTRUCTION = 0.85
_ECHO_OF_INPUT = 0.7
_CAP = -1.0  # of what may be right all the same: editing leaves most of a text as it is
_DOUBLINGS = 2.5  # about a sixth of people's fewest words, or six times their most: nearer ones cost students more


def embedded_feedback(workshop: Workshop) -> Composite:
    """Calibrated on the anchors, each judged by the others: a reward of 0 is that of a pair as a person writes it, −3
    the floor.

    Raises UsageError for a weight whose name is no component, and for too few seeds.
    """
    from refine_af.feedback.influence.scorer import InfluenceScorer

    given = workshop.config.feedback.weights
    check_weights("embedded", given, list(WEIGHTS))
    influence = workshop.influence(witness=False)
    components = []
    for direction in _DIRECTIONS:
        mean, spread = influence.people(direction)
        scorer = InfluenceScorer(influence, direction, direction)
        components.append(Component(scorer, given.get(direction, WEIGHTS[direction]), mean, spread or 1.0, _CLIP))
    training = TRAINING_WEIGHTS | workshop.config.feedback.training_weights
    return Composite("embedded", components, floor=FLOOR, gates=_gates(workshop), training=training)


def _gates(workshop: Workshop) -> list[Gate]:
    language = workshop.config.reads
    # The encoder, by which people's instructions are alike, knows English alone.
    length = [Gate(workshop.unusual_length(), maximum=_DOUBLINGS, cap=_CAP)] if language.is_english else []
    return [
        Gate(SubstanceScorer(), minimum=1.0),
        Gate(VarietyScorer(language), minimum=0.4),
        Gate(FormatScorer(language), minimum=0.6),
        Gate(EchoScorer("instruction", language), maximum=_ECHO_OF_INSTRUCTION),
        Gate(BorrowedScorer(workshop.people, language), maximum=0.7),
        Gate(EchoScorer("input", language), maximum=_ECHO_OF_INPUT, cap=_CAP),
        Gate(AddedWordsScorer(language), minimum=0.1, cap=_CAP),
        *length,
    ]
