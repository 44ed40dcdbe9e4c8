"""The InstructMining rules as rewards: weighted sums of a reward model's score and of a few measures of the pair.

Source: Cao et al., "Instruction Mining" (arXiv 2307.06290): regressions of the log loss after fine-tuning on data
sets' mean scores. Version 1 takes length and the distance to the sixth neighbour beside the reward model, version 2
(R² 0.522, in the text's later versions) three UniEval dimensions. That REFINE-AF's reward is version 2, negated so that
larger is better, is inferred: it fits all that is known to us of that paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from refine_af.config import FeedbackConfig, ModelConfig
from refine_af.errors import UsageError
from refine_af.feedback.base import Example, Scorer
from refine_af.feedback.composite import Component, Composite, check_weights, floor_below
from refine_af.language import ENGLISH, Language
from refine_af.models import check_model

REWARD_MODEL = "OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5"
UNIEVAL = "MingZhong/unieval-dialog"

# The rule's coefficients with their signs turned: log loss falls where the reward rises.
WEIGHTS_V2: Mapping[str, float] = MappingProxyType(
    {"reward_model": 0.0078, "naturalness": 0.3212, "coherence": 0.1520, "understandability": -0.4421}
)
OFFSET_V2 = -0.0274

# Version 1, signs turned in the same way. Those who repeat the rule agree on these three.
WEIGHTS_V1: Mapping[str, float] = MappingProxyType(
    {"reward_model": 0.1498, "length": -8.257e-5, "neighbour_distance": 0.9350}
)
# They give 1.0694 or 1.0684: it moves all rewards alike and changes no ranking, advantage or selection.
OFFSET_V1 = -1.0694
NEIGHBOUR = 6


def instructmining_v2(
    reward_model: Scorer,
    naturalness: Scorer,
    coherence: Scorer,
    understandability: Scorer,
    weights: Mapping[str, float] = MappingProxyType({}),
) -> Composite:
    """r = 0.0078·Rew - 0.4421·Und + 0.3212·Nat + 0.1520·Coh - 0.0274

    ``weights`` replaces coefficients by the scorer's name, sign included: ``{"understandability": 0.0}``
    takes that component out, and it stays visible in each judgement. Three weaknesses of the rule, which
    weights can soften: understandability counts against a pair, since the regression was over means of
    data sets and not over single pairs; the reward model moves r by about 0.04 in all, while each UniEval
    dimension can move it by 0.15 to 0.44; naturalness and understandability see the response alone, so
    neither notices an answer off the topic.

    The floor (the reward of a completion that is no pair) is 0.05 below the lowest reward that a pair can
    get. With the rule's own weights: Rew = -10 (far below the -4 seen of its model), Und = 1, Nat = Coh = 0
    give -0.078 - 0.4421 - 0.0274 = -0.5475, so the floor is -0.5975; Rew = -1 and 0.9 for the others give
    -0.0072. It must be below so that the policy never gains by breaking the format, and close so that one
    broken completion does not drown the differences between the others in a batch. Other weights move it by
    the same computation.

    Raises UsageError for a weight whose name is none of the four scorers' or that is not finite, for two
    scorers of one name, and where all weights are zero.
    """
    roles: dict[str, Scorer] = {
        "reward_model": reward_model,
        "naturalness": naturalness,
        "coherence": coherence,
        "understandability": understandability,
    }
    names = [scorer.name for scorer in roles.values()]
    if len(set(names)) < len(names):
        raise UsageError(f"instructmining_v2 needs four scorers of different names, not {', '.join(names)}")
    check_weights("instructmining_v2", weights, names)
    components = [Component(scorer, weights.get(scorer.name, WEIGHTS_V2[role])) for role, scorer in roles.items()]
    floor = floor_below(components, OFFSET_V2)
    return Composite("instructmining_v2", components, floor=floor, offset=OFFSET_V2)


def instructmining_v1(
    reward_model: Scorer,
    length: Scorer,
    neighbour_distance: Scorer,
    weights: Mapping[str, float] = MappingProxyType({}),
) -> Composite:
    """r = 0.1498·Rew - 8.257e-5·Len + 0.9350·Knn_6 - 1.0694

    The texts that repeat the rule differ on what enters it; these are our choices. Len is the response's length in
    words: the prose says the length of the response, in no unit, and one program counts the tokens of prompt and
    response. It hardly matters: 100 words move r by 0.008, a point of Rew by 0.15, and Knn_6 by about 0.5 in all.
    Knn_6 is the Euclidean distance to the sixth neighbour, between normalised sentence embeddings of prompt and
    response; neighbours are sought among the seeds' pairs and not in the data set that is being written, so that a
    pair's reward does not depend on the other pairs.

    ``weights`` replaces coefficients by the scorer's name, sign included. Raises UsageError as instructmining_v2 does.
    """
    roles = {"reward_model": reward_model, "length": length, "neighbour_distance": neighbour_distance}
    check_weights("instructmining_v1", weights, list(roles))
    components = [Component(scorer, weights.get(role, WEIGHTS_V1[role]), label=role) for role, scorer in roles.items()]
    floor = floor_below(components, OFFSET_V1)
    return Composite("instructmining_v1", components, floor=floor, offset=OFFSET_V1)


def check_instructmining_v1(config: FeedbackConfig) -> None:
    """Raises UsageError for a wrong weight, and for a reward model that is not on this disk."""
    check_weights("instructmining_v1", config.weights, list(WEIGHTS_V1))
    check_model(ModelConfig.model_validate({"name": REWARD_MODEL}))


def load_instructmining_v1(
    config: FeedbackConfig, device: str, neighbours: Sequence[Example], language: Language = ENGLISH
) -> Composite:
    """The rule with OpenAssistant's reward model (about 5.2 GB in float32) and the embedded sentence encoder."""
    from refine_af.feedback.embedding import Embedder, NeighbourDistanceScorer
    from refine_af.feedback.reward_model import RewardModelScorer
    from refine_af.feedback.rules import LengthScorer

    check_instructmining_v1(config)
    embedder = Embedder("embedded", device=device)
    return instructmining_v1(
        RewardModelScorer(REWARD_MODEL, device=device, batch_size=config.batch_size),
        LengthScorer(language),
        NeighbourDistanceScorer(embedder, neighbours, k=NEIGHBOUR),
        config.weights,
    )


def check_instructmining_v2(config: FeedbackConfig) -> None:
    """Raises what :func:`load_instructmining_v2` would raise, without loading anything."""
    check_weights("instructmining_v2", config.weights, list(WEIGHTS_V2))
    for name in (REWARD_MODEL, UNIEVAL):
        check_model(ModelConfig.model_validate({"name": name}))


def load_instructmining_v2(config: FeedbackConfig, device: str) -> Composite:
    """The rule with its own two models, read from this disk: about 5.2 GB and 3 GB of float32 weights.

    Float32 on every device, so that a pair's reward does not depend on its batch. Nothing is downloaded:
    raises UsageError that names the model which is missing and the command that gets it, before either is
    loaded. The same where ``config.weights`` names a component that does not exist.
    """
    from refine_af.feedback.reward_model import RewardModelScorer
    from refine_af.feedback.unieval import UniEval

    check_instructmining_v2(config)
    reward = RewardModelScorer(REWARD_MODEL, device=device, batch_size=config.batch_size)
    unieval = UniEval(UNIEVAL, device=device, batch_size=config.batch_size)
    return instructmining_v2(
        reward,
        unieval.scorer("naturalness"),
        unieval.scorer("coherence"),
        unieval.scorer("understandability"),
        config.weights,
    )
