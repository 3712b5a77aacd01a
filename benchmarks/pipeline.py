"""What the input pipeline costs: ``python benchmarks/pipeline.py``.

Trains ResNet18 on crops of 128 × 128 × 5 in batches of 32, in turns from a store of cells on disk
with the default augmentation, and on one constant batch in memory with plain Keras. The limit: the
first is at least 0.90 times as fast. The crops are noise around a bright disc, and differ.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.learning.batches import CropView
from deepprofiler.learning.cell_store import CellStore, CellStoreWriter, margin
from deepprofiler.learning.fit import Destination, TrainingData, fit
from deepprofiler.learning.learning_settings import Augmentation, Train
from deepprofiler.learning.sampling import Cells
from deepprofiler.registry import CROP_GENERATORS, MODELS, discover

SIZE, CHANNELS, CLASSES, BATCH = 128, ("DNA", "ER", "RNA", "AGP", "Mito"), 10, 32
LIMIT = 0.90


def write_store(path: Path, count: int) -> CellStore:
    """Write crops with the margin of the default augmentation."""
    side = SIZE + margin(SIZE, shift=Augmentation().shift, rotations=False)
    cells = pd.DataFrame(
        {PLATE: "P1", WELL: "A01", SITE: "1", CELL: np.arange(count), "x": 0.0, "y": 0.0}
    )
    rng = np.random.default_rng(0)
    distance = np.hypot(*np.ogrid[-side / 2 : side / 2, -side / 2 : side / 2])[..., None]
    with CellStoreWriter(path, cells=cells, size=side, channels=CHANNELS) as writer:
        for rows in np.array_split(np.arange(count), max(1, count // 100)):
            radius = rng.uniform(20, 60, (len(rows), 1, 1, len(CHANNELS)))
            noise = rng.integers(0, 100, (len(rows), side, side, len(CHANNELS)), dtype=np.uint8)
            crops = noise + np.where(distance < radius, 155, 0).astype(np.uint8)
            low = np.zeros((len(rows), len(CHANNELS)), np.float32)
            writer.write(rows, crops, low, low + 255)
    return CellStore([path])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--cells", type=int, default=2000)
    options = parser.parse_args()
    discover()
    settings = Train(epochs=1, steps=options.steps, batch_size=BATCH)
    shown = options.steps * BATCH
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = write_store(folder / "P1.h5", options.cells)
        cells = Cells.from_columns(
            row=np.arange(len(store)),
            label=np.arange(len(store)) % CLASSES,
            classes=CLASSES,
            plate=["P1"] * len(store),
            well=["A01"] * len(store),
        )

        def from_store() -> float:
            network = MODELS.build("resnet18", (SIZE, SIZE, len(CHANNELS)), CLASSES)
            history = fit(
                network,
                CROP_GENERATORS.build("single"),
                TrainingData(
                    store.gather, cells, None, [str(k) for k in range(CLASSES)], CropView(SIZE)
                ),
                settings,
                Destination(
                    folder / "last.h5", folder / "best.h5", folder / "history.csv", folder / "logs"
                ),
                resume=False,
            )
            return history.epochs[0].cells_per_second

        rng = np.random.default_rng(1)
        x = rng.random((BATCH, SIZE, SIZE, len(CHANNELS)), dtype=np.float32)
        y = np.eye(CLASSES, dtype=np.float32)[np.arange(BATCH) % CLASSES]
        constant = tf.data.Dataset.from_tensors((x, y)).repeat(options.steps)

        def from_memory() -> float:
            network = MODELS.build("resnet18", (SIZE, SIZE, len(CHANNELS)), CLASSES)
            network.train.compile("sgd", "categorical_crossentropy", jit_compile=False)
            start = time.perf_counter()
            network.train.fit(constant, shuffle=False, verbose=0)
            return shown / (time.perf_counter() - start)

        from_memory()
        ratios = []
        for _ in range(options.pairs):
            disk, memory = from_store(), from_memory()
            ratios.append(disk / memory)
            print(
                f"store {disk:6.1f} cells/s, memory {memory:6.1f} cells/s, ratio {ratios[-1]:.3f}"
            )
    median = float(np.median(ratios))
    print(f"median ratio {median:.3f}, limit {LIMIT}: {'met' if median >= LIMIT else 'NOT met'}")


if __name__ == "__main__":
    main()
