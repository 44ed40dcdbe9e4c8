"""What this machine has: cores, memory, GPUs and free disk, asked of the system without importing torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from refine_af.planning.units import GB

INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8")  # a processor with one of them computes in int8


@dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device and its whole memory in GB."""

    name: str
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine. ``memory_gb`` is what this process may use of it; ``disk_free_gb`` is free where the run
    is kept; ``int8``: its processor has instructions for products of int8 numbers."""

    cores: int
    memory_gb: float | None
    gpus: tuple[Gpu, ...] = ()
    disk_free_gb: float | None = None
    int8: bool = True

    @property
    def best_gpu(self) -> Gpu | None:
        """The one with most memory: a run uses one GPU."""
        return max(self.gpus, key=lambda gpu: gpu.memory_gb, default=None)


def detect(folder: Path | None = None) -> Hardware:
    """This machine, with the disk that holds ``folder`` (the current folder without one)."""
    disk = disk_free_gb(folder or Path.cwd())
    return Hardware(usable_cores(), usable_memory_gb(), find_gpus(), disk, has_int8_instructions())


def usable_cores() -> int:
    """Cores this process may run on: the machine's, its affinity's or its container's, whichever is least."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _first_line("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit() and quota[1].isdigit() and int(quota[1]):
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def has_int8_instructions() -> bool:
    """What engines/int8.py asks torch, as Linux tells it; where the system doesn't say, there are none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])
    return any(flag in flags for flag in INT8_FLAGS)


def usable_memory_gb() -> float | None:
    """Physical memory or the container's limit, whichever is less; None where the system doesn't say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _first_line(file)
        if limit.isdigit():
            total = min(total, int(limit))
    return total / GB


def find_gpus(timeout_s: float = 5.0) -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that nvidia-smi lists and CUDA_VISIBLE_DEVICES doesn't hide; none where it is absent
    or hangs."""
    program = shutil.which("nvidia-smi")
    if program is None or os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in {"", "-1"}:
        return ()
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=timeout_s, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    gpus = []
    for line in answer.splitlines():
        name, _, mebibytes = line.rpartition(",")
        if name and mebibytes.strip().isdigit():
            gpus.append(Gpu(name.strip(), int(mebibytes) * 2**20 / GB))
    return tuple(gpus)


def disk_free_gb(folder: Path) -> float | None:
    """Free space on the disk of a folder, or of its nearest parent that exists."""
    for place in (folder.absolute(), *folder.absolute().parents):
        if place.exists():
            try:
                return shutil.disk_usage(place).free / GB
            except OSError:
                return None
    return None


def _first_line(file: str) -> str:
    try:
        with open(file, encoding="utf-8") as stream:
            return stream.readline().strip()
    except (OSError, UnicodeDecodeError):
        return ""
