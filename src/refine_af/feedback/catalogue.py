"""Every scorer by its name: how it is made, and which settings it takes. Scorers of one model share it in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from refine_af.config import Config, ScorerConfig
from refine_af.engines.base import Engine
from refine_af.errors import UsageError
from refine_af.feedback.base import Better, Example, Scorer
from refine_af.feedback.instructmining import NEIGHBOUR, REWARD_MODEL, UNIEVAL
from refine_af.feedback.memory import remembered
from refine_af.feedback.passages import EchoScorer
from refine_af.feedback.people import BorrowedScorer
from refine_af.loading import torch_device
from refine_af.models import EMBEDDED
from refine_af.prompts.answers import answer_frame, scoring_frame
from refine_af.prompts.dialect import Dialect
from refine_af.records import content_id, derived_seed
from refine_af.seeds import shown_tasks

if TYPE_CHECKING:
    from refine_af.feedback.embedding import Embedder
    from refine_af.feedback.influence.scorer import Influence
    from refine_af.feedback.likelihood import TaskLikelihood
    from refine_af.feedback.unieval import UniEval
    from refine_af.parts import Parts
    from refine_af.store import Store

# What only some scorers take, of the settings in ScorerConfig; the others are the composite's own.
SPECIAL = ("model", "revision", "question", "base_url", "api_key_env", "free", "neighbours", "direction")


class Workshop:
    """What the scorers of one reward are made of; whatever is dear to load is made once and shared.

    ``seeds`` are pairs by people; ``memory`` keeps scores. The run's own model is its engine, never a second copy.
    """

    def __init__(self, parts: Parts, seeds: Sequence[Example], memory: Store | None = None) -> None:
        self.parts = parts
        self.config: Config = parts.config
        self.seeds = seeds
        self.memory = memory
        self._shared: dict[tuple[str | None, ...], Any] = {}

    def _once(self, key: tuple[str | None, ...], make: Callable[[], Any]) -> Any:
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    @property
    def device(self) -> str:
        """Where torch computes; with as many threads as the run has."""
        import torch

        torch.set_num_threads(self.parts.threads)
        return torch_device(self.config.model)

    @cached_property
    def people(self) -> list[Example]:
        """All pairs by people that may be learnt from, of any length."""
        tasks = shown_tasks(self.config.seeds, self.config.seed)
        return [Example(t.instruction, t.input, t.output) for t in tasks]

    @property
    def batch_size(self) -> int:
        return self.config.feedback.batch_size

    def engine(self, settings: ScorerConfig) -> tuple[Engine, Dialect, str]:
        """A frozen language model, how it is spoken to, and what its numbers depend on: the run's own model, or the
        one that the settings name."""

        def make() -> tuple[Engine, Dialect, str]:
            parts = self.parts.with_model(settings.model, settings.revision) if settings.model else self.parts
            return parts.initial_engine, parts.dialect, parts.engine_identity

        engine: tuple[Engine, Dialect, str] = self._once(("engine", settings.model, settings.revision), make)
        return engine

    def likelihood(self, settings: ScorerConfig) -> tuple[TaskLikelihood, str]:
        """What reads outputs with a language model, shared by all scorers that need that model; and its identity."""
        from refine_af.feedback.likelihood import TaskLikelihood

        def make() -> tuple[TaskLikelihood, str]:
            engine, dialect, identity = self.engine(settings)
            frame = scoring_frame(dialect)
            asked = content_id(frame.before, frame.after)
            return TaskLikelihood(engine, frame), f"2 {engine.model} {identity} asked {asked}"

        made: tuple[TaskLikelihood, str] = self._once(("likelihood", settings.model, settings.revision), make)
        return made

    def influence(self, *, witness: bool) -> Influence:
        """What foresees how learning a pair changes the run's own model; the witness's shares nothing with the reward's
        but the model."""
        from refine_af.feedback.influence.gradients import PairGradients
        from refine_af.feedback.influence.scorer import Influence
        from refine_af.feedback.influence.split import split_anchors
        from refine_af.prompts.training import TrainingTexts

        def make() -> Influence:
            parts, tuning = self.parts, self.config.finetune
            seed = derived_seed(self.config.seed, "influence", witness)

            def gradients() -> PairGradients:
                return PairGradients(parts.network, tuning.lora, label=parts.located.label, seed=seed)

            texts = TrainingTexts(parts.tokenizer, answer_frame(parts.dialect), parts.ends.closing, tuning.max_length)
            identity = f"{parts.network_identity} {tuning.lora.model_dump_json()} {tuning.max_length}"
            return Influence(split_anchors(self.config)[witness], gradients, texts, identity, seed)

        made: Influence = self._once(("influence", "witness" if witness else "reward"), make)
        return made

    def unieval(self, settings: ScorerConfig) -> UniEval:
        from refine_af.feedback.unieval import UniEval

        unieval: UniEval = self._loaded(UniEval, settings, UNIEVAL)
        return unieval

    def embedder(self, settings: ScorerConfig) -> Embedder:
        from refine_af.feedback.embedding import Embedder

        name = settings.model or EMBEDDED
        if name == EMBEDDED:
            return self.parts.encoder
        embedder: Embedder = self._once(("embedder", name), lambda: Embedder(name, device=self.device))
        return embedder

    def unusual_length(self) -> Scorer:
        from refine_af.feedback.people import UnusualLengthScorer

        return UnusualLengthScorer(self.embedder(ScorerConfig()), self.people, self.config.reads)

    def reward_model(self, settings: ScorerConfig) -> Scorer:
        from refine_af.feedback.reward_model import RewardModelScorer

        scorer: Scorer = self._loaded(RewardModelScorer, settings, REWARD_MODEL)
        return scorer

    def _loaded(self, kind: Callable[..., Any], settings: ScorerConfig, default: str) -> Any:
        """What reads a model of this disk, made of its name, the device and the batch size."""
        name, options = settings.model or default, _given(settings, "revision")

        def make() -> Any:
            return kind(name, device=self.device, batch_size=self.batch_size, **options)

        return self._once((str(kind), name, settings.revision), make)


@dataclass(frozen=True, slots=True)
class Entry:
    """How a scorer is made from the workshop, its label and its settings. ``better`` is what the scorer declares,
    here to be known before any model is loaded. ``model`` is what is loaded where the settings name none: a Hub model,
    "embedded" for the embedded sentence encoder, or None for a rule and for the run's own model."""

    make: Callable[[Workshop, str, ScorerConfig], Scorer]
    takes: tuple[str, ...] = ()
    better: Better = "high"
    model: str | None = None


