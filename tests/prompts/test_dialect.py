"""Promises of the dialect: a chat model hears its own template, a base model headed text, and neither loses a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateError

from refine_af.engines.base import Stop
from refine_af.errors import UsageError
from refine_af.prompts.dialect import Dialect, Frame


class Plain:
    """A base model's tokenizer; ``opens`` tells whether it puts its first token there by itself."""

    chat_template: str | None = None
    bos_token = "<s>"
    name_or_path = "mine"

    def __init__(self, opens: bool = False, bos_token_id: int | None = 1) -> None:
        self._opens = opens
        self.bos_token_id = bos_token_id

    def encode(self, text: str) -> list[int]:
        return [1, 5] if self._opens else [5]


class Chat(Plain):
    """A chat model's tokenizer whose template writes ``<role>content</role>``."""

    chat_template = "a template"

    def get_chat_template(self) -> str:
        return str(self.chat_template)

    def apply_chat_template(
        self,
        messages: list[dict[str, str]],
        *,
        tokenize: bool,
        add_generation_prompt: bool,
        chat_template: str,
        enable_thinking: bool,
    ) -> Any:
        assert tokenize is False
        assert add_generation_prompt is True
        assert enable_thinking is False
        return "".join(f"<{m['role']}>{m['content']}</>" for m in messages) + "<assistant>"


class ChatWithoutSystem(Chat):
    """Refuses a system message, as Gemma's template does."""

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> Any:
        if any(m["role"] == "system" for m in messages):
            raise TemplateError("System role not supported")
        return super().apply_chat_template(messages, **options)


class ChatThatDropsTheUser(Chat):
    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> Any:
        return "<assistant>"


class ChatThatDropsTheSystem(Chat):
    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> Any:
        return super().apply_chat_template([m for m in messages if m["role"] != "system"], **options)


class ChatThatSaysItTwice(Chat):
    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> Any:
        return super().apply_chat_template([*messages, messages[-1]], **options)


class ChatOfOneMessage(Chat):
    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> Any:
        if len(messages) > 1:
            raise TemplateError("only one message")
        return super().apply_chat_template(messages, **options)


class ChatOfTheLastMessage(Chat):
    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> Any:
        return super().apply_chat_template(messages[-1:], **options)


def dialect(tokenizer: Plain) -> Dialect:
    return Dialect(tokenizer)  # type: ignore[arg-type]


def test_the_dialect_is_chat_where_the_tokenizer_has_a_template() -> None:
    assert dialect(Chat()).is_chat
    assert not dialect(Plain()).is_chat


def test_a_chat_prompt_is_the_template_around_system_turns_and_task() -> None:
    frame = dialect(Chat()).frame(system="Be good.", turns=[("t1", "a1"), ("t2", "a2")])
    assert frame.prompt("Task") == (
        "<system>Be good.</><user>t1</><assistant>a1</><user>t2</><assistant>a2</><user>Task</><assistant>"
    )
    assert frame.stop == ()


def test_without_system_and_turns_a_chat_model_sees_the_task_alone() -> None:
    assert dialect(Chat()).frame().prompt("Task") == "<user>Task</><assistant>"


def test_a_refused_system_message_opens_the_first_message_instead() -> None:
    frame = dialect(ChatWithoutSystem()).frame(system="Be good.", turns=[("t1", "a1")])
    assert frame.prompt("Task") == "<user>Be good.\n\nt1</><assistant>a1</><user>Task</><assistant>"
    frame = dialect(ChatWithoutSystem()).frame(system="Be good.")
    assert frame.prompt("Task") == "<user>Be good.\n\nTask</><assistant>"


def test_a_template_that_drops_the_system_message_in_silence_says_it_in_the_first_message() -> None:
    frame = dialect(ChatThatDropsTheSystem()).frame(system="Be good.", turns=[("t1", "a1")])
    assert frame.prompt("Task") == "<user>Be good.\n\nt1</><assistant>a1</><user>Task</><assistant>"


