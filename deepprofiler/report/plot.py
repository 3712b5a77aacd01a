"""Plots of maps, confusions, training and layers: arrays and tables in, figures out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.report.figures import (
    FAINT,
    INK,
    MARKERS,
    OKABE_ITO,
    SEQUENTIAL,
    empty,
    short,
    style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@style()
def embedding(
    points: np.ndarray, values: Sequence[Any] | pd.Series, *, quantity: str, method: str = "t-SNE"
) -> Figure:
    """Draw an embedding, coloured by categories or by numbers.

    Up to 32 categories have a colour and shape of their own; if there are more, the rarest ones
    are grey.

    Parameters
    ----------
    points : ndarray
        (n, 2), arbitrary units.
    values : sequence
        n numbers, or n names.
    quantity : str
        Name of what the colours show, with its unit.
    method : str
        Name of the axes, such as ``t-SNE``.

    Returns
    -------
    Figure
    """
    column = pd.Series(values).reset_index(drop=True)
    if len(column) != len(points):
        raise DataError(f"{len(points)} points came with {len(column)} values")
    x, y = np.asarray(points, dtype=float).T
    size = float(np.clip(4000 / max(len(points), 1), 6, 46))
    marks: dict[str, Any] = {"s": size, "linewidths": 0.3, "edgecolors": "white"}
    legend_columns = 1 if column.nunique() <= 18 else 2
    figure = empty(5.6 + 1.9 * legend_columns, 5.2)
    axes = figure.subplots()
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        present = column.notna().to_numpy()
        axes.scatter(x[~present], y[~present], c=FAINT, **marks)
        drawn = axes.scatter(x[present], y[present], c=column[present], cmap=SEQUENTIAL, **marks)
        figure.colorbar(drawn, ax=axes, label=quantity, shrink=0.8)
    else:
        names = column.astype(str)
        blank = (names == "").to_numpy()
        if blank.any():
            axes.scatter(x[blank], y[blank], c=FAINT, label=f"(blank) ({blank.sum()})", **marks)
        counts = names[~blank].value_counts()
        limit = len(OKABE_ITO) * len(MARKERS)
        kept = sorted(counts.index if len(counts) <= limit else counts.index[: limit - 1])
        rest = ~blank & ~names.isin(kept).to_numpy()
        if rest.any():
            label = f"{len(counts) - len(kept)} others ({rest.sum()})"
            axes.scatter(x[rest], y[rest], c=FAINT, label=label, **marks)
        for index, name in enumerate(kept):
            rows = (names == name).to_numpy()
            axes.scatter(
                x[rows],
                y[rows],
                c=OKABE_ITO[index % len(OKABE_ITO)],
                marker=MARKERS[index // len(OKABE_ITO)],
                label=f"{short(name, 24)} ({rows.sum()})",
                **marks,
            )
        figure.legend(
            title=short(quantity),
            loc="outside right upper",
            ncols=legend_columns,
            alignment="left",
        )
    axes.set(xlabel=f"{method} 1 (arbitrary unit)", ylabel=f"{method} 2 (arbitrary unit)")
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    return figure


@style()
def confusion_matrix(
    counts: np.ndarray, names: Sequence[str], *, truth: str, prediction: str
) -> Figure:
    """Draw a confusion matrix: counts as text, shares of the row as colours, zeros white.

    Parameters
    ----------
    counts : ndarray
        (K, K), rows are the truth; ties make them fractional.
    names : sequence of str
        K names.
    truth, prediction : str
        Labels of the axes.

    Returns
    -------
    Figure
    """
    counts = np.asarray(counts, dtype=float)
    if counts.shape != (len(names), len(names)):
        raise DataError(f"a confusion matrix of {counts.shape} came with {len(names)} names")
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(totals == 0, 1, totals)
    side = float(np.clip(0.42 * len(names), 2.2, 9))
    figure = empty(side + 3.2, side + 1.9)
    axes = figure.subplots()
    drawn = axes.imshow(np.ma.masked_equal(shares, 0), cmap="cividis_r", vmin=0, vmax=1)
    if len(names) <= 30:
        for row, column in np.argwhere(counts > 0):
            axes.text(
                column,
                row,
                f"{counts[row, column]:.3g}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[row, column] > 0.5 else INK,
            )
    labels = [short(name) for name in names]
    rows = [f"{label} ({total:.3g})" for label, total in zip(labels, totals[:, 0], strict=True)]
    axes.set_xticks(range(len(names)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), rows)
    axes.set(xlabel=prediction, ylabel=f"{truth} (n)")
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=FAINT, linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(drawn, ax=axes, label="share of the row", shrink=0.6)
    return figure


@style()
def training_curves(history: pd.DataFrame, *, chance: float | None = None) -> Figure:
    """Draw a training history, one panel per measure with training and validation.

    Parameters
    ----------
    history : DataFrame
        One row per epoch: ``epoch`` and numbers such as ``loss`` and ``val_loss``.
    chance : float, optional
        Accuracy expected by chance, drawn as a line in the panels of accuracies.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        There are no epochs or no measures.
    """
    names = [str(name) for name in history]
    measures = [name for name in names if name != "epoch" and not name.startswith("val_")]
    if "epoch" not in names or not len(history) or not measures:
        raise DataError(
            f"training curves need a column `epoch`, at least one measure and one row; got "
            f"{len(history)} rows of {names}"
        )
    columns = min(3, len(measures))
    rows = math.ceil(len(measures) / columns)
    figure = empty(3.6 * columns, 2.7 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    epochs = history["epoch"].to_numpy()
    marker = "o" if len(epochs) < 30 else None
    for panel, name in zip(panels, measures, strict=False):
        for source, label, colour, dash in (
            (name, "training", OKABE_ITO[0], "-"),
            (f"val_{name}", "validation", OKABE_ITO[5], "--"),
        ):
            if source in history:
                panel.plot(
                    epochs, history[source], dash, color=colour, label=label, marker=marker, ms=3
                )
        title = name.replace("_", " ")
        if chance is not None and "accuracy" in name:
            panel.axhline(chance, color=INK, linewidth=1, linestyle=":")
            panel.annotate(
                f"chance {chance:.2g}",
                (1, chance),
                xycoords=panel.get_yaxis_transform(),
                ha="right",
                va="bottom",
                fontsize=7,
            )
        panel.set(xlabel="epoch", ylabel=title, title=title)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(axis="y", color=FAINT, linewidth=0.5)
    for panel in panels[len(measures) :]:
        panel.set_axis_off()
    panels[0].legend()
    return figure


@style()
def layers(table: pd.DataFrame) -> Figure:
    """Draw accuracy by layer, one line per normalization and one panel per metric.

    Parameters
    ----------
    table : DataFrame
        Columns ``layer, normalization, metric, value, low, high``, the layers in their order;
        intervals may be missing.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        The table is empty.
    """
    if not len(table):
        raise DataError("there is no layer to draw")
    names = list(dict.fromkeys(table["layer"].astype(str)))
    normalizations = list(dict.fromkeys(table["normalization"].astype(str)))
    metrics = list(dict.fromkeys(table["metric"].astype(str)))
    across = min(2, len(metrics))
    down = math.ceil(len(metrics) / across)
    width = float(np.clip(0.75 * len(names), 3.4, 6.5))
    figure = empty(width * across + 1.2, 3.1 * down + 0.4)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    positions = {name: float(position) for position, name in enumerate(names)}
    for panel, metric in zip(panels, metrics, strict=False):
        of_metric = table[table["metric"].astype(str) == metric]
        for index, normalization in enumerate(normalizations):
            rows = of_metric[of_metric["normalization"].astype(str) == normalization]
            # Shifted, so that intervals do not hide one another.
            shift = 0.12 * (index - (len(normalizations) - 1) / 2)
            x = rows["layer"].astype(str).map(positions) + shift
            value = rows["value"].to_numpy(float)
            low, high = (rows[side].astype(float).fillna(rows["value"]) for side in ("low", "high"))
            panel.errorbar(
                x,
                value,
                yerr=np.clip([value - low, high - value], 0, None),
                color=OKABE_ITO[index % len(OKABE_ITO)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=5,
                linewidth=1.4,
                elinewidth=1,
                label=short(normalization),
            )
        panel.set_xticks(
            range(len(names)),
            [short(name, 16) for name in names],
            rotation=30 if len(names) > 5 else 0,
        )
        panel.set(title=short(metric), ylabel=short(metric), ylim=(0, 1.02))
        panel.grid(axis="y", color=FAINT, linewidth=0.5)
    for panel in panels[len(metrics) :]:
        panel.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", title="normalization")
    return figure
