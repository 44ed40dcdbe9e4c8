"""The plan: each stage's tokens, hours and memory on a reference machine, and whether this machine has room
for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from refine_af.config import Config
from refine_af.planning.assumptions import assumptions
from refine_af.planning.fit import Finding, Fit, judge
from refine_af.planning.hardware import Hardware, detect
from refine_af.planning.machines import Estimate, GpuMachine, Machine, cpu_machine
from refine_af.planning.memory import Part, Setup, disk, stage_memory
from refine_af.planning.models import ModelFacts, find_facts
from refine_af.planning.work import Fixed, Generation, StageWork, Work
from refine_af.planning.workload import validation, workload


@dataclass(frozen=True, slots=True)
class PieceOfWork:
    """A part of a stage: tokens by what happens to them, seconds on the reference machine and their
    arithmetic."""

    name: str
    prompt_tokens: int
    completion_tokens: int
    scored_tokens: int  # forward only
    trained_tokens: int  # forward and backward
    seconds: float | None
    formula: str


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage: what would run in words, its parts, and what is in memory at its peak (GB of 10⁹ bytes)."""

    name: str
    words: str
    pieces: tuple[PieceOfWork, ...]
    memory: tuple[Part, ...]

    @property
    def prompt_tokens(self) -> int:
        return sum(piece.prompt_tokens for piece in self.pieces)

    @property
    def completion_tokens(self) -> int:
        return sum(piece.completion_tokens for piece in self.pieces)

    @property
    def trained_tokens(self) -> int:
        return sum(piece.trained_tokens for piece in self.pieces)

    @property
    def hours(self) -> float | None:
        """None where the model's size isn't known."""
        seconds = [piece.seconds for piece in self.pieces]
        return None if None in seconds else sum(s for s in seconds if s is not None) / 3600

    @property
    def memory_gb(self) -> float | None:
        return sum(part.gb for part in self.memory) if self.memory else None

    def piece(self, name: str) -> PieceOfWork:
        """Raises KeyError where the stage has no part of that name."""
        for piece in self.pieces:
            if piece.name == name:
                return piece
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        sums = ("prompt_tokens", "completion_tokens", "trained_tokens", "hours", "memory_gb")
        return {**asdict(self), **{name: getattr(self, name) for name in sums}}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do and cost. Every number is an estimate; ``assumptions`` says what it rests on."""

    model: str
    facts: ModelFacts | None
    problem: str  # why the model's sizes aren't known, and what to do; empty where they are
    reference: str
    stages: tuple[StagePlan, ...]
    validation: StagePlan  # of its reward, apart from the run
    disk: tuple[Part, ...]
    hardware: Hardware
    fit: Fit
    assumptions: tuple[str, ...]

    def stage(self, name: str) -> StagePlan:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def hours(self) -> float | None:
        hours = [stage.hours for stage in self.stages]
        return None if None in hours else sum(h for h in hours if h is not None)

    @property
    def peak_memory_gb(self) -> float | None:
        sizes = [stage.memory_gb for stage in self.stages if stage.memory_gb is not None]
        return max(sizes, default=None)

    @property
    def disk_gb(self) -> float:
        return sum(part.gb for part in self.disk)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the totals beside the parts they are made of."""
        return {
            **asdict(self),
            "stages": [stage.as_dict() for stage in self.stages],
            "validation": self.validation.as_dict(),
            "total": {
                "hours": self.hours,
                "peak_memory_gb": self.peak_memory_gb,
                "disk_gb": self.disk_gb,
                **{
                    name: sum(getattr(stage, name) for stage in self.stages)
                    for name in ("prompt_tokens", "completion_tokens", "trained_tokens")
                },
            },
        }


def make_plan(config: Config, seeds: int, hardware: Hardware | None = None) -> Plan:
    """The plan of a run with ``seeds`` tasks written by people, judged against ``hardware`` or this machine.

    Reads config.json files and asks nvidia-smi; downloads nothing and imports no torch. A model whose sizes
    aren't known gives a plan without hours and memory that says how to make them known.
    """
    hardware = hardware or detect()
    facts, problem = find_facts(config.model.name, config.model.revision)
    work = workload(config, seeds, facts)
    setup = None if facts is None else _setup(config, facts, hardware)
    machine: Machine | None = None
    if setup is not None:
        machine = GpuMachine() if setup.kind == "gpu" else cpu_machine(setup, int8=hardware.int8)

    def planned(stage: StageWork) -> StagePlan:
        pieces = tuple(_piece(piece, machine, facts) for piece in stage.pieces)
        return StagePlan(
            stage.name, stage.words, pieces, stage_memory(config, setup, stage) if setup is not None else ()
        )

    stages = tuple(map(planned, work))
    checked = planned(validation(config, seeds, facts))
    room = disk(config, setup, work)
    peak = max((stage.memory_gb or 0.0 for stage in stages), default=0.0)
    if setup is None:
        fit = Fit(None, (Finding(None, problem),))
    else:
        fit = judge(config, setup, peak, sum(part.gb for part in room), hardware)
    title = machine.title if machine is not None else "none: the model's size is not known"
    return Plan(
        config.model.name, facts, problem, title, stages, checked, room, hardware, fit, assumptions(config, setup)
    )


def _setup(config: Config, facts: ModelFacts, hardware: Hardware) -> Setup:
    """Where the reference run takes place: a CPU for under a billion parameters, a GPU above, unless the
    config says. CTranslate2 rounds on any CPU."""
    if config.model.device == "auto":
        kind = "cpu" if facts.small else "gpu"
    else:
        kind = "cpu" if config.model.device == "cpu" else "gpu"
    engine = "ctranslate2" if config.model.engine == "ctranslate2" else "transformers"
    rounded = config.model.is_rounded(cpu=kind == "cpu") and (hardware.int8 or engine == "ctranslate2")
    packed = not rounded and config.model.is_packed(facts.parameters, cpu=kind == "cpu")
    return Setup(facts, kind, engine, rounded, packed)


def _piece(work: Work, machine: Machine | None, facts: ModelFacts | None) -> PieceOfWork:
    prompt = completion = scored = trained = 0.0
    run: Callable[[Machine, ModelFacts], Estimate]
    if isinstance(work, Generation):
        generation = work
        prompt, completion = work.completions * work.prompt, work.completions * work.mean_new

        def run(machine: Machine, facts: ModelFacts) -> Estimate:
            return machine.generate(generation, facts)

    elif isinstance(work, Fixed):
        fixed = work

        def run(machine: Machine, facts: ModelFacts) -> Estimate:
            return machine.fixed(fixed.kind, fixed.times, facts)

    else:
        passes = work
        scored, trained = (0.0, work.tokens) if work.kind in ("train", "finetune") else (work.tokens, 0.0)

        def run(machine: Machine, facts: ModelFacts) -> Estimate:
            return machine.passes(passes.kind, passes.tokens, passes.parameters or facts.parameters)

    seconds, formula = None, "the model's size is not known"
    if machine is not None and facts is not None:
        estimate = run(machine, facts)
        seconds, formula = estimate.seconds, estimate.formula
    return PieceOfWork(work.name, round(prompt), round(completion), round(scored), round(trained), seconds, formula)
