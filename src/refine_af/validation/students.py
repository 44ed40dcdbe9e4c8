"""Tunes students on data sets and measures them, each once."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from refine_af.environment import give_back_memory
from refine_af.evaluation.likelihood import Questions
from refine_af.evaluation.references import Measured, measured
from refine_af.feedback.base import Example
from refine_af.files import write_text
from refine_af.parts import Parts
from refine_af.progress import Silent
from refine_af.records import Instance, Instruction, content_id, derived_seed
from refine_af.stages.context import Context
from refine_af.stages.finetune import tune
from refine_af.store import Store

UNTOUCHED = "untouched"


class Students:
    """Tunes the model on pairs and measures it by ``questions``; each student once, as long as ``journal`` is kept.

    A student of the journal is known by its pairs in their order, its seed, the config's model and fine-tuning, and
    the questions. One process at a time may write a journal. ``by_task``: whether figures are those of tasks, or else
    of each of their references.
    """

    def __init__(
        self,
        parts: Parts,
        questions: Sequence[Questions],
        journal: Path,
        note: Callable[[str], None],
        *,
        by_task: bool = True,
    ) -> None:
        self._parts = parts
        self._questions = questions
        self._journal = journal
        self._note = note
        self._by_task = by_task
        self._known: dict[str, Measured] = {}
        if journal.is_file():
            *lines, half = journal.read_text(encoding="utf-8").split("\n")
            self._known = {row["key"]: row["tasks"] for row in map(json.loads, lines)}
            if half:  # left by a process that was killed
                write_text(journal, "".join(f"{line}\n" for line in lines))

    def untouched(self) -> Measured:
        """The model as it is."""
        return self.tuned_on(UNTOUCHED, [], None)

    def tuned_on(self, name: str, pairs: Sequence[Example], seed: int | None) -> Measured:
        """Students of one seed begin at the same adapter, whatever they are tuned on."""
        key = self._key(pairs, seed)
        if key not in self._known:
            started = time.perf_counter()
            with tempfile.TemporaryDirectory(prefix="refine-af-student-") as folder:
                adapter = None if seed is None else self._tuned(pairs, seed, Path(folder))
                trained = time.perf_counter()
                with self._parts.adapted_engine(adapter) as engine, self._parts.reading(engine, adapter) as reader:
                    found = measured(reader, self._questions, by_task=self._by_task)
            give_back_memory()
            seconds = {"training": round(trained - started, 1), "measure": round(time.perf_counter() - trained, 1)}
            row = {"key": key, "name": name, "seed": seed, "pairs": len(pairs), "seconds": seconds, "tasks": found}
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._known[key] = found
            whose = name if seed is None else f"{name}, training {seed}"
            self._note(f"{whose}: {seconds['training']} s to train, {seconds['measure']} s to measure")
        return self._known[key]

    def _key(self, pairs: Sequence[Example], seed: int | None) -> str:
        config = self._parts.config
        settings = [config.model.model_dump(mode="json"), config.finetune.model_dump(mode="json")]
        texts = [[asdict(one) for one in pairs], seed, settings, [asdict(one) for one in self._questions]]
        return content_id(json.dumps(texts, sort_keys=True))

    def _tuned(self, pairs: Sequence[Example], seed: int, folder: Path) -> Path:
        """The adapter's folder in ``folder``, by the product's own fine-tuning."""
        model = self._parts.located.label
        ids = {text: content_id("instruction", text) for text in (one.instruction for one in pairs)}
        rows = [
            Instance(str(place), ids[one.instruction], one.input, one.output, model, "initial")
            for place, one in enumerate(pairs)
        ]
        with Store(folder / "run.db") as store:
            store.add_instructions(
                Instruction(id, text, None, None, "generated", 0, model, (), None, None, "kept")
                for text, id in ids.items()
            )
            context = Context(self._parts.config, store, folder, self._parts, _Notes(self._note))
            tune(context, rows, folder / "adapter", derived_seed("student", seed), "student")
        return folder / "adapter"


class _Notes(Silent):
    """Shows what a user should read, and no more."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note

    def note(self, text: str) -> None:
        self._note(text)
