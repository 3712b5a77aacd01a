"""The interactive parts of the page: maps, similarities, nearest neighbours and plates.

Each part is a dataclass of plain values, and a function makes it from the inputs of the report and
saves the same as a figure beside the page. ``script_data`` gives what the page's script draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT, FLAG, PLATE, PREFIX, WELL, spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.outliers import FEWEST, LIMIT, outlying
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.report import embedding, plate_maps, plot
from deepprofiler.report.figures import FigureFolder
from deepprofiler.report.heatmap import cluster, heat_map
from deepprofiler.report.report_inputs import ReportInputs
from deepprofiler.report.wording import number

#: Side of a thumbnail in pixels, at least.
THUMBNAIL = 40
#: More treatments have no heat map: the page would grow too large, and a pair would be less than a
#: pixel.
LARGEST_MATRIX = 600
# More points take minutes to embed and hide one another.
_MOST_POINTS = 10_000
# Plates on the saved plate maps; the page shows all.
_PLATES_SAVED = 12


# Maps of wells, treatments and cells.


@dataclass(frozen=True)
class PointMap:
    """Points in two dimensions, coloured by any column.

    Attributes
    ----------
    name : str
        What a point is: ``wells``, ``treatments``, ``cells``.
    points : ndarray, (n, 2)
        In arbitrary units.
    caption : str
        Method, its settings, and how many of how many are drawn.
    columns : DataFrame
        n rows. Each column can colour the points and is shown for a point; columns of numbers have
        a continuous scale.
    thumbnails : ndarray, optional
        (n, S, S, 3) uint8, shown with a point.
    """

    name: str
    points: np.ndarray
    caption: str
    columns: pd.DataFrame
    thumbnails: np.ndarray | None = None

    def script_data(self) -> dict[str, Any]:
        """Give the values that the script draws.

        Raises
        ------
        ValueError
            The numbers of points, rows and thumbnails differ.
        """
        count = len(self.columns)
        if self.points.shape != (count, 2):
            raise ValueError(f"{self.name}: points {self.points.shape} for {count} rows")
        if self.thumbnails is not None and len(self.thumbnails) != count:
            raise ValueError(f"{self.name}: {len(self.thumbnails)} thumbnails for {count} rows")
        span = float(np.ptp(self.points, axis=0).max()) if count else 1.0
        scaled = np.asarray(self.points, float) / (span or 1.0)
        sheet = None
        if self.thumbnails is not None:
            sheet = {"side": self._small_thumbnails().shape[1], "across": self._across()}
        return {
            "name": self.name,
            "caption": self.caption,
            "x": scaled[:, 0].round(4).tolist(),
            "y": scaled[:, 1].round(4).tolist(),
            "columns": [_column_data(str(name), column) for name, column in self.columns.items()],
            "sheet": sheet,
        }

    def thumbnail_sheet(self) -> np.ndarray | None:
        """All thumbnails in one image (H, W, 3) uint8, row by row; None without thumbnails."""
        if self.thumbnails is None:
            return None
        small, across = self._small_thumbnails(), self._across()
        count, side = small.shape[:2]
        sheet = np.zeros((across * across, side, side, 3), np.uint8)
        sheet[:count] = small
        pixels = sheet.reshape(across, across, side, side, 3).swapaxes(1, 2)
        return pixels.reshape(across * side, across * side, 3)

    def _small_thumbnails(self) -> np.ndarray:
        """Every few pixels of the thumbnails."""
        assert self.thumbnails is not None
        step = max(1, self.thumbnails.shape[1] // THUMBNAIL)
        return np.asarray(self.thumbnails, np.uint8)[:, ::step, ::step]

    def _across(self) -> int:
        """Thumbnails in a row of the sheet."""
        return max(1, int(np.ceil(np.sqrt(len(self.columns)))))


def point_maps(inputs: ReportInputs, figures: FigureFolder) -> Iterator[PointMap]:
    """Embed wells, treatments and sampled cells, and save each map.

    Raises
    ------
    ConfigError
        The method is UMAP, and umap-learn is not installed.
    """
    screen = inputs.screen
    colour = screen.roles.get("mechanism") or screen.roles.get("treatment") or PLATE
    yield from _point_map(inputs, figures, "wells", screen.wells, colour)
    if screen.names_treatments:
        yield from _point_map(inputs, figures, "treatments", screen.all_treatments, colour)
    cells, rows = _normalized_cells(inputs)
    thumbnails = None if inputs.cell_pictures is None else inputs.cell_pictures.thumbnails[rows]
    total = int(inputs.counts[COUNT].sum())
    yield from _point_map(inputs, figures, "cells", cells, colour, total, thumbnails)


def _normalized_cells(inputs: ReportInputs) -> tuple[Profiles, np.ndarray]:
    """Normalize the sampled cells, as far as possible; give also their rows in the sample."""
    # A step of the chain may need the number of cells of the cell's well.
    wells = pd.MultiIndex.from_frame(inputs.sample.metadata[[PLATE, WELL]])
    counts = inputs.counts.set_index([PLATE, WELL])[COUNT].reindex(wells).to_numpy()
    sample = inputs.sample.with_column(COUNT, counts)
    covered = inputs.chain.covers(sample)
    return inputs.chain.transform(sample.subset(covered)), np.flatnonzero(covered)


def _point_map(
    inputs: ReportInputs,
    figures: FigureFolder,
    name: str,
    profiles: Profiles,
    colour: str,
    cells: int | None = None,
    thumbnails: np.ndarray | None = None,
) -> Iterator[PointMap]:
    """Embed profiles and save their map, coloured by a column; nothing with fewer than two.

    ``cells`` is the number of all cells where profiles are sampled ones.
    """
    count = f"{number(len(profiles))} {name}"
    if cells is not None:
        count = f"{number(len(profiles))} of {number(cells)} cells, sampled evenly from all wells"
    if len(profiles) > _MOST_POINTS:
        count = f"{number(_MOST_POINTS)} of {number(len(profiles))} {name}, sampled at random"
        rng = np.random.default_rng(inputs.seed)
        rows = np.sort(rng.permutation(len(profiles))[:_MOST_POINTS])
        profiles = profiles.subset(rows)
        thumbnails = None if thumbnails is None else thumbnails[rows]
    if len(profiles) < 2:
        return
    method = embedding.umap if inputs.embedding == "umap" else embedding.tsne
    embedded = method(profiles.features, seed=inputs.seed)
    caption = f"{embedded}, seed {inputs.seed}: {count}."
    columns = profiles.metadata.rename(columns=lambda column: column.removeprefix(PREFIX))
    first = colour.removeprefix(PREFIX)
    if first in columns:
        # The page colours by the first column until the reader chooses another one.
        columns.insert(0, first, columns.pop(first))
        figure = plot.embedding(
            embedded.points,
            list(profiles.values(colour)),
            quantity=spoken(colour),
            method=embedded.method,
        )
        data = profiles.metadata.assign(x=embedded.points[:, 0], y=embedded.points[:, 1])
        figures.save(figure, f"map-{name}", data)
        caption += f" Also saved beside this page: map-{name}.png, .svg and .csv."
    yield PointMap(name, embedded.points, caption, columns, thumbnails)


def _column_data(name: str, column: pd.Series) -> dict[str, Any]:
    """Numbers as they are, None where missing; text as codes of sorted levels."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        numbers = [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
        return {"name": name, "numbers": numbers}
    codes, levels = pd.factorize(column.astype(str), sort=True)
    return {"name": name, "codes": codes.tolist(), "levels": list(levels)}