@pytest.mark.parametrize(
    ("tokenizer", "told"),
    [
        (ChatThatDropsTheUser(), "leaves the user's message out"),
        (ChatThatSaysItTwice(), "writes the user's message twice"),
        (ChatOfOneMessage(), "only one message"),
        (ChatOfTheLastMessage(), "leaves out all messages but one"),
    ],
)
def test_a_template_that_can_not_be_used_is_named_with_what_it_does(tokenizer: Plain, told: str) -> None:
    with pytest.raises(UsageError, match=rf"chat template of mine can't be used: .*{told}.*model\.chat_template=none"):
        dialect(tokenizer).check(turns=True)


def test_a_template_of_one_message_is_enough_where_nothing_is_shown() -> None:
    dialect(ChatOfOneMessage()).check(turns=False)
    dialect(Plain()).check(turns=True)


def real(tiny_model: Path, template: Any) -> Dialect:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = template
    return Dialect(tokenizer)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].nothing.at_all }}",
        "{{ raise_exception('no') }}",
        "{% for m in messages",
        "{{ 1 + messages }}",
        "{{ 1 / 0 }}",
        "{{ messages[-1].content | upper }}",
        "{% for c in messages[0].content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}",
        {"tool_use": "{{ messages[0].content }}", "rag": "{{ messages[0].content }}"},
    ],
    ids=["undefined", "raised", "syntax", "type", "arithmetic", "case", "parts", "several"],
)
def test_whatever_a_template_minds_is_one_line(tiny_model: Path, template: Any) -> None:
    with pytest.raises(UsageError, match=r"chat template of .* can't be used: ") as error:
        real(tiny_model, template).check(turns=True)
    assert "\n" not in str(error.value)


def test_of_several_templates_of_which_none_is_the_default_all_are_named(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="there are 2, tool_use, rag, and none is named default; mend it"):
        real(tiny_model, {"tool_use": "a", "rag": "b"}).check(turns=False)


def test_a_long_complaint_of_a_template_is_shown_to_be_cut(tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="no word of ours no wor …; mend it"):
        real(tiny_model, "{{ raise_exception('no word of ours ' * 40) }}").check(turns=False)


def test_a_template_that_writes_the_date_writes_the_same_every_day(tiny_model: Path) -> None:
    asked = '{% if strftime_now is defined %}{% set day = strftime_now("%d %b %Y") %}{% endif %}'
    frame = real(tiny_model, asked + "{{ day }}, {{ strftime_now('%H:%M:%S.%f') }} {{ messages[-1].content }}").frame()
    assert frame.before == "26 Jul 2024, 00:00:00.000000 "


def test_a_base_model_reads_headed_text_and_stops_at_the_next_heading() -> None:
    frame = dialect(Plain()).frame(system="Be good.", turns=[("t1", "a1")])
    assert frame.prompt("Task") == "Be good.\n\n### Task\nt1\n\n### Answer\na1\n\n### Task\nTask\n\n### Answer\n"
    assert frame.stop == ("\n###",)
    assert not Stop(frame.stop).last_letters & set(" \n"), "a stop may end in few tokens, or every one is looked into"
    assert dialect(Plain()).frame().prompt("Task") == "### Task\nTask\n\n### Answer\n"


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [(Plain(opens=True), "<s>"), (Plain(opens=False), ""), (Plain(opens=True, bos_token_id=None), "")],
)
def test_a_text_begins_as_the_tokenizer_itself_begins_one(tokenizer: Plain, expected: str) -> None:
    assert dialect(tokenizer).beginning == expected
    assert dialect(tokenizer).frame().before.startswith(f"{expected}### Task")


@given(st.text(), st.text(), st.text(), st.sampled_from([Plain, Chat, ChatWithoutSystem]))
def test_every_prompt_of_a_frame_begins_alike_and_holds_its_task(
    system: str, turn: str, text: str, kind: type[Plain]
) -> None:
    frame = dialect(kind()).frame(system=system, turns=[(turn, "answer")])
    assert frame.prompt(text) == frame.before + text + frame.after
    assert turn in frame.before
    assert system in frame.before


def test_a_frame_is_what_stands_before_and_after() -> None:
    assert Frame("a", "c").prompt("b") == "abc"
