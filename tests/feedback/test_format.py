"""Promises of the format scorer: finished plain answers pass, each fault is named, and what a task asks for is none."""

from __future__ import annotations

import pytest

from refine_af.feedback.base import Example
from refine_af.feedback.format import CHECKS, FormatScorer
from refine_af.language import Language
from refine_af.seeds.load import load_seeds

GOOD = [
    "Paris",
    "Yes.",
    "negative",
    "-3.5",
    ";",
    "No, because the train had left (at nine).",
    "1) Wash the rice.\n2) Boil it.\na) Serve",
    "- apples\n- pears and plums",
    'She said "wait" and left :)',
    'A 5" screen',
    "```python\nprint('(')\n```",
    "document.write(new Date());",
    "The answers are 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18 and 19",
    "Das ist gut. 日本。",
    "He wrote “yes” («oui») [twice].",
]


@pytest.mark.parametrize("output", GOOD)
def test_a_finished_plain_answer_passes_everything(output: str) -> None:
    assert FormatScorer().failed(Example("Do it", "", output)) == []


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        ("The capitals are:", "finished"),
        ("Apples, pears,", "finished"),
        ("He went home and", "finished"),
        ("There are many reasons, such as the", "finished"),
        ("The river that runs through the town is long and it is also very deep near stone", "finished"),
        ("A list (of things", "balanced"),
        ("A list of things)", "balanced"),
        ("(a]", "balanced"),
        ('She said "wait', "balanced"),
        ("He wrote “yes", "balanced"),
        ("```python\nprint(1)", "balanced"),
        (", and so it went.", "begun"),
        ("; is the answer.", "begun"),
        ("Paris.\nInput: France", "no leftovers"),
        ("Paris.\n\nOutput: Rome", "no leftovers"),
        ("Task 2: Name a river.", "no leftovers"),
        ("### Answer\nParis", "no leftovers"),
        ("Paris<|im_end|>", "no leftovers"),
        ("Paris</s>", "no leftovers"),
        ("[INST] Paris", "no leftovers"),
        ("Paris.\nUser: And Rome?", "no leftovers"),
        ("<noinput>", "no leftovers"),
        ("<p>Paris</p>", "no markup"),
        ('<a href="x">Paris</a>', "no markup"),
        ("Par\ufffds", "readable"),
        ("Par\x00is", "readable"),
        ("Par\ue000is", "readable"),
    ],
)
def test_a_fault_is_named_and_costs_its_share(output: str, fault: str) -> None:
    example = Example("Name a city", "", output)
    assert FormatScorer().failed(example) == [fault]
    assert FormatScorer().score([example]) == [pytest.approx(5 / 6)]


@pytest.mark.parametrize(
    ("instruction", "input", "output"),
    [
        ("Write a web page in HTML that says hello.", "", "<html><body><p>Hello</p></body></html>"),
        ("Translate the text between the tags.", "<b>chat</b>", "<b>cat</b>"),
        ("Write a readme with headings.", "", "# Title\n\nText."),
        ("Write a chat between a user and a helper.", "", "User: Hello.\nHelper: Hello."),
        ("Which marker ends a turn, <|im_end|> or <|im_start|>?", "", "<|im_end|>"),
        ("Fill in the form.", "Input: 3\nOutput:", "Input: 3\nOutput: 9"),
    ],
)
def test_what_the_task_asks_for_or_shows_is_no_fault(instruction: str, input: str, output: str) -> None:
    assert FormatScorer().failed(Example(instruction, input, output)) == []


@pytest.mark.parametrize("output", ["", "  \n"])
def test_an_empty_answer_scores_nothing(output: str) -> None:
    assert FormatScorer().score([Example("Do it", "", output)]) == [0.0]
    assert FormatScorer().failed(Example("Do it", "", output)) == list(CHECKS)


def test_the_pairs_that_people_wrote_pass() -> None:
    seeds = load_seeds(None).tasks
    scores = FormatScorer().score([Example(s.instruction, s.input, s.output) for s in seeds])
    assert sum(score == 1.0 for score in scores) >= 0.98 * len(scores)


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("„Hallo“, sagte er.", "de"),
        ("»Hallo«, sagte er.", "de"),
        ("”Hej”, sa hon.", "sv"),
        ("法国的首都是巴黎，它也是法国最大的城市，人口超过两百万。", "zh"),
        ("เมืองหลวงของฝรั่งเศสคือกรุงปารีส ซึ่งเป็นเมืองที่ใหญ่ที่สุดของประเทศ และมีประชากรมากกว่าสองล้านคน", "th"),
        ("Ele disse que a", "pt"),
        ("Elle a dit : « oui »", "fr"),
        ("यह एक लंबा वाक्य है जिसमें पंद्रह से अधिक शब्द हैं और जो ठीक से समाप्त होता है।", "hi"),
        ("Sie freut sich sehr über das Wetter und geht heute mit allen Freunden in den Park ❤️", "de"),
    ],
)
def test_finished_answers_of_other_languages_pass(output: str, code: str) -> None:
    assert FormatScorer(Language(code)).failed(Example("Do it", "", output)) == []


@pytest.mark.parametrize(
    ("output", "code", "fault"),
    [
        ("法国的首都是巴黎，它也是法国最大的城市，人口超过两百万而且", "zh", "finished"),
        ("यह एक लंबा वाक्य है जिसमें पंद्रह से अधिक शब्द हैं और जो ठीक से समाप्त नहीं होता है कि वह भी", "hi", "finished"),
        ("他说：「是的。", "zh", "balanced"),
        ("، هذا ليس بداية", "ar", "begun"),
    ],
)
def test_faults_of_other_languages_are_found(output: str, code: str, fault: str) -> None:
    assert FormatScorer(Language(code)).failed(Example("Do it", "", output)) == [fault]
