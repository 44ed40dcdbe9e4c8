"""What the numbers of a plan rest on, as sentences for people."""

from __future__ import annotations

from refine_af.config import Config
from refine_af.planning.lengths import TOKENS_PER_WORD, expectations
from refine_af.planning.memory import Setup
from refine_af.planning.models import reward_models
from refine_af.planning.units import count


def assumptions(config: Config, setup: Setup | None) -> tuple[str, ...]:
    """One sentence an assumption: yields and lengths first, then the machine, then memory."""
    hope = expectations(setup.facts if setup is not None else None)
    lines = [
        "All numbers are estimates from before the run; hours may be off by a factor of two either way.",
        f"A completion of the instruction stage holds {hope.items:.0f} instructions (fewer where max_tokens "
        f"is short) and {hope.kept:.0%} of them are novel and kept; that novelty falls as the pool grows is "
        "not counted.",
        f"An input, or an output, uses {hope.pair_share:.0%} of instances.sampling.max_tokens, an answer in the "
        f"evaluation {hope.answer_share:.0%} of evaluation.max_tokens; {hope.with_input:.0%} of pairs have an input, "
        "unless instances.inputs says otherwise.",
        "Demonstrations and tasks are as long as the built-in seeds within the config's limits, at "
        f"{TOKENS_PER_WORD} tokens a word.",
        "Training sends a set of demonstrations, which several prompts share, through the network once a micro-batch.",
    ]
    if reward_models(config.feedback):
        lines.append("A reward model reads the whole pair for each of its questions, in float32 without TF32.")
    if config.feedback.name not in ("embedded", "instructmining_v1", "instructmining_v2"):
        lines.append(f"What else the feedback {config.feedback.name} takes is not known and not counted.")
    if setup is None:
        return tuple(lines)
    if config.model.engine == "vllm":
        lines.append(
            "Generation is counted as if transformers did it here: vLLM is quicker on a GPU, and its memory, a second "
            "copy of the weights among it, comes on top."
        )
    return (*lines, *(_on_a_gpu() if setup.kind == "gpu" else _on_a_cpu(setup)), *_memory())


def _on_a_gpu() -> tuple[str, ...]:
    return (
        "A forward pass costs 2 FLOPs a parameter and token at 40 % of the GPU's peak; training costs 4 at "
        "35 %, because LoRA leaves the weights frozen; fine-tuning costs 6 with gradient checkpointing.",
        "Decoding is bound by memory: each step reads the weights and the cache at 35 % of the bandwidth, and "
        "a batch runs until its longest completion ends. Continuous batching can be several times faster.",
        "Times scale with the GPU: with an H100's 989 TFLOP/s and 3.35 TB/s they are roughly half.",
    )


def _on_a_cpu(setup: Setup) -> tuple[str, ...]:
    return (
        "Rates were measured on 2 cores with the embedded model: 32 rows decoded at once in int8 make 341 tokens/s "
        "behind prompts of 118 tokens and 277 behind such of 330, of which a third is lost to rows that end early; "
        "training makes 230, a forward pass three times that, likelihoods in int8 1,000; preparing the model takes "
        "30 s. More cores help less than in proportion.",
        "Where the processor has no instructions for int8 all is computed in float32: decoding makes 0.56 of those "
        "tokens/s, training 130, likelihoods 700.",
        f"For {count(setup.facts.parameters)} parameters the rates are scaled by size.",
        "Handing new weights to the engine, rounded or packed, takes half a second an iteration.",
    )


def _memory() -> tuple[str, ...]:
    return (
        "The reference of the KL penalty is the policy without its adapter: no second copy of the weights.",
        "Activations are an upper bound: frozen layers keep less.",
    )
