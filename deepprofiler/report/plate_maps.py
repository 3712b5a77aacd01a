"""Where a well lies on its plate, and maps of plates."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

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
    """A plate's grid, and the wells' places on it.

    Attributes
    ----------
    rows, columns : int
        8 × 12, 16 × 24 or 32 × 48.
    places : dict
        Well name to (row, column), from 0.
    """

    rows: int
    columns: int
    places: dict[str, tuple[int, int]]


def well_position(well: str) -> tuple[int, int] | None:
    """Row and column, from 0, of a name such as ``B07``, ``b7`` or ``AA12``; else None."""
    match = _NAME.fullmatch(well.strip().upper())
    if match is None:
        return None
    row = 0
    for letter in match[1]:
        row = row * 26 + ord(letter) - ord("A") + 1
    return row - 1, int(match[2]) - 1


def row_name(row: int) -> str:
    """Letters of a row, from 0: A … Z, AA … AF."""
    return chr(65 + row) if row < 26 else "A" + chr(65 + row - 26)


def layout(wells: Iterable[str]) -> Layout | None:
    """Find the smallest usual plate that holds all wells.

    Returns
    -------
    Layout or None
        None where a name is not a letter and a number, lies outside 32 × 48, or two names mean
        one place (``A1`` and ``A01``).
    """
    found = {well: well_position(well) for well in wells}
    places = {well: place for well, place in found.items() if place is not None}
    if not found or len(set(places.values())) < len(found):
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
    """Draw one value per well where the wells lie, one panel per plate, on one colour scale.

    A well that is not named is an empty circle; a well whose value is 0 is filled and says 0; a
    well whose value is NaN is crossed out. Where the names are no places on a 96-, 384- or
    1536-well plate, the wells are listed as bars instead.

    Parameters
    ----------
    plates, wells : sequence of str
        n names each; no plate has a well twice.
    values : sequence of float
        n values, NaN where nothing was measured.
    quantity : str
        What the values are, with their unit.
    flagged : sequence of bool, optional
        n wells to ring.
    flag : str
        What the ring means.
    from_zero : bool
        Whether the colours begin at 0 rather than at the smallest value.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        There is no well, or a plate has a well twice.
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
        raise DataError(f"plate {plate}, well {well} has two values; a plate map needs one a well")
    scale = _scale(table["value"].to_numpy(), from_zero)
    groups = {str(plate): group for plate, group in table.groupby("plate", sort=False)}
    found = {plate: layout(group["well"]) for plate, group in groups.items()}
    layouts = {plate: grid for plate, grid in found.items() if grid is not None}
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
    gaps = any(len(groups[plate]) < found.rows * found.columns for plate, found in layouts.items())
    figure.colorbar(
        ScalarMappable(scale, SEQUENTIAL), ax=panels, label=quantity, shrink=0.7, pad=0.02
    )
    figure.legend(handles=_legend(table, scale, flag, gaps), loc="outside lower left", ncols=4)
    return figure


def _grid(axes: Axes, wells: pd.DataFrame, layout: Layout, scale: Normalize, width: float) -> None:
    """Draw one plate: every place faint, then the wells in their colours."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    radius = 0.41
    everywhere = [Circle((x, y), radius) for y in range(layout.rows) for x in range(layout.columns)]
    axes.add_collection(
        PatchCollection(everywhere, facecolors="white", edgecolors=FAINT, linewidths=0.8)
    )
    places = [layout.places[well] for well in wells["well"]]
    known = wells["value"].notna().to_numpy()
    circles = [Circle((x, y), radius) for (y, x), has in zip(places, known, strict=True) if has]
    rings = ["none" if not ring else OKABE_ITO[5] for ring in wells["ring"][known]]
    filled = PatchCollection(circles, cmap=SEQUENTIAL, norm=scale, label="wells")
    filled.set_array(wells["value"][known].to_numpy())
    filled.set(edgecolors=rings, linewidths=2)
    axes.add_collection(filled)
    unknown = np.array(places)[~known]
    if len(unknown):
        axes.scatter(
            unknown[:, 1],
            unknown[:, 0],
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
    """Explain the marks that occur."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    def mark(label: str, **look: Any) -> Line2D:
        return Line2D([], [], linestyle="none", markersize=8, label=label, **look)

    empty_circle = {"marker": "o", "markerfacecolor": "white"}
    gap = mark("no such well in the index", markeredgecolor=QUIET, **empty_circle)
    marks = [gap] if gaps else []
    if (table["value"] == 0).any():
        lowest = colormaps[SEQUENTIAL](scale(0.0))
        marks.append(mark("0: imaged, nothing found", marker="o", color=lowest))
    if table["value"].isna().any():
        marks.append(mark("in the index, not measured", marker="x", color=QUIET))
    if table["ring"].any():
        ring = {"markeredgecolor": OKABE_ITO[5], "markeredgewidth": 2}
        marks.append(mark(flag, **empty_circle, **ring))
    return marks


def _lists(
    groups: Mapping[str, pd.DataFrame], scale: Normalize, quantity: str, flag: str
) -> Figure:
    """Bars in the order of the names, at most 40 in a panel."""
    from matplotlib.patches import Patch

    panels = [
        (plate, wells.iloc[start : start + 40])
        for plate, table in groups.items()
        for wells in [table.sort_values("well", key=lambda names: names.map(_natural))]
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


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key by which `w2` comes before `w10`."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(int(part) if part.isdecimal() and part.isascii() else -1, part) for part in parts]
