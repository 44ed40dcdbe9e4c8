"""What the two engines promise: the same greedy text, repeatable samples from the right distribution, exact scores."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from refine_af.config import Config, SamplingConfig, load_config
from refine_af.engines import int8
from refine_af.engines.base import NO_STOP, Completion, Engine, Prompts, Stop, common_beginning
from refine_af.engines.ending import Ending, closing_tokens
from refine_af.engines.transformers import TransformersEngine
from refine_af.parts import Parts

ENGINES = ("ctranslate2", "transformers")
GREEDY = SamplingConfig(max_tokens=24, temperature=0)
FREE = SamplingConfig(max_tokens=24, temperature=1.0, top_p=1.0, top_k=0)
ONE_TOKEN = FREE.model_copy(update={"max_tokens": 1})

PREFIX = "<|user|>Write a short poem about winter</s><|assistant|> snow</s><|user|>"
TASKS = (
    "Describe a quiet river",
    "List three animal that live in the garden",
    "Explain",
    "Tell a funny story about a doctor and a machine",
    "Why is the water cold?",
    "Compare summer with winter in one short sentence",
    "Suggest a title",
    "Translate the letter",
)
PROMPTS = Prompts(PREFIX, tuple(f"{task}</s><|assistant|>" for task in TASKS))
EnginePair = tuple[Engine, Engine]
Made = Callable[..., Parts]


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Parts of the tiny model for an engine, with float32 weights."""

    def make(engine: str, *, model: Path = tiny_model, batch_size: int = 32, threads: int = 1) -> Parts:
        return Parts(_config(model, engine, batch_size, threads), tmp_path_factory.mktemp("scratch"))

    return make


def _config(model: Path, engine: str, batch_size: int, threads: int) -> Config:
    settings = {
        "model.name": model,
        "model.engine": engine,
        "model.quantization": "float32",
        "model.device": "cpu",
        "model.batch_size": batch_size,
        "threads": threads,
    }
    return load_config(overrides=[f"{k}={v}" for k, v in settings.items()])


@pytest.fixture(scope="module")
def both(made: Made) -> EnginePair:
    return made("ctranslate2").initial_engine, made("transformers").initial_engine


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, made: Made) -> Engine:
    return made(request.param).initial_engine


@pytest.fixture(scope="module")
def reference(tiny_model: Path) -> tuple[Any, Any]:
    """The network and the tokenizer, loaded without the product."""
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)


def _next_log_probs(reference: tuple[Any, Any], text: str) -> torch.Tensor:
    network, tokenizer = reference
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([tokenizer.encode(text)])).logits[0, -1]
    return torch.log_softmax(logits.double(), -1)


def _copies(count: int, task: str = "Explain") -> Prompts:
    return Prompts(PREFIX, (f"{task}</s><|assistant|>",) * count)


# --- Greedy


def test_both_engines_write_the_same_greedily(both: EnginePair) -> None:
    one, other = (e.generate(PROMPTS, GREEDY, seed=0) for e in both)
    assert one == other
    assert len({c.text for c in one}) > len(one) // 2, "the prompts must matter, or this proves little"


