"""What libraries are told through the environment, before they are imported; and memory that is given back."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import warnings
from contextlib import suppress


def quiet_libraries() -> None:
    """No bars, advice or telemetry of theirs; what the user has set stands."""
    # How long threads that wait spin before they sleep: through the gap between two operations of a decoder's step (a
    # third quicker than asleep at once), and no longer, which would take the cores from others on a shared machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    os.environ.setdefault("TQDM_DISABLE", "1")  # the libraries' own bars would break into ours
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it wherever it is installed
    warnings.filterwarnings("ignore", module=r"(transformers|peft|trl|torch|datasets|accelerate)\b")


def give_back_memory() -> None:
    """Hands what was freed back to the system. glibc keeps it for threads that may have ended, and what comes next
    would be taken on top. Other C libraries know no such call, and nothing happens."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
