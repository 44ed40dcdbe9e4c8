"""YAML as users write it: a key that stands twice is a fault, and so is all that the library can't make a value of."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import ComposerError


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which the library would keep the last without a word."""

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise ComposerError(None, None, f"{key.value} stands twice; keep one of them", key.start_mark)
            seen.add(key.value)
        return node


def read_yaml(text: str) -> Any:
    """Raises yaml.YAMLError for what is no YAML, or holds a value that its own tag or form contradicts."""
    try:
        return yaml.load(text, _Loader)
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # Such as the thirtieth of February, a number of thousands of digits, or thousands of nested brackets.
        raise yaml.YAMLError(f"a value can't be read ({error})") from None