def test_greedy_text_is_what_a_plain_loop_over_the_network_writes(engine: Engine, reference: tuple[Any, Any]) -> None:
    network, tokenizer = reference
    made = engine.generate(PROMPTS, GREEDY, seed=0)
    for suffix, completion in zip(PROMPTS.suffixes, made, strict=True):
        ids, written = tokenizer.encode(PREFIX + suffix), []
        while len(written) < GREEDY.max_tokens and tokenizer.eos_token_id not in written:
            with torch.no_grad():
                written.append(int(network(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax()))
        assert list(completion.token_ids) == written


def test_a_prefix_given_apart_or_joined_gives_the_same(engine: Engine) -> None:
    joined = Prompts("", tuple(PREFIX + s for s in PROMPTS.suffixes))
    assert engine.generate(PROMPTS, GREEDY, seed=0) == engine.generate(joined, GREEDY, seed=0)


def test_completions_come_in_the_order_of_the_prompts(engine: Engine) -> None:
    backwards = Prompts(PREFIX, PROMPTS.suffixes[::-1])
    assert engine.generate(backwards, GREEDY, seed=0)[::-1] == engine.generate(PROMPTS, GREEDY, seed=0)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_greedy_text_does_not_depend_on_the_batch_size(name: str, batch_size: int, made: Made) -> None:
    small = made(name, batch_size=batch_size).initial_engine.generate(PROMPTS, GREEDY, seed=0)
    assert small == made(name).initial_engine.generate(PROMPTS, GREEDY, seed=0)


def test_no_prompts_give_no_completions_and_no_texts_no_scores(engine: Engine) -> None:
    assert engine.generate(Prompts(PREFIX, ()), FREE, seed=0) == []
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
    assert found == [[both[1].generate(Prompts("", (p,)), GREEDY, seed=0)[0] for p in group] for group in GROUPS]


def test_an_empty_prompt_is_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="a prompt is empty"):
        engine.answers([["a", ""]], 4)


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
    expected = first.generate(PROMPTS, FREE, seed=7)
    assert first.generate(PROMPTS, FREE, seed=7) == expected, "a batch in between must not matter"
    second.generate(PROMPTS, FREE, seed=8)
    assert second.generate(PROMPTS, FREE, seed=7) == expected


def test_another_seed_gives_others(engine: Engine) -> None:
    one, other = (engine.generate(PROMPTS, FREE, seed=s) for s in (1, 2))
    assert sum(a == b for a, b in zip(one, other, strict=True)) <= 2


