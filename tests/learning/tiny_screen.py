"""A tiny network, separable crops and small generators, so that training takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from deepprofiler.learning.batches import CropView
from deepprofiler.learning.cell_store import margin
from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.fit import Destination, TrainingData
from deepprofiler.learning.learning_settings import Augmentation, Train
from deepprofiler.learning.network import Network
from deepprofiler.learning.sampling import Cells, balanced

SIZE, CHANNELS = 8, 2
CLASSES = ("a", "b", "c")
VIEW = CropView(SIZE, "min-max", Augmentation(shift=1))
SETTINGS = Train(epochs=2, batch_size=16, learning_rate=0.05)


def changed(settings: Train, **values: Any) -> Train:
    """Settings of training with other values, checked as those of a config are."""
    return Train.model_validate({**settings.model_dump(), **values})


def destination(folder: Path) -> Destination:
    return Destination(
        folder / "checkpoint" / "last.h5",
        folder / "checkpoint" / "best.h5",
        folder / "logs" / "history.csv",
        folder / "logs",
    )


def tiny(
    classes: int = len(CLASSES), dropout: float = 0.0, filters: int = 6, seed: int = 0
) -> Network:
    keras.utils.set_random_seed(seed)
    crops = keras.Input((SIZE, SIZE, CHANNELS), name="crops")
    x = keras.layers.Conv2D(filters, 3, use_bias=False, name="conv")(crops)
    x = keras.layers.BatchNormalization(momentum=0.9, name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    backbone = keras.Model(crops, x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(classes, name="logits")(x)
    return Network(keras.Model(crops, logits, name="tiny"), backbone)


@dataclass
class Screen:
    """Cells of three classes that differ in texture, in two plates."""

    training: Cells
    validation: Cells
    gather: Callable[[np.ndarray], Any]

    @property
    def data(self) -> TrainingData:
        return TrainingData(self.gather, self.training, self.validation, CLASSES, VIEW)


def make_screen(per_class: int = 60, shift: int = 1, flat: int = 0) -> Screen:
    rng = np.random.default_rng(0)
    count = per_class * len(CLASSES) * 2
    side = SIZE + margin(SIZE, shift=shift, rotations=False)
    label = np.arange(count) % len(CLASSES)
    crops = rng.integers(0, 120, (count, side, side, CHANNELS), dtype=np.uint8)
    bright = rng.random(crops.shape) < 0.15 * label[:, None, None, None]
    crops[bright] += 120
    minimum, maximum = np.zeros((count, CHANNELS), "f"), np.full((count, CHANNELS), 255, "f")
    crops[:flat] = 0
    maximum[:flat] = 0

    def cells(rows: np.ndarray) -> Cells:
        return Cells.from_columns(
            row=rows,
            label=label[rows],
            classes=len(CLASSES),
            plate=[f"P{1 + row % 2}" for row in rows],
            well=[f"A{1 + row % 4:02d}" for row in rows],
        )

    half = count // 2
    return Screen(
        cells(np.arange(half)),
        cells(np.arange(half, count)),
        lambda rows: (crops[rows], minimum[rows], maximum[rows]),
    )


class Single(CropGenerator):
    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        return balanced(cells, size, rng)[:, np.newaxis]

    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        return crops[:, 0], labels[:, 0]


class Pair(Single):
    """Two cells blended with a random weight: a small mixup."""

    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        return balanced(cells, 2 * size, rng).reshape(size, 2)

    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        share = tf.random.stateless_uniform([tf.shape(crops)[0], 1], seed)
        if crops.shape[1] == 1:
            return crops[:, 0], labels[:, 0]
        image = share[..., None, None]
        return (
            image * crops[:, 0] + (1 - image) * crops[:, 1],
            share * labels[:, 0] + (1 - share) * labels[:, 1],
        )


class Softening(Single):
    """Labels move towards the network's own predictions."""

    def epoch_end(self, predict: Any, labels: np.ndarray) -> np.ndarray:
        return 0.8 * labels + 0.2 * predict(np.arange(len(labels)))
