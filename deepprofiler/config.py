"""The configuration: every key, its unit and its default.

A project's ``inputs/config/*.yaml`` (or ``.json``) holds the sections ``dataset``, ``prepare``,
``locate``, ``crops``, ``train``, ``profile`` and ``analyze``. Every key has a default, so that a
short file is enough. Keys that do not exist are refused, all of them in one message.
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from deepprofiler import legacy
from deepprofiler.errors import ConfigError

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """What all sections share: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Named(Section):
    """A plugin or a step by its name, with its parameters."""

    name: str
    params: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Columns(Section):
    """Which column of the index plays which role; see :mod:`deepprofiler.metadata`."""

    label: str | None = None
    treatment: str | None = None
    compound: str | None = None
    dose: str | None = None
    mechanism: str | None = None
    gene: str | None = None
    batch: str | None = None
    replicate: str | None = None
    control: str | None = None
    split: str | None = None


class Dataset(Section):
    """What the images are and what the index says of them."""

    channels: tuple[str, ...] = Field(
        default=(), description="columns of the index, in this order; none: every image column"
    )
    columns: Columns = Columns()
    control: str = Field(
        default="negative", description="value of the control column that means negative control"
    )
    seed: int = Field(default=0, ge=0, description="the one seed of everything random")
    image_size: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None, description="height and width in pixels that `check` expects"
    )
    bits: PositiveInt | None = Field(default=None, description="bit depth that `check` expects")


Percent = Annotated[float, Field(ge=0, le=100)]


class Prepare(Section):
    """Illumination correction after Singh et al. (2014)."""

    illumination: bool = Field(default=True, description="correct the images in every later stage")
    down_scale: PositiveInt = Field(default=4, description="factor before averaging")
    median_size: PositiveInt = Field(default=24, description="median window, down-scaled pixels")
    percentiles: tuple[Percent, Percent] = Field(
        default=(0.01, 99.99), description="grey levels 0 and 255 of 8-bit copies, in percent"
    )
    compress: bool = Field(default=False, description="write corrected 8-bit PNG copies")

    @model_validator(mode="after")
    def _ordered(self) -> Prepare:
        if self.percentiles[0] >= self.percentiles[1]:
            raise ValueError("percentiles must be [lower, upper] with lower below upper")
        return self


class Locate(Section):
    """Segmentation of nuclei."""

    channel: str | None = Field(
        default=None, description="the nuclear channel; none: the first named DNA, Hoechst or DAPI"
    )
    min_diameter: PositiveFloat | None = Field(
        default=None, description="pixels; none: from the image"
    )
    max_diameter: PositiveFloat | None = Field(
        default=None, description="pixels; none: from the image"
    )
    border: Literal["drop", "keep"] = Field(
        default="drop", description="nuclei that touch the image's edge"
    )


Rescale = Literal["min-max", "max", "legacy-0.3", "standardize", "none"]


class Crops(Section):
    """Fixed-size views of single cells."""

    size: int = Field(default=128, ge=8, description="side S of a crop in pixels")
    margin: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        default="auto", description="pixels beyond S kept for augmentation, both sides together"
    )
    rescale: Rescale = Field(default="min-max", description="per channel of each crop")
    mask: bool = Field(default=False, description="blank neighbours by the label images of locate")
    cells_per_well: PositiveInt | None = Field(
        default=None, description="at most so many, drawn by seed; none: all"
    )


class Labels(Section):
    """Which labels are training classes."""

    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Labels:
        if (self.include is None) == (self.exclude is None):
            raise ValueError("give either include or exclude, a list of labels")
        return self


class Validation(Section):
    """Which cells are held out to watch the auxiliary task."""

    by: Literal["column", "replicate", "cells"] | None = Field(
        default=None, description="none: the split column where there is one, else cells"
    )
    values: tuple[str, ...] = Field(
        default=(), description="held-out values; none: 1 of a column, the last replicate"
    )
    fraction: Fraction = Field(default=0.1, description="share of cells, for `by: cells`")


class Augment(Section):
    """Random changes of each training crop, each cell by itself."""

    flips: bool = True
    turns: bool = Field(default=True, description="by quarters")
    rotations: bool = Field(default=False, description="by any angle; doubles the stored crops")
    shift: int = Field(default=4, ge=0, description="up to so many pixels each way")


