"""A reasoning model's thoughts are no part of its answer, wherever it runs: it is asked for none, and what it writes of
them is taken off."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from refine_af.completions import answer_of
from refine_af.prompts.answers import cut_answer
from refine_af.prompts.dialect import Dialect
from refine_af.prompts.pairs import Unreadable, read_turn
from refine_af.thoughts import closed, without_thoughts

_MESSAGES = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
ON_DEMAND = _MESSAGES + "<|assistant|>{% if not enable_thinking | default(true) %}<think>\n\n</think>\n\n{% endif %}"
ALWAYS = _MESSAGES + "<|assistant|><think>\n"


@pytest.mark.parametrize("text", ["<think>A colour.\nHm.</think>\n\nblue", "Hm.</think>\nblue", "blue"])
def test_evaluation_pairs_and_endpoints_read_the_same_answer(text: str) -> None:
    assert cut_answer(text, "none") == "blue"
    assert read_turn("answer", text, ended=True) == "blue"
    read = answer_of({"message": {"content": text}})
    assert read is not None
    assert read.text == "blue"


def test_thoughts_that_do_not_end_have_no_answer_behind_them() -> None:
    assert cut_answer("<think>Hm, a colour", "none") == ""
    assert read_turn("answer", "<think>Hm, a colour", ended=True) == Unreadable("empty output")
    assert without_thoughts("<think>Hm, a colour") == ("", True)


@pytest.mark.parametrize("template", [ON_DEMAND, ALWAYS])
def test_a_model_is_asked_for_an_answer_without_thoughts(template: str, tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = template
    dialect = Dialect(tokenizer)
    for frame in (dialect.frame(), dialect.bare_frame()):
        assert frame.after == "</s><|assistant|><think>\n\n</think>\n\n"


def test_a_prompt_without_thoughts_stays_as_it_is() -> None:
    assert closed("</s><|assistant|>\n") == "</s><|assistant|>\n"