def _rule(name: str, *options: str) -> Callable[[Workshop, str, ScorerConfig], Scorer]:
    """A scorer of rules.py by its class, in the run's language; its options have the settings' names."""

    def make(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
        from refine_af.feedback import rules

        scorer: Scorer = getattr(rules, name)(**_given(settings, *options), language=workshop.config.reads)
        return scorer

    return make


def _substance(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
    from refine_af.feedback.rules import SubstanceScorer

    return SubstanceScorer()


def _complement(name: str, *options: str) -> Callable[[Workshop, str, ScorerConfig], Scorer]:
    """One minus what such a scorer measures, under the name that the settings use."""

    def make(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
        from refine_af.feedback.rules import Complement

        return Complement(settings.use or label, _rule(name, *options)(workshop, label, settings))

    return make


def _given(settings: ScorerConfig, *names: str) -> dict[str, Any]:
    """The settings that the user gave; for the others the scorer's own defaults stand."""
    return {name: value for name in names if (value := getattr(settings, name)) is not None}


def _likelihood(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
    from refine_af.feedback.likelihood import LikelihoodScorer

    return LikelihoodScorer(*workshop.likelihood(settings))


def _pmi(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
    from refine_af.feedback.likelihood import MutualInformationScorer

    return MutualInformationScorer(*workshop.likelihood(settings))


def _judge(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
    from refine_af.feedback.judge import EndpointJudge, JudgeScorer

    if settings.base_url is not None:
        options = _given(settings, "base_url", "model", "question", "api_key_env")
        return EndpointJudge(**options, name=label)
    engine, dialect, identity = workshop.engine(settings)
    return JudgeScorer(
        engine, answer_frame(dialect), **_given(settings, "question"), name=label, model_identity=identity
    )


def _influence(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
    from refine_af.feedback.influence.scorer import InfluenceScorer

    name = settings.use or label
    influence = workshop.influence(witness=name == "influence_witness")
    return InfluenceScorer(influence, settings.direction or "contrastive", name)


def _dimension(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
    return workshop.unieval(settings).scorer(settings.use or label)


def _relevance(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
    from refine_af.feedback.embedding import RelevanceScorer

    return RelevanceScorer(workshop.embedder(settings))


def _neighbour_distance(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
    from refine_af.feedback.embedding import NeighbourDistanceScorer

    return NeighbourDistanceScorer(workshop.embedder(settings), workshop.seeds, k=settings.neighbours or NEIGHBOUR)


CATALOGUE: MappingProxyType[str, Entry] = MappingProxyType(
    {
        "likelihood": Entry(_likelihood, ("model", "revision")),
        "pmi": Entry(_pmi, ("model", "revision")),
        "influence": Entry(_influence, ("direction",)),
        "influence_witness": Entry(_influence, ("direction",)),
        "judge": Entry(_judge, ("model", "revision", "question", "base_url", "api_key_env")),
        "reward_model": Entry(lambda w, label, s: w.reward_model(s), ("model", "revision"), model=REWARD_MODEL),
        **{
            name: Entry(_dimension, ("model", "revision"), model=UNIEVAL)
            for name in ("naturalness", "coherence", "understandability", "engagingness", "groundedness")
        },
        "relevance": Entry(_relevance, ("model",), model=EMBEDDED),
        "neighbour_distance": Entry(_neighbour_distance, ("model", "neighbours"), model=EMBEDDED),
        "length": Entry(_rule("LengthScorer"), better="neither"),
        "repetition": Entry(_complement("VarietyScorer"), better="low"),
        "copying": Entry(_complement("OwnWordsScorer", "free"), ("free",), better="low"),
        "format": Entry(_rule("FormatScorer")),
        "instruction_echo": Entry(lambda w, label, s: EchoScorer("instruction", w.config.reads), better="low"),
        "input_echo": Entry(lambda w, label, s: EchoScorer("input", w.config.reads), better="low"),
        "unusual_length": Entry(lambda w, label, s: w.unusual_length(), better="low", model=EMBEDDED),
        "borrowed": Entry(lambda w, label, s: BorrowedScorer(w.people, w.config.reads), better="low"),
        "added_words": Entry(_rule("AddedWordsScorer")),
        "variety": Entry(_rule("VarietyScorer")),
        "own_words": Entry(_rule("OwnWordsScorer", "free"), ("free",)),
        "substance": Entry(_substance),
    }
)


def make_scorer(workshop: Workshop, label: str, settings: ScorerConfig) -> Scorer:
    """The scorer of a label: a known one, or the user's own; with the workshop's memory, where it has one.

    Raises UsageError where it can't be had.
    """
    from refine_af.feedback.custom import load_scorer

    name = settings.use or label
    made = CATALOGUE[name].make(workshop, label, settings) if name in CATALOGUE else load_scorer(name)
    return made if workshop.memory is None else remembered(made, workshop.memory)


def default_weight(better: Better, label: str) -> float:
    """1 where high values are better, -1 where low ones are; raises UsageError where the scorer doesn't say."""
    if better == "neither":
        raise UsageError(
            f"feedback.scorers.{label}.weight is missing: set 1 if high values are good, -1 if low values are good"
        )
    return 1.0 if better == "high" else -1.0
