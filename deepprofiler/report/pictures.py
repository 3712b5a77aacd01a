"""Pictures made of pixels: montages of cells, illumination functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.report.figures import (
    FAINT,
    SEQUENTIAL,
    empty,
    short,
    style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Bright enough to be added up on black, and distinguishable with every common colour vision.
CHANNEL_COLOURS = ("#4F7BFF", "#FFB000", "#E0439B", "#00C9A7", "#C8C8C8")
#: Example cells of a treatment.
EXAMPLES = 10
_TREATMENTS_A_MONTAGE = 16
_MONTAGES = 8
# Percentiles of a plate's crops that are shown as black and as full colour.
_BLACK, _FULL_COLOUR = 1, 99.7


def example_rows(treatments: np.ndarray, controls: np.ndarray) -> list[np.ndarray]:
    """Choose the cells of each montage: up to 10 a treatment, negative controls first.

    Parameters
    ----------
    treatments : ndarray, (n,) str
        Treatments of the sampled cells.
    controls : ndarray, (n,) bool
        Which of the cells are negative controls.

    Returns
    -------
    list of ndarray
        Rows of each montage, of 16 treatments each; at most 8.
    """
    control_names = set(treatments[controls])
    names = sorted(set(treatments), key=lambda name: (name not in control_names, name))
    montages = []
    for first in range(0, len(names), _TREATMENTS_A_MONTAGE)[:_MONTAGES]:
        shown = names[first : first + _TREATMENTS_A_MONTAGE]
        montages.append(
            np.concatenate([np.flatnonzero(treatments == name)[:EXAMPLES] for name in shown])
        )
    return montages


def display_ranges(crops: np.ndarray) -> np.ndarray:
    """Intensities (C, 2) to show as black and as full colour, from crops (N, S, S, C)."""
    return np.asarray(np.percentile(crops, [_BLACK, _FULL_COLOUR], axis=(0, 1, 2)).T)


def composite(crops: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    """Add up the channels of crops, each in its own colour.

    Take the ranges from all crops of a plate (:func:`display_ranges`), not from each crop, so that
    a brighter cell looks brighter.

    Parameters
    ----------
    crops : ndarray
        (N, S, S, C), intensities as in the images.
    ranges : ndarray
        (C, 2) or (N, C, 2): intensities shown as black and as full colour.

    Returns
    -------
    ndarray
        (N, S, S, 3) uint8.
    """
    from matplotlib.colors import to_rgb

    count, channels = len(crops), crops.shape[-1]
    limits = np.broadcast_to(np.asarray(ranges, np.float32), (count, channels, 2))
    low, high = limits[:, None, None, :, 0], limits[:, None, None, :, 1]
    scaled = np.clip((crops - low) / np.maximum(high - low, 1e-6), 0, 1)
    mixed = scaled @ np.array([to_rgb(colour) for colour in _colours(channels)], np.float32)
    return np.asarray((np.clip(mixed, 0, 1) * 255).round(), np.uint8)


def _colours(channels: int) -> list[str]:
    """Give the colour of each of C channels."""
    names = ["#FFFFFF"] if channels == 1 else list(CHANNEL_COLOURS)
    return [names[index % len(names)] for index in range(channels)]


@style()
def montage(
    pictures: np.ndarray,
    treatments: Sequence[str],
    *,
    channels: Sequence[str],
    columns: int = EXAMPLES,
) -> Figure:
    """Draw example cells, one row per treatment.

    Parameters
    ----------
    pictures : ndarray
        (N, S, S, 3) uint8, as :func:`composite` makes them.
    treatments : sequence of str
        N names; rows appear in the order of their first cell.
    channels : sequence of str
        Names of the channels, in the order of their colours.
    columns : int
        Cells shown per treatment; further ones are not drawn.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        There is no cell, or the shapes do not fit.
    """
    from matplotlib.patches import Patch

    if pictures.ndim != 4 or not len(pictures) or pictures.shape[3] != 3:
        raise DataError(f"a montage needs pictures (N, S, S, 3) and got {pictures.shape}")
    if len(treatments) != len(pictures):
        raise DataError(f"{len(pictures)} pictures came with {len(treatments)} treatments")
    side = pictures.shape[1]
    rows: dict[str, list[int]] = {}
    for index, treatment in enumerate(treatments):
        rows.setdefault(treatment, []).append(index)
    shown = min(columns, max(len(members) for members in rows.values()))
    step = side + max(1, side // 24)
    mosaic = np.full((len(rows) * step, shown * step, 3), 255, np.uint8)
    labels = []
    for row, (treatment, members) in enumerate(rows.items()):
        for column, member in enumerate(members[:shown]):
            y, x = row * step, column * step
            mosaic[y : y + side, x : x + side] = pictures[member]
        count = f"\n(n = {len(members)})" if len(members) < shown else ""
        labels.append(short(treatment, 26) + count)

    cell = min(0.85, 8.2 / shown)
    figure = empty(2.4 + shown * cell, 0.8 + len(rows) * cell)
    axes = figure.subplots()
    axes.imshow(mosaic[: side - step, : side - step], interpolation="nearest")
    axes.set_yticks(np.arange(len(rows)) * step + side / 2, labels, fontsize=9)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(
        [Patch(color=colour, ec=FAINT) for colour in _colours(len(channels))],
        [short(channel) for channel in channels],
        loc="outside upper right",
        ncols=min(len(channels), 5),
        title=f"each cell {side} × {side} pixels; black to full colour = the plate's range",
        title_fontsize=8,
    )
    return figure


@style()
def illumination(functions: Mapping[str, np.ndarray], channels: Sequence[str]) -> Figure:
    """Draw illumination functions: the factor by which each pixel is too bright.

    Parameters
    ----------
    functions : mapping
        Plate to (H, W, C), at least 1.
    channels : sequence of str
        C names.

    Returns
    -------
    Figure
    """
    if not functions:
        raise DataError("there is no illumination function to draw")
    height, width = next(iter(functions.values())).shape[:2]
    top = max(1.01, max(float(function.max()) for function in functions.values()))
    # Plates beside each other: a screen has more plates than channels, and a page is wide.
    side = min(1.9, 9.6 / len(functions))
    figure = empty(len(functions) * side + 1.6, len(channels) * side * height / width + 0.5)
    panels = figure.subplots(len(channels), len(functions), squeeze=False)
    for column, (plate, function) in enumerate(functions.items()):
        if function.shape[2] != len(channels):
            raise DataError(
                f"plate {plate}: the illumination function has {function.shape[2]} channels, "
                f"and {len(channels)} are named"
            )
        step = max(1, max(function.shape[:2]) // 160)
        for panel, values in zip(
            panels[:, column], np.moveaxis(function[::step, ::step], 2, 0), strict=True
        ):
            drawn = panel.imshow(values, cmap=SEQUENTIAL, vmin=1, vmax=top)
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        panels[0, column].set_title(short(plate, 14))
    for panel, channel in zip(panels[:, 0], channels, strict=True):
        panel.set_ylabel(short(channel, 18))
    figure.colorbar(drawn, ax=panels, label="illumination, × the dimmest part", shrink=0.8)
    return figure
