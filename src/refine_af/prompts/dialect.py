"""How a model is spoken to: through its own chat template, or, for a base model, through plain headed text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from refine_af.errors import UsageError
from refine_af.thoughts import closed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Without the space behind it: nearly every token holds a space, and each in which a stop may end is looked into.
_NEXT = "\n###"
# Stands for the task while the template is rendered; no user writes it, and a change of case would be seen.
_MARK = "\u2042Task\u2042"
# What a template that writes the date is told, or a run would go on with other prompts on the next day. It is the day
# that Llama 3's own template writes where it has no clock.
_TODAY = datetime(2024, 7, 26)
_CLOCK = re.compile(r"""strftime_now\(\s*(?P<quote>['"])(?P<format>.*?)(?P=quote)\s*\)""")


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands before and after the task in a prompt. ``before`` is shared by all prompts of the frame."""

    before: str
    after: str
    stop: tuple[str, ...] = ()  # strings that end an answer, beside the end token

    def prompt(self, task: str) -> str:
        return self.before + task + self.after


class Dialect:
    """Makes frames for one tokenizer. ``is_chat`` tells which of the two ways it takes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.is_chat = bool(tokenizer.chat_template)

    def frame(self, *, system: str = "", turns: Sequence[tuple[str, str]] = ()) -> Frame:
        """A frame with an instruction to the model and demonstrations of (task, answer)."""
        if not self.is_chat:
            return self._plain(system, turns)
        messages = [
            message
            for task, answer in turns
            for message in ({"role": "user", "content": task}, {"role": "assistant", "content": answer})
        ]
        messages.append({"role": "user", "content": _MARK})
        return self._around_the_task(self._rendered(system, messages))

    def check(self, *, turns: bool) -> None:
        """Raises UsageError where the chat template fails, or leaves out what it is given: a task, and with ``turns`` a
        demonstration before it."""
        if self.is_chat:
            shown = [("A task.", "An answer.")] if turns else []
            before = self.frame(turns=shown).before
            if not all(text in before for turn in shown for text in turn):
                raise self._fails("it leaves out all messages but one")

    def bare_frame(self) -> Frame:
        """As little around the task as the template allows, for what scores many texts: no system message, not even
        the one that a template writes by itself."""
        if not self.is_chat:
            return self.frame()
        try:
            return self._around_the_task(
                self._apply([{"role": "system", "content": ""}, {"role": "user", "content": _MARK}])
            )
        except UsageError:
            return self.frame()

    def _rendered(self, system: str, messages: list[dict[str, str]]) -> str:
        if system:
            try:
                text = self._apply([{"role": "system", "content": system}, *messages])
            except UsageError:
                text = ""
            if system.strip() in text and text:
                return text
            # Some templates know no system role: what it says then opens the first message.
            first = {**messages[0], "content": f"{system}\n\n{messages[0]['content']}"}
            messages = [first, *messages[1:]]
        return self._apply(messages)

    def _apply(self, messages: list[dict[str, str]]) -> str:
        from jinja2 import TemplateError

        try:
            text: str = self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=True,
                chat_template=self._template(),
                enable_thinking=False,  # of models that do on demand; other templates don't look at it
            )
        except (TemplateError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            problem = " ".join(str(error).split())
            raise self._fails(problem if len(problem) <= 150 else f"{problem[:150]} …") from None
        return text

    def _template(self) -> str:
        """The template, with the day that doesn't change in place of today."""
        several = self._tokenizer.chat_template
        if isinstance(several, dict) and "default" not in several:
            raise self._fails(f"there are {len(several)}, {', '.join(several)}, and none is named default")
        text = self._tokenizer.get_chat_template()
        return _CLOCK.sub(lambda call: repr(_TODAY.strftime(call["format"])), text)

    def _around_the_task(self, rendered: str) -> Frame:
        before, mark, after = rendered.partition(_MARK)
        if not mark:
            raise self._fails("it leaves the user's message out, or changes it")
        if _MARK in after:
            raise self._fails("it writes the user's message twice")
        return Frame(before, closed(after))

    def _fails(self, problem: str) -> UsageError:
        """A template is code of a model's makers; what it minds is theirs to say."""
        return UsageError(
            f"the chat template of {self._tokenizer.name_or_path} can't be used: {problem.rstrip('.')}; mend it, or "
            "set model.chat_template=none"
        )

    def _plain(self, system: str, turns: Sequence[tuple[str, str]]) -> Frame:
        shown = "".join(f"### Task\n{task}\n\n### Answer\n{answer}\n\n" for task, answer in turns)
        opening = f"{system}\n\n" if system else ""
        return Frame(f"{self.beginning}{opening}{shown}### Task\n", "\n\n### Answer\n", (_NEXT,))

    @property
    def beginning(self) -> str:
        """The token that opens a text, for tokenizers that put one there by themselves; else nothing."""
        ids = self._tokenizer.encode("a")
        begin = self._tokenizer.bos_token_id
        return str(self._tokenizer.bos_token) if begin is not None and ids[:1] == [begin] else ""
