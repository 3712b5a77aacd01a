"""Positions of wells on plates, and maps of plates.

They are a module of their own since they need no report: :func:`plate_map` draws any values of
wells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from deepprofiler.columns import natural_ranks
from deepprofiler.errors import DataError
from deepprofiler.report.figures import (
    FAINT,
    OKABE_ITO,
    QUIET,
    SEQUENTIAL,
    empty,
    short,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_NAME = re.compile(r"([A-Z]|A[A-F])0*([1-9][0-9]?)")
_SIZES = ((8, 12), (16, 24), (32, 48))


@dataclass(frozen=True)
class Layout:
    """Size of a plate, and positions of its wells.

    Attributes
    ----------
    rows, columns : int
        8 × 12, 16 × 24 or 32 × 48.
    places : dict
        From names of wells to (row, column), from 0.
    """

    rows: int
    columns: int
    places: dict[str, tuple[int, int]]


def well_position(well: str) -> tuple[int, int] | None:
    """Row and column, from 0, of a well such as ``B07``, ``b7`` or ``AA12``; None for others."""
    match = _NAME.fullmatch(well.strip().upper())
    if match is None:
        return None
    row = 0
    for letter in match[1]:
        row = row * 26 + ord(letter) - ord("A") + 1
    return row - 1, int(match[2]) - 1


def row_name(row: int) -> str:
    """Letters of a row, which is counted from 0: A to Z, AA to AF."""
    return chr(65 + row) if row < 26 else "A" + chr(65 + row - 26)


def layout(wells: Iterable[str]) -> Layout | None:
    """Find the smallest standard plate (96, 384 or 1536 wells) that has all wells.

    Returns
    -------
    Layout or None
        None where a name is not a position on a plate of 32 × 48, or two names are one position
        (``A1`` and ``A01``).
    """
    positions = {well: well_position(well) for well in wells}
    places = {well: place for well, place in positions.items() if place is not None}
    if not positions or len(set(places.values())) < len(positions):
        return None
    last_row = max(row for row, _ in places.values())
    last_column = max(column for _, column in places.values())
    for rows, columns in _SIZES:
        if last_row < rows and last_column < columns:
            return Layout(rows, columns, places)
    return None


@style()
def plate_map(
    plates: Sequence[str],
    wells: Sequence[str],
    values: Sequence[float] | np.ndarray,
    *,
    quantity: str,
    flagged: Sequence[bool] | np.ndarray | None = None,
    flag: str = "flagged",
    from_zero: bool = True,
) -> Figure:
    """Draw one value per well, one panel per plate, on one colour scale.

    Positions without a well are empty circles, wells with the value 0 are filled and labelled 0,
    and wells with the value NaN are crosses. If names are not positions on a 96-, 384- or 1536-well
    plate, the wells are drawn as a list of bars instead.

    Parameters
    ----------
    plates, wells : sequence of str
        n names each; a well occurs once on its plate.
    values : sequence of float
        n values, NaN where nothing was measured.
    quantity : str
        Name of the values, with their unit.
    flagged : sequence of bool, optional
        Which of the n wells have a ring.
    flag : str
        Meaning of the ring, for the legend.
    from_zero : bool
        Whether the colour scale begins at 0 or at the smallest value.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        There are no wells, or a well occurs twice on its plate.
    """
    rings = np.zeros(len(wells), bool) if flagged is None else np.asarray(flagged, bool)
    table = pd.DataFrame(
        {"plate": list(plates), "well": list(wells), "value": np.asarray(values, float)}
    ).assign(ring=rings)
    if table.empty:
        raise DataError("there is no well to draw on a plate map")
    twice = table[table.duplicated(["plate", "well"])]
    if len(twice):
        plate, well = twice.iloc[0][["plate", "well"]]
        raise DataError(
            f"plate {plate}, well {well} has two values; a plate map needs one per well"
        )
    scale = _scale(table["value"].to_numpy(), from_zero)
    groups = {str(plate): group for plate, group in table.groupby("plate", sort=False)}
    layouts = {
        plate: grid
        for plate, group in groups.items()
        if (grid := layout(group["well"])) is not None
    }
    if len(layouts) == len(groups):
        return _grids(groups, layouts, scale, quantity, flag)
    return _lists(groups, scale, quantity, flag)


def _scale(values: np.ndarray, from_zero: bool) -> Normalize:
    """Colour scale of the finite values."""
    from matplotlib.colors import Normalize

    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if from_zero:
        low = min(0.0, low)
    return Normalize(low, high if high > low else low + 1)


def _grids(
    groups: Mapping[str, pd.DataFrame],
    layouts: Mapping[str, Layout],
    scale: Normalize,
    quantity: str,
    flag: str,
) -> Figure:
    """One panel of circles per plate."""
    from matplotlib.cm import ScalarMappable

    across = 1 if len(groups) == 1 else 2 if len(groups) <= 4 else 3
    down = math.ceil(len(groups) / across)
    width = 7.6 if across == 1 else 4.4 if across == 2 else 3.6
    figure = empty(width * across + 1.1, width * 0.68 * down + 0.5)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel, (plate, wells) in zip(panels, groups.items(), strict=False):
        _grid(panel, wells, layouts[plate], scale, width)
        panel.set_title(short(plate, 40), pad=8)
    for panel in panels[len(groups) :]:
        panel.set_axis_off()
    table = pd.concat(groups.values())
    gaps = any(len(groups[plate]) < grid.rows * grid.columns for plate, grid in layouts.items())
    figure.colorbar(
        ScalarMappable(scale, SEQUENTIAL), ax=panels, label=quantity, shrink=0.7, pad=0.02
    )
    figure.legend(handles=_legend(table, scale, flag, gaps), loc="outside lower left", ncols=4)
    return figure


def _grid(axes: Axes, wells: pd.DataFrame, layout: Layout, scale: Normalize, width: float) -> None:
    """Draw one plate: all positions as faint circles, then the wells in their colours."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    radius = 0.41
    positions = [Circle((x, y), radius) for y in range(layout.rows) for x in range(layout.columns)]
    axes.add_collection(
        PatchCollection(positions, facecolors="white", edgecolors=FAINT, linewidths=0.8)
    )
    places = [layout.places[well] for well in wells["well"]]
    measured = wells["value"].notna().to_numpy()
    circles = [Circle((x, y), radius) for (y, x), has in zip(places, measured, strict=True) if has]
    rings = ["none" if not ring else OKABE_ITO[5] for ring in wells["ring"][measured]]
    filled = PatchCollection(circles, cmap=SEQUENTIAL, norm=scale, label="wells")
    filled.set_array(wells["value"][measured].to_numpy())
    filled.set(edgecolors=rings, linewidths=2)
    axes.add_collection(filled)
    missing = np.array(places)[~measured]
    if len(missing):
        axes.scatter(
            missing[:, 1],
            missing[:, 0],
            marker="x",
            c=QUIET,
            s=(9 * width / layout.columns) ** 2,
            linewidths=1.2,
        )
    size = 72 * width / layout.columns / 4.6
    for (y, x), value in zip(places, wells["value"], strict=True):
        if value == 0 or (size >= 5 and np.isfinite(value)):
            colour = "white" if scale(value) < 0.6 else "black"
            axes.text(
                x, y, f"{value:.3g}", ha="center", va="center", fontsize=max(size, 3), color=colour
            )
    axes.set_xlim(-0.6, layout.columns - 0.4)
    axes.set_ylim(layout.rows - 0.4, -0.6)
    axes.set_aspect("equal")
    small = 8 if layout.columns <= 12 else 6
    axes.set_xticks(
        range(layout.columns), [str(x + 1) for x in range(layout.columns)], fontsize=small
    )
    axes.set_yticks(range(layout.rows), [row_name(y) for y in range(layout.rows)], fontsize=small)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _legend(table: pd.DataFrame, scale: Normalize, flag: str, gaps: bool) -> list[Line2D]:
    """Legend of the marks that occur."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    def mark(label: str, **style: Any) -> Line2D:
        return Line2D([], [], linestyle="none", markersize=8, label=label, **style)

    empty_circle = {"marker": "o", "markerfacecolor": "white"}
    gap = mark("no such well in the index", markeredgecolor=QUIET, **empty_circle)
    marks = [gap] if gaps else []
    if (table["value"] == 0).any():
        lowest = colormaps[SEQUENTIAL](scale(0.0))
        marks.append(mark("measured as 0", marker="o", color=lowest))
    if table["value"].isna().any():
        marks.append(mark("in the index, not measured", marker="x", color=QUIET))
    if table["ring"].any():
        ring = {"markeredgecolor": OKABE_ITO[5], "markeredgewidth": 2}
        marks.append(mark(flag, **empty_circle, **ring))
    return marks


def _lists(
    groups: Mapping[str, pd.DataFrame], scale: Normalize, quantity: str, flag: str
) -> Figure:
    """Bars in the natural order of the names, at most 40 in a panel."""
    from matplotlib.patches import Patch

    panels = [
        (plate, wells.iloc[start : start + 40])
        for plate, table in groups.items()
        for wells in [table.sort_values("well", key=natural_ranks)]
        for start in range(0, len(wells), 40)
    ]
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    longest = max(len(wells) for _, wells in panels)
    figure = empty(3.9 * across, down * (0.19 * longest + 1.0))
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (plate, wells) in zip(grid, panels, strict=False):
        values = wells["value"].fillna(0).to_numpy()
        colours = [OKABE_ITO[5] if ring else OKABE_ITO[0] for ring in wells["ring"]]
        axes.barh(range(len(wells)), values, color=colours)
        axes.set_yticks(range(len(wells)), [short(name, 24) for name in wells["well"]])
        for place, value in enumerate(wells["value"]):
            if not value > 0:
                note = " 0" if value == 0 else " not measured" if np.isnan(value) else ""
                axes.text(0, place, note, va="center", fontsize=7)
        axes.set_xlim(scale.vmin, (scale.vmax or 1) * 1.05)
        axes.set_ylim(longest - 0.4, -0.6)
        axes.set(title=short(plate, 30), xlabel=quantity)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if any(table["ring"].any() for table in groups.values()):
        figure.legend(handles=[Patch(color=OKABE_ITO[5], label=flag)], loc="outside lower left")
    return figure
