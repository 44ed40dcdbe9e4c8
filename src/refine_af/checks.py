"""What can be known before a run begins, in one place: `run` refuses it, `plan` and `doctor` tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from refine_af.config import Config
from refine_af.engines.vllm import check_server
from refine_af.errors import RefineError, UsageError
from refine_af.experiment.check import check_experiment
from refine_af.feedback.check import check_anchors, check_feedback, check_witness
from refine_af.models import EMBEDDED, check_model, check_packages, check_targets
from refine_af.parts import Parts
from refine_af.rl.trackers import check_trackers
from refine_af.seeds import shown_tasks
from refine_af.stages.context import calibration_pairs

_LAYERS_OF_LLAMA = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
OF_THE_MODEL = ("chat template", "layers for adapters")  # what opens the model's files, which must be there


def checks(config: Config, parts: Parts) -> Iterator[tuple[str, Callable[[], None]]]:
    """Each check with its name; it raises UsageError. None loads weights. Of the embedded model they take no time; of
    another one the last two read its tokenizer and make its layers, which takes some seconds."""
    yield "seeds", lambda: _check_seeds(config)
    yield "packages", check_packages
    yield "model", lambda: check_model(config.model)
    yield "server", lambda: check_server(config.model)
    yield "feedback", lambda: check_feedback(config.feedback, _calibrated(config))
    yield "anchors", lambda: check_anchors(config)
    yield "witness", lambda: check_witness(config.policy, config.feedback)
    yield "trackers", lambda: check_trackers(config.policy.report_to)
    yield "experiment", lambda: check_experiment(config)
    yield "feedback of arms", lambda: _check_arms(config)
    yield "chat template", lambda: _check_template(config, parts)
    yield "layers for adapters", lambda: _check_layers(config, parts)


def refusals(config: Config, parts: Parts) -> dict[str, str]:
    """By their names, the checks that a run of the config would not pass now, with what they say, each thing once."""
    found: dict[str, str] = {}
    for name, check in checks(config, parts):
        if name in OF_THE_MODEL and not found.keys().isdisjoint(("packages", "model")):
            continue
        try:
            check()
        except RefineError as error:
            if (said := str(error)) not in found.values():
                found[name] = said
    return found


def _check_seeds(config: Config) -> None:
    shown_tasks(config.seeds, config.seed)


def _calibrated(config: Config) -> int:
    return len(calibration_pairs(shown_tasks(config.seeds, config.seed), config))


def _check_arms(config: Config) -> None:
    for one in config.feedbacks_of_arms().values():
        try:
            check_feedback(one.feedback, _calibrated(one))
            check_anchors(one)
        except UsageError as error:
            raise UsageError(f"experiment.arms: {error}") from None


def _check_template(config: Config, parts: Parts) -> None:
    """Of the tokenizer, which the first stage does without. The embedded model's is known to do, and that model may
    have to be converted first."""
    if config.model.name != EMBEDDED:
        shown = config.instances.demonstrations or config.instances.answer_demonstrations
        parts.dialect.check(turns=bool(shown))


def _check_layers(config: Config, parts: Parts) -> None:
    """That the layers which are to get adapters are there: hours later it would be late to learn it. The embedded model
    may have to be converted first, and has Llama's layers."""
    wanted = {"policy.lora": config.policy.lora} if config.policy.trains else {}
    wanted["finetune.lora"] = config.finetune.lora
    if config.model.name == EMBEDDED:
        for section, lora in wanted.items():
            check_targets(section, lora.targets, _LAYERS_OF_LLAMA, EMBEDDED)
        return
    from refine_af.lora import bare_network, check_layers

    network = bare_network(parts.located.folder)
    for section, lora in wanted.items():
        check_layers(section, lora, network, config.model.name)
