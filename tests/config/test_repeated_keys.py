"""A key that is given twice is refused: readers of YAML and JSON keep the last without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepprofiler.config import config_file
from deepprofiler.config.repeated_keys import RepeatedKey, in_json, in_yaml
from deepprofiler.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crops:\n  size: 64\n  mask: true\n  size: 128\n", [("crops.size", 2, 4)]),
        ("crops:\n  size: 64\ntrain:\n  steps: 1\ncrops:\n  size: 128\n", [("crops", 1, 5)]),
        ("'crops': {}\ncrops: {}\n", [("crops", 1, 2)]),
        ("a: {b: 1, b: 2, b: 3}\n", [("a.b", 1, 1), ("a.b", 1, 1)]),
        ("a:\n- {b: 1}\n- {b: 1, c: 2,\n   c: 3}\n", [("a.c", 3, 4)]),
        ("a: &x {b: 1}\nc: {<<: *x, b: 2}\nd: *x\n", []),
        ("a: &x [*x]\n", []),
        ("a: {b: 1}\nc: {b: 1}\n", []),
        ("", []),
    ],
)
def test_yaml(text, expected):
    assert list(in_yaml(text)) == [RepeatedKey(*key) for key in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"dataset": {"locations":\n{"box_size": 64,\n"mask": true,\n"box_size": 128}}}',
            [("dataset.locations.box_size", 2, 4)],
        ),
        ('{"a": 1,\n"b": {"a": 2},\n"a": 3}', [("a", 1, 3)]),
        ('{"a": 1, "\\u0061": 2}', [("a", 1, 1)]),
        ('{"a": [{"b": 1}, {"b": 2, "c": [],\n "c": 1}],\n"a" : 1}', [("a.c", 1, 2), ("a", 1, 3)]),
        ('{"a": "{\\"b\\": 1, \\"b\\": 2}",\n\t"c": ["a", "a"]}', []),
        ("[1, 2]", []),
        ("null", []),
    ],
)
def test_json(text, expected):
    assert list(in_json(text)) == [RepeatedKey(*key) for key in expected]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "crops:\n  size: 64\n  size: 128\ntrain:\n  steps: 5\n  steps: 6\n"),
        (
            "config.json",
            '{"crops": {\n"size": 64,\n"size": 128}, "train": {\n\n"steps": 5,\n"steps": 6}}',
        ),
    ],
)
def test_a_config_is_refused_with_both_lines(tmp_path: Path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        config_file.load(path)
    message = str(caught.value)
    assert f"{name} gives a key twice; remove one of the two:" in message
    assert "crops.size stands in line 2 and again in line 3" in message
    assert "train.steps stands in line 5 and again in line 6" in message