class Optimizer(Section):
    """How weights follow gradients."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(default=0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class EarlyStopping(Section):
    """Stop when the validation loss has not improved for so many epochs."""

    patience: PositiveInt = 10


class Train(Section):
    """The auxiliary task: telling treatments apart."""

    model: Named = Named(name="resnet18")
    generator: Named = Named(name="single")
    controls: bool = Field(default=False, description="negative controls are a class as well")
    labels: Labels | None = Field(default=None, description="none: every label")
    validation: Validation = Validation()
    augment: Augment = Augment()
    epochs: PositiveInt = 10
    steps: PositiveInt | None = Field(
        default=None, description="batches an epoch; none: as many cells as there are to train on"
    )
    batch_size: PositiveInt = 32
    optimizer: Optimizer = Optimizer()
    learning_rate: PositiveFloat = 0.01
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="cosine falls to 0 over all epochs"
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    early_stopping: EarlyStopping | None = None


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Profile(Section):
    """Features of single cells."""

    layers: Annotated[tuple[str, ...], BeforeValidator(_as_tuple), Field(min_length=1)] = (
        "conv4a",
    )
    checkpoint: str = Field(default="last", description="last, best or a file in checkpoint/")
    batch_size: PositiveInt = 128


class Analyze(Section):
    """From single cells to evaluated treatments."""

    weight: Literal["cells", "wells"] = Field(
        default="cells", description="a treatment's mean is over its cells or over its wells"
    )
    min_cells: int = Field(default=10, ge=0, description="wells with fewer stay out of every fit")
    normalize: tuple[Named, ...] | None = Field(
        default=None,
        description="steps in order; none: standardize, then tvn where there are negative controls",
    )
    baselines: bool = Field(
        default=True, description="also profile with untrained weights, and score the cell count"
    )
    report: bool = Field(default=True, description="write the report page")


class Config(Section):
    """The whole configuration."""

    dataset: Dataset = Dataset()
    prepare: Prepare = Prepare()
    locate: Locate = Locate()
    crops: Crops = Crops()
    train: Train = Train()
    profile: Profile = Profile()
    analyze: Analyze = Analyze()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order; empty where the index decides."""
        return self.dataset.channels

    def to_yaml(self) -> str:
        """Every key with its value, as the text of a config file."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load(path: Path) -> tuple[Config, list[str]]:
    """Read a config file; one of the original DeepProfiler is translated.

    Parameters
    ----------
    path : Path
        A ``.yaml``, ``.yml`` or ``.json`` file.

    Returns
    -------
    config : Config
    notes : list of str
        One line for every key that was translated from the original's names or ignored.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML or JSON, or holds keys or values that do not exist; all
        of them are named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; make it, or name another with --config"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from None
    try:
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not valid {path.suffix[1:].upper()}: {error}") from None
    return parse({} if values is None else values, source=path.name)


def parse(values: Any, source: str) -> tuple[Config, list[str]]:
    """Check the values of a config; ``source`` names them in errors. See :func:`load`."""
    if not isinstance(values, dict):
        raise ConfigError(f"{source} holds a {type(values).__name__}; it must hold sections")
    notes: list[str] = []
    original = legacy.is_original(values)
    if original:
        values, notes = legacy.translate(values)
    try:
        return Config.model_validate(values), notes
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(_location(item))
            lines += (original and legacy.explain(key, item["input"])) or [_explain(item)]
        listing = "\n".join(f"  {line}" for line in lines)
        raise ConfigError(f"{source}: {len(lines)} problem(s)\n{listing}") from None


def _explain(error: Any) -> str:
    """One line for one of pydantic's errors: key path, what was found, what to do."""
    location = _location(error)
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        valid = _valid_keys(location[:-1])
        nearest = get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        advice = f"nearest is `{nearest[0]}`" if nearest else f"valid are {', '.join(valid)}"
        return f"{key}: unknown key; {advice}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}; found {error['input']!r}"


def _location(error: Any) -> list[str]:
    """Key path of one of pydantic's errors, without its marks for alternatives."""
    parts = [str(part) for part in error["loc"]]
    return [part for part in parts if not part.startswith(("literal[", "constr"))]


def _valid_keys(location: list[str]) -> list[str]:
    """Names of the keys of the section at ``location``."""
    model: type[BaseModel] = Config
    for part in location:
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        options = [inner, *getattr(inner, "__args__", ())]
        found = [item for item in options if isinstance(item, type) and issubclass(item, BaseModel)]
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)
