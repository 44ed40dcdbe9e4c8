"""Promises of a user's own reward: found by module:attribute, called as TRL calls it, and told when it is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refine_af.errors import RefineError, UsageError
from refine_af.feedback.base import Example
from refine_af.feedback.custom import FunctionScorer, entry_points, load_custom, load_scorer

EXAMPLES = [Example("Name a cat", "", "Tom"), Example("Translate", "chat", "cat!!")]

LENGTH = "def reward(prompts, completions, **kwargs):\n    return [float(len(c)) for c in completions]\n"
ECHO = """
seen = []
def reward(prompts, completions, **kwargs):
    seen.append((prompts, completions, kwargs))
    return [0.0] * len(prompts)
"""
SCORER = """
class Bounded:
    name, low, high = "bounded", -2.0, 1.0
    def score(self, examples):
        return [-5.0 if "!" in e.output else 1.0 for e in examples]
made = Bounded()
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module of the user's into the current folder; gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    written: list[str] = []

    def write(source: str) -> str:
        name = f"users_reward_{abs(hash(source)) % 10**8}"
        (tmp_path / f"{name}.py").write_text(source)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def test_a_function_of_the_current_folder_is_a_reward(module: Callable[[str], str]) -> None:
    feedback = load_custom(f"{module(LENGTH)}:reward")
    judged = feedback.judge(EXAMPLES)
    assert [j.reward for j in judged] == [3.0, 5.0]
    assert [j.components for j in judged] == [{"reward": 3.0}, {"reward": 5.0}]
    assert feedback.floor == -10.0


