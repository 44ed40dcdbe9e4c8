"""Whether a machine has room for a plan: the peak against its GPU or memory, the disk, and what would make
it fit."""

from __future__ import annotations

from dataclasses import dataclass

from refine_af.config import Config
from refine_af.planning.hardware import Hardware
from refine_af.planning.machines import GpuMachine
from refine_af.planning.memory import Setup, stage_memory
from refine_af.planning.units import gigabytes
from refine_af.planning.workload import workload


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was compared: it fits (True), it doesn't (False), or it is advice (None)."""

    ok: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether this machine has room. ``ok`` is None where that can't be said; ``findings`` say why and what
    to do."""

    ok: bool | None
    findings: tuple[Finding, ...]


def judge(config: Config, setup: Setup, peak: float, disk_gb: float, hardware: Hardware) -> Fit:
    """Compares the peak with this machine's GPU or memory, and the disk with what is free."""
    room = _gpu_finding(peak, hardware) if setup.kind == "gpu" else _memory_finding(peak, hardware)
    findings = [room]
    limit = GpuMachine().memory_gb
    if setup.kind == "gpu" and peak > 0.9 * limit:
        text = f"On a GPU of {limit:.0f} GB, {gigabytes(peak)} is {'too much' if peak > limit else 'tight'}."
        findings.append(Finding(None, text))
    if room.ok is False or len(findings) > 1:
        findings += _savings(config, setup, peak)
    free = hardware.disk_free_gb
    if free is not None:
        enough = free >= disk_gb
        text = f"Disk: about {gigabytes(disk_gb)} needed, {gigabytes(free)} free{': enough' if enough else ''}."
        findings.append(Finding(enough, text))
    answers = [finding.ok for finding in (room, findings[-1])]
    return Fit(False if False in answers else None if None in answers else True, tuple(findings))


def _savings(config: Config, setup: Setup, peak: float) -> list[Finding]:
    """The peak with smaller batches: half of what generates, then the smallest of everything."""

    def with_batches(generate: int, policy: int, finetune: int) -> float:
        smaller = config.model_copy(
            update={
                "model": config.model.model_copy(update={"batch_size": generate}),
                "policy": config.policy.model_copy(update={"micro_batch": policy}),
                "finetune": config.finetune.model_copy(update={"micro_batch": finetune}),
            }
        )
        stages = workload(smaller, 0, setup.facts)
        return max(sum(part.gb for part in stage_memory(smaller, setup, stage)) for stage in stages)

    half = max(1, config.model.batch_size // 2)
    least = min(8, half)
    choices = [
        (
            f"model.batch_size={half}",
            with_batches(half, config.policy.micro_batch, config.finetune.micro_batch),
        ),
        (
            f"model.batch_size={least}, policy.micro_batch=1 and finetune.micro_batch=1",
            with_batches(least, 1, 1),
        ),
    ]
    return [
        Finding(None, f"With {change} it would need about {gigabytes(size)}, and take longer.")
        for change, size in choices
        if size < 0.95 * peak
    ]


def _gpu_finding(peak: float, hardware: Hardware) -> Finding:
    gpu = hardware.best_gpu
    needed = f"about {gigabytes(peak)} of memory"
    if gpu is None:
        text = f"A GPU is missing: the run needs one with {needed}, and nvidia-smi lists none here."
        return Finding(False, f"{text} `refine-af run --preset embedded` shows the whole way on a CPU.")
    if peak > gpu.memory_gb:
        return Finding(
            False, f"GPU memory is short: {needed} needed, {gpu.name} has {gigabytes(gpu.memory_gb)} in all."
        )
    return Finding(True, f"GPU: {needed} needed, {gpu.name} has {gigabytes(gpu.memory_gb)} in all: it fits.")


def _memory_finding(peak: float, hardware: Hardware) -> Finding:
    if hardware.memory_gb is None:
        return Finding(None, f"About {gigabytes(peak)} of memory needed; this system doesn't say what it has.")
    have = gigabytes(hardware.memory_gb)
    if peak > hardware.memory_gb:
        return Finding(False, f"Memory is short: about {gigabytes(peak)} needed, this machine has {have}.")
    return Finding(True, f"Memory: about {gigabytes(peak)} needed, this machine has {have}: it fits.")
