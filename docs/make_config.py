"""Write docs/config.md from the classes of settings: ``python docs/make_config.py``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deepprofiler.config.schema import Config
from deepprofiler.parameters import Decides
from deepprofiler.registry import EVALUATIONS, NORMALIZERS, Registry

PAGE = Path(__file__).with_name("config.md")

HEAD = """\
# The config file

<!-- Made by `python docs/make_config.py`; do not edit. -->

The config is a file in `inputs/config`, in YAML (`.yaml`, `.yml`) or JSON (`.json`). `setup` writes
a first one. Every key has a default, so a short file is enough. An unknown key is an error that
names the nearest valid key, and so is a key that is given twice in one section.

A dot stands for one level of indentation. `crops.size` is

```yaml
crops:
  size: 128
```

Models, crop generators, segmenters, normalizers and evaluations are chosen by name
(`model: resnet18`), or by name with parameters (`model: {name: resnet18, params: {}}`). An
optimizer or a schedule is a name (`optimizer: adam`), or a name with the keys below it
(`schedule: {name: cosine, warmup: 2}`). The default *none* means that the key is not set.

The last column, *decides*, says which outputs are out of date when the key changes:

| decides | when the key changes |
|---|---|
"""

DECIDES = {
    Decides.ILLUMINATION: "`prepare` measures the plates again",
    Decides.COPIES: "`prepare` writes the 8-bit copies again",
    Decides.LOCATIONS: "new locations differ; existing ones are kept until you delete them",
    Decides.CROPS: "`export-sc` cuts the cells again",
    Decides.WEIGHTS: "trained weights do not fit any more; train again",
    Decides.TRAINING: "a started training cannot be continued; train from scratch",
    Decides.EPOCHS: "training continues, with the new value from the next epoch on",
    Decides.FEATURES: "`profile` computes the features again",
    Decides.PROFILES: "`analyze` aggregates and normalizes again",
    Decides.NORMALIZED: "`analyze` normalizes again",
    Decides.SCORES: "nothing is out of date: scores are always computed again",
    Decides.REPORT: "nothing is out of date: the report is always drawn again",
    Decides.INPUTS: "other inputs are read; outputs that were made from others are made again",
    Decides.NOTHING: "nothing is out of date",
}

#: Where the names are listed that a key takes.
NAMES = {
    "locate.segmenter": "otsu, or [your own](plugins.md#a-segmenter)",
    "train.model": "a [model](plugins.md#models)",
    "train.generator": "a [crop generator](plugins.md#crop-generators)",
    "analyze.normalize": "list of [normalizers](#normalizers)",
    "analyze.evaluate": "list of [evaluations](#evaluations)",
}

STEPS = """
## Normalizers

