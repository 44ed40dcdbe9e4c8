"""What the two engines promise: the same greedy text, repeatable samples from the right distribution."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_cases import (
    ENGINES,
    FREE,
    GREEDY,
    ONE_TOKEN,
    PREFIX,
    PROMPTS,
    TASKS,
    EnginePair,
    Made,
    copies,
    next_log_probs,
    written,
)

from refine_af.config import SamplingConfig, load_config
from refine_af.engines import int8
from refine_af.engines.base import Engine, Prompts, common_beginning
from refine_af.engines.int8 import Int8Product
from refine_af.engines.packed import PackedProduct, can_pack
from refine_af.parts import Parts

# --- Greedy


def test_both_engines_write_the_same_greedily(both: EnginePair) -> None:
    one, other = (written(e, PROMPTS, GREEDY, seed=0) for e in both)
    assert one == other
    assert len({c.text for c in one}) > len(one) // 2, "the prompts must matter, or this proves little"


def test_greedy_text_is_what_a_plain_loop_over_the_network_writes(engine: Engine, reference: tuple[Any, Any]) -> None:
    network, tokenizer = reference
    made = written(engine, PROMPTS, GREEDY, seed=0)
    for suffix, completion in zip(PROMPTS.suffixes, made, strict=True):
        ids, tokens = tokenizer.encode(PREFIX + suffix), []
        while len(tokens) < GREEDY.max_tokens and tokenizer.eos_token_id not in tokens:
            with torch.no_grad():
                tokens.append(int(network(input_ids=torch.tensor([ids + tokens])).logits[0, -1].argmax()))
        assert list(completion.token_ids) == tokens


def test_a_prefix_given_apart_or_joined_gives_the_same(engine: Engine) -> None:
    joined = Prompts("", tuple(PREFIX + s for s in PROMPTS.suffixes))
    assert written(engine, PROMPTS, GREEDY, seed=0) == written(engine, joined, GREEDY, seed=0)


def test_completions_come_in_the_order_of_the_prompts(engine: Engine) -> None:
    backwards = Prompts(PREFIX, PROMPTS.suffixes[::-1])
    assert written(engine, backwards, GREEDY, seed=0)[::-1] == written(engine, PROMPTS, GREEDY, seed=0)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_greedy_text_does_not_depend_on_the_batch_size(name: str, batch_size: int, made: Made) -> None:
    small = written(made(name, batch_size=batch_size).initial_engine, PROMPTS, GREEDY, seed=0)
    assert small == written(made(name).initial_engine, PROMPTS, GREEDY, seed=0)


def test_no_prompts_give_no_completions_and_no_texts_no_scores(engine: Engine) -> None:
    assert written(engine, Prompts(PREFIX, ()), FREE, seed=0) == []
    assert engine.log_probs([]) == []


GROUPS = [
    [PREFIX + s for s in PROMPTS.suffixes],
    ["<|user|>Explain</s><|assistant|>"],
    [],
    [f"List {t}" for t in TASKS],
]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (3, 1), (32, 1), (32, 2)])
def test_answers_to_groups_are_those_to_each_prompt_alone(
    name: str, batch_size: int, threads: int, made: Made, both: EnginePair
) -> None:
    found = made(name, batch_size=batch_size, threads=threads).initial_engine.answers(GROUPS, GREEDY.max_tokens)
    assert found == [[written(both[1], Prompts("", (p,)), GREEDY, seed=0)[0] for p in group] for group in GROUPS]


SEVERAL = [
    PROMPTS,
    Prompts("<|user|>", ("Explain</s><|assistant|>",)),
    Prompts(PREFIX, ()),
    Prompts("", tuple(f"List {t}" for t in TASKS)),
]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("batch_size", [3, 32])
def test_groups_with_beginnings_of_their_own_are_written_as_each_by_itself(
    name: str, batch_size: int, made: Made, both: EnginePair
) -> None:
    found = made(name, batch_size=batch_size).initial_engine.generate(SEVERAL, GREEDY, seed=0)
    assert found == [written(both[1], one, GREEDY, seed=0) for one in SEVERAL]
    assert made(name).initial_engine.generate([], GREEDY, seed=0) == []


def test_equal_groups_of_a_call_are_sampled_independently(engine: Engine) -> None:
    one, other = engine.generate([copies(8), copies(8)], FREE, seed=0)
    assert len({c.token_ids for c in (*one, *other)}) >= 12
    assert engine.generate([copies(8), copies(8)], FREE, seed=0) == [one, other]


def test_an_empty_prompt_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="a prompt is empty"):
        engine.answers([["a", ""]], 4)
    with pytest.raises(ValueError, match="a prompt is empty"):
        engine.generate([Prompts("a", ("b",)), Prompts("a", ("",))], GREEDY, seed=0)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([[1, 2, 3], [1, 2, 4]], 2), ([[1, 2], [1, 2, 3]], 1), ([[1]], 0), ([[1, 2], [3]], 0), ([[5, 6], [5, 6]], 1)],
)
def test_a_common_beginning_leaves_each_row_a_token(rows: list[list[int]], expected: int) -> None:
    assert common_beginning(rows) == expected


# --- Seeds


@pytest.mark.parametrize("name", ENGINES)
def test_a_seed_and_a_batch_give_the_same_completions_in_any_engine_object(name: str, made: Made) -> None:
    first, second = made(name).initial_engine, made(name).initial_engine
    expected = written(first, PROMPTS, FREE, seed=7)
    assert written(first, PROMPTS, FREE, seed=7) == expected, "a batch in between must not matter"
    written(second, PROMPTS, FREE, seed=8)
    assert written(second, PROMPTS, FREE, seed=7) == expected


def test_another_seed_gives_others(engine: Engine) -> None:
    one, other = (written(engine, PROMPTS, FREE, seed=s) for s in (1, 2))
    assert sum(a == b for a, b in zip(one, other, strict=True)) <= 2


@pytest.mark.parametrize("name", ENGINES)
def test_another_process_gives_the_same_completions(name: str, tiny_model: Path, made: Made) -> None:
    code = (
        "import json, sys; from pathlib import Path; from engine_cases import FREE, PROMPTS, config_of, written;"
        "from refine_af.parts import Parts;"
        "parts = Parts(config_of(Path(sys.argv[1]), sys.argv[2], 32, 1), Path(sys.argv[3]));"
        "print(json.dumps([c.token_ids for c in written(parts.initial_engine, PROMPTS, FREE, seed=7)]))"
    )
    arguments = [sys.executable, "-c", code, str(tiny_model), name, str(tiny_model.parent / "scratch")]
    done = subprocess.run(arguments, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    here = written(made(name).initial_engine, PROMPTS, FREE, seed=7)
    assert [tuple(ids) for ids in json.loads(done.stdout.splitlines()[-1])] == [c.token_ids for c in here]


def test_several_workers_repeat_themselves(made: Made) -> None:
    prompts = Prompts(PREFIX, tuple(f"{t} for a {n}</s><|assistant|>" for t in TASKS for n in ("child", "cat", "dog")))
    engine = made("ctranslate2", threads=2).initial_engine
    expected = written(engine, prompts, FREE, seed=3)
    for again in (engine, engine, made("ctranslate2", threads=2).initial_engine):
        assert written(again, prompts, FREE, seed=3) == expected


def test_several_workers_write_greedily_what_one_writes(made: Made) -> None:
    prompts = Prompts(PREFIX, PROMPTS.suffixes * 3)
    one, two = (written(made("ctranslate2", threads=t).initial_engine, prompts, GREEDY, seed=0) for t in (1, 2))
    assert one == two


@pytest.mark.parametrize("name", ENGINES)
def test_copies_of_a_prompt_in_one_batch_are_sampled_independently(name: str, made: Made) -> None:
    completions = written(made(name, threads=2).initial_engine, copies(24), FREE, seed=0)
    assert len({c.token_ids for c in completions}) >= 20


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_copies_of_a_prompt_in_several_batches_are_sampled_independently(
    name: str, batch_size: int, made: Made
) -> None:
    """The candidates of an instruction may be more than a batch holds; they must not be the same ones again."""
    completions = written(made(name, batch_size=batch_size).initial_engine, copies(12), FREE, seed=0)
    assert len({c.token_ids for c in completions}) >= 9


def test_sampling_leaves_the_random_state_of_torch_alone(engine: Engine) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    written(engine, PROMPTS, FREE, seed=0)
    assert torch.equal(torch.rand(3), expected)


# --- What is sampled from


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax_at_the_temperature(
    name: str, temperature: float, made: Made, reference: tuple[Any, Any]
) -> None:
    """The mean log-probability of samples is the negative entropy; 5 standard errors are allowed."""
    prompts = copies(800)
    logits = next_log_probs(reference, PREFIX + prompts.suffixes[0])
    log_probs = torch.log_softmax(logits / temperature, -1)
    expected = (log_probs.exp() * log_probs).sum()
    spread = ((log_probs.exp() * log_probs**2).sum() - expected**2).sqrt()
    sampling = ONE_TOKEN.model_copy(update={"temperature": temperature})
    drawn = written(made(name, batch_size=800).initial_engine, prompts, sampling, seed=0)
    mean = log_probs[[c.token_ids[0] for c in drawn]].mean()
    assert abs(mean - expected) < 5 * spread / math.sqrt(len(drawn))


@pytest.mark.parametrize("name", ENGINES)
def test_top_k_and_top_p_leave_out_unlikely_tokens(name: str, made: Made, reference: tuple[Any, Any]) -> None:
    prompts = copies(200)
    probs, ids = next_log_probs(reference, PREFIX + prompts.suffixes[0]).exp().sort(descending=True)
    engine = made(name, batch_size=200).initial_engine
    top_3 = written(engine, prompts, ONE_TOKEN.model_copy(update={"top_k": 3}), seed=0)
    assert {c.token_ids[0] for c in top_3} == set(ids[:3].tolist())
    nucleus = ids[: int((probs.cumsum(0) < 0.4).sum()) + 1].tolist()
    top_p = written(engine, prompts, ONE_TOKEN.model_copy(update={"top_p": 0.4}), seed=0)
    assert {c.token_ids[0] for c in top_p} <= set(nucleus)


def test_the_model_folders_own_sampling_settings_are_not_mixed_in(tiny_model: Path, tmp_path: Path, made: Made) -> None:
    """What is asked is what is done: a folder's generation_config.json may suggest other habits."""
    folder = tmp_path / "opinionated"
    shutil.copytree(tiny_model, folder)
    habits = {"do_sample": True, "temperature": 0.1, "top_k": 1, "top_p": 0.1, "min_p": 0.5}
    habits |= {"no_repeat_ngram_size": 1, "min_new_tokens": 20}
    (folder / "generation_config.json").write_text(json.dumps(habits))
    plain, other = (made("transformers", model=m).initial_engine for m in (tiny_model, folder))
    for sampling in (GREEDY, FREE):
        assert [c.token_ids for c in written(other, PROMPTS, sampling, seed=1)] == [
            c.token_ids for c in written(plain, PROMPTS, sampling, seed=1)
        ]


