"""The arms of an experiment: whose pairs make a data set, and which of an instruction's pairs are taken."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from refine_af.config.section import Section

ArmPolicy = Literal["initial", "tuned", "best_of_n"]
Choice = Literal["best", "first", "chance", "worst"]


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
        "that the rules keep, or one by chance",
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
        policy, choose = KNOWN[given]
        return {"name": given, "policy": policy, "choose": choose}

    @model_validator(mode="after")
    def _name_is_free(self) -> Arm:
        if self.name == "base":
            raise ValueError("base is the name of the model that is not tuned; call the arm something else")
        if KNOWN.get(self.name, (self.policy, self.choose)) != (self.policy, self.choose):
            raise ValueError(f"{self.name} is the name of another arm; call it something else")
        return self

    @model_serializer
    def _as_written(self) -> str | dict[str, str]:
        if self.name in KNOWN:
            return self.name
        return {"name": self.name, "policy": self.policy, "choose": self.choose}


# The first two names stand in configs and runs of earlier versions, so they keep what they meant there.
KNOWN: dict[str, tuple[ArmPolicy, Choice]] = {
    "initial": ("initial", "best"),
    "tuned": ("tuned", "best"),
    "best_of_n": ("best_of_n", "best"),
    "self_instruct": ("initial", "first"),
    "tuned_first": ("tuned", "first"),
}
