"""The options of the reward: what it is made of, and with which weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from refine_af.config.section import Positive, Section


class ScorerConfig(Section):
    """A scorer in a composite reward. What a scorer has no use for must not be given."""

    use: str | None = Field(
        None, min_length=1, description="the scorer: a known name, module:attribute or an entry point; none: the label"
    )
    weight: float | None = Field(
        None, description="what a point is worth; none: 1 where high values are better, -1 where low ones are"
    )
    calibrated: bool = Field(
        True, description="whether the value is taken as a standard score against the seeds' pairs"
    )
    clip: Annotated[float, Field(gt=0)] | None = Field(
        None, description="values enter within ± clip; none: 2 where calibrated, else without a limit"
    )
    minimum: float | None = Field(None, description="a gate: a raw value under it caps the reward")
    maximum: float | None = Field(None, description="a gate: a raw value over it caps the reward")
    cap: float | None = Field(None, description="the most that a pair can get whose gate failed; none: the floor")
    model: str | None = Field(None, min_length=1, description="the scorer's model: a local folder or a Hub name")
    revision: str | None = Field(None, description="branch, tag or commit of a Hub model")
    question: str | None = Field(None, min_length=1, description="what a judge is asked, to be answered Yes or No")
    base_url: str | None = Field(None, min_length=1, description="OpenAI-compatible endpoint that a judge is asked at")
    api_key_env: str | None = Field(None, min_length=1, description="environment variable that holds its key")
    free: Positive | None = Field(None, description="words up to which an output may be a copy")
    neighbours: Positive | None = Field(None, description="the neighbour to which the distance is measured")
    direction: Literal["plain", "content", "contrastive"] | None = Field(
        None, description="of influence: what is to rise of the anchors (none: contrastive)"
    )


class FeedbackConfig(Section):
    """What the reward is made of."""

    name: str = Field(
        "embedded",
        description="embedded, instructmining_v1, instructmining_v2, composite, a scorer's name, or a function or "
        "class as module:attribute or entry point",
    )
    weights: dict[str, float] = Field(
        default_factory=dict, description="weight of a component of a named reward, in place of its default"
    )
    training_weights: dict[str, float] = Field(
        default_factory=dict,
        description="weights of components while the policy is trained, where they are to differ from those by which "
        "pairs are chosen; of embedded, content has none unless it is given here",
    )
    scorers: dict[str, ScorerConfig] = Field(
        default_factory=dict, description="what a composite is made of: a label of your choice, and settings"
    )
    batch_size: Positive = Field(32, description="pairs that a scorer's model reads at once")
    calibrated_on: Positive = Field(32, description="seed pairs against which rewards are standardised")
