"""Promises of `refine-af evaluate`: any kind of model answers, a stopped call goes on to the same result, a folder
belongs to its settings, and a mistake is one line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import Server

from refine_af.cli import main
from refine_af.evaluation import evaluate as job
from refine_af.evaluation import subject
from refine_af.store import Store

TASKS = [
    {
        "task": f"task{t}",
        "category": "Title Generation",
        "definition": f"{verb} a story about the garden",
        "positive_examples": [{"input": "a cat", "output": "the cat"}, {"input": "a dog", "output": "the dog"}],
        "instance_id": f"{t}-{i}",
        "input": f"the {noun} and the water" * (1 + i),
        "references": [f"the {noun}"],
    }
    for t, verb in enumerate(("Write", "Tell", "Describe"))
    for i, noun in enumerate(("river", "city", "school"))
]


@pytest.fixture(scope="session")
def tiny_model(varied_models: tuple[Path, Path]) -> Path:
    return varied_models[0]


@pytest.fixture(scope="session")
def tiny_base_model(varied_models: tuple[Path, Path]) -> Path:
    return varied_models[1]


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Called = Callable[..., Result]


@pytest.fixture
def call(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Called:
    """Calls the command in a folder of its own; float32, one thread, two instances at once."""
    monkeypatch.chdir(tmp_path)
    for name in ("TQDM_DISABLE", "TOKENIZERS_PARALLELISM", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    Path("tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TASKS))
    settings = ("model.quantization=float32", "threads=1", "model.batch_size=2")

    def called(*words: object, model: str = str(tiny_model), out: str = "out") -> Result:
        sets = [part for one in settings for part in ("--set", one)]
        arguments = [model, "--tasks", "tasks.jsonl", "--out", out, "--max-target", 8, *sets, *words]
        monkeypatch.setattr(sys, "argv", ["refine-af", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return Result(int(ended.value.code or 0), printed.out, printed.err)

    return called


def predictions(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(folder) / "predictions.jsonl").read_text().splitlines()]


def scores(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "scores.json").read_text())
    return found


# -- what comes out ------------------------------------------------------------------------------------


def test_every_instance_is_answered_in_the_order_of_the_tasks(call: Called) -> None:
    result = call("--json", "-q")
    assert (result.code, result.err) == (0, "")
    rows = predictions("out")
    assert [row["id"] for row in rows] == [row["instance_id"] for row in TASKS]
    assert set(rows[0]) == {"id", "task", "category", "prediction", "rouge_l", "exact_match"}
    assert len({row["prediction"] for row in rows}) >= 3
    found = json.loads(result.out)
    assert found == scores("out")
    assert (found["instances"], found["missing"], set(found["tasks"])) == (9, 0, {"task0", "task1", "task2"})
    assert sorted(p.name for p in Path("out").iterdir()) == [".lock", "predictions.jsonl", "scores.json"]


def test_people_read_the_figures_and_all_that_decided_them(call: Called) -> None:
    out = " ".join(call("--shots", "2", "--cut", "first_line", "-q").out.split())
    for shown in ("ROUGE-L", "exact match", "shots 2", "cut first_line", "prompt chat", "max_source 1024", "task2"):
        assert shown in out


def test_both_engines_and_both_ways_to_batch_answer_alike_in_float32(call: Called) -> None:
    call("-q")
    call("-q", "--set", "model.engine=transformers", out="other")
    call("-q", "--set", "model.batch_size=1", out="single")
    assert predictions("other") == predictions("out") == predictions("single")


def test_a_base_model_is_asked_plainly_and_a_chat_model_too_if_wanted(call: Called, tiny_base_model: Path) -> None:
    call("-q", model=str(tiny_base_model), out="base")
    call("-q", "--prompt", "plain", out="plain")
    call("-q", out="chat")
    assert [scores(f)["settings"]["prompt"] for f in ("base", "plain", "chat")] == ["plain", "plain", "chat"]
    assert predictions("base") == predictions("plain") != predictions("chat")


def test_a_template_that_writes_nothing_behind_the_task_is_a_template_too(
    call: Called, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "before-alone"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text("{% for m in messages %}<|user|>{{ m.content }}{% endfor %}")
    assert call("-q", model=str(folder)).code == 0
    assert scores("out")["settings"]["prompt"] == "chat"


def test_instances_and_shots_change_what_is_asked(call: Called) -> None:
    call("-q", "--instances", 1)
    call("-q", "--instances", 1, "--shots", 2, out="shown")
    assert [row["id"] for row in predictions("out")] == ["0-0", "1-0", "2-0"]
    assert predictions("out") != predictions("shown")


def test_an_answer_is_cut_by_the_rule(call: Called, serve: Callable[..., Server]) -> None:
    server = serve((200, {"choices": [{"message": {"content": " one\ntwo\n\nthree "}}]}, {}))
    for rule, text in (("none", "one\ntwo\n\nthree"), ("first_line", "one"), ("blank_line", "one\ntwo")):
        call("-q", "--cut", rule, "--served", "m", model=server.url, out=rule)
        assert {row["prediction"] for row in predictions(rule)} == {text}


# -- kinds of models -----------------------------------------------------------------------------------


@pytest.fixture
def adapter(tiny_model: Path, tmp_path: Path) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    settings = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model), settings)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(0.0, 0.4, generator=generator)
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    return tmp_path / "adapter"


def test_an_adapter_brings_its_base_and_a_run_its_adapter(call: Called, tiny_model: Path, adapter: Path) -> None:
    call("-q")
    assert call("-q", model=str(adapter), out="adapted").code == 0
    assert predictions("adapted") != predictions("out")
    Path("run").mkdir()
    Store(Path("run/run.db")).close()
    Path("run/config.yaml").write_text(json.dumps({"model": {"name": str(tiny_model)}}))
    assert (
        "has no tuned model yet; finish it: `refine-af run --config run/config.yaml --out run`"
        in call("-q", model="run", out="tuned").err
    )
    adapter.rename("run/model")
    assert call("-q", model="run", out="tuned").code == 0
    assert predictions("tuned") == predictions("adapted")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SmolLM2-135M-Instruct", "embedded"),
        ("/home/me/.cache/refine-af/models/SmolLM2-135M-Instruct-52c66206", "embedded"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("./SmolLM2-135M-Instruct-mine", "./SmolLM2-135M-Instruct-mine"),
    ],
)
def test_the_embedded_model_is_known_by_its_label_and_its_place_in_a_cache(
    tmp_path: Path, name: str, expected: str
) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
    assert subject._base_and_adapter(str(tmp_path)) == (expected, None, tmp_path)


def test_an_endpoint_is_asked_for_every_instance(call: Called, serve: Callable[..., Server]) -> None:
    def answer(request: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if not request:
            return 200, {"data": [{"id": "served"}]}, {}
        text = request["messages"][0]["content"] if "messages" in request else request["prompt"]
        return 200, {"choices": [{"message": {"content": text[-30:]}, "text": "plainly"}]}, {}

    server = serve(answer)
    assert call("-q", model=server.url).code == 0
    request = server.requests[1]
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("served", 8, 0)
    assert all(row["prediction"].endswith("Output:") for row in predictions("out"))
    assert scores("out")["settings"]["model"] == "served"
    assert call("-q", "--prompt", "plain", model=server.url, out="plain").code == 0
    assert {row["prediction"] for row in predictions("plain")} == {"plainly"}


def test_an_endpoint_that_fails_is_one_line_and_what_was_answered_is_kept(
    call: Called, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject.EndpointSubject, "unit", 3)
    broken = True

    def answer(request: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if broken and "Tell" in request["messages"][0]["content"]:
            return 500, "busy", {}
        return 200, {"choices": [{"message": {"content": "x"}}]}, {}

    server = serve(answer)
    result = call("-q", "--served", "m", model=server.url)
    assert (result.code, result.out, len(result.err.splitlines())) == (1, "", 1)
    assert "answered 500 (busy), 6 times in a row" in result.err
    broken, asked = False, len(server.requests)
    assert call("-q", "--served", "m", model=server.url).code == 0
    assert len(server.requests) - asked == 6


def spoken(content: Any, **more: Any) -> tuple[int, Any, dict[str, str]]:
    return 200, {"choices": [{"finish_reason": "stop", "message": {"content": content, **more}}]}, {}


def test_answers_without_text_are_counted_and_told_and_thinking_is_none(
    call: Called, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject.EndpointSubject, "unit", 3)
    waiting = [
        spoken("<think>Hm</think>blue"), spoken([{"type": "text", "text": "blue"}]), spoken(None, refusal="No."),
        spoken(None), (500, "busy", {}), *[(500, "busy", {})] * 20,
    ]  # fmt: skip
    server = serve(lambda request: waiting.pop(0) if waiting else spoken("blue", refusal=None))
    words = ("-q", "--json", "--served", "m")
    assert call(*words, model=server.url).code == 1
    waiting[:] = [spoken(None, refusal="No.")]
    result = call(*words, model=server.url)
    assert result.code == 0
    assert result.err == "note: 2 of 9 answers have no text and are scored as empty: 2 refusal\n"
    assert scores("out")["without_text"] == {"refusal": 2}
    assert [row["prediction"] for row in predictions("out")].count("blue") == 7
    again = call(*words, model=server.url)
    assert (again.out, again.err) == (result.out, result.err)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (spoken(None, refusal="I can't."), "gave no text in 9 answers: 9 refusal (model m)"),
        (spoken(None), "gave no text in 9 answers: 9 null content (finish_reason stop) (model m)"),
        (spoken(None, tool_calls=[{"id": "1"}]), "9 tool call"),
        ((200, {"choices": [{"finish_reason": "length", "message": {"content": "", "reasoning": "Hm"}}]}, {}),
         "9 reasoning without an answer (finish_reason length); raise --max-target"),
        ((200, {"error": {"message": "Quota exceeded", "code": 429}}, {}), "(Quota exceeded), 6 times in a row"),
        ((200, {"choices": [{}]}, {}), "returned no answer"),
    ],
)  # fmt: skip
def test_an_endpoint_that_never_answers_is_one_line(
    call: Called, serve: Callable[..., Server], answer: Any, said: str
) -> None:
    server = serve(answer)
    result = call("-q", "--served", "m", model=server.url)
    assert (result.code, result.out, len(result.err.splitlines())) == (1, "", 1)
    assert said in result.err
    assert server.url in result.err
    assert not Path("out/scores.json").exists()


# -- stopped, and called again -------------------------------------------------------------------------


def test_a_call_that_was_stopped_goes_on_to_the_same_result(call: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "BATCHES_AT_ONCE", 1)  # so that there are several units
    call("-q", out="whole")
    asked: list[int] = []
    answers = subject._Loaded.answers

    def counted(self: Any, groups: Any, *rest: Any) -> Any:
        if len(asked) == 1:
            asked.append(0)
            raise KeyboardInterrupt
        asked.append(sum(map(len, groups)))
        return answers(self, groups, *rest)

    monkeypatch.setattr(subject._Loaded, "answers", counted)
    stopped = call("-q")
    assert (stopped.code, stopped.out) == (130, "")
    assert not Path("out/scores.json").exists()
    with Path("out/answers.jsonl").open("a") as journal:
        journal.write('{"id": "1-0", "ans')  # as a process leaves it that is killed
    assert call("-q").code == 0
    assert asked == [3, 0, 3, 3]
    for name in ("predictions.jsonl", "scores.json"):
        assert (Path("out") / name).read_text() == (Path("whole") / name).read_text()


def test_a_journal_without_a_line_is_one_of_nothing(call: Called) -> None:
    Path("out").mkdir()
    Path("out/answers.jsonl").touch()
    assert call("-q").code == 0
    assert len(predictions("out")) == 9


@pytest.mark.parametrize("text", ["{", "[]", '{"settings": 3}', "[" * 100_000])
@pytest.mark.parametrize("name", ["scores.json", "answers.jsonl"])
def test_a_damaged_file_of_an_evaluation_is_one_line(call: Called, name: str, text: str) -> None:
    Path("out").mkdir()
    Path("out", name).write_text(f"{text}\n")
    result = call("-q")
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert f"out/{name} is damaged; name another --out" in result.err


def test_a_complete_evaluation_is_shown_again_and_nothing_is_asked(
    call: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = call("--json", "-q").out
    monkeypatch.setattr(job, "_ask", None)
    assert call("--json", "-q").out == first


# -- the references' likelihood -------------------------------------------------------------------------


def test_the_references_likelihoods_stand_beside_the_scores_and_change_none(call: Called) -> None:
    call("-q", out="plain")
    shown = call("-q", "--likelihood")
    assert shown.code == 0
    assert "References, nats: content -" in shown.out
    found = scores("out")["likelihood"]
    assert list(found["tasks"]) == ["task0", "task1", "task2"]
    for name in ("content", "margin", "end", "loss"):
        assert found[name] == pytest.approx(sum(one[name] for one in found["tasks"].values()) / 3)
    assert (found["content"] < 0, found["end"] < 0, found["loss"] > 0) == (True, True, True)
    assert predictions("out") == predictions("plain")
    assert "likelihood" not in scores("plain")


def test_stopped_between_the_references_it_goes_on_to_the_same(call: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "_TASKS_AT_ONCE", 1)
    call("-q", "--likelihood", out="whole")
    asked: list[int] = []
    scored = subject._Loaded.token_scores

    def counted(self: Any, texts: Any) -> Any:
        asked.append(len(texts))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return scored(self, texts)

    monkeypatch.setattr(subject._Loaded, "token_scores", counted)
    assert call("-q", "--likelihood").code == 130
    assert "was begun with other settings (then -> now: likelihood: 5 -> None)" in call("-q").err
    assert call("-q", "--likelihood").code == 0
    assert asked == [9, 9, 9, 9], "what was measured is not measured again"
    assert (Path("out") / "scores.json").read_text() == (Path("whole") / "scores.json").read_text()


def test_a_task_with_one_reference_has_no_margin_and_it_is_said(call: Called) -> None:
    alike = [{**row, "references": ["the same"]} for row in TASKS if row["task"] == "task0"]
    long = [{**row, "references": ["a word " * 40]} for row in TASKS if row["task"] == "task1"]
    rows = [*alike, *long, *(row for row in TASKS if row["task"] == "task2")]
    Path("tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = call("--likelihood").err
    assert "1 tasks get no margin: no two different references within --max-target=8" in told
    assert "1 tasks get no likelihood: no reference within --max-target=8" in told
    found = scores("out")["likelihood"]
    assert {name: (one["references"], one["margin"] is None) for name, one in found["tasks"].items()} == {
        "task0": (1, True),
        "task2": (3, False),
    }
    assert found["margin"] == found["tasks"]["task2"]["margin"]


def test_an_endpoint_tells_no_likelihood_and_nothing_is_asked(call: Called, serve: Callable[..., Server]) -> None:
    server = serve(lambda request: (200, {"choices": [{"message": {"content": "x"}}]}, {}))
    result = call("--likelihood", "--served", "m", model=server.url)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert "; leave it out, or give the model's folder or Hub name" in result.err
    assert not server.requests
    assert not Path("out").exists()


# -- wrong use -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused_with_the_difference(call: Called, complete: bool) -> None:
    call("-q")
    if not complete:
        settings = scores("out")["settings"]
        Path("out/scores.json").unlink()
        Path("out/answers.jsonl").write_text(json.dumps({"settings": settings}) + "\n")
    result = call("-q", "--shots", "2", "--cut", "first_line")
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert "(then -> now: shots: 0 -> 2; cut: 'none' -> 'first_line')" in result.err
    Path("tasks.jsonl").write_text(json.dumps(TASKS[0]))
    assert "(then -> now: other tasks, or their file has changed): use the old ones" in call("-q").err


@pytest.mark.parametrize(
    ("words", "options", "said"),
    [
        ((), {"model": "./none"}, "no model folder ./none; give a folder saved by transformers"),
        ((), {"model": "http://"}, "MODEL must be like https://host/v1, found 'http://'"),
        ((), {"out": "tasks.jsonl/x"}, "tasks.jsonl is a file; name a folder"),
        ((), {"out": "o" * 300}, ": File name too long; choose another folder"),
        ((), {"out": "."}, "holds other files and no evaluation"),
        (("--tasks", "none.jsonl"), {}, "none.jsonl is not there"),
        (("--served", "m"), {}, "--served names a model behind an endpoint"),
        (("--shots", "3"), {}, "--shots"),
        (("--instances", "0"), {}, "--instances"),
    ],
)
def test_a_mistake_is_one_line_exit_2_and_nothing_written(
    call: Called, words: tuple[str, ...], options: dict[str, str], said: str
) -> None:
    before = sorted(Path.cwd().rglob("*"))
    result = call("-q", *words, **options)
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert said in result.err
    assert sorted(Path.cwd().rglob("*")) == before


def test_prompts_beyond_the_models_positions_are_refused_and_shorter_ones_fit(
    call: Called, tiny_model: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short"
    shutil.copytree(tiny_model, short)
    settings = json.loads((short / "config.json").read_text())
    settings["max_position_embeddings"] = 40
    (short / "config.json").write_text(json.dumps(settings))
    result = call("-q", model=str(short))
    assert (result.code, result.out, len(result.err.splitlines())) == (2, "", 1)
    assert "and an answer of up to 8 go beyond the model's 40 positions; lower --max-source to" in result.err
    assert not Path("out").exists()
    fitting = result.err.split("--max-source to ")[1].split(",")[0]
    assert call("-q", "--max-source", fitting, model=str(short)).code == 0


def test_a_chat_prompt_needs_a_chat_template(call: Called, tiny_base_model: Path) -> None:
    result = call("-q", "--prompt", "chat", model=str(tiny_base_model))
    assert result.code == 2
    assert "has no chat template; use --prompt plain" in result.err
    assert not Path("out").exists()


def test_the_language_is_a_setting_that_scores_tell(call: Called) -> None:
    call("-q")
    assert scores("out")["settings"]["tokenization"] == "rouge-score"
    call("-q", "--language", "zh", out="chinese")
    call("-q", "--set", "language=zh", out="by_config")
    assert scores("chinese")["settings"]["tokenization"] == scores("by_config")["settings"]["tokenization"] == "unicode"
    result = call("-q", "--language", "zh")
    assert result.code == 2
    assert "tokenization: 'rouge-score' -> 'unicode'" in result.err


def test_an_evaluation_that_is_older_than_languages_is_an_english_one(call: Called) -> None:
    call("-q")
    older = scores("out")
    del older["settings"]["tokenization"]
    Path("out/scores.json").write_text(json.dumps(older))
    assert call("-q").code == 0
    assert call("-q", "--language", "zh").code == 2