@pytest.mark.parametrize("name", ENGINES)
def test_another_process_gives_the_same_completions(name: str, tiny_model: Path, made: Made) -> None:
    code = (
        "import json, sys; from pathlib import Path; from test_engines import FREE, PROMPTS, _config;"
        "from refine_af.parts import Parts;"
        "parts = Parts(_config(Path(sys.argv[1]), sys.argv[2], 32, 1), Path(sys.argv[3]));"
        "print(json.dumps([c.token_ids for c in parts.initial_engine.generate(PROMPTS, FREE, seed=7)]))"
    )
    arguments = [sys.executable, "-c", code, str(tiny_model), name, str(tiny_model.parent / "scratch")]
    done = subprocess.run(arguments, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    here = made(name).initial_engine.generate(PROMPTS, FREE, seed=7)
    assert [tuple(ids) for ids in json.loads(done.stdout.splitlines()[-1])] == [c.token_ids for c in here]


def test_several_workers_repeat_themselves(made: Made) -> None:
    prompts = Prompts(PREFIX, tuple(f"{t} for a {n}</s><|assistant|>" for t in TASKS for n in ("child", "cat", "dog")))
    engine = made("ctranslate2", threads=2).initial_engine
    expected = engine.generate(prompts, FREE, seed=3)
    for again in (engine, engine, made("ctranslate2", threads=2).initial_engine):
        assert again.generate(prompts, FREE, seed=3) == expected


def test_several_workers_write_greedily_what_one_writes(made: Made) -> None:
    prompts = Prompts(PREFIX, PROMPTS.suffixes * 3)
    one, two = (made("ctranslate2", threads=t).initial_engine.generate(prompts, GREEDY, seed=0) for t in (1, 2))
    assert one == two


@pytest.mark.parametrize("name", ENGINES)
def test_copies_of_a_prompt_in_one_batch_are_sampled_independently(name: str, made: Made) -> None:
    completions = made(name, threads=2).initial_engine.generate(_copies(24), FREE, seed=0)
    assert len({c.token_ids for c in completions}) >= 20


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_copies_of_a_prompt_in_several_batches_are_sampled_independently(
    name: str, batch_size: int, made: Made
) -> None:
    """The candidates of an instruction may be more than a batch holds; they must not be the same ones again."""
    completions = made(name, batch_size=batch_size).initial_engine.generate(_copies(12), FREE, seed=0)
    assert len({c.token_ids for c in completions}) >= 9


def test_sampling_leaves_the_random_state_of_torch_alone(engine: Engine) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    engine.generate(PROMPTS, FREE, seed=0)
    assert torch.equal(torch.rand(3), expected)


# --- What is sampled from


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax_at_the_temperature(
    name: str, temperature: float, made: Made, reference: tuple[Any, Any]
) -> None:
    """The mean log-probability of samples is the negative entropy; 5 standard errors are allowed."""
    prompts = _copies(800)
    logits = _next_log_probs(reference, PREFIX + prompts.suffixes[0])
    log_probs = torch.log_softmax(logits / temperature, -1)
    expected = (log_probs.exp() * log_probs).sum()
    spread = ((log_probs.exp() * log_probs**2).sum() - expected**2).sqrt()
    sampling = ONE_TOKEN.model_copy(update={"temperature": temperature})
    drawn = made(name, batch_size=800).initial_engine.generate(prompts, sampling, seed=0)
    mean = log_probs[[c.token_ids[0] for c in drawn]].mean()
    assert abs(mean - expected) < 5 * spread / math.sqrt(len(drawn))


@pytest.mark.parametrize("name", ENGINES)
def test_top_k_and_top_p_leave_out_unlikely_tokens(name: str, made: Made, reference: tuple[Any, Any]) -> None:
    prompts = _copies(200)
    probs, ids = _next_log_probs(reference, PREFIX + prompts.suffixes[0]).exp().sort(descending=True)
    engine = made(name, batch_size=200).initial_engine
    top_3 = engine.generate(prompts, ONE_TOKEN.model_copy(update={"top_k": 3}), seed=0)
    assert {c.token_ids[0] for c in top_3} == set(ids[:3].tolist())
    nucleus = ids[: int((probs.cumsum(0) < 0.4).sum()) + 1].tolist()
    top_p = engine.generate(prompts, ONE_TOKEN.model_copy(update={"top_p": 0.4}), seed=0)
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
        assert [c.token_ids for c in other.generate(PROMPTS, sampling, seed=1)] == [
            c.token_ids for c in plain.generate(PROMPTS, sampling, seed=1)
        ]


# --- Ends


def test_the_end_token_is_in_the_ids_and_not_in_the_text(engine: Engine, reference: tuple[Any, Any]) -> None:
    _, tokenizer = reference
    completions = engine.generate(_copies(32), FREE.model_copy(update={"max_tokens": 60}), seed=0)
    ended = [c for c in completions if c.ended]
    assert len(ended) > 16
    for completion in completions:
        last = tokenizer.eos_token_id in completion.token_ids
        assert completion.ended == last
        assert tokenizer.eos_token_id not in completion.token_ids[:-1]
        assert "</s>" not in completion.text
        assert tokenizer.decode(completion.token_ids[: -1 if last else None]) == completion.text


@pytest.mark.parametrize("longest", [1, 5])
def test_no_completion_is_longer_than_max_tokens(longest: int, engine: Engine) -> None:
    completions = engine.generate(_copies(16), FREE.model_copy(update={"max_tokens": longest}), seed=0)
    assert max(len(c.token_ids) for c in completions) == longest
    assert all(len(c.token_ids) == longest for c in completions if not c.ended)


def test_a_stop_string_cuts_the_text_before_it_and_ends_it(engine: Engine) -> None:
    free = engine.generate(PROMPTS, GREEDY, seed=0)
    stops = tuple(word for c in free for word in c.text.split()[3:4])[:2]
    expected = [Stop(stops).cut(c.text) for c in free]
    assert any(found for _, found in expected)
    made = engine.generate(PROMPTS, GREEDY, seed=0, stop=Stop(stops))
    assert [c.text for c in made] == [text for text, _ in expected]
    assert [c.ended for c in made] == [found or c.ended for (_, found), c in zip(expected, free, strict=True)]


def test_the_ids_of_a_stopped_completion_are_those_that_were_sampled(
    engine: Engine, reference: tuple[Any, Any]
) -> None:
    """The policy learns from these ids: an end token that only pads a batch must not be among them."""
    _, tokenizer = reference
    free = engine.generate(PROMPTS, GREEDY, seed=0)
    stops = tuple(word for c in free for word in c.text.split()[3:4])[:2]
    for unstopped, stopped in zip(free, engine.generate(PROMPTS, GREEDY, seed=0, stop=Stop(stops)), strict=True):
        assert stopped.token_ids == unstopped.token_ids[: len(stopped.token_ids)]
        shorter = tokenizer.decode(stopped.token_ids[:-1])
        assert not any(s in shorter for s in stops), "nothing was sampled after the stop string"


def test_a_stop_string_of_several_tokens_is_found(engine: Engine) -> None:
    free = engine.generate(PROMPTS, GREEDY, seed=0)
    long = next(c for c in free if len(c.text.split()) > 6)
    stop = Stop((" ".join(long.text.split(" ")[3:6]),))
    stopped = engine.generate(PROMPTS, GREEDY, seed=0, stop=stop)[free.index(long)]
    assert stopped.text == stop.cut(long.text)[0]
    assert stopped.ended


def test_both_engines_stop_at_the_same_token(both: EnginePair) -> None:
    stops = tuple(word for c in both[0].generate(PROMPTS, GREEDY, seed=0) for word in c.text.split()[3:4])[:2]
    one, other = (e.generate(PROMPTS, GREEDY, seed=0, stop=Stop(stops)) for e in both)
    assert one == other


@pytest.mark.parametrize("name", ENGINES)
def test_a_string_that_counts_after_text_ends_a_row_there_and_no_other(name: str, made: Made) -> None:
    """As a newline ends a first line: not before the answer has begun."""
    engine = made(name).initial_engine
    free = engine.generate(PROMPTS, GREEDY, seed=0)
    stop = Stop(after_text=" ")
    expected = [stop.cut(c.text) for c in free]
    assert sum(found for _, found in expected) > len(expected) / 2
    for made_one in (engine.generate(PROMPTS, GREEDY, seed=0, stop=stop), *engine.answers([_whole()], 24, stop)):
        assert [c.text for c in made_one] == [text for text, _ in expected]
        for one, unstopped in zip(made_one, free, strict=True):
            assert one.token_ids == unstopped.token_ids[: len(one.token_ids)]
        assert sum(len(c.token_ids) for c in made_one) < sum(len(c.token_ids) for c in free) / 2


def _whole() -> list[str]:
    return [PREFIX + suffix for suffix in PROMPTS.suffixes]


@pytest.mark.parametrize(
    ("stop", "text", "expected"),
    [
        (Stop(("c", "b")), "a b c", ("a ", True)),
        (Stop(("x",)), "a b c", ("a b c", False)),
        (Stop(), "a b c", ("a b c", False)),
        (Stop(after_text="\n"), "\n \n a \nb", ("\n \n a ", True)),
        (Stop(after_text="\n"), " \n\n", (" \n\n", False)),
        (Stop(after_text="\n\n"), "\n\na\nb\n\nc", ("\n\na\nb", True)),
        (Stop(("b",), "\n"), "a b\n", ("a ", True)),
        (Stop(("b",), "\n"), "b", ("", True)),
    ],
)
def test_what_comes_first_ends_a_text(stop: Stop, text: str, expected: tuple[str, bool]) -> None:
    assert stop.cut(text) == expected


def test_a_row_is_decoded_only_where_it_may_end(reference: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _, tokenizer = reference
    ids = tokenizer.encode(" cold blue water in the garden")
    ending = Ending(tokenizer, Stop(("gard",)))
    assert [n for n in range(1, len(ids) + 1) if ending.is_reached(ids[:n])] == [
        n for n in range(1, len(ids) + 1) if "gard" in tokenizer.decode(ids[:n])
    ]
    decode, decoded = tokenizer.decode, []
    monkeypatch.setattr(tokenizer, "decode", lambda row, **more: decoded.append(len(row)) or decode(row, **more))
    assert not Ending(tokenizer, Stop(("\n",))).is_reached(ids)
    assert decoded == [1]


# --- Likelihoods

SCORED = [
    (PREFIX + "Describe a quiet river</s><|assistant|>", " cold blue water</s>"),
    ("<|user|>Explain", " Yes"),
    ("<|user|>Explain", " No"),
    ("", " Write a letter"),
    (PREFIX, ""),
    (PREFIX + "Tell a story</s><|assistant|>", " zyzzyva is unknown"),
] + [(f"<|user|>{task}</s><|assistant|>", " Yes and No" * n) for n, task in enumerate(TASKS, start=1)]


def test_log_probs_are_those_of_the_network(engine: Engine, reference: tuple[Any, Any]) -> None:
    network, tokenizer = reference
    for (context, continuation), found in zip(SCORED, engine.log_probs(SCORED), strict=True):
        before = tokenizer.encode(context) or [tokenizer.eos_token_id]
        after = tokenizer.encode(continuation)
        with torch.no_grad():
            logits = network(input_ids=torch.tensor([before + after])).logits[0].double()
        rows = torch.log_softmax(logits, -1)[len(before) - 1 : -1]
        assert found == pytest.approx([float(row[token]) for row, token in zip(rows, after, strict=True)], abs=1e-3)


def test_log_probs_do_not_depend_on_the_company(engine: Engine) -> None:
    for pair, found in zip(SCORED, engine.log_probs(SCORED), strict=True):
        assert found == pytest.approx(engine.log_probs([pair])[0], abs=1e-4)


# --- Adapters


def _adapt(network: Any, seed: int = 0) -> Any:
    """A LoRA adapter on the network that changes it, as training would."""
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(network, settings)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.4, generator=generator)
    return adapted


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    _adapt(AutoModelForCausalLM.from_pretrained(tiny_model)).save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture(scope="module")
def adapted_text(made: Made) -> Sequence[Completion]:
    """What the network writes greedily with the adapter in place."""
    parts = made("transformers")
    _adapt(parts.network)
    return parts.shared_engine(adapter=True).generate(PROMPTS, GREEDY, seed=0)


def test_the_engine_without_adapter_ignores_the_one_on_the_network(
    made: Made, adapted_text: Sequence[Completion], both: EnginePair
) -> None:
    untouched = both[1].generate(PROMPTS, GREEDY, seed=0)
    assert adapted_text != untouched
    parts = made("transformers")
    _adapt(parts.network)
    without, with_it = parts.shared_engine(adapter=False), parts.shared_engine(adapter=True)
    assert without.generate(PROMPTS, GREEDY, seed=0) == untouched
    assert with_it.generate(PROMPTS, GREEDY, seed=0) == adapted_text, "it is switched on again afterwards"
    untouched_scores = both[1].log_probs(SCORED)
    assert all(map(np.array_equal, without.log_probs(SCORED), untouched_scores))
    assert not all(map(np.array_equal, with_it.log_probs(SCORED), untouched_scores))


@pytest.mark.parametrize("name", ENGINES)
def test_an_adapter_from_a_folder_writes_as_the_network_with_it_in_place(
    name: str, made: Made, adapter: Path, adapted_text: Sequence[Completion], both: EnginePair
) -> None:
    parts = made(name)
    for _ in range(2):
        with parts.adapted_engine(adapter) as engine:
            assert engine.generate(PROMPTS, GREEDY, seed=0) == adapted_text
    assert parts.initial_engine.generate(PROMPTS, GREEDY, seed=0) == both[1].generate(PROMPTS, GREEDY, seed=0)


def test_where_torch_trains_in_bfloat16_an_adapter_is_merged_in_float32(
    tiny_model: Path, adapter: Path, tmp_path: Path
) -> None:
    config = _config(tiny_model, "ctranslate2", 32, 1)
    parts = Parts(
        config.model_copy(update={"model": config.model.model_copy(update={"dtype": "bfloat16"})}), tmp_path / "scratch"
    )
    network = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).float().eval()
    beside = PeftModel.from_pretrained(network, str(adapter))
    expected = TransformersEngine(beside, parts.tokenizer, model="tiny", batch_size=32, adapter=True).log_probs(SCORED)
    with parts.adapted_engine(adapter) as engine:
        found = engine.log_probs(SCORED)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=2e-4)


