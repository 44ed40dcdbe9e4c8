"""A run: the stages in order, each once, resumed where a killed process left them."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from refine_af import __version__
from refine_af.checks import OF_THE_MODEL, checks
from refine_af.config import GONE, Config, as_yaml, differences, shown_differences
from refine_af.errors import RefineError, UsageError
from refine_af.exhaustion import exhaustion_explained
from refine_af.feedback.check import foresees_training
from refine_af.files import check_folder, make_folder, one_process, write_text
from refine_af.models import EMBEDDED
from refine_af.parts import Parts
from refine_af.progress import Progress, Silent
from refine_af.stages.context import Context, execute_stage
from refine_af.stages.learning import check_team
from refine_af.stages.trial import try_model
from refine_af.store import Store
from refine_af.team import Team
from refine_af.weights import fingerprint

STAGES = ("seeds", "instructions", "policy", "instances", "finetune", "evaluate", "arms", "report")
# How much is computed at once, and where a server stands: changes rounding and memory, not what is computed, so a run
# that was too large for the memory, or whose server has moved, can go on.
_CHANGEABLE = {
    "threads",
    "policy.micro_batch",
    "policy.gradient_checkpointing",
    "finetune.micro_batch",
    "feedback.batch_size",
    "model.server.url",
    "model.server.name",
    "model.server.timeout",
}
# Options that nothing reads before a stage has begun, by how their names begin, the longest first.
_FIRST_READ = {
    "instances.inputs": "instructions",
    "policy": "policy",
    "feedback": "policy",
    "instances": "policy",
    "finetune": "finetune",
    "evaluation": "evaluate",
    "experiment": "arms",
}
_WITH_LESS_MEMORY = (
    "go on with a smaller policy.micro_batch, finetune.micro_batch or feedback.batch_size, or with "
    "policy.gradient_checkpointing=true, or start anew with a smaller model.batch_size"
)
_GONE = [name.removeprefix("policy.") for name in GONE]  # all are the policy's
_PAID_APART = "training_weights"  # of feedback: before, policies were paid what pairs are chosen by
_RECORDED = ("torch", "transformers", "peft", "trl", "ctranslate2", "rapidfuzz", "numpy")


class Run:
    """A run in ``folder``. ``Run(config, folder).execute()`` starts it, or goes on where it stopped.

    Raises UsageError, before anything is written, for a config that can't work here or a folder of another run.
    """

    def __init__(
        self, config: Config, folder: Path, progress: Progress | None = None, team: Team | None = None
    ) -> None:
        self.config = config
        self.folder = folder
        self._progress = progress or Silent()
        self._team = team or Team()

    def execute(self, until: str | None = None) -> None:
        """Runs the stages up to and with ``until`` (all of them without it)."""
        if until is not None and until not in STAGES:
            raise UsageError(f"no stage {until!r}; there are: {', '.join(STAGES)}")
        scratch = self.folder / ".scratch"
        parts = Parts(self.config, scratch)
        self._check(parts, until)
        self._progress.note(f"refine-af: {self.config.model.name} in {self.folder}")
        with exhaustion_explained(self.folder, _WITH_LESS_MEMORY):
            if until != "seeds" and not (self.folder / "run.db").exists():
                try_model(parts)
            make_folder(self.folder)
            with one_process(self.folder), Store(self.folder / "run.db") as store:
                self._adopt(store, parts)
                shutil.rmtree(scratch, ignore_errors=True)
                context = Context(self.config, store, self.folder, parts, self._progress, self._team)
                for stage in STAGES[: STAGES.index(until) + 1 if until else None]:
                    execute_stage(context, stage, _stage_function(stage))
                shutil.rmtree(scratch, ignore_errors=True)
        self._team.dismiss()

    def _check(self, parts: Parts, until: str | None) -> None:
        """What can be known before anything is written: of the config, and whose folder it is. The first stage does
        without the model's tokenizer and layers."""
        for name, check in checks(self.config, parts):
            if until != "seeds" or name not in OF_THE_MODEL:
                check()
        check_team(self.config, self._team)
        check_folder(self.folder)
        database = self.folder / "run.db"
        if database.exists():
            with Store(database, read_only=True) as store:
                self._refuse_other_config(store)
                self._refuse_other_model(store, parts)

    def _refuse_other_config(self, store: Store) -> None:
        known = store.run_config() if store.has_schema() else None
        if known is None:
            return
        self._refuse_older(store, known)
        changed = self._changes(known)
        foresees = foresees_training(self.config)
        if any(not _may_change(line.split(":")[0], store, foresees) for line in changed):
            raise UsageError(
                f"{self.folder} was begun with other options (then -> now: {shown_differences(changed)}): "
                f"use --config {self.folder}/config.yaml, another --out, or --fresh"
            )

    def _refuse_other_model(self, store: Store, parts: Parts) -> None:
        """A name stays while the files behind it change; rows before and after would be of two models."""
        known = store.run_versions().get("model") if store.has_schema() else None
        if known is not None and known != self._model_version(parts):
            raise UsageError(
                f"the files of the model {self.config.model.name} have changed since the run in {self.folder} began: "
                "put those back that it began with, or start over with --fresh"
            )

    def _model_version(self, parts: Parts) -> str:
        """The embedded model has its package's, and may have to be converted first."""
        return EMBEDDED if self.config.model.name == EMBEDDED else fingerprint(parts.located.folder)

    def _refuse_older(self, store: Store, known: dict[str, Any]) -> None:
        """A run of an earlier version that is in the middle of what is done in another way now."""
        candidates = self.config.experiment.takes_best_of_n and not store.stage_done("arms")
        has_pairs = store.stage_done("instances") and not candidates
        learning = store.stage_begun("policy") and not store.stage_done("policy")
        if store.stage_begun("instructions") and not (store.writes_pairs_as_now() or has_pairs):
            otherwise = "wrote pairs differently"
        elif learning and (any(name in known["policy"] for name in _GONE) or _PAID_APART not in known["feedback"]):
            otherwise = "trained the policy differently"
        else:
            return
        raise UsageError(
            f"{self.folder} was begun by an earlier refine-af ({_began(store)}), which {otherwise}: finish it with "
            "that version, or start over in another folder with --fresh; nothing in this one is changed"
        )

    def _changes(self, known: dict[str, Any]) -> list[str]:
        """In what the config differs from the run's. An option that is younger than the run stood at its default."""
        known = known | {"policy": {k: v for k, v in known["policy"].items() if k not in _GONE}}
        with suppress(ValidationError):  # for an option that is no more, the difference is told
            known = Config.model_validate(known).model_dump(mode="json")
        return differences(known, self.config.model_dump(mode="json"))

    def _adopt(self, store: Store, parts: Parts) -> None:
        if store.run_config() is None:
            versions = {"refine-af": __version__} | {name: _version(name) for name in _RECORDED}
            store.save_run(self.config.model_dump(mode="json"), versions | {"model": self._model_version(parts)})
        elif not store.writes_pairs_as_now() and not store.stage_begun("instructions"):
            store.write_pairs_as_now()
        changed = self._changes(store.run_config() or {})
        if changed:
            rounding = any(line.split(":")[0] in _CHANGEABLE for line in changed)
            told = ": rows may differ in rounding from those before" if rounding else ""
            self._progress.note(f"goes on with {'; '.join(changed)}{told}")
            store.change_config(self.config.model_dump(mode="json"), "; ".join(changed))
        write_text(self.folder / "config.yaml", as_yaml(self.config))