# --- Which engine


@pytest.mark.parametrize(
    ("quantization", "has_instructions", "expected"),
    [
        ("int8", True, ("float32-int8", Int8Product)),
        ("int8", False, ("float32", PackedProduct if can_pack() else None)),
        ("float32", True, ("float32", PackedProduct if can_pack() else None)),
        ("float32", False, ("float32", PackedProduct if can_pack() else None)),
    ],
)
def test_auto_rounds_where_the_cpu_has_instructions_for_int8_and_packs_elsewhere(
    quantization: str,
    has_instructions: bool,
    expected: tuple[str, type | None],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8, "computes_int8", lambda: has_instructions)
    overrides = [f"model.name={tiny_model}", "model.device=cpu", f"model.quantization={quantization}"]
    parts = Parts(load_config(overrides=overrides), tmp_path)
    assert parts.engine_name == "transformers"
    assert (parts.precision, parts.product) == expected


def test_only_small_networks_in_float32_on_a_cpu_are_packed() -> None:
    model = load_config().model
    assert model.is_packed(135_000_000, cpu=True)
    assert not model.is_packed(7_000_000_000, cpu=True)
    assert not model.is_packed(135_000_000, cpu=False)
    assert not model.model_copy(update={"dtype": "bfloat16"}).is_packed(135_000_000, cpu=True)