def test_an_adapter_from_a_folder_leaves_the_shared_network_bit_for_bit(made: Made, adapter: Path) -> None:
    parts = made("transformers")
    before = {name: value.clone() for name, value in parts.network.state_dict().items()}
    with parts.adapted_engine(adapter) as engine:
        engine.generate(PROMPTS, GREEDY, seed=0)
    after = parts.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(p.requires_grad for p in parts.network.parameters())


@pytest.mark.parametrize("name", ENGINES)
def test_the_weights_of_a_run_do_not_depend_on_the_precision_of_a_run_before(
    name: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was converted from bfloat16 weights is no conversion of the float32 ones."""

    def scores(dtype: str) -> list[float]:
        config = _config(tiny_model, name, 32, 1)
        config = config.model_copy(update={"model": config.model.model_copy(update={"dtype": dtype})})
        return [float(one.sum()) for one in Parts(config, tmp_path / "scratch").initial_engine.log_probs(SCORED)]

    monkeypatch.setenv("REFINE_AF_CACHE", str(tmp_path / "one"))
    expected = scores("float32")
    monkeypatch.setenv("REFINE_AF_CACHE", str(tmp_path / "other"))
    assert scores("bfloat16") != pytest.approx(expected, abs=1e-3)
    assert scores("float32") == pytest.approx(expected, abs=1e-5)


# --- Which engine


@pytest.mark.parametrize(
    ("quantization", "has_instructions", "expected"),
    [
        ("int8", True, ("transformers", "float32-int8")),
        ("int8", False, ("ctranslate2", "float32-int8")),
        ("float32", True, ("transformers", "float32")),
        ("float32", False, ("transformers", "float32")),
    ],
)
def test_auto_takes_ctranslate2_for_int8_on_a_cpu_without_instructions_for_it(
    quantization: str,
    has_instructions: bool,
    expected: tuple[str, str],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(int8, "computes_int8", lambda: has_instructions)
    overrides = [f"model.name={tiny_model}", "model.device=cpu", f"model.quantization={quantization}"]
    parts = Parts(load_config(overrides=overrides), tmp_path)
    assert (parts.engine_name, parts.precision) == expected


def test_auto_takes_transformers_for_an_architecture_unknown_to_ctranslate2(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    import refine_af.engines.ctranslate2 as ours
    from refine_af.errors import UsageError

    monkeypatch.setattr(ours, "can_convert", lambda architecture: False)
    monkeypatch.setattr(int8, "computes_int8", lambda: False)
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
        assert parts.initial_engine.generate(PROMPTS, GREEDY, seed=0) == expected.generate(PROMPTS, GREEDY, seed=0)


def test_generating_and_scoring_leave_torchs_threads_alone(tiny_model: Path, tmp_path: Path) -> None:
    # Else training would sum in another order after generation than in a run that was resumed at the training.
    config = load_config(overrides=[f"model.name={tiny_model}", "model.quantization=float32", "threads=2"])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = Parts(config, tmp_path).initial_engine
        prompts = Prompts("", tuple(f"Write a story {i}" for i in "abcdefghijklmnopqrst"))
        engine.generate(prompts, SamplingConfig(max_tokens=4), seed=1)
        assert torch.get_num_threads() == 2
        engine.log_probs([("Write", " a story")] * 20)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_token_scores_are_those_of_the_network(engine: Engine, reference: tuple[Any, Any]) -> None:
    network, tokenizer = reference
    for (context, continuation), found in zip(SCORED, engine.token_scores(SCORED), strict=True):
        before = tokenizer.encode(context, add_special_tokens=False) or [tokenizer.eos_token_id]
        tokens = tokenizer.encode(continuation, add_special_tokens=False)
        with torch.no_grad():
            logits = network(torch.tensor([before + tokens])).logits[0, len(before) - 1 :].double()
        expected = logits.log_softmax(-1)  # (n + 1, V)
        chosen = [float(expected[i, token]) for i, token in enumerate(tokens)]
        assert found.log_probs == pytest.approx(chosen, abs=1e-3)
        assert found.peaks == pytest.approx(expected[:-1].amax(-1).numpy(), abs=1e-3)
        assert found.ends == pytest.approx(expected[:, tokenizer.eos_token_id].numpy(), abs=1e-3)
        closing = expected[:, closing_tokens(tokenizer)].logsumexp(-1)
        assert found.closings == pytest.approx(closing.numpy(), abs=1e-3)


def test_what_closes_a_sentence_is_known_by_how_it_begins(reference: tuple[Any, Any]) -> None:
    tokenizer = reference[1]
    closing = closing_tokens(tokenizer)
    assert closing == sorted(set(closing))
    assert tokenizer.eos_token_id in closing
    for text, closes in ((".", True), ("\n", True), ("?", True), ("a", False), (",", False)):
        (token,) = tokenizer.encode(text, add_special_tokens=False)
        assert (token in closing) is closes


def test_token_scores_keep_no_logits_in_memory(engine: Engine) -> None:
    """A view of a column would keep all columns: 4 MB for an answer of 20 tokens in 49,152 pieces."""
    for found in engine.token_scores(SCORED):
        for one in (found.log_probs, found.peaks, found.ends, found.closings):
            assert one.flags.c_contiguous


def test_token_scores_hold_the_log_probs(engine: Engine) -> None:
    for log_probs, found in zip(engine.log_probs(SCORED), engine.token_scores(SCORED), strict=True):
        assert found.log_probs == pytest.approx(log_probs, abs=1e-3)
        assert len(found.peaks) == len(found.log_probs)
        assert (found.peaks >= found.log_probs - 1e-4).all()
    assert engine.token_scores([]) == []


@pytest.mark.parametrize("temperature", [0.6, 1.0])
@pytest.mark.parametrize("stop", [NO_STOP, Stop((".", "?"))])
def test_sampled_tokens_come_with_their_log_probabilities_at_temperature_1(
    engine: Engine, reference: tuple[Any, Any], temperature: float, stop: tuple[str, ...]
) -> None:
    network, tokenizer = reference
    sampling = FREE.model_copy(update={"temperature": temperature})
    made = engine.generate(PROMPTS, sampling, seed=3, stop=stop, log_probs=True)
    assert len({len(c.token_ids) for c in made}) > 1, "rows must end at different steps, or this proves little"
    for suffix, one in zip(PROMPTS.suffixes, made, strict=True):
        prompt = tokenizer.encode(PREFIX + suffix)
        with torch.no_grad():
            logits = network(torch.tensor([prompt + list(one.token_ids)])).logits[0, len(prompt) - 1 : -1]
        rows = logits.double().log_softmax(-1)
        assert one.log_probs == pytest.approx([float(r[t]) for r, t in zip(rows, one.token_ids, strict=True)], abs=1e-3)


def test_log_probabilities_are_left_out_unless_asked_for(engine: Engine) -> None:
    assert all(c.log_probs is None for c in engine.generate(PROMPTS, FREE, seed=0))