# Similarities of all treatments.


@dataclass(frozen=True)
class Similarities:
    """Similarities of treatments in the order of a clustering.

    Attributes
    ----------
    names, groups : sequence of str
        n names, and the group of each; blank where it is unknown.
    matrix : ndarray, (n, n)
        From -1 to 1.
    group : str
        What the groups are, such as ``mechanism``; blank where none are known.
    caption : str
    """

    names: Sequence[str]
    groups: Sequence[str]
    matrix: np.ndarray
    group: str
    caption: str

    def script_data(self) -> dict[str, Any]:
        """Give the values that the script draws; similarities in hundredths.

        Raises
        ------
        ValueError
            The matrix does not fit the names and groups.
        """
        count = len(self.names)
        if self.matrix.shape != (count, count) or len(self.groups) != count:
            raise ValueError(f"similarities {self.matrix.shape} for {count} names")
        hundredths = np.rint(np.asarray(self.matrix) * 100).astype(int)
        return {
            "caption": self.caption,
            "names": [str(name) for name in self.names],
            "groups": [str(name) for name in self.groups],
            "matrix": hundredths.ravel().tolist(),
        }


def similarities(inputs: ReportInputs, figures: FigureFolder) -> Similarities | None:
    """Cluster the treatments by their similarity, and save the heat map.

    Returns
    -------
    Similarities or None
        None with fewer than 3 treatments or more than 600, or where a profile has no direction.
    """
    screen = inputs.screen
    if not screen.has_treatments or not 3 <= len(screen.treatments) <= LARGEST_MATRIX:
        return None
    try:
        clustered = cluster(screen.treatments.features)
    except DataError:
        # The scores of these profiles say what is wrong with them.
        return None
    ordered = screen.treatments.subset(clustered.order)
    column = screen.group_column
    treatment = screen.column("treatment")
    names = ordered.values(treatment).astype(str).tolist()
    groups = [""] * len(names)
    if column is not None and column in ordered.metadata:
        groups = ordered.values(column).astype(str).tolist()
    data = ordered.metadata[[treatment]].assign(group=groups)
    values = clustered.similarity.round(4)
    for position, name in enumerate(names):
        data[f"{position + 1}: {name}"] = values[:, position]
    figures.save(heat_map(clustered.similarity, names, groups), "similarity", data)
    caption = (
        f"Cosine similarities of the profiles of {len(names)} treatments, ordered by clustering "
        "(average linkage). Also saved beside this page: similarity.png, .svg and .csv."
    )
    group = "" if column is None else spoken(column)
    return Similarities(names, groups, clustered.similarity, group, caption)


