"""The way from rows to network inputs: one ``tf.data`` dataset an epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from deepprofiler.errors import DataError, PluginError, plugin_code
from deepprofiler.learning.augment import (
    Augmentation,
    augment,
    centre,
    rescale,
    resize,
)
from deepprofiler.learning.cell_store import margin
from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.network import Network
from deepprofiler.learning.sampling import Cells

# Rows (n,) to crops (n, M, M, C) uint8 and their minimum and maximum (n, C) float32.
Gather = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
_AHEAD = 4


@dataclass(frozen=True)
class Look:
    """How stored crops become what the network sees.

    Attributes
    ----------
    size : int
        Side S in pixels.
    rescale : str
        One of :data:`deepprofiler.learning.augment.RULES`.
    augmentation : Augmentation
        For training only.
    resize : int, optional
        Side R in pixels of what the network sees; None: S.
    """

    size: int
    rescale: str = "min-max"
    augmentation: Augmentation = field(default_factory=Augmentation)
    resize: int | None = None


@contextmanager
def reading(*sets: Batches | None) -> Iterator[None]:
    """Raise what really went wrong while a batch was read, in place of TensorFlow's error."""
    try:
        yield
    except tf.errors.OpError:
        for batches in sets:
            if batches is not None and batches.error is not None:
                raise batches.error from None
        raise


def generator_of(*key: int) -> np.random.Generator:
    """Random numbers that are decided by ``(seed, epoch, step)``."""
    return np.random.default_rng(key)


