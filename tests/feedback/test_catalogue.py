"""Promises of the rewards that a config can name: every scorer by its name, settings that are refused where they mean
nothing, and one model in memory for all that ask it."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from refine_af.config import Config, FeedbackConfig, ScorerConfig, load_config
from refine_af.engines.base import Engine
from refine_af.errors import UsageError
from refine_af.feedback.base import Example, Scorer
from refine_af.feedback.catalogue import CATALOGUE, Workshop, make_scorer
from refine_af.feedback.check import check_feedback, runs_models
from refine_af.feedback.composite import Composite, checked_scores
from refine_af.feedback.make import make_feedback
from refine_af.parts import Parts
from refine_af.planning.models import reward_models
from refine_af.store import Store

SEEDS = [
    Example("Name a colour.", "", "Blue."),
    Example("Write a short story about a dog.", "", "The dog had a long journey to the old house by the river."),
    Example("Describe the river.", "", "The river is cold and large and it is between the old bridge and the market."),
    Example("Name three animals.", "", "A cat, a dog, a bird."),
    Example("Count the trees.", "a tree a tree", "Two."),
    Example("Explain the weather.", "", "In the winter it is cold and in the summer it is warm, every year."),
    Example("Pick a city.", "", "The old city by the river."),
    Example("Give advice.", "", "Make a plan before the journey, and tell a friend about it."),
]


def feedback_of(scorers: dict[str, Any], **more: Any) -> FeedbackConfig:
    return FeedbackConfig.model_validate({"name": "composite", "scorers": scorers, **more})


def workshop(config: Config, tmp_path: Path, memory: Store | None = None) -> Workshop:
    return Workshop(Parts(config, tmp_path / "scratch"), SEEDS, memory)


def made(tmp_path: Path, feedback: FeedbackConfig, base: Config | None = None) -> Composite:
    config = (base or load_config()).model_copy(update={"feedback": feedback})
    check_feedback(config.feedback)
    return make_feedback(workshop(config, tmp_path))


def asking(engine: Engine, calls: list[int]) -> None:
    """Keeps the number of texts of each call to the engine."""
    for name in ("token_scores", "log_probs"):
        setattr(engine, name, _counted(getattr(engine, name), calls))


def _counted(method: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def counted(texts: Sequence[tuple[str, str]]) -> Any:
        calls.append(len(texts))
        return method(texts)

    return counted


# -- the scorers ---------------------------------------------------------------------------------------

RULES = [name for name, entry in CATALOGUE.items() if not {"model", "direction"} & set(entry.takes)]


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_a_reward_by_its_name_and_declares_what_the_catalogue_says(name: str, tmp_path: Path) -> None:
    feedback = made(tmp_path, FeedbackConfig(name=name))
    scorer = feedback.components[0].scorer
    assert isinstance(scorer, Scorer)
    assert scorer.better == CATALOGUE[name].better
    raw = checked_scores(scorer, SEEDS)
    sign = -1.0 if scorer.better == "low" else 1.0
    judged = feedback.judge(SEEDS)
    assert [j.reward for j in judged] == [sign * value for value in raw]
    assert [j.components for j in judged] == [{name: value} for value in raw]


@pytest.mark.parametrize("name", ["likelihood", "pmi", "judge"])
def test_a_scorer_of_the_runs_model_is_a_reward_by_its_name(name: str, tiny_config: Config, tmp_path: Path) -> None:
    feedback = made(tmp_path, FeedbackConfig(name=name), tiny_config)
    scorer = feedback.components[0].scorer
    assert scorer.better == CATALOGUE[name].better
    assert scorer.identity is not None
    assert all(math.isfinite(j.reward) for j in feedback.judge(SEEDS))


def test_scorers_of_one_model_share_it(tiny_config: Config, tmp_path: Path) -> None:
    shop = workshop(tiny_config, tmp_path)
    calls: list[int] = []
    asking(shop.parts.initial_engine, calls)
    for name in ("likelihood", "pmi"):
        make_scorer(shop, name, ScorerConfig()).score(SEEDS)
    alone = len({seed.output for seed in SEEDS})
    assert calls == [len(SEEDS), alone]  # with the task and without it, once for both
    make_scorer(shop, "judge", ScorerConfig()).score(SEEDS)
    assert len(calls) == 3


def test_two_labels_of_one_reward_model_load_it_once(tmp_path: Path) -> None:
    from reward_models import checkpoint

    folder = checkpoint(tmp_path / "reward", "safetensors")
    shop = workshop(load_config(), tmp_path)
    one, other = (make_scorer(shop, label, ScorerConfig(use="reward_model", model=str(folder))) for label in "ab")
    assert one is other
    assert one.identity is not None


def test_the_runs_own_model_named_again_is_the_same_one(tiny_config: Config, tmp_path: Path) -> None:
    shop = workshop(tiny_config, tmp_path)
    engine, *_ = shop.engine(ScorerConfig())
    assert shop.engine(ScorerConfig(model=tiny_config.model.name))[0] is engine


@pytest.mark.parametrize(
    ("quantization", "can", "rounded"), [("int8", True, True), ("int8", False, False), ("float32", True, False)]
)
def test_the_embedded_encoder_is_rounded_where_the_run_computes_in_int8(
    quantization: str, can: bool, rounded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refine_af.engines.int8.computes_int8", lambda: can)
    config = load_config(overrides=[f"model.quantization={quantization}", "model.device=cpu"])
    assert workshop(config, tmp_path).embedder(ScorerConfig()).identity.endswith("int8") is rounded


def test_another_model_than_the_runs_may_judge(tiny_config: Config, tiny_base_model: Path, tmp_path: Path) -> None:
    shop = workshop(tiny_config, tmp_path)
    other = ScorerConfig(model=str(tiny_base_model))
    engine, frame, identity = shop.engine(other)
    assert engine.model == tiny_base_model.name
    assert (frame, identity) != shop.engine(ScorerConfig())[1:]
    assert shop.engine(other)[0] is engine


def test_what_was_scored_for_one_reward_is_known_to_the_next(tiny_config: Config, tmp_path: Path) -> None:
    config = tiny_config.model_copy(update={"feedback": feedback_of({"likelihood": {}, "pmi": {}})})
    with Store(tmp_path / "run.db") as store:
        first = make_feedback(workshop(config, tmp_path, store)).judge(SEEDS)
        shop = workshop(config, tmp_path, store)
        calls: list[int] = []
        asking(shop.parts.initial_engine, calls)
        assert make_feedback(shop).judge(SEEDS) == first
        assert calls == []


class Yes(BaseHTTPRequestHandler):
    """An endpoint that says yes to all, with a probability of 0.8."""

    asked: list[str] = []  # noqa: RUF012 -- read by the test

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(request["messages"][0]["content"])
        tokens = [{"token": "Yes", "logprob": math.log(0.8)}, {"token": "No", "logprob": math.log(0.2)}]
        body = json.dumps({"choices": [{"logprobs": {"content": [{"top_logprobs": tokens}]}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def test_an_endpoint_judges_by_its_settings_and_is_asked_once_for_a_pair(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Yes)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}/v1"
    settings = {"use": "judge", "base_url": address, "model": "m", "question": "{output}?", "calibrated": False}
    config = load_config().model_copy(update={"feedback": feedback_of({"kind": settings})})
    check_feedback(config.feedback)
    assert Yes.asked == []
    try:
        with Store(tmp_path / "run.db") as store:
            for _ in range(2):
                (judgement,) = make_feedback(workshop(config, tmp_path, store)).judge(SEEDS[:1])
                assert judgement.components == {"kind": pytest.approx(0.8)}
    finally:
        server.shutdown()
        server.server_close()
    assert Yes.asked == ["Blue.?"]


# -- composites ----------------------------------------------------------------------------------------


def test_a_composite_weighs_calibrates_and_gates_as_it_is_told(tmp_path: Path) -> None:
    feedback = made(
        tmp_path,
        feedback_of(
            {
                "variety": {"weight": 0.5, "clip": 1.0},
                "brevity": {"use": "length", "weight": -0.01, "calibrated": False},
                "repetition": {"weight": 0, "maximum": 0.2, "cap": -0.5},
            }
        ),
    )
    variety, brevity, repetition = feedback.components
    assert (variety.name, variety.weight, variety.clip) == ("variety", 0.5, 1.0)
    assert (variety.mean, variety.spread) != (0.0, 1.0)
    assert (brevity.name, brevity.mean, brevity.spread, brevity.clip) == ("brevity", 0.0, 1.0, math.inf)
    assert (repetition.weight, feedback.gates[0].maximum, feedback.gates[0].cap) == (0.0, 0.2, -0.5)
    loop = Example("Say it.", "", "no no no no no no no no")
    (judgement,) = feedback.judge([loop])
    assert judgement.reward == min(-0.5, sum(judgement.shares.values()))
    assert judgement.components["brevity"] == 8.0
    assert judgement.shares["brevity"] == pytest.approx(-0.08)


def test_weights_are_by_default_one_in_the_direction_of_the_scorer(tmp_path: Path) -> None:
    feedback = made(tmp_path, feedback_of({"variety": {}, "repetition": {}}))
    assert [(c.name, c.weight, c.clip) for c in feedback.components] == [
        ("variety", 1.0, 2.0),
        ("repetition", -1.0, 2.0),
    ]


def test_one_scorer_may_stand_under_two_labels(tmp_path: Path) -> None:
    feedback = made(tmp_path, feedback_of({"strict": {"use": "copying", "free": 1}, "mild": {"use": "copying"}}))
    (judgement,) = feedback.judge([Example("Say the old house is cold.", "", "the old house is")])
    assert set(judgement.components) == {"strict", "mild"}


def test_a_function_of_the_users_own_is_a_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_component.py").write_text(
        "def shout(prompts, completions, **kwargs):\n    return [float(c.isupper()) for c in completions]\n"
    )
    scorers = {"loud": {"use": "own_component:shout", "weight": 2, "calibrated": False}, "variety": {"weight": 0}}
    feedback = made(tmp_path, feedback_of(scorers))
    assert [j.reward for j in feedback.judge([Example("a", "", "YES"), Example("a", "", "yes")])] == [2.0, 0.0]


def test_a_single_scorer_takes_settings_under_its_name(tmp_path: Path) -> None:
    config = FeedbackConfig.model_validate({"name": "copying", "scorers": {"copying": {"free": 1, "weight": -3}}})
    (judgement,) = made(tmp_path, config).judge([Example("Say a b.", "", "say a b")])
    assert judgement.reward == -3.0 * judgement.components["copying"] < 0


# -- what is refused -----------------------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown scorer": ({"likelyhood": {}}, "no scorer named 'likelyhood', did you mean 'likelihood'?"),
    "unknown use": ({"mine": {"use": "varity"}}, "feedback.scorers.mine: no scorer named 'varity', did you mean"),
    "unknown module": ({"mine": {"use": "no_such_module:x"}}, "module no_such_module can't be imported"),
    "none": ({}, "feedback.scorers is empty"),
    "all weights zero": ({"variety": {"weight": 0}, "format": {"weight": 0}}, "every weight is zero"),
    "no direction": ({"length": {}}, "feedback.scorers.length.weight is missing: set 1 if high"),
    "a setting of others": (
        {"variety": {"question": "Is it?"}},
        "scorers.variety.question: the scorer variety has no",
    ),
    "a setting of others too": ({"pmi": {"free": 3}}, "feedback.scorers.pmi.free: the scorer pmi has no such setting"),
    "a setting for own code": ({"mine": {"use": "math:sqrt", "model": "x"}}, "feedback.scorers.mine.model"),
    "minimum over maximum": (
        {"variety": {"minimum": 2, "maximum": 1}},
        "scorers.variety.minimum: 2.0 is over",
    ),
    "a cap without a gate": ({"variety": {"cap": 1}}, "feedback.scorers.variety.cap: 1.0 caps nothing"),
    "no such model": ({"reward_model": {"model": "./none"}}, "no model folder ./none"),
    "no such judge": ({"judge": {"model": "some/judge"}}, "hf download some/judge"),
    "a revision of nothing": (
        {"judge": {"revision": "main"}},
        "scorers.judge.revision: 'main' of which model",
    ),
    "an endpoint without a model": ({"judge": {"base_url": "http://x/v1"}}, "feedback.scorers.judge.model is missing"),
    "an endpoint that is none": ({"judge": {"base_url": "ftp://x", "model": "m"}}, "base_url must be like https://"),
    "a question without the output": ({"judge": {"question": "Is it?"}}, "scorers.judge: its question lacks {output}"),
    "a key without an endpoint": ({"judge": {"model": "m", "api_key_env": "KEY"}}, "scorers.judge.base_url is missing"),
    "a key that is not set": (
        {"judge": {"base_url": "http://x/v1", "model": "m", "api_key_env": "NO_SUCH_KEY"}},
        "feedback.scorers.judge.api_key_env: the environment variable NO_SUCH_KEY is not set",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_composite_is_refused_in_one_line_that_names_scorer_and_field(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    scorers, said = WRONG[name]
    with pytest.raises(UsageError) as caught:
        check_feedback(feedback_of(scorers))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "nonsense"}, "no feedback named 'nonsense'"),
        ({"name": "instructmining_v3"}, "did you mean 'instructmining_v"),
        ({"name": "zzz"}, "no feedback named 'zzz'; there are: embedded, instructmining_v1"),
        ({"name": "embedded", "scorers": {"variety": {}}}, "feedback.scorers.variety: only feedback.name=composite"),
        ({"name": "variety", "scorers": {"format": {}}}, "feedback.scorers.format: only feedback.name=composite"),
        ({"name": "variety", "weights": {"variety": 2}}, "use feedback.scorers.variety.weight"),
        (
            {"name": "composite", "weights": {"variety": 2}, "scorers": {"variety": {}}},
            "composite takes none; use feedback.scorers.NAME.weight",
        ),
        ({"name": "embedded", "weights": {"nothing": 2}}, "feedback.weights names 'nothing'"),
        (
            {"name": "embedded", "training_weights": {"nothing": 2}},
            "feedback.training_weights names 'nothing', which embedded has not; known: contrastive, content",
        ),
        (
            {"name": "embedded", "training_weights": {"contrastive": 0}},
            "feedback.training_weights: every weight is zero",
        ),
        (
            {"name": "instructmining_v2", "training_weights": {"content": 1}},
            "feedback.training_weights: instructmining_v2 takes none; leave them out",
        ),
        ({"name": "variety", "scorers": {"variety": {"minimum": 1}}}, "feedback.scorers.variety.minimum: only"),
        ({"name": "variety", "scorers": {"variety": {"use": "format"}}}, "feedback.scorers.variety.use: only"),
        ({"name": "variety", "scorers": {"variety": {"weight": 0}}}, "feedback.scorers.variety.weight is zero"),
    ],
)
def test_a_wrong_name_or_place_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_feedback(FeedbackConfig.model_validate(values))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("values", "enough"),
    [
        ({"name": "instructmining_v1"}, 7),
        ({"name": "neighbour_distance", "scorers": {"neighbour_distance": {"neighbours": 2}}}, 3),
        ({"name": "composite", "scorers": {"far": {"use": "neighbour_distance"}, "variety": {}}}, 7),
    ],
)
def test_too_few_seeds_for_a_neighbour_are_told_before_a_run_begins(values: dict[str, Any], enough: int) -> None:
    feedback = FeedbackConfig.model_validate(values)
    few = r"raise feedback\.calibrated_on, or add seed tasks"
    with pytest.raises(UsageError, match=few):
        check_feedback(feedback, enough - 1)
    said = ""
    try:
        check_feedback(feedback, enough)
    except UsageError as error:  # of the reward model, which is looked for behind it
        said = str(error)
    assert "seed tasks" not in said


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("feedback.scorers.judge.wieght=1", "did you mean 'weight'"),
        ("feedback.scorers.judge.clip=0", "option feedback.scorers.judge.clip"),
        ("feedback.scorers.judge.weight=inf", "option feedback.scorers.judge.weight"),
        ("feedback.scorers.judge=3", "option feedback.scorers.judge"),
    ],
)
def test_a_scorers_misspelt_setting_is_told_with_its_place(override: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(overrides=[override])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("feedback", "passes"),
    [
        (FeedbackConfig(name="embedded"), {}),
        (FeedbackConfig(name="instructmining_v1"), {"Rew": 1}),
        (FeedbackConfig(name="instructmining_v2"), {"Rew": 1, "Nat, Und, Coh": 3}),
        (FeedbackConfig(name="coherence"), {"Nat, Und, Coh": 1}),
        (feedback_of({"a": {"use": "reward_model"}, "b": {"use": "naturalness"}, "coherence": {}}),
         {"Rew": 1, "Nat, Und, Coh": 2}),
        (feedback_of({"reward_model": {"model": "./other"}, "relevance": {}, "variety": {}}), {}),
    ],
)  # fmt: skip
def test_a_plan_counts_the_models_that_a_reward_reads_with(feedback: FeedbackConfig, passes: dict[str, int]) -> None:
    assert {model.role: model.passes for model in reward_models(feedback)} == passes


@pytest.mark.parametrize(
    ("feedback", "expected"),
    [
        (FeedbackConfig(name="embedded"), True),
        (FeedbackConfig(name="variety"), False),
        (FeedbackConfig(name="judge"), True),
        (feedback_of({"variety": {}, "format": {}}), False),
        (feedback_of({"variety": {}, "pmi": {}}), True),
        (feedback_of({"judge": {"base_url": "http://x/v1", "model": "m"}}), False),
        (FeedbackConfig(name="module:function"), False),
    ],
)
def test_it_is_known_whether_a_model_runs_here(feedback: FeedbackConfig, expected: bool) -> None:
    assert runs_models(feedback) is expected