# Nearest neighbours of each treatment.


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of each treatment.

    Attributes
    ----------
    table : DataFrame
        As in ``neighbours.csv``: ``treatment, group, rank, neighbour, neighbour_group,
        similarity``, the nearest of a treatment first. A blank group is unknown. The page shows
        every further column too: with the treatment where it stands before ``rank``, with the
        neighbour where it stands after.
    group : str
        What the groups are, such as ``mechanism``; blank where none are known.
    similarity : str
        What the similarity is, such as ``cosine similarity``.
    """

    table: pd.DataFrame
    group: str
    similarity: str

    def further_columns(self) -> tuple[list[str], list[str]]:
        """Name the further columns of treatments, and those of neighbours."""
        columns = [str(name) for name in self.table]
        rank = columns.index("rank")
        shown = {"treatment", "group", "rank", "neighbour", "neighbour_group", "similarity"}
        return (
            [name for name in columns[:rank] if name not in shown],
            [name for name in columns[rank:] if name not in shown],
        )

    def by_treatment(self) -> Iterator[list[dict[Hashable, Any]]]:
        """Give the rows of each treatment."""
        for _, rows in self.table.groupby("treatment", sort=False):
            yield rows.to_dict("records")


def nearest_neighbours(inputs: ReportInputs) -> Neighbours | None:
    """Give the table of nearest neighbours; None without neighbours."""
    if inputs.neighbours is None or not len(inputs.neighbours):
        return None
    column = inputs.screen.group_column
    return Neighbours(
        inputs.neighbours,
        "" if column is None else spoken(column),
        "cosine similarity" if inputs.screen.metric == "cosine" else "negative distance",
    )


# Wells on their plates.


@dataclass(frozen=True)
class PlateWells:
    """Wells on their plates.

    Attributes
    ----------
    plates, wells : sequence of str
        n names each.
    quantities : DataFrame
        n rows of numbers, NaN where nothing was measured; each column can be chosen. The first one
        is a count, and its colours begin at 0.
    flags : sequence of str
        n reasons why a well is flagged; blank where it is not.
    caption : str
        How the quantities were measured.
    """

    plates: Sequence[str]
    wells: Sequence[str]
    quantities: pd.DataFrame
    flags: Sequence[str]
    caption: str

    def flagged(self) -> pd.DataFrame:
        """Table of the flagged wells: ``plate, well, reason``."""
        table = pd.DataFrame({"plate": self.plates, "well": self.wells, "reason": self.flags})
        return table[[bool(flag) for flag in self.flags]].reset_index(drop=True)

    def script_data(self) -> dict[str, Any]:
        """Give the values that the script draws, with each well's place on its plate.

        Wells whose names are not positions are laid out row by row, in their order.

        Raises
        ------
        ValueError
            The numbers of plates, wells, rows and flags differ.
        """
        count = len(self.quantities)
        if {len(self.plates), len(self.wells), len(self.flags)} != {count}:
            raise ValueError(f"plate maps: {len(self.wells)} wells for {count} rows")
        names = pd.Series([str(name) for name in self.wells])
        positions = np.zeros((count, 2), int)
        plates = []
        for plate, wells in names.groupby(list(map(str, self.plates)), sort=False):
            grid = plate_maps.layout(wells)
            if grid is None:
                columns = int(np.ceil(np.sqrt(len(wells) * 1.5)))
                rows = -(-len(wells) // columns)
                positions[wells.index] = [divmod(place, columns) for place in range(len(wells))]
            else:
                rows, columns = grid.rows, grid.columns
                positions[wells.index] = [grid.places[well] for well in wells]
            letters = [] if grid is None else [plate_maps.row_name(row) for row in range(rows)]
            plates.append(
                {
                    "name": str(plate),
                    "rows": rows,
                    "columns": columns,
                    "letters": letters,
                    "wells": wells.index.tolist(),
                }
            )
        return {
            "caption": self.caption,
            "plates": plates,
            "names": names.tolist(),
            "row": positions[:, 0].tolist(),
            "column": positions[:, 1].tolist(),
            "flags": [str(flag) for flag in self.flags],
            "quantities": [
                _column_data(str(name), column) for name, column in self.quantities.items()
            ],
        }


def plate_wells(inputs: ReportInputs, figures: FigureFolder) -> PlateWells:
    """Collect cell counts, intensity and focus of every well, flag wells, and save plate maps."""
    counts = inputs.counts
    table = counts[[PLATE, WELL]].reset_index(drop=True).astype(str)
    plates = table[PLATE].tolist()
    quantities = {"cells": counts[COUNT].to_numpy()}
    files = {"cells": "cell-counts"}
    if inputs.quality is not None:
        measured = table.merge(inputs.quality, on=[PLATE, WELL], how="left")
        for column in inputs.quality.columns.drop([PLATE, WELL]):
            measure, _, channel = str(column).partition("_")
            name = f"{measure} of {channel}"
            quantities[name] = measured[column].to_numpy()
            # Channels are numbered in names of files, since their names may be any text.
            files[name] = f"{measure.lower()}-{list(inputs.channels).index(channel) + 1}"
    wells = PlateWells(
        plates,
        table[WELL].tolist(),
        pd.DataFrame(quantities),
        ["; ".join(reasons) for reasons in _flags(inputs, plates, quantities)],
        _plates_caption(inputs),
    )
    for quantity, file in files.items():
        _save_plate_map(inputs, figures, wells, file, quantity)
    return wells


def _flags(
    inputs: ReportInputs, plates: Sequence[str], quantities: dict[str, np.ndarray]
) -> list[list[str]]:
    """Reasons why each well is flagged."""
    reasons: list[list[str]] = [[] for _ in plates]
    counts = inputs.counts
    for flags, count, too_few in zip(reasons, counts[COUNT], counts[FLAG], strict=True):
        if too_few:
            flags.append(f"fewer than {inputs.min_cells} cells" if count else "no cells")
    for name, values in list(quantities.items())[1:]:
        for row in np.flatnonzero(outlying(values, plates)):
            reasons[row].append(f"unusual {name[0].lower()}{name[1:]}")
    return reasons


def _plates_caption(inputs: ReportInputs) -> str:
    quality = (
        "Intensity and focus are not available: prepare has not measured these plates or channels."
        if inputs.quality is None
        else "Intensity: mean grey level of the images as stored. Focus: slope of the power "
        "spectrum (Bray et al. 2012); a lower value means more blur. Both are means over the sites "
        "of a well, measured by prepare."
    )
    return (
        f"{quality} A well is flagged if it has fewer than {inputs.min_cells} cells, or if its "
        f"intensity or focus is more than {LIMIT:g} robust standard deviations from the median of "
        f"its plate (for plates of at least {FEWEST} wells). Wells with too few cells are left out "
        "of fits and scores; other flagged wells are not. Also saved beside this page: "
        "cell-counts.png, .svg and .csv, and the same for each quantity."
    )


def _save_plate_map(
    inputs: ReportInputs, figures: FigureFolder, wells: PlateWells, file: str, quantity: str
) -> None:
    """Save the map of one quantity with its data."""
    data = pd.DataFrame(
        {
            "plate": wells.plates,
            "well": wells.wells,
            quantity: wells.quantities[quantity].to_numpy(),
            "flag": wells.flags,
        }
    )
    shown = data[data["plate"].isin(inputs.plates[:_PLATES_SAVED])]
    figure = plate_maps.plate_map(
        shown["plate"].tolist(),
        shown["well"].tolist(),
        shown[quantity].to_numpy(float),
        quantity=quantity,
        flagged=shown["flag"].astype(bool).to_numpy(),
        flag="flagged",
        from_zero=quantity == "cells",
    )
    figures.save(figure, file, data)
