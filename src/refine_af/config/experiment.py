"""The options of the paper's comparison."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from refine_af.config.arms import Arm
from refine_af.config.section import Natural, Positive, Section


class ExperimentConfig(Section):
    """The paper's comparison: one data set for each arm from the same instructions, the base model tuned on each, all
    evaluated on the same tasks."""

    arms: tuple[Arm, ...] = Field(
        (),
        description="data sets to compare, the control first; none: no experiment. self_instruct: first pairs of the "
        "policy before training, without feedback; initial: its best by the reward; best_of_n: the best with as many "
        "more as training sampled; tuned_first, tuned: first and best after training; shortest: the initial policy's "
        "shortest; shuffled, last_word: nonsense out of tuned's answers; or {name, policy, choose, spoil}",
    )
    policy_seeds: tuple[Natural, ...] = Field(
        (0,),
        min_length=1,
        description="0 is the run's own policy; for each other one the policy is trained again on the same "
        "instructions, pairs are written, and arms made of them, in the run's folder policies",
    )
    seeds: tuple[Natural, ...] = Field((0,), min_length=1, description="each data set is trained on once for each seed")
    sizes: tuple[Positive, ...] = Field(
        (), description="instructions in a data set, one training for each size; none: all that every arm has"
    )
    tasks: str | None = Field(
        None, min_length=1, description="what `refine-af evaluate --tasks` takes; none: the held-out seed tasks"
    )
    instances: Positive | None = Field(None, description="first instances of each task; none: all")
    shots: Literal[0, 2] = Field(0, description="positive examples shown")
    likelihood: bool = Field(
        False, description="also how likely the references are, as `refine-af evaluate --likelihood` measures it"
    )
    max_source: Positive = Field(1024, description="longest source, in tokens; what is longer is cut")
    max_target: Positive = Field(128, description="longest answer, in tokens")
    cut: Literal["none", "first_line", "blank_line"] = Field("none", description="where an answer that runs on is cut")
    prompt: Literal["auto", "plain", "chat"] = Field("auto", description="auto: the chat template where there is one")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arms, the control's first."""
        return tuple(arm.name for arm in self.arms)

    @property
    def takes_best_of_n(self) -> bool:
        """Whether the initial policy writes as many pairs more as training sampled."""
        return any(arm.policy == "best_of_n" for arm in self.arms)

    @model_validator(mode="after")
    def _nothing_twice(self) -> ExperimentConfig:
        if len(self.arms) == 1:
            raise ValueError(f"arms has {self.arms[0].name} alone; a comparison takes two or more, the control first")
        if self.policy_seeds[0] != 0:
            raise ValueError(
                f"policy_seeds begins with {self.policy_seeds[0]}, and must begin with 0, the run's own policy"
            )
        listed = {"arms": self.names, "seeds": self.seeds, "sizes": self.sizes, "policy_seeds": self.policy_seeds}
        for name, values in listed.items():
            if len(set(values)) < len(values):
                raise ValueError(f"{name} names one twice: {', '.join(map(str, values))}")
        return self
