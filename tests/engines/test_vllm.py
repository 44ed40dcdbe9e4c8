"""The engine on a vLLM server: what it writes is what the transformers engine writes of the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_cases import FREE, GREEDY, PREFIX, PROMPTS, SCORED, Made, config_of, copies, written
from serving import Server
from vllm_serving import TinyVllm

from refine_af.config import load_config
from refine_af.doctor import examine
from refine_af.engines.base import NO_STOP, Completion, Engine, Stop
from refine_af.engines.vllm import check_server
from refine_af.errors import RefineError, UsageError
from refine_af.evaluation.subject import find_subject
from refine_af.parts import Parts

Serve = Callable[..., Server]


def parts_at(server: Server, model: Path, scratch: Path, *more: str) -> Parts:
    settings = ["model.engine=vllm", f"model.server.url={server.url}", f"model.name={model}", "threads=1"]
    return Parts(load_config(overrides=[*settings, "model.quantization=float32", *more]), scratch)


@pytest.fixture
def served(tiny_model: Path) -> TinyVllm:
    return TinyVllm(tiny_model)


@pytest.fixture
def server(serve: Serve, served: TinyVllm) -> Server:
    return serve(served)


@pytest.fixture
def parts(server: Server, tiny_model: Path, tmp_path: Path) -> Parts:
    return parts_at(server, tiny_model, tmp_path)


@pytest.fixture
def here(made: Made) -> Engine:
    return made("transformers").initial_engine


def same(ours: Sequence[Completion], theirs: Sequence[Completion]) -> bool:
    return [(c.text, c.token_ids, c.ended) for c in ours] == [(c.text, c.token_ids, c.ended) for c in theirs]


@pytest.mark.parametrize("stop", [NO_STOP, Stop((" the", "water")), Stop(after_text=" "), Stop((" a",), " ")])
def test_greedy_text_and_likelihoods_are_those_of_the_same_weights_here(
    stop: Stop, parts: Parts, here: Engine, server: Server
) -> None:
    ours = written(parts.initial_engine, PROMPTS, GREEDY, seed=0, stop=stop, log_probs=True)
    theirs = written(here, PROMPTS, GREEDY, seed=0, stop=stop, log_probs=True)
    assert same(ours, theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.log_probs == pytest.approx(other.log_probs, abs=1e-4)
    groups = [[PREFIX + s for s in PROMPTS.suffixes[:3]], [PREFIX + s for s in PROMPTS.suffixes[3:]]]
    answers = parts.initial_engine.answers(groups, GREEDY.max_tokens, stop)
    assert [len(group) for group in answers] == [3, 5]
    assert same([one for group in answers for one in group], theirs)
    assert set(server.paths) == {"/v1/models", "/v1/completions"}


def test_a_row_that_was_stopped_before_its_text_goes_on_where_it_was(parts: Parts, server: Server) -> None:
    """A server knows no string that counts only behind text, and stops at the space that a first word begins with."""
    stop = Stop(after_text=" ")
    made = written(parts.initial_engine, copies(30), FREE, seed=0, stop=stop, log_probs=True)
    asked = [r for r in server.requests if r.get("return_token_ids")]
    again = [r for r in asked if r["max_tokens"] < FREE.max_tokens]
    assert len(again) > 10
    assert len({r["seed"] for r in asked}) == len(asked), "what goes on doesn't draw again what it drew"
    for completion in made:
        assert stop.cut(completion.text) == (completion.text, False)
        assert completion.ended or len(completion.token_ids) == FREE.max_tokens
        assert completion.log_probs is not None
        assert len(completion.log_probs) == len(completion.token_ids)
    assert sum(bool(c.text.strip()) and " " in c.text[:1] for c in made) > 10


def test_draws_come_from_the_seed_and_equal_prompts_draw_each_their_own(parts: Parts) -> None:
    engine = parts.initial_engine
    first, again, other = (written(engine, copies(12), FREE, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other
    assert len({c.token_ids for c in first}) > 6
    fewer = written(engine, copies(5), FREE, seed=1)
    assert fewer == first[:5], "a row's draws don't hang on the rows beside it"


def test_the_server_is_told_all_that_it_could_have_a_default_for(parts: Parts, server: Server) -> None:
    sampling = FREE.model_copy(update={"temperature": 0.7, "top_p": 0.9, "top_k": 5, "repetition_penalty": 1.1})
    written(parts.initial_engine, copies(1), sampling, seed=0)
    request = server.requests[-1]
    wanted = {"model": "tiny", "temperature": 0.7, "top_p": 0.9, "top_k": 5, "repetition_penalty": 1.1, "min_p": 0.0}
    assert wanted.items() <= request.items()
    assert "logprobs" not in request
    assert "stop" not in request
    written(parts.initial_engine, copies(1), GREEDY, seed=0, log_probs=True)
    assert "seed" not in server.requests[-1]
    assert server.requests[-1]["logprobs"] == 0


def test_an_adapter_is_there_while_it_is_asked_for_and_no_longer(
    parts: Parts, served: TinyVllm, adapter: Path, adapted_text: Sequence[Completion], here: Engine
) -> None:
    for turn in (1, 2):
        with parts.adapted_engine(adapter) as engine:
            assert len(served.adapters) == 1
            assert same(written(engine, PROMPTS, GREEDY, seed=0), adapted_text)
            assert same(written(parts.initial_engine, PROMPTS, GREEDY, seed=0), written(here, PROMPTS, GREEDY, seed=0))
            with pytest.raises(NotImplementedError, match="untouched model"):
                engine.log_probs(SCORED)
        assert served.adapters == set()
        assert served.loaded == [str(adapter.resolve())] * turn
    with pytest.raises(ZeroDivisionError), parts.adapted_engine(adapter):
        _ = 1 / 0
    assert served.adapters == set()


def test_likelihoods_are_read_in_torch_and_keep_their_identity(
    parts: Parts, here: Engine, made: Made, server: Server
) -> None:
    engine = parts.initial_engine
    assert all(map(np.array_equal, engine.log_probs(SCORED), here.log_probs(SCORED)))
    ours, theirs = engine.token_scores(SCORED), here.token_scores(SCORED)
    assert all(np.array_equal(a.ends, b.ends) for a, b in zip(ours, theirs, strict=True))
    assert not any("return_token_ids" in request for request in server.requests)
    assert parts.engine_identity == made("transformers").engine_identity


def test_another_model_of_the_run_is_no_servers(parts: Parts, tiny_base_model: Path) -> None:
    assert parts.with_model(str(tiny_base_model), None).engine_name == "transformers"


def test_an_evaluation_asks_the_server(server: Server, tiny_model: Path, tmp_path: Path, here: Engine) -> None:
    config = parts_at(server, tiny_model, tmp_path).config
    subject = find_subject(str(tiny_model), config, "plain", None, tmp_path)
    assert (subject.settings["engine"], subject.settings["precision"]) == ("vllm", "unknown")
    with subject.at_work() as model:
        answered = model.answers([[PREFIX + s for s in PROMPTS.suffixes]], GREEDY.max_tokens, NO_STOP)
    local = config_of(tiny_model, "transformers", 16, 1)
    with find_subject(str(tiny_model), local, "plain", None, tmp_path).at_work() as model:
        assert answered == model.answers([[PREFIX + s for s in PROMPTS.suffixes]], GREEDY.max_tokens, NO_STOP)
    assert any("return_token_ids" in request for request in server.requests)


# -- what can be wrong ---------------------------------------------------------------------------------


def test_a_server_that_can_do_it_passes_the_check_and_is_what_doctor_tells(parts: Parts, server: Server) -> None:
    check_server(parts.config.model)
    assert "/v1/unload_lora_adapter" in server.paths
    (found,) = (c for c in examine(parts.config) if c.name == "engine")
    assert found.ok is True
    assert found.found.startswith(f"vllm at {server.url}, torch on ")


def test_one_without_changing_adapters_is_refused_where_they_are_needed(
    serve: Serve, tiny_model: Path, tmp_path: Path
) -> None:
    config = parts_at(serve(TinyVllm(tiny_model, lora=False)), tiny_model, tmp_path).config
    with pytest.raises(UsageError, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve MODEL --enable-lora"):
        check_server(config.model)
    check_server(config.model, adapters=False)
    (found,) = (c for c in examine(config) if c.name == "engine")
    assert found.ok is False


@pytest.mark.parametrize(
    ("names", "wanted", "problem"),
    [
        (("one", "two"), None, "serves one, two; name one with model.server.name"),
        (("one",), "two", r"serves one; and not two \(model.server.name\)"),
        ((), None, "serves no model; name one"),
    ],
)
def test_which_model_is_meant_must_be_clear(
    names: tuple[str, ...], wanted: str | None, problem: str, serve: Serve, tiny_model: Path, tmp_path: Path
) -> None:
    more = [f"model.server.name={wanted}"] if wanted else []
    config = parts_at(serve(TinyVllm(tiny_model, names=names)), tiny_model, tmp_path, *more).config
    with pytest.raises(UsageError, match=problem):
        check_server(config.model)


def test_a_named_one_of_several_is_asked(serve: Serve, tiny_model: Path, tmp_path: Path) -> None:
    server = serve(TinyVllm(tiny_model, names=("one", "two")))
    parts = parts_at(server, tiny_model, tmp_path, "model.server.name=two")
    written(parts.initial_engine, copies(1), GREEDY, seed=0)
    assert {r["model"] for r in server.requests if "prompt" in r} == {"two"}


def test_a_model_with_other_tokens_is_refused_before_it_writes(serve: Serve, tiny_model: Path, tmp_path: Path) -> None:
    served = TinyVllm(tiny_model)

    def shifted(request: dict[str, Any]) -> Any:
        tokens = {"prompt": [(token + 7) % 100 for token in request["prompt"]]} if "prompt" in request else {}
        return served(request | tokens)

    with pytest.raises(UsageError, match=r"it is another model than model\.name"):
        _ = parts_at(serve(shifted), tiny_model, tmp_path).initial_engine


def test_what_is_no_vllm_is_told_so(serve: Serve, tiny_model: Path, tmp_path: Path) -> None:
    served = TinyVllm(tiny_model)
    server = serve(lambda request: served({k: v for k, v in request.items() if k != "return_token_ids"}))
    with pytest.raises(RefineError, match=r"no completion with its token ids; it must be vLLM, 0\.10\.2 or later"):
        written(parts_at(server, tiny_model, tmp_path).initial_engine, copies(1), GREEDY, seed=0)


def test_one_that_does_not_answer_is_told_in_one_line(
    serve: Serve, tiny_model: Path, tmp_path: Path, free_port: int
) -> None:
    server = serve(TinyVllm(tiny_model))
    config = parts_at(server, tiny_model, tmp_path, f"model.server.url=http://127.0.0.1:{free_port}/v1").config
    with pytest.raises(UsageError, match=rf"^model\.server: http://127\.0\.0\.1:{free_port}/v1/models gave no answer"):
        check_server(config.model)


def test_an_address_that_is_none_is_told_by_its_option(serve: Serve, tiny_model: Path, tmp_path: Path) -> None:
    config = parts_at(serve(TinyVllm(tiny_model)), tiny_model, tmp_path, "model.server.url=host:8000/v1").config
    with pytest.raises(UsageError, match=r"^model\.server\.url must be like https://host/v1, found 'host:8000/v1'"):
        check_server(config.model)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["model.engine=vllm"], "engine vllm needs server.url"),
        (["model.server.url=http://localhost:8000/v1"], "server.url is for engine vllm, and engine is auto"),
    ],
)
def test_engine_and_address_go_together(settings: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        load_config(overrides=settings)
