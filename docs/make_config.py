"""Write docs/config.md from the schema: ``python docs/make_config.py``."""

from __future__ import annotations

import typing
from pathlib import Path

from pydantic import BaseModel

from deepprofiler.config import Config

HEAD = """\
# The config file

`inputs/config/*.yaml` (or `.json`), written by `setup`. Every key has a default; a key that does
not exist is refused with the nearest one that does. This page is made from the schema by
`python docs/make_config.py`; a test compares them. A model, a crop generator, an optimizer or a
step of `analyze.normalize` may be given by its name alone (`model: resnet18`) or with its
parameters (`model: {name: resnet18, params: {…}}`).

| key | default | what it is |
|---|---|---|
"""


def _sections(annotation: object) -> list[type[BaseModel]]:
    options = [annotation, *typing.get_args(annotation)]
    return [item for item in options if isinstance(item, type) and issubclass(item, BaseModel)]


def _default(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_default(item) for item in value) + "]"
    if isinstance(value, BaseModel):
        return str(getattr(value, "name", value))
    return {"None": "none", "True": "true", "False": "false"}.get(str(value), str(value))


def _rows(section: type[BaseModel], path: str) -> list[str]:
    rows = []
    for name, field in section.model_fields.items():
        key = f"{path}{name}"
        inner = _sections(field.annotation)
        choices = [
            str(choice)
            for option in [field.annotation, *typing.get_args(field.annotation)]
            if typing.get_origin(option) is typing.Literal
            for choice in typing.get_args(option)
        ]
        text = field.description or (inner[0].__doc__ or "").splitlines()[0] if inner else ""
        text = field.description or text
        if choices:
            text = f"one of {', '.join(choices)}" + (f"; {text}" if text else "")
        named = inner and "params" in inner[0].model_fields
        if inner and not named and isinstance(field.default, BaseModel | None):
            if field.default is None:
                rows.append(f"| `{key}` | none | {text} |")
            rows += _rows(inner[0], f"{key}.")
        else:
            rows.append(f"| `{key}` | {_default(field.default)} | {text} |")
    return rows


def text() -> str:
    """Give the page as text."""
    return HEAD + "\n".join(_rows(Config, "")) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("config.md").write_text(text(), encoding="utf-8")
