"""Who of several single-threaded workers generates what."""

from __future__ import annotations

from dataclasses import dataclass

from refine_af.batching import cheapest_batches

# Decoding a small model gains little from a second thread and almost everything from a second worker, so a batch is
# split among single-threaded workers as long as each has this many rows and their copies of the weights fit.
ROWS_OF_A_WORKER = 8
_EXPECTED_TOKENS = 64  # of an answer, where batches are made; the longest allowed where that is less


@dataclass(frozen=True, slots=True)
class Job:
    """A batch of prompts: pieces that all begin with, those that follow, and the prompts' places."""

    prefix: list[str]
    suffixes: list[list[str]]
    places: list[int]

    @property
    def work(self) -> int:
        """What decides how long it takes, roughly: tokens to read and to write."""
        return sum(map(len, self.suffixes)) + len(self.suffixes) * _EXPECTED_TOKENS


def split(rows: list[int], workers: int) -> list[list[int]]:
    """Neighbours together, in as many even parts as there are workers with enough to do."""
    count = max(1, min(workers, len(rows) // ROWS_OF_A_WORKER))
    size = -(-len(rows) // count)
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def jobs_of(prefix: list[str], suffixes: list[list[str]], first: int, size: int, max_tokens: int) -> list[Job]:
    """The prompts of a group in batches; their places count from ``first`` on."""
    decoded = min(max_tokens, _EXPECTED_TOKENS)
    batches = cheapest_batches([len(s) for s in suffixes], size, decoded)
    return [Job(prefix, [suffixes[i] for i in batch], [first + i for i in batch]) for batch in batches]


def evenly(jobs: list[Job], workers: int) -> list[list[Job]]:
    """The jobs in their order in as many runs as there are workers, of about equal work."""
    whole, done = sum(job.work for job in jobs), 0
    shares: list[list[Job]] = [[] for _ in range(workers)]
    for job in jobs:
        # Where the job's middle lies in the whole decides whose it is.
        shares[min(workers - 1, (2 * done + job.work) * workers // (2 * whole))].append(job)
        done += job.work
    return shares
