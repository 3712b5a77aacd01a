"""The pictures of the report, saved as PNG and SVG with their data as CSV."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.commands.analyze.aggregate import Gathered
from deepprofiler.errors import DataError
from deepprofiler.evaluation.scores import Scores
from deepprofiler.evaluation.screen import negative_rows
from deepprofiler.imaging import illumination
from deepprofiler.learning.cell_store import CellStore
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.report import pictures, plot
from deepprofiler.report.figures import save
from deepprofiler.report.page import THUMBNAIL, Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MONTAGE_ROWS, _MONTAGE_COLUMNS, _MONTAGES = 16, 10, 8
_PLATES_SHOWN = 6
_CLASSES_SHOWN = 60
# So many classes are still read in half the width of the page.
_HALF = 14
# Cells all over a plate that its range is taken from.
_RANGE_CELLS = 300
# Percentiles of a plate's crops that are shown as black and as full colour.
_BLACK, _FULL = 1, 99.7


class Drawings:
    """Draws an experiment.

    Parameters
    ----------
    project : Project
    gathered : Gathered
    """

    def __init__(self, project: Project, gathered: Gathered):
        self.project = project
        self.index = project.index
        self.gathered = gathered
        self.store, self.no_store = self._open_store()
        self._ranges: dict[str, np.ndarray] = {}
        self._names: set[str] = set()

    def _open_store(self) -> tuple[CellStore | None, str]:
        """Open the exported crops; or say why the report shows none."""
        paths = [self.project.store_path(plate) for plate in self.index.plates]
        paths = [path for path in paths if path.exists()]
        if not paths:
            return None, "No crops were exported, so none are shown; `export-sc` makes them."
        try:
            store = CellStore(paths)
        except DataError as error:
            return None, f"No cells are shown: {error}"
        if store.channels != self.index.channels:
            shown = ", ".join(store.channels)
            return None, f"No cells are shown: the exported crops have the channels {shown}."
        return store, ""

    def illumination(self) -> Iterator[Picture]:
        """Illumination functions of the first plates."""
        paths = {
            plate: self.project.illumination_path(plate)
            for plate in self.index.plates[:_PLATES_SHOWN]
        }
        found = {name: illumination.load(path) for name, path in paths.items() if path.exists()}
        if found and all(value.channels == self.index.channels for value in found.values()):
            functions = {name: value.function for name, value in found.items()}
            data = pd.DataFrame(
                {
                    "plate": name,
                    "channel": channel,
                    "largest": float(value.function[:, :, position].max()),
                    "lower_percentile": value.percentiles[position, 0],
                    "upper_percentile": value.percentiles[position, 1],
                }
                for name, value in found.items()
                for position, channel in enumerate(value.channels)
            )
            figure = pictures.illumination(functions, self.index.channels)
            more = len(self.index.plates) - len(found)
            text = "How much brighter than its dimmest part each place of the image is lit"
            text += f"; {more} more plates are not shown." if more else "."
            yield self.picture("Illumination", text, figure, "illumination", data)

    def cells(self) -> Iterator[Picture]:
        """Example cells of each treatment, negative controls first, some treatments a picture."""
        if self.store is None or not self.index.has("treatment"):
            return
        sample = self.gathered.sample
        names = sample.values(self.index.roles["treatment"]).astype(str)
        controls = set(names[negative_rows(self.index, sample)])
        treatments = sorted(set(names), key=lambda name: (name not in controls, name))
        pages = range(0, min(len(treatments), _MONTAGE_ROWS * _MONTAGES), _MONTAGE_ROWS)
        for page, first in enumerate(pages, 1):
            chosen: list[int] = []
            for name in treatments[first : first + _MONTAGE_ROWS]:
                chosen += np.flatnonzero(names == name)[:_MONTAGE_COLUMNS].tolist()
            part = sample.subset(np.array(chosen))
            crops, ranges, there = self._crops(part, 1)
            shown = names[np.array(chosen)][there].tolist()
            if not shown:
                continue
            figure = pictures.montage(
                crops, shown, ranges=ranges, channels=self.index.channels, columns=_MONTAGE_COLUMNS
            )
            last = min(first + _MONTAGE_ROWS, len(treatments))
            text = f"Cells drawn at random, treatments {first + 1} to {last} of {len(treatments)}."
            data = part.metadata[there].reset_index(drop=True)
            yield self.picture(f"Examples {page}", text, figure, f"montage-{page}", data)

    def _crops(self, cells: Profiles, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read crops of cells, every ``step`` pixels of the middle S × S.

        Returns crops (n, s, s, C) float32 in image intensities, the intensities shown as black
        and as full colour (n, C, 2), the same for a whole plate, and which cells were found.
        """
        assert self.store is not None
        keys = [PLATE, WELL, SITE, CELL]
        stored = pd.MultiIndex.from_frame(self.store.table[keys])
        rows = stored.get_indexer(pd.MultiIndex.from_frame(cells.metadata[keys]))
        there = rows >= 0
        size = min(self.project.config.crops.size, self.store.size)
        first = (self.store.size - size) // 2
        middle = slice(first, first + size, step)
        count, side = int(there.sum()), len(range(size)[::step])
        crops = np.empty((count, side, side, len(self.store.channels)), np.float32)
        ranges = np.empty((count, len(self.store.channels), 2), np.float32)
        names = cells.values(PLATE)[there]
        # Plate by plate, so that whole crops of only one are in memory.
        for plate in set(names):
            mine = np.flatnonzero(names == plate)
            crops[mine] = self._intensities(rows[there][mine], middle)
            ranges[mine] = self._range(str(plate), middle)
        return crops, ranges, there

    def _intensities(self, rows: np.ndarray, middle: slice) -> np.ndarray:
        """Crops (n, s, s, C) float32 of rows of the store, in image intensities."""
        assert self.store is not None
        pixels, low, high = self.store.gather(rows)
        low, high = low[:, None, None], high[:, None, None]
        return np.asarray(pixels[:, middle, middle] * ((high - low) / 255) + low, np.float32)

    def _range(self, plate: str, middle: slice) -> np.ndarray:
        """Intensities (C, 2) shown as black and as full colour, from cells all over the plate."""
        if plate not in self._ranges:
            assert self.store is not None
            rows = np.flatnonzero((self.store.table[PLATE] == plate).to_numpy())
            some = rows[:: max(1, len(rows) // _RANGE_CELLS)]
            pixels = self._intensities(some, middle)
            self._ranges[plate] = np.percentile(pixels, [_BLACK, _FULL], axis=(0, 1, 2)).T
        return self._ranges[plate]

    def training(self) -> Iterator[Picture]:
        """Loss and accuracy by epoch."""
        path = self.project.history_path
        if not path.exists():
            return
        history = pd.read_csv(path)
        kept = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "val_macro_accuracy"]
        drawn = history[[name for name in kept if name in history]]
        figure = plot.training_curves(drawn)
        text = "The auxiliary task: telling treatments apart, cell by cell."
        yield self.picture("Training", text, figure, "training", history)

    def thumbnails(self, profiles: Profiles) -> np.ndarray | None:
        """Colour pictures (n, S, S, 3) uint8 of cells; None where there are no crops."""
        if self.store is None:
            return None
        step = max(1, self.project.config.crops.size // THUMBNAIL)
        crops, ranges, there = self._crops(profiles, step)
        if not there.any():
            return None
        side = crops.shape[1]
        shown = np.zeros((len(profiles), side, side, 3), np.uint8)
        shown[there] = pictures.composite(crops, ranges)
        return shown

    def layers(self) -> Iterator[Picture]:
        """Accuracy of each layer, where several were profiled."""
        path = self.project.profiles_path("layers.csv")
        if not path.exists():
            return
        table = pd.read_csv(path, dtype={"layer": str, "normalization": str, "metric": str})
        if not len(table):
            return
        text = "Accuracy by layer, the first layer on the left; lines are 95 % intervals."
        yield self.picture("Accuracy by layer", text, plot.layers(table), "layers", table)

    def confusions(self, method: Scores) -> Iterator[Picture]:
        """Confusion matrix of each accuracy."""
        for name, result in method.results.items():
            table = result.confusion
            labels = sorted({*map(str, table.index), *map(str, table.columns)})
            if len(labels) > _CLASSES_SHOWN:
                continue
            square = table.rename(index=str, columns=str).reindex(
                index=labels, columns=labels, fill_value=0.0
            )
            figure = plot.confusion_matrix(
                square.to_numpy(), labels, truth="truth", prediction="nearest neighbour"
            )
            text = f"{name}: what the nearest neighbours of each row belong to."
            file = "confusion-" + name.lower().replace(" ", "-")
            drawn = self.picture(f"Confusions, {name}", text, figure, file, square.reset_index())
            small = len(labels) <= _HALF
            yield replace(drawn, half=small, folded=not small)

    def remove_others(self) -> None:
        """Remove the figures of an earlier report that were not drawn again."""
        for png in self.project.report_folder.glob("*.png"):
            figure = [png, png.with_suffix(".svg"), png.with_suffix(".csv")]
            # What is not all three is no figure of ours.
            if png.stem not in self._names and all(path.exists() for path in figure):
                for path in figure:
                    path.unlink()

    def picture(
        self, title: str, caption: str, figure: Figure, name: str, data: pd.DataFrame
    ) -> Picture:
        """Save a figure and its data."""
        saved = save(figure, self.project.report_folder, name, data)
        self._names.add(name)
        # Drawings of pixels are smaller, and drawings of lines sharper, in their own format.
        image = saved.png if name.startswith(("montage", "illumination")) else saved.svg
        return Picture(title, caption, image, saved.data)