def test_a_module_on_the_path_is_found(
    tmp_path_factory: pytest.TempPathFactory, module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module(LENGTH)
    folder = Path.cwd()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.syspath_prepend(str(folder))
    assert load_custom(f"{name}:reward").judge(EXAMPLES)[0].reward == 3.0


def test_the_function_gets_prompts_completions_instruction_and_input_by_name(module: Callable[[str], str]) -> None:
    name = module(ECHO)
    load_custom(f"{name}:reward").judge(EXAMPLES)
    assert sys.modules[name].seen == [
        (
            ["Name a cat", "Translate\n\nchat"],
            ["Tom", "cat!!"],
            {"instruction": ["Name a cat", "Translate"], "input": ["", "chat"]},
        )
    ]


@pytest.mark.parametrize("attribute", ["Bounded", "made"])
def test_a_scorer_or_its_class_keeps_its_name_and_its_lower_bound(module: Callable[[str], str], attribute: str) -> None:
    feedback = load_custom(f"{module(SCORER)}:{attribute}")
    assert feedback.floor == -2.0
    judged = feedback.judge(EXAMPLES)
    assert [j.reward for j in judged] == [1.0, -2.0]
    assert judged[1].components == {"bounded": -5.0}


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[float('nan')] * 2", "returned nan for the output 'Tom'"),
        ("[1.0, float('-inf')]", "returned -inf for the output 'cat!!'"),
        ("[1.0, 10**400]", "returned a number of 1329 bits for the output 'cat!!'"),
        ("[10**5000, 1.0]", "returned a number of 16610 bits for the output 'Tom'"),
        ("(len(c) / 0 for c in completions)", "failed: ZeroDivisionError"),
        ("__import__('sys').exit(0)", "failed: SystemExit: 0"),
        ("[1.0]", "returned 1 values for 2 examples"),
        ("[]", "returned 0 values for 2 examples"),
        ("[1.0, 2.0, 3.0]", "returned 3 values for 2 examples"),
    ],
)
def test_wrong_numbers_are_told_with_the_functions_name(
    module: Callable[[str], str], returned: str, message: str
) -> None:
    name = module(f"def reward(prompts, completions, **kwargs):\n    return {returned}\n")
    with pytest.raises(RefineError, match=message) as caught:
        load_custom(f"{name}:reward").judge(EXAMPLES)
    assert "'reward'" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "no scorer named 'nonsense': it is no known one, no module:attribute and no entry point"),
        ("", "no scorer named ''"),
        ("no_such_module:reward", "module no_such_module can't be imported"),
        ("math:no_such_thing", "math has no 'no_such_thing'"),
        ("math:", "math has no ''"),
        ("math:pi", "is a float, neither a function nor a scorer"),
        (":reward", "feedback :reward"),
        (".relative:reward", "feedback .relative:reward"),
    ],
)
def test_a_name_that_leads_nowhere_is_told(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_custom(name)
    assert message in str(caught.value)


def test_a_function_scorer_is_a_scorer_with_the_functions_values() -> None:
    scorer = FunctionScorer("mine", lambda prompts, completions, **kwargs: [float(len(p)) for p in prompts])
    assert scorer.score(EXAMPLES) == [10.0, 15.0]
    assert scorer.score([]) == []


# -- scorers of other forms ----------------------------------------------------------------------------

FULL = """
class Short:
    name, low, high, better, cost, identity = "short", 0.0, 100.0, "low", "rules", "short 2"
    def score(self, examples):
        return [len(e.output) for e in examples]
class Demanding:
    def __init__(self, model):
        self.model = model
    def score(self, examples):
        return [0.0] * len(examples)
"""
FAILING = """
def reward(prompts, completions, **kwargs):
    return [1 / 0]
class Failing:
    def score(self, examples):
        raise ValueError("gone\\nfor good")
"""


def test_what_a_class_declares_is_kept_and_less_is_more_where_it_says_so(module: Callable[[str], str]) -> None:
    name = module(FULL)
    scorer = load_scorer(f"{name}:Short")
    assert (scorer.name, scorer.low, scorer.high, scorer.better) == ("short", 0.0, 100.0, "low")
    assert scorer.identity == "short 2"
    long, short = load_custom(f"{name}:Short").judge([Example("a", "", "x" * 9), Example("a", "", "x")])
    assert long.reward < short.reward


def test_what_a_class_leaves_out_is_filled_in_and_the_users_object_stays_as_it_is(
    module: Callable[[str], str],
) -> None:
    name = module(SCORER)
    scorer = load_scorer(f"{name}:made")
    assert (scorer.better, scorer.cost, scorer.identity) == ("high", "rules", None)
    assert "better" not in vars(sys.modules[name].made)


def test_a_class_that_wants_arguments_is_refused(module: Callable[[str], str]) -> None:
    with pytest.raises(UsageError, match=r"can't be made without arguments \(TypeError"):
        load_scorer(f"{module(FULL)}:Demanding")


@pytest.mark.parametrize(
    ("attribute", "said"),
    [
        ("reward", "scorer 'reward' failed: ZeroDivisionError: division by zero"),
        ("Failing", "scorer 'Failing' failed: ValueError: gone for good"),
    ],
)
def test_an_error_in_a_users_code_is_one_line_with_its_name(
    module: Callable[[str], str], attribute: str, said: str
) -> None:
    with pytest.raises(RefineError) as caught:
        load_custom(f"{module(FAILING)}:{attribute}").judge(EXAMPLES)
    assert str(caught.value) == said


def test_a_generator_of_numbers_is_as_good_as_a_list(module: Callable[[str], str]) -> None:
    name = module("def reward(prompts, completions, **kwargs):\n    return (len(c) for c in completions)\n")
    assert [j.reward for j in load_custom(f"{name}:reward").judge(EXAMPLES)] == [3.0, 5.0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def (", r"can't be imported \(SyntaxError: invalid syntax"),
        ("1 / 0", r"can't be imported \(ZeroDivisionError: division by zero\)"),
        (
            "import math\nmath.nothing",
            r"can't be imported \(AttributeError: module 'math' has no attribute 'nothing'\)",
        ),
    ],
)
def test_a_module_that_fails_while_it_is_imported_is_told(module: Callable[[str], str], source: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        load_scorer(f"{module(source)}:reward")
    assert "\n" not in str(caught.value)


def test_an_installed_package_offers_scorers_by_entry_points(
    module: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module(LENGTH)
    information = tmp_path / "offer-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: offer\nVersion: 1.0\n")
    points = f"[refine_af.scorers]\noffered = {name}:reward\nbroken = {name}:nothing\n"
    (information / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert entry_points() == ["broken", "offered"]
    (judgement, _) = load_custom("offered").judge(EXAMPLES)
    assert (judgement.reward, judgement.components) == (3.0, {"offered": 3.0})
    with pytest.raises(UsageError, match=f"the entry point {name}:nothing can't be loaded"):
        load_scorer("broken")
