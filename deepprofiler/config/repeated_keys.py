"""Keys that stand twice in one section of a YAML or JSON text, of which readers keep the last.

A file of its own beside the reading of config files: it reads the text only, and knows no key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import yaml

# Strings are taken whole, so that what looks like a brace inside them is none.
_JSON_PARTS = re.compile(r'(?P<text>"(?:[^"\\]|\\.)*")(?P<colon>\s*:)?|(?P<mark>[{}\[\],])')


class RepeatedKey(NamedTuple):
    """A key that is given twice: its dotted path, and the lines, counted from 1."""

    path: str
    first: int
    again: int


def in_json(text: str) -> Iterator[RepeatedKey]:
    """Find the repeated keys of a JSON text, which must be valid."""
    # One entry for each open object or list: its path, and the lines of the keys of an object.
    open_parts: list[tuple[str, dict[str, int]]] = []
    path = ""
    for match in _JSON_PARTS.finditer(text):
        mark = match["mark"]
        if match["colon"]:
            section, lines = open_parts[-1]
            key = json.loads(match["text"])
            path = f"{section}{key}"
            line = text.count("\n", 0, match.start()) + 1
            if key in lines:
                yield RepeatedKey(path, lines[key], line)
            lines.setdefault(key, line)
        elif mark in ("{", "["):
            open_parts.append((f"{path}." if path else "", {}))
        elif mark in ("}", "]"):
            path = open_parts.pop()[0].removesuffix(".")


def in_yaml(text: str) -> Iterator[RepeatedKey]:
    """Find the repeated keys of a YAML text, which must be valid.

    A key of a section may replace one that ``<<`` merges into it: only what is written twice
    counts.
    """
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None:
        yield from _in_node(root, "", set())


def _in_node(node: yaml.Node, path: str, visited: set[int]) -> Iterator[RepeatedKey]:
    # An alias is the node of its anchor, and may lie within itself.
    if id(node) in visited:
        return
    visited.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _in_node(item, path, visited)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key_node, value in node.value:
            inner = f"{path}.{key_node.value}" if path else str(key_node.value)
            if isinstance(key_node, yaml.ScalarNode):
                key = (key_node.tag, key_node.value)
                line = key_node.start_mark.line + 1
                if key in lines:
                    yield RepeatedKey(inner, lines[key], line)
                lines.setdefault(key, line)
            yield from _in_node(value, inner, visited)