`analyze.normalize` lists them in order. Each is fitted on the output of the one before it, on the
wells with at least `analyze.min_cells` cells. The fitted chain is saved in
`profiles/normalization.npz`, and can be applied to
[new plates](how-to.md#normalize-new-plates-as-old-ones) unless it contains `rank-normal`, `harmony`
or `well-position`.

| normalizer | parameters (defaults) | what it does |
|---|---|---|
"""

EVALUATED = """
## Evaluations

`analyze.evaluate` lists them. Negative controls are neither queries nor neighbours;
`replicate-map` alone ranks replicates against them. Neighbours of a treatment are treatments of
other compounds. If several neighbours are equally near, each counts with an equal share.

| evaluation | parameters (defaults) | what it computes | needs |
|---|---|---|---|
"""


def text() -> str:
    """Give the page as text."""
    schema = Config.model_json_schema()
    names = schema["$defs"]
    parts = [HEAD, *(f"| {output} | {words} |\n" for output, words in DECIDES.items())]
    for name, part in schema["properties"].items():
        section = names[part["$ref"].rsplit("/", 1)[1]]
        parts.append(f"\n## {name}\n\n{_summary(section)}\n")
        parts.append("\n| key | values | default | what it is | decides |\n|---|---|---|---|---|\n")
        default = getattr(Config(), name)
        parts += [f"| {' | '.join(row)} |\n" for row in _rows(section, default, f"{name}.", names)]
    return "".join([*parts, STEPS, *_normalizers(), EVALUATED, *_evaluations()])


def _normalizers() -> Iterator[str]:
    """Row of each normalizer: name, parameters with defaults, what it does."""
    for name in NORMALIZERS.names():
        summary = _first_paragraph(NORMALIZERS, name)
        yield f"| `{name}` | {_parameters(NORMALIZERS, name)} | {summary} |\n"


def _first_paragraph(registry: Registry, name: str) -> str:
    """First paragraph of a plugin's docstring, as a cell of a table."""
    return _cell(str(inspect.getdoc(registry.get(name))).split("\n\n")[0].split("; see :")[0])


def _cell(text: str) -> str:
    return " ".join(text.split()).rstrip(".").replace("|", "\\|").replace("``", "`")


def _evaluations() -> Iterator[str]:
    """Row of each evaluation: name, parameters with defaults, what it computes and needs."""
    kinds = {name: EVALUATIONS.get(name) for name in EVALUATIONS.names()}
    for name, kind in sorted(kinds.items(), key=lambda item: item[1].order):
        needs = ["treatment", *kind.needs, *(["two batches"] if kind.needs_batches else [])]
        parameters = _parameters(EVALUATIONS, name)
        text = _cell(str(inspect.getdoc(kind)))
        yield f"| `{name}` | {parameters} | {text} | {', '.join(needs)} |\n"


def _parameters(registry: Registry, name: str) -> str:
    parameters = registry.parameters(name).items()
    return ", ".join(f"`{key}` ({_shown(value)})" for key, value in parameters) or "none"


def _summary(section: Mapping[str, Any]) -> str:
    return " ".join(str(section.get("description", "")).split())


def _rows(
    section: Mapping[str, Any], default: BaseModel | None, path: str, names: Mapping[str, Any]
) -> Iterator[tuple[str, ...]]:
    """Key, values, default, text and decided outputs of each key, nested sections too."""
    for name, schema in section["properties"].items():
        key = f"{path}{name}"
        value = (
            schema.get("default", "must be given") if default is None else getattr(default, name)
        )
        text = schema.get("description", "")
        decides = ", ".join(schema.get("decides", []))
        if "discriminator" in schema:
            sections = [names[option["$ref"].rsplit("/", 1)[1]] for option in schema["oneOf"]]
            kinds = [str(option["properties"]["name"]["const"]) for option in sections]
            values = f"{', '.join(kinds)}; or a name and the keys below"
            yield f"`{key}`", values, _shown(value), text, decides
            for option in sections:
                own = {k: v for k, v in option["properties"].items() if k != "name"}
                yield from _rows({"properties": own}, None, f"{key}.", names)
            continue
        options = [schema, *schema.get("anyOf", ())]
        references = [option["$ref"] for option in options if "$ref" in option]
        nested = names[references[0].rsplit("/", 1)[1]] if references else {}
        if not nested or "params" in nested["properties"]:
            values = NAMES.get(key) or _kind(schema)
            if schema.get("unit"):
                values += f" ({schema['unit']})"
            yield f"`{key}`", values, _shown(value), text, decides
            continue
        if value is None:
            yield f"`{key}`", "the keys below", "none", text or _summary(nested), decides
        yield from _rows(nested, value, f"{key}.", names)


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in words which values a key takes."""
    if "anyOf" in schema:
        return " or ".join(
            _kind(option) for option in schema["anyOf"] if option.get("type") != "null"
        )
    if "enum" in schema or "const" in schema:
        return ", ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"two of: {_kind(schema['prefixItems'][0])}"
        return f"list of: {_kind(schema['items'])}"
    plain = {
        "string": "text",
        "integer": "integer",
        "number": "number",
        "boolean": "true, false",
    }
    limits = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
    }
    bounds = [f"{sign} {schema[name]}" for name, sign in limits.items() if name in schema]
    return f"{plain[schema['type']]} {', '.join(bounds)}".strip()


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, BaseModel):
        return str(getattr(value, "name", value))
    return {"None": "none", "True": "true", "False": "false"}.get(str(value), str(value))


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
