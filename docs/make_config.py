"""Write docs/config.md from the schema: ``python docs/make_config.py``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deepprofiler.config.schema import Config
from deepprofiler.evaluation.evaluations import EVALUATIONS
from deepprofiler.parameters import defaults
from deepprofiler.profiling.chain import NORMALIZERS

PAGE = Path(__file__).with_name("config.md")

HEAD = """\
# The config file

<!-- Made by `python docs/make_config.py`; do not edit. -->

The config is a file in `inputs/config`, in YAML (`.yaml`, `.yml`) or JSON (`.json`). `setup` writes
a first one. Every key has a default, so a short file is enough. A key that does not exist is
refused, and the message names the nearest one that does.

A dot stands for one level of indentation: `crops.size` is

```yaml
crops:
  size: 128
```

A model, a crop generator, a step of `analyze.normalize` or an evaluation is a name
(`model: resnet18`), or a name with parameters (`model: {name: resnet18, params: {}}`). An optimizer
or a schedule is a name (`optimizer: adam`), or a name with the keys below
(`schedule: {name: cosine, warmup: 2}`). *none* in the column "default" means that the key is not
set.
"""

#: What the schema does not say by itself.
EXTRA = {
    "dataset.columns": "The column of the index that plays each role, with or without `Metadata_`. "
    "A role without a key is played by the column of its own name, such as `Metadata_Batch`.",
    "dataset.columns.label": "what is learned; none: `Metadata_Label`, else the treatment",
    "dataset.columns.treatment": "what wells are averaged to; none: `Metadata_Treatment`, else "
    "compound and dose joined, else the label, else the compound",
    "dataset.columns.compound": "neighbours of the same compound do not count in NSC; none: "
    "`Metadata_Compound`",
    "dataset.columns.dose": "joined with the compound to a treatment; none: `Metadata_Dose`",
    "dataset.columns.mechanism": "what NSC and NSCB ask for; none: `Metadata_Mechanism`",
    "dataset.columns.gene": "what gene accuracy asks for; none: `Metadata_Gene`",
    "dataset.columns.batch": "plates made and imaged together; none: `Metadata_Batch`, else the "
    "plate",
    "dataset.columns.replicate": "for `train.validation.by: replicate`; none: `Metadata_Replicate`",
    "dataset.columns.control": "tells controls, see `dataset.control`; none: `Metadata_Control`",
    "dataset.columns.split": "0 for training, 1 for validation; none: `Metadata_Split`",
    "train.model": "the network; a name in `plugins/models`",
    "train.generator": "how cells become training examples; a name in `plugins/crop_generators`",
    "train.labels.include": "the only labels to train on",
    "train.labels.exclude": "labels not to train on",
    "train.augment.flips": "mirror left–right and up–down",
    "train.epochs": "number of epochs in all; raise it to train on",
    "train.batch_size": "examples a step",
    "train.optimizer.name": "which rule",
    "train.optimizer.weight_decay": "times the learning rate, the share of every weight that is "
    "taken away a step, apart from the gradient; `adam` with it is `adamw`",
    "train.learning_rate": "size of a step",
    "train.label_smoothing": "share of each label that is spread over all classes",
    "train.early_stopping.patience": "epochs to wait for a lower loss",
    "profile.layers": "layers that give the features, in this order; `layers` prints all names",
    "profile.checkpoint": "last, best, random (untrained), imagenet, or the name of a file in "
    "`outputs/<experiment>/checkpoint`",
    "profile.batch_size": "cells a step; a matter of speed and memory",
    "analyze.min_cells": "wells with fewer take no part in fits, scores and treatment profiles",
    "analyze.aggregate": "what a well's profile is: the mean over its cells, their median, or the "
    "mean of the medians of its sites; a treatment's is the mean over its wells, with `median` "
    "their median",
    "analyze.weight": "a treatment's profile counts each well as often as it has cells, or once",
    "analyze.normalize": "steps in order, of those in "
    "[Steps of `analyze.normalize`](#steps-of-analyzenormalize); `[]`: no step; none: "
    "standardize, then tvn where every batch has negative controls",
    "analyze.evaluate": "of those in [Evaluations](#evaluations); none: all that the columns of "
    "the index allow",
}

STEPS = """
## Steps of `analyze.normalize`

Each step is fitted on what the steps before it give, on the wells with `analyze.min_cells`. The
fitted chain is kept in `profiles/normalization.npz`. `rank-normal` and `harmony` know the wells of
their fit alone, `well-position` its plates: what they give cannot be given to new plates.

| step | parameters (defaults) | what it does |
|---|---|---|
"""

EVALUATED = """
## Evaluations

What `analyze.evaluate` can name. Negative controls are never asked, nor anybody's neighbour; they
are only what `replicate-map` ranks replicates against. Neighbours of a treatment are of other
compounds. Equally near neighbours count by expectation.

