"""The arms of an experiment: whose pairs make a data set, and which of an instruction's pairs are taken."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from refine_af.config.section import Section

ArmPolicy = Literal["initial", "tuned", "best_of_n"]
Choice = Literal["best", "first", "chance", "worst", "shortest"]
Spoiling = Literal["shuffled", "last_word"]


class Arm(Section):
    """A data set to be compared. Its name alone stands for it where it is one of :data:`KNOWN`."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    policy: ArmPolicy = Field(
        description="who wrote the pairs: the policy before training, after it, or before it with as many more as "
        "training sampled"
    )
    choose: Choice = Field(
        "best",
        description="which sound pair of an instruction is taken, by the reward; or, without any feedback, the first "
        "that the rules keep, one by chance, or the one with the shortest answer",
    )
    feedback: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="the reward that the best or the worst is taken by, as feedback.name; none: the run's own",
    )
    spoil: Spoiling | None = Field(
        None,
        description="nonsense in the style of the arm, which no measure may take for more: each answer behind another "
        "instruction, or its last word alone",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given
        if given not in KNOWN:
            raise ValueError(
                f"no arm is called {given}; there are {', '.join(KNOWN)}, or write {{name: {given}, policy: ..., "
                "choose: ...}"
            )
        return {"name": given, **KNOWN[given]}

    @model_validator(mode="after")
    def _feedback_chooses(self) -> Arm:
        if self.feedback is not None and self.choose not in ("best", "worst"):
            raise ValueError(
                f"arm {self.name}: choose={self.choose} asks no feedback; leave feedback out, or choose best"
            )
        return self

    @model_validator(mode="after")
    def _name_is_free(self) -> Arm:
        if self.name == "base":
            raise ValueError("base is the name of the model that is not tuned; call the arm something else")
        if self.name in KNOWN and self._told() != KNOWN[self.name]:
            raise ValueError(f"{self.name} is the name of another arm; call it something else")
        return self

    @model_serializer
    def _as_written(self) -> str | dict[str, str]:
        if self.name in KNOWN:
            return self.name
        return {"name": self.name, **self._told()}

    def _told(self) -> dict[str, str]:
        told = {"policy": self.policy, "choose": self.choose, "feedback": self.feedback, "spoil": self.spoil}
        return {name: value for name, value in told.items() if value is not None}


# The first two names stand in configs and runs of earlier versions, so they keep what they meant there.
KNOWN: dict[str, dict[str, str]] = {
    "initial": {"policy": "initial", "choose": "best"},
    "tuned": {"policy": "tuned", "choose": "best"},
    "best_of_n": {"policy": "best_of_n", "choose": "best"},
    "self_instruct": {"policy": "initial", "choose": "first"},
    "tuned_first": {"policy": "tuned", "choose": "first"},
    "shortest": {"policy": "initial", "choose": "shortest"},
    "shuffled": {"policy": "tuned", "choose": "best", "spoil": "shuffled"},
    "last_word": {"policy": "tuned", "choose": "best", "spoil": "last_word"},
}
