"""Settings of training and of feature extraction; free of TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from deepprofiler.parameters import (
    Choice,
    Decides,
    Fraction,
    Parameters,
    as_choice,
    as_tuple,
    setting,
)

Rescale = Literal["min-max", "max", "legacy-0.3", "standardize", "none"]
Precision = Literal["float32", "bfloat16", "float16"]

#: Settings that may change from one epoch to the next.
_EPOCHS = (Decides.EPOCHS,)


class CropInput(Parameters):
    """How stored crops become the input of a network, and how many are stored."""

    resize: Annotated[int, Field(ge=8)] | None = setting(
        None,
        Decides.WEIGHTS,
        Decides.FEATURES,
        text="side R to which crops are resized for the network; none: S",
        unit="pixels",
    )
    margin: Literal["auto"] | Annotated[int, Field(ge=0)] = setting(
        "auto",
        Decides.CROPS,
        text="pixels stored beyond S for augmentation, both sides together",
        unit="pixels",
    )
    rescale: Rescale = setting(
        "min-max", Decides.WEIGHTS, Decides.FEATURES, text="how each channel of a crop is scaled"
    )
    cells_per_well: PositiveInt | None = setting(
        None,
        Decides.CROPS,
        Decides.TRAINING,
        text="largest number of cells stored of a well, drawn at random; none: all",
    )


class Constant(Parameters):
    """The same learning rate throughout."""

    name: Literal["constant"] = setting("constant", *_EPOCHS, text="which schedule")

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """Return the learning rate of one step.

        Parameters
        ----------
        first : float
            ``train.learning_rate``.
        epochs, steps : int
            Number of epochs, and of steps in an epoch.
        step : int
            Number of the step, from 1, counted over all epochs.
        losses : sequence of float
            Loss of each finished epoch, on validation cells if there are any.
        """
        return first


class Cosine(Parameters):
    """A linear warm-up, then half a cosine wave down to 0.

    The step after the last would have the rate 0. Source: Loshchilov and Hutter 2017 (SGDR),
    without restarts.
    """

    name: Literal["cosine"] = setting("cosine", *_EPOCHS, text="which schedule")
    warmup: float = setting(
        0.0, *_EPOCHS, text="of cosine: length of the rise, in equal steps", unit="epochs", ge=0
    )

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """Return the learning rate of one step; see :meth:`Constant.rate`."""
        rise = self.warmup * steps
        if step <= rise:
            return first * step / rise
        share = (step - 1 - rise) / (epochs * steps - rise)
        return first * (1 + math.cos(math.pi * share)) / 2


class Steps(Parameters):
    """Another learning rate from given epochs on."""

    name: Literal["step"] = setting("step", *_EPOCHS, text="which schedule")
    epochs: tuple[PositiveInt, ...] = setting(
        ...,
        *_EPOCHS,
        text="of step: epochs that begin with another rate, ascending, counted from 1",
        min_length=1,
    )
    factor: Fraction = setting(0.1, *_EPOCHS, text="of step: multiplies the rate at each of them")
    rates: tuple[PositiveFloat, ...] | None = setting(
        None, *_EPOCHS, text="of step: the rate from each of these epochs, in place of `factor`"
    )

    @model_validator(mode="after")
    def _one_rate_for_each_epoch(self) -> Steps:
        if list(self.epochs) != sorted(set(self.epochs)):
            raise ValueError("epochs must ascend")
        if self.rates is not None and len(self.rates) != len(self.epochs):
            raise ValueError(f"{len(self.epochs)} epochs need as many rates")
        return self

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """Return the learning rate of one step; see :meth:`Constant.rate`."""
        reached = sum(number <= len(losses) + 1 for number in self.epochs)
        if self.rates is None:
            return first * self.factor**reached
        return self.rates[reached - 1] if reached else first


class Plateau(Parameters):
    """A lower learning rate whenever the loss has not fallen for some epochs.

    As Keras's ``ReduceLROnPlateau`` with ``min_delta=0``.
    """

    name: Literal["plateau"] = setting("plateau", *_EPOCHS, text="which schedule")
    patience: PositiveInt = setting(
        3, *_EPOCHS, text="of plateau: how long to wait for a lower loss", unit="epochs"
    )
    factor: Fraction = setting(0.5, *_EPOCHS, text="of plateau: multiplies the rate")

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """Return the learning rate of one step; see :meth:`Constant.rate`."""
        rate, best, waited = first, math.inf, 0
        for loss in losses:
            best, waited = (loss, 0) if loss < best else (best, waited + 1)
            if waited == self.patience:
                rate, waited = rate * self.factor, 0
        return rate


Schedule = Annotated[
    Annotated[Constant | Cosine | Steps | Plateau, Field(discriminator="name")],
    BeforeValidator(as_choice),
]


class Labels(Parameters):
    """Which labels are training classes."""

    include: tuple[str, ...] | None = setting(
        None, Decides.TRAINING, text="the only labels to train on"
    )
    exclude: tuple[str, ...] | None = setting(None, Decides.TRAINING, text="labels not to train on")

    @model_validator(mode="after")
    def _one_of_two(self) -> Labels:
        if (self.include is None) == (self.exclude is None):
            raise ValueError("give either include or exclude, a list of labels")
        return self


class Validation(Parameters):
    """Which cells are held out to validate the auxiliary task."""

    by: Literal["column", "replicate", "cells"] | None = setting(
        None,
        Decides.TRAINING,
        text="how cells are held out; none: by the split column if there is one, else cells",
    )
    values: tuple[str, ...] = setting(
        (), Decides.TRAINING, text="held-out values; `[]`: 1 of a column, or the last replicate"
    )
    training: tuple[str, ...] = setting(
        (), Decides.TRAINING, text="values to train on; `[]`: all that are not held out"
    )
    fraction: Fraction = setting(
        0.1, Decides.TRAINING, text="share of cells that is held out, for `by: cells`"
    )


class Augmentation(Parameters):
    """Random changes of each training crop, each cell by itself."""

    flips: bool = setting(
        True, *_EPOCHS, text="mirror left–right and up–down, each with probability ½"
    )
    turns: bool = setting(True, *_EPOCHS, text="rotate by 0, 90, 180 or 270 degrees")
    rotations: bool = setting(False, *_EPOCHS, text="rotate by any angle; doubles the stored crops")
    shift: int = setting(
        4, *_EPOCHS, text="largest shift in each direction, in whole pixels", unit="pixels", ge=0
    )


class Optimizer(Parameters):
    """How a step changes weights."""

    name: Literal["sgd", "adam", "adamw"] = setting("sgd", *_EPOCHS, text="optimization method")
    momentum: float = setting(
        0.9, *_EPOCHS, text="of sgd: share of the last step that is repeated", ge=0, lt=1
    )
    weight_decay: float = setting(
        0.0,
        *_EPOCHS,
        text="share of every weight, times the learning rate, that is subtracted in each step; "
        "decoupled from the gradient, so that `adam` with it is `adamw`",
        ge=0,
    )

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return as_choice(value)


class EarlyStopping(Parameters):
    """Stop when the validation loss has not improved for so many epochs."""

    patience: PositiveInt = setting(
        10, *_EPOCHS, text="how long to wait for a lower loss", unit="epochs"
    )


class Train(Parameters):
    """The auxiliary task: classifying cells by treatment."""

    model: Choice = setting(
        Choice(name="resnet18"),
        Decides.WEIGHTS,
        Decides.FEATURES,
        text="the network; a name of a model",
    )
    generator: Choice = setting(
        Choice(name="single"),
        Decides.TRAINING,
        text="how cells become training examples; a name of a crop generator",
    )
    weights: str = setting(
        "none",
        *_EPOCHS,
        text="initial weights: none (random), imagenet, or a weight file (of this program or of "
        "Keras 2), relative to the project folder",
    )
    controls: bool = setting(False, Decides.TRAINING, text="negative controls are a class as well")
    labels: Labels | None = setting(None, Decides.TRAINING, text="none: every label")
    validation: Validation = Validation()
    augment: Augmentation = Augmentation()
    epochs: PositiveInt = setting(
        10, *_EPOCHS, text="number of epochs; raise it to continue training"
    )
    steps: PositiveInt | None = setting(
        None,
        *_EPOCHS,
        text="batches in an epoch; none: enough for as many cells as there are to train on",
    )
    batch_size: PositiveInt = setting(32, *_EPOCHS, text="examples in a step")
    optimizer: Optimizer = Optimizer()
    learning_rate: PositiveFloat = setting(0.01, *_EPOCHS, text="size of a step")
    schedule: Schedule = setting(Constant(), *_EPOCHS, text="how the learning rate changes")
    label_smoothing: float = setting(
        0.0, *_EPOCHS, text="share of each label that is spread over all classes", ge=0, lt=1
    )
    precision: Precision = setting(
        "float32",
        *_EPOCHS,
        text="of the network's computations; weights are float32 in any case",
    )
    devices: Literal["all"] | PositiveInt = setting(
        1, *_EPOCHS, text="number of this machine's GPUs to train on; a batch is divided"
    )
    top_k: PositiveInt = setting(
        5,
        Decides.NOTHING,
        text="k of `val_top_<k>_accuracy`: the label is among the k largest predictions",
    )
    early_stopping: EarlyStopping | None = setting(
        None, *_EPOCHS, text="stop when the validation loss no longer improves; none: never"
    )
    trackers: tuple[Literal["mlflow", "wandb", "comet"], ...] = setting(
        (), Decides.NOTHING, text="services that the metrics of each epoch are sent to"
    )


class Profile(Parameters):
    """Features of single cells."""

    layers: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = setting(
        ("conv4a",),
        Decides.FEATURES,
        text="layers that give the features, in this order; `layers` prints all names",
        min_length=1,
    )
    checkpoint: str = setting(
        "last",
        Decides.INPUTS,
        text="last, best, random (untrained), imagenet, or a file in "
        "`outputs/<experiment>/checkpoint`",
    )
    batch_size: PositiveInt = setting(
        128, Decides.NOTHING, text="cells in a step; decides speed and memory only"
    )