@dataclass
class Batches:
    """Makes the datasets of one set of cells.

    Attributes
    ----------
    generator : CropGenerator
        Chooses and combines cells.
    network : Network
        Says what the target is.
    gather : callable
        Reads crops by the rows in ``cells.row``.
    cells : Cells
        Training or validation cells.
    look : Look
        How crops are shown.
    size : int
        Examples a batch, B.
    labels : (N, K) float32 array, optional
        Labels that replace the one-hot ones of ``cells``.
    flat : list of int
        For each batch read so far, the number of its crops with a constant channel.
    error : Exception, optional
        What went wrong while a batch was read; TensorFlow only keeps its text.
    """

    generator: CropGenerator
    network: Network
    gather: Gather
    cells: Cells
    look: Look
    size: int
    labels: np.ndarray | None = None
    flat: list[int] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        crops = self.gather(self.cells.row[:1])[0]
        self._stored = crops.shape[1:]
        look = self.look
        needed = look.size + margin(
            look.size, shift=look.augmentation.shift, rotations=look.augmentation.rotations
        )
        stored = crops.shape[1]
        if stored < needed or (stored - look.size) % 2:
            raise DataError(
                f"crops are stored with side {stored}; size {look.size} with this augmentation "
                f"needs {needed}: set crops.margin to auto or at least {needed - look.size} and "
                "run export-sc again, or augment less"
            )
        # A tf.function is traced once and then part of every epoch's dataset.
        self._inputs = tf.function(self._make_inputs)

    def drawn(self, seed: int, epoch: int, step: int) -> np.ndarray:
        """Positions (B, T) of the cells of one training batch; PluginError where they are none."""
        rows = self._draw(seed, epoch, step)
        if rows.shape[1] != self.width:
            raise PluginError(
                f"crop generator {type(self.generator).__name__}: draw gives {rows.shape[1]} cells "
                f"an example, and gave {self.width} before; it must give the same number each time"
            )
        return rows

    @cached_property
    def width(self) -> int:
        """Number of cells of a training example, T; it must stay the same."""
        return self._draw(0, 0, 1).shape[1]

    def _draw(self, seed: int, epoch: int, step: int) -> np.ndarray:
        kind = type(self.generator)
        rng = generator_of(seed, epoch, step)
        with plugin_code(kind, f"{kind.__name__} cannot be used"):
            rows = np.asarray(self.generator.draw(self.cells, self.size, rng))
            if not np.issubdtype(rows.dtype, np.integer):
                raise PluginError(
                    f"crop generator {kind.__name__}: draw gives {rows.dtype}; it must give "
                    "positions, which are whole numbers (int64)"
                )
            whole = rows.ndim == 2 and len(rows) == self.size
            # A negative position would be another cell, and no error.
            if not whole or not 0 <= rows.min() <= rows.max() < len(self.cells):
                raise PluginError(
                    f"crop generator {kind.__name__}: draw gives {rows.shape} from {rows.min()} to "
                    f"{rows.max()}; it must give (B, T) = ({self.size}, T) positions from 0 to "
                    f"{len(self.cells) - 1}"
                )
        return rows.astype(np.int64)

    def wells(self, seed: int, epoch: int, step: int) -> str:
        """Name the plates and wells of one training batch, each with its number of cells."""
        cells = self.cells
        counts = Counter(cells.well[self.drawn(seed, epoch, step).reshape(-1)].tolist())
        return ", ".join(f"{'/'.join(cells.places[code])} ({n})" for code, n in counts.items())

    def training(self, seed: int, epoch: int, steps: int) -> tf.data.Dataset:
        """Give the batches of one epoch, augmented; epochs and steps are counted from 1."""

        def load(step: Any) -> tuple[np.ndarray, ...]:
            return self._load(
                self.drawn(seed, epoch, int(step)),
                generator_of(seed, epoch, int(step), 1).integers(2**31, size=2, dtype=np.int32),
            )

        return self._dataset(tf.data.Dataset.range(1, steps + 1), load, self.width, True)

    def validation(self, positions: np.ndarray | None = None) -> tf.data.Dataset:
        """Give every cell once, in order and not augmented."""
        if positions is None:
            positions = np.arange(len(self.cells))
        width = self.generator.show(positions[:1]).shape[1]

        def load(first: Any) -> tuple[np.ndarray, ...]:
            rows = positions[int(first) : int(first) + self.size]
            return self._load(np.asarray(self.generator.show(rows)), np.zeros(2, np.int32))

        starts = tf.data.Dataset.range(0, len(positions), self.size)
        return self._dataset(starts, load, width, False)

    def check(self) -> None:
        """Raise PluginError unless the generator gives what the network takes."""
        kind = type(self.generator)
        names = f"crop generator {kind.__name__} and {self.network.train.name}"
        with plugin_code(kind, f"{kind.__name__} cannot be used"):
            x, y = self.training(0, 0, 1).element_spec
        given, taken = x.shape, self.network.train.input_shape
        if not given.is_compatible_with(taken):
            raise PluginError(f"{names} do not fit: inputs are {given}, the model takes {taken}")
        target, made = y.shape, self.network.train.output_shape
        if not target.is_compatible_with(made):
            raise PluginError(f"{names} do not fit: targets are {target}, the model gives {made}")

    def _dataset(
        self,
        source: tf.data.Dataset,
        load: Callable[[Any], tuple[np.ndarray, ...]],
        width: int,
        training: bool,
    ) -> tf.data.Dataset:
        side, _, channels = self._stored

        def guarded(number: Any) -> tuple[np.ndarray, ...]:
            try:
                return load(number)
            except Exception as error:
                self.error = error
                raise

        def read(number: Any) -> tuple[Any, ...]:
            types = (tf.uint8, tf.float32, tf.float32, tf.float32, tf.int32)
            values = tf.numpy_function(guarded, [number], types, stateful=False)
            shapes = (
                (None, width, side, side, channels),
                (None, width, channels),
                (None, width, channels),
                (None, width, self.cells.classes),
                (2,),
            )
            return tuple(tf.ensure_shape(v, s) for v, s in zip(values, shapes, strict=True))

        def make(*values: Any) -> tuple[Any, Any]:
            return self._inputs(*values, training=training)

        # The second reads while the first waits for the disk; order is kept.
        read_ahead = source.map(read, num_parallel_calls=2, deterministic=True)
        return read_ahead.map(make, num_parallel_calls=2, deterministic=True).prefetch(_AHEAD)

    def _load(self, positions: np.ndarray, seed: np.ndarray) -> tuple[np.ndarray, ...]:
        """Read the crops of (B, T) positions and what goes with them."""
        flat = positions.reshape(-1)
        crops, minimum, maximum = self.gather(self.cells.row[flat])
        self.flat.append(int(np.count_nonzero((maximum <= minimum).any(axis=1))))
        if self.labels is None:
            labels = np.eye(self.cells.classes, dtype=np.float32)[self.cells.label[flat]]
        else:
            labels = self.labels[flat]
        shape = positions.shape
        return (
            crops.reshape(*shape, *crops.shape[1:]),
            minimum.reshape(*shape, -1),
            maximum.reshape(*shape, -1),
            labels.reshape(*shape, -1),
            seed,
        )

    def _make_inputs(
        self, crops: Any, minimum: Any, maximum: Any, labels: Any, seed: Any, training: bool
    ) -> tuple[Any, Any]:
        width, channels, size = crops.shape[1], crops.shape[-1], self.look.size
        crops = tf.reshape(crops, [-1, *crops.shape[2:]])
        own, combining = tf.unstack(tf.random.split(seed, 2))
        if training:
            crops = augment(crops, size, self.look.augmentation, own)
        else:
            crops = centre(crops, size)
        crops = rescale(
            crops,
            self.look.rescale,
            tf.reshape(minimum, [-1, channels]),
            tf.reshape(maximum, [-1, channels]),
        )
        crops = resize(crops, self.look.resize)
        side = self.look.resize or size
        crops = tf.reshape(crops, [-1, width, side, side, channels])
        x, y = self.generator.combine(crops, labels, combining)
        return x, (x if self.network.target == "input" else y)
