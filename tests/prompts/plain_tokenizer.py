"""A stand-in for a tokenizer, for tests of what a prompt says."""

from __future__ import annotations


class Tokenizer:
    """As far as a dialect asks; with a template it is a chat model's."""

    bos_token_id = 1
    bos_token = "<s>"

    def __init__(self, chat_template: str | None = None) -> None:
        self.chat_template = chat_template

    def encode(self, text: str) -> list[int]:
        return [1, 7]

    def get_chat_template(self) -> str:
        return str(self.chat_template)

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        return "".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>"