def _may_change(option: str, store: Store, foresees: bool) -> bool:
    """Whether an option of a run that has begun may be another one from now on. ``foresees``: whether the reward reads
    how the model will be fine-tuned."""
    if option in _CHANGEABLE:
        return True
    stage = next((_FIRST_READ[one] for one in _FIRST_READ if f"{option}.".startswith(f"{one}.")), None)
    if stage is None or store.stage_begun(stage):
        return False
    return not (stage == "finetune" and foresees and store.stage_begun("policy"))


def _stage_function(stage: str) -> Callable[[Context], str]:
    """Imported when called: the last stages' libraries are large, and a run that stops early doesn't need them."""

    def run(context: Context) -> str:
        function: Callable[[Context], str] = getattr(
            importlib.import_module(f"refine_af.stages.{stage}"), f"run_{stage}"
        )
        return function(context)

    return run


def _began(store: Store) -> str:
    return store.run_versions().get("refine-af", "its version was not noted")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def open_run(folder: Path) -> Store:
    """The rows of an existing run, to read. Raises UsageError where there is none."""
    database = folder / "run.db"
    if not database.is_file():
        raise UsageError(f"{folder} is no run's folder: it has no run.db; `refine-af run --out {folder}` makes one")
    store = Store(database, read_only=True)
    if store.is_outdated():
        store.close()
        Store(database).close()  # brings the schema up to date; the rows stay as they are
        store = Store(database, read_only=True)
    if not store.has_schema() or store.run_config() is None:
        raise RefineError(f"the run in {folder} has not begun: its database is empty")
    return store


def run_status(store: Store) -> dict[str, object]:
    """Stage by stage: status, counts, reasons; and the reward so far."""
    stages = {}
    for name in STAGES:
        row = store.query("SELECT * FROM stages WHERE name = ?", name)
        stages[name] = {
            "status": row[0]["status"] if row else "not begun",
            "cursor": json.loads(row[0]["cursor"]) if row else {},
            "counts": {k: row[0][k] for k in ("read", "kept", "rejected", "failed")} if row else {},
            "rejected": store.rejection_reasons(name),
        }
    return {
        "stages": stages,
        "instructions": len(store.instructions(origin="generated")),
        "instances": {p: len(store.instances(policy=p)) for p in ("initial", "tuned", "best_of_n")},
        "selected": len(store.instances(selected=True)),
        "reward": dict(store.metric("policy", "reward_mean")),
        "metrics": {
            row["stage"] + "/" + row["name"]: row["value"]
            for row in store.query("SELECT stage, name, value FROM metrics WHERE step = 0 ORDER BY stage, name")
        },
    }
