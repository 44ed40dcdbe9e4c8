"""Promises of a user's own reward: found by module:attribute, called as TRL calls it, and told when it is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from refine_af.errors import RefineError, UsageError
from refine_af.feedback.base import Example
from refine_af.feedback.custom import FunctionScorer, load_custom

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
        ("nonsense", "no feedback named 'nonsense'; there are: embedded, instructmining_v2, or module:attribute"),
        ("", "no feedback named ''"),
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
