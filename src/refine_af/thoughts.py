"""What a reasoning model writes before its answer, between tags, is no part of the answer."""

from __future__ import annotations

_TAGS = ("think", "thinking")


def without_thoughts(text: str) -> tuple[str, bool]:
    """The text behind its thoughts, and whether there were any. Some templates open the block, so that its end alone is
    written; one that doesn't end has nothing behind it."""
    thought = False
    for tag in _TAGS:
        before, end, after = text.rpartition(f"</{tag}>")
        begins = text.lstrip().startswith(f"<{tag}>")
        if end and (begins or f"<{tag}>" not in before):
            text, thought = after.lstrip(), True
        elif begins:
            return "", True
    return text, thought


def closed(prompt: str) -> str:
    """A prompt in which no thoughts are left open for the model to go on with: an empty block stands for them (Ma et
    al. 2025, arXiv 2504.09858). Answers are short here, and thoughts would use up their tokens."""
    opened = prompt.rstrip()
    tag = next((tag for tag in _TAGS if opened.endswith(f"<{tag}>")), None)
    return prompt if tag is None else f"{opened}\n\n</{tag}>\n\n"
