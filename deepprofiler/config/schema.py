"""The configuration: every key, its unit and its default.

A project's ``inputs/config/*.yaml`` (or ``.json``) holds the sections ``dataset``, ``prepare``,
``locate``, ``crops``, ``train``, ``profile`` and ``analyze``. Every key has a default, so that a
short file is enough. :mod:`deepprofiler.config.config_file` reads it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import yaml
from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from deepprofiler.learning.learning_settings import Constant, Schedule
from deepprofiler.parameters import (
    Fraction,
    Named,
    Section,
    as_named,
    as_tuple,
)


class Columns(Section):
    """Which column of the index plays which role; see :mod:`deepprofiler.project.index`."""

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
    seed: int = Field(
        default=0, ge=0, le=2**32 - 1, description="the one seed of everything random"
    )
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
    percentiles_of: Literal["plate", "image"] = Field(
        default="plate", description="one pair of grey levels a plate, or one an image"
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
    """Fixed-size views of single cells, or of whole fields."""

    mode: Literal["cells", "grid", "random"] = Field(
        default="cells",
        description="a crop for each cell, or views of the whole field: on a grid, or at random",
    )
    coverage: float = Field(
        default=1.0, gt=0, le=1, description="share of the image's area to view; of grid and random"
    )
    size: int = Field(default=128, ge=8, description="side S of a crop in pixels")
    resize: Annotated[int, Field(ge=8)] | None = Field(
        default=None,
        description="side R in pixels to which crops are resized for the network; none: S",
    )
    geometry: Literal["nearest", "original"] = Field(
        default="nearest",
        description="whole pixels around the nearest, or resampled as the original DeepProfiler",
    )
    margin: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        default="auto", description="pixels beyond S kept for augmentation, both sides together"
    )
    rescale: Rescale = Field(default="min-max", description="per channel of each crop")
    mask: bool = Field(default=False, description="blank neighbours by the label images of locate")
    cells_per_well: PositiveInt | None = Field(
        default=None, description="at most so many, drawn by seed; none: all"
    )

    @property
    def input_size(self) -> int:
        """Side of the network's input in pixels."""
        return self.resize or self.size

    @model_validator(mode="after")
    def _mask_needs_cells(self) -> Crops:
        if self.mask and self.mode != "cells":
            raise ValueError(
                f"mask blanks the neighbours of a cell, and mode {self.mode} has no cells; set "
                "mask to false or mode to cells"
            )
        return self


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
    training: tuple[str, ...] = Field(
        default=(), description="values to learn from; none: all that are not held out"
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

    _plain_name = model_validator(mode="before")(as_named)


class EarlyStopping(Section):
    """Stop when the validation loss has not improved for so many epochs."""

    patience: PositiveInt = 10


class Train(Section):
    """The auxiliary task: telling treatments apart."""

    model: Named = Named(name="resnet18")
    generator: Named = Named(name="single")
    weights: str = Field(
        default="none",
        description="what training begins with: none, imagenet, or a weight file (of this program "
        "or of Keras 2), from the project's folder on",
    )
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
    schedule: Schedule = Field(default=Constant(), description="how the learning rate changes")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32",
        description="of the network's computations; weights are float32 in any case",
    )
    devices: Literal["all"] | PositiveInt = Field(
        default=1, description="number of this machine's GPUs to train on; a batch is divided"
    )
    top_k: PositiveInt = Field(
        default=5, description="`val_top_<k>_accuracy` counts labels among the k likeliest"
    )
    early_stopping: EarlyStopping | None = None
    trackers: tuple[Literal["mlflow", "wandb", "comet"], ...] = Field(
        default=(), description="services that are told the figures of each epoch"
    )


class Profile(Section):
    """Features of single cells."""

    layers: Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1)] = ("conv4a",)
    checkpoint: str = Field(
        default="last", description="last, best, imagenet, random, or a file in checkpoint/"
    )
    batch_size: PositiveInt = 128


class Analyze(Section):
    """From single cells to evaluated treatments."""

    aggregate: Literal["mean", "median", "site-medians"] = Field(
        default="mean",
        description="a well's profile: over its cells, or the mean of the medians of its sites; "
        "with median, a treatment's is the median of its wells",
    )
    layer: str | None = Field(
        default=None,
        description="the one of `profile.layers` that profiles are made of; none: conv4a, or the "
        "first where that is not among them",
    )
    weight: Literal["cells", "wells"] = Field(
        default="cells", description="what a treatment's mean or median counts"
    )
    min_cells: int = Field(default=10, ge=0, description="wells with fewer stay out of every fit")
    normalize: tuple[Named, ...] | None = Field(
        default=None,
        description="steps in order; none: standardize, then tvn where all batches have controls",
    )
    evaluate: tuple[Named, ...] | None = Field(
        default=None, description="evaluations; none: all that the columns of the index allow"
    )
    baselines: bool = Field(
        default=True,
        description="also score untrained weights, cell count, shuffled labels, other corrections",
    )
    classical: str | None = Field(
        default=None,
        description="classical features to compare with: `cp-measure` computes them (extra "
        "`classical`), or a table of CellProfiler or CytoTable, from the project's folder on",
    )
    report: bool = Field(default=True, description="write the report page")
    embedding: Literal["tsne", "umap"] = Field(
        default="tsne", description="the maps of the report; umap needs the extra `umap`"
    )


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
