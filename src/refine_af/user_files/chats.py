"""Chats as rows: messages of a user and an assistant (OpenAI's and ShareGPT's form) as instruction and output."""

from __future__ import annotations

from typing import Any

from refine_af.errors import UsageError

_CHATS = ("messages", "conversations", "conversation")
_ROLES = {
    "user": "user", "human": "user", "prompter": "user", "assistant": "assistant", "gpt": "assistant",
    "model": "assistant", "chatgpt": "assistant", "bot": "assistant", "system": "system", "developer": "system",
}  # fmt: skip


def from_chat(row: dict[str, Any], where: str) -> tuple[dict[str, Any], bool]:
    """The row with instruction and output in place of its chat; and whether a system message is left out.

    A row without a chat, or with an instruction of its own, is as it was. Raises UsageError that begins with ``where``
    for more than one question and one answer.
    """
    key = next((key for key in _CHATS if isinstance(row.get(key), list)), None)
    if "instruction" in row:
        return row, False
    if key is not None:
        messages, keys = row[key], [key]
    elif isinstance(row.get("prompt"), list):  # as trl has a chat in two columns
        answer = row.get("completion")
        messages, keys = row["prompt"] + (answer if isinstance(answer, list) else []), ["prompt", "completion"]
    else:
        return row, False
    turns = [_turn(message, f"{where}: {keys[0]}") for message in messages]
    said = [(role, text) for role, text in turns if role != "system"]
    if [role for role, _ in said] not in (["user"], ["user", "assistant"]):
        raise UsageError(
            f"{where}: {keys[0]} holds {len(said)} messages ({', '.join(role for role, _ in said[:4])}); give one user "
            "message, then one assistant message"
        )
    pair = dict(zip(("instruction", "output"), (text for _, text in said), strict=False))
    return {**{name: value for name, value in row.items() if name not in keys}, **pair}, len(said) < len(turns)


def _turn(message: Any, where: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise UsageError(f"{where} must hold messages with role and content")
    role = message.get("role") or message.get("from")
    content = next((said for key in ("content", "value") if (said := message.get(key)) is not None), None)
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else part for part in content]
        content = "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
    if not isinstance(role, str) or role.lower() not in _ROLES or not isinstance(content, str):
        raise UsageError(f"{where} has a message that is no text of user, assistant or system ({role!r})")
    return _ROLES[role.lower()], content