| evaluation | parameters (defaults) | what it tells | needs |
|---|---|---|---|
"""

TELLS = {
    "nsc": "share of treatments whose nearest neighbour has their mechanism",
    "nscb": "the same, with the neighbour of another batch as well",
    "gene-accuracy": "share of wells whose nearest neighbour of another treatment has their gene; "
    "`exclude`: `plate`, `well` (position) must differ",
    "replicate-accuracy": "share of wells whose nearest neighbour has their treatment; `exclude` "
    "as above",
    "drop": "NSCB less NSC, each of its own treatments",
    "k-nn": "share of treatments whose `k` nearest neighbours vote for their mechanism",
    "mechanism-map": "mean average precision of finding the treatments of the same mechanism, "
    "plain and normalized; for each mechanism a p-value, and the share with p < 0.05 after "
    "Benjamini and Hochberg; `permutations`: random orders, where there are too many to try all",
    "enrichment": "odds ratio of a common mechanism among the closest `percent` of all pairs, with "
    "Fisher's one-sided p-value",
    "precision-recall": "share of the `k` nearest neighbours that have the mechanism, and share of "
    "those with the mechanism that are among them",
    "mechanism-silhouette": "mean silhouette of treatments grouped by mechanism",
    "replicate-map": "mean average precision of finding a well's replicates, as above; "
    "`negatives`: what these are ranked against: `controls`, `others` (wells of other treatments), "
    "or `both`; none: controls where there are some",
    "percent-replicating": "share of treatments whose median correlation of replicates is above "
    "a `percentile` of `times` draws of as many wells of different treatments",
    "batch-silhouette": "mean silhouette of the negative controls, else of all wells, grouped by "
    "batch: near 0 where batches are mixed",
}


def text() -> str:
    """Give the page as text."""
    schema = Config.model_json_schema()
    names = schema["$defs"]
    parts = [HEAD]
    for name, part in schema["properties"].items():
        section = names[part["$ref"].rsplit("/", 1)[1]]
        parts.append(f"\n## {name}\n\n{_about(section)}\n")
        if name == "dataset":
            parts.append(f"\n`dataset.columns`: {EXTRA['dataset.columns']}\n")
        parts.append("\n| key | values | default | what it is |\n|---|---|---|---|\n")
        default = getattr(Config(), name)
        parts += [f"| {' | '.join(row)} |\n" for row in _rows(section, default, f"{name}.", names)]
    return "".join([*parts, STEPS, *_steps(), EVALUATED, *_evaluations()])


def _steps() -> Iterator[str]:
    """Row of each normalizer: name, parameters with defaults, what it does."""
    for name, kind in NORMALIZERS.items():
        given = ("plate", "batch", "well", "count")
        params = [
            f"`{key}` ({_shown(param.default)})"
            for key, param in inspect.signature(kind).parameters.items()
            if key not in given
        ]
        about = str(inspect.getdoc(kind)).split("\n\n")[0].replace("\n", " ")
        about = about.split("; see :class:")[0].rstrip(".").replace("|", "\\|")
        yield f"| `{name}` | {', '.join(params) or 'none'} | {about} |\n"


def _evaluations() -> Iterator[str]:
    """Row of each evaluation: name, parameters with defaults, what it tells, what it needs."""
    for name, evaluation in EVALUATIONS.items():
        params = [
            f"`{key}` ({_shown(value)})" for key, value in defaults(evaluation.compute).items()
        ]
        needs = ["treatment", *evaluation.needs, *(["two batches"] if evaluation.batches else [])]
        yield f"| `{name}` | {', '.join(params) or 'none'} | {TELLS[name]} | {', '.join(needs)} |\n"


def _about(section: Mapping[str, Any]) -> str:
    return " ".join(str(section.get("description", "")).split("; see")[0].split())


def _rows(
    section: Mapping[str, Any], default: BaseModel | None, path: str, names: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, str]]:
    """Key, values, default and meaning of each key, sections within sections too."""
    for name, schema in section["properties"].items():
        key = f"{path}{name}"
        value = (
            schema.get("default", "must be given") if default is None else getattr(default, name)
        )
        about = EXTRA.get(key) or schema.get("description", "")
        if "discriminator" in schema:
            sections = [names[one["$ref"].rsplit("/", 1)[1]] for one in schema["oneOf"]]
            kinds = [str(section["properties"]["name"]["const"]) for section in sections]
            yield f"`{key}`", f"{', '.join(kinds)}; or a name and keys below", _shown(value), about
            for section in sections:
                own = {k: v for k, v in section["properties"].items() if k != "name"}
                yield from _rows({"properties": own}, None, f"{key}.", names)
            continue
        options = [schema, *schema.get("anyOf", ())]
        inner = [option["$ref"] for option in options if "$ref" in option]
        found = names[inner[0].rsplit("/", 1)[1]] if inner else {}
        if not inner or "params" in found["properties"]:
            yield f"`{key}`", _kind(schema), _shown(value), about
            continue
        if value is None:
            yield f"`{key}`", "the keys below", "none", about or _about(found)
        yield from _rows(found, value, f"{key}.", names)


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in words which values a key takes."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        return "name, or name and params"
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"two: {_kind(schema['prefixItems'][0])}"
        return f"list of: {_kind(schema['items'])}"
    plain = {
        "string": "text",
        "integer": "whole number",
        "number": "number",
        "boolean": "true, false",
    }
    limits = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
    }
    bounds = [f"{sign} {schema[name]:g}" for name, sign in limits.items() if name in schema]
    return f"{plain[schema['type']]} {', '.join(bounds)}".strip()


def _shown(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, BaseModel):
        return str(getattr(value, "name", value))
    return {"None": "none", "True": "true", "False": "false"}.get(str(value), str(value))


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
