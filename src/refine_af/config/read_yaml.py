"""YAML as users write it: a key that stands twice is a fault, and so is all that the library can't make a value of."""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import ComposerError

# By libyaml, where PyYAML comes with it: a hundred times as quick on what is long or deep.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 100


def read_yaml(text: str) -> Any:
    """Raises yaml.YAMLError for what is no YAML, or holds a value that its own tag or form contradicts."""
    try:
        _refuse_depth(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _refuse_double_keys(node)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except (ValueError, ArithmeticError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # Such as the thirtieth of February, a number of thousands of digits, or thousands of nested brackets.
        raise yaml.YAMLError(f"a value can't be read ({error})") from None


def _refuse_depth(text: str) -> None:
    """libyaml goes down by recursion, and crashes where that is too deep."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            mark: Any = event.start_mark
            raise ComposerError(None, None, f"more than {_DEEPEST} lists or mappings in one another", mark)


def _refuse_double_keys(document: yaml.Node) -> None:
    """Of a key that stands twice in one mapping the library would keep the last without a word."""
    waiting, known = [document], {id(document)}
    while waiting:
        node = waiting.pop()
        inside: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _refuse_double_keys_of(node)
            inside = [one for pair in node.value for one in pair]
        elif isinstance(node, yaml.SequenceNode):
            inside = node.value
        new = [one for one in inside if id(one) not in known]  # an alias is the node that it names
        known.update(map(id, new))
        waiting += new


def _refuse_double_keys_of(mapping: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key in (key for key, _ in mapping.value if isinstance(key, yaml.ScalarNode)):
        if key.value in seen:
            raise ComposerError(None, None, f"{key.value} stands twice; keep one of them", key.start_mark)
        seen.add(key.value)
