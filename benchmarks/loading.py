"""What the checks of a model cost where one is loaded, on the embedded one.

    python benchmarks/loading.py

Loads in turn with all checks and with none, in this process, on one thread, once before counting. Counts the
processor's seconds, which hardly depend on what else the machine does. Writes loading.json beside.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

from refine_af.config import load_config
from refine_af.models import locate
from refine_af.parts import Parts

RESULTS = Path(__file__).with_suffix(".json")
TIMES = 7
CHECKS = (
    "refine_af.models.check_files",
    "refine_af.loading._check_head",
    "refine_af.loading._check_forward",
    "refine_af.weights._check_all_fit",
    "refine_af.weights._check_finite",
    "refine_af.parts.check_embeddings",
)


@contextmanager
def unchecked() -> Iterator[None]:
    with ExitStack() as stack:
        for name in CHECKS:
            stack.enter_context(patch(name, lambda *_: None))
        yield


def seconds(scratch: Path) -> float:
    """Of the processor, to load the network; the tokenizer is there, and the files are in the system's cache."""
    parts = Parts(load_config(overrides=["model.device=cpu", "threads=1"]), scratch)
    parts.tokenizer.get_vocab()
    started = time.process_time()
    assert parts.network.num_parameters() > 0
    return time.process_time() - started


def main() -> None:
    locate(load_config().model)
    checked, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        seconds(Path(folder))
        for _ in range(TIMES):
            checked.append(seconds(Path(folder)))
            with unchecked():
                plain.append(seconds(Path(folder)))
    found = {
        "model": "embedded",
        "times": TIMES,
        "median_seconds_with_checks": round(statistics.median(checked), 3),
        "median_seconds_without": round(statistics.median(plain), 3),
        "median_seconds_more": round(statistics.median(a - b for a, b in zip(checked, plain, strict=True)), 3),
    }
    print(json.dumps(found, indent=2))
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