def test_an_architecture_unknown_to_ctranslate2_is_refused_only_where_that_is_asked_for(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    import refine_af.engines.ctranslate2 as ours
    from refine_af.errors import UsageError

    monkeypatch.setattr(ours, "can_convert", lambda architecture: False)
    assert made("auto").engine_name == "transformers"
    with pytest.raises(UsageError, match=r"LlamaConfig.*model\.engine=transformers"):
        _ = made("ctranslate2").engine_name


def test_a_tokenizer_without_a_beginning_token_serves_both_engines(
    tiny_model: Path, tmp_path: Path, made: Made, both: EnginePair
) -> None:
    folder = tmp_path / "no-beginning"
    shutil.copytree(tiny_model, folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["bos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for name, expected in zip(ENGINES, both, strict=True):
        parts = made(name, model=folder)
        assert parts.tokenizer.bos_token is None
        assert written(parts.initial_engine, PROMPTS, GREEDY, seed=0) == written(expected, PROMPTS, GREEDY, seed=0)


def test_generating_and_scoring_leave_torchs_threads_alone(tiny_model: Path, tmp_path: Path) -> None:
    # Else training would sum in another order after generation than in a run that was resumed at the training.
    config = load_config(overrides=[f"model.name={tiny_model}", "model.quantization=float32", "threads=2"])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = Parts(config, tmp_path).initial_engine
        prompts = Prompts("", tuple(f"Write a story {i}" for i in "abcdefghijklmnopqrst"))
        written(engine, prompts, SamplingConfig(max_tokens=4), seed=1)
        assert torch.get_num_threads() == 2
        engine.log_probs([("Write", " a story")] * 20)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
