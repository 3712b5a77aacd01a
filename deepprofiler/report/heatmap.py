"""Heat map of the similarities of all profiles, clustered.

The clustering and the drawing are a module of their own, apart from the other plots, since they
are used without a report too: ``heat_map(clustered.similarity, names, groups)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.report.figures import (
    INK,
    OKABE_ITO,
    QUIET,
    empty,
    short,
    style,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# From blue through white to orange: distinguishable with every common colour vision.
DIVERGING = ("#08519c", "#6baed6", "#f7f7f7", "#fdae61", "#b35806")
_MOST_LABELS = 90


@dataclass(frozen=True)
class Clustered:
    """Similarities in the order of a clustering.

    Attributes
    ----------
    order : ndarray
        (n,) int: rows of the features in the order of the leaves.
    similarity : ndarray
        (n, n) float32 cosine similarities, rows and columns in that order.
    """

    order: np.ndarray
    similarity: np.ndarray


def cluster(features: np.ndarray) -> Clustered:
    """Order profiles by average linkage of their cosine similarities, with optimal leaf order.

    Parameters
    ----------
    features : ndarray
        (n, D), finite; no row is zero.

    Returns
    -------
    Clustered

    Raises
    ------
    DataError
        A row is zero or not finite, so it has no direction.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    values = np.asarray(features, dtype=np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    invalid = np.flatnonzero(~(np.isfinite(length[:, 0]) & (length[:, 0] > 0)))
    if len(invalid):
        raise DataError(
            f"{len(invalid)} of {len(values)} profiles have no direction, as they are zero or not "
            f"finite; the first one is row {invalid[0]}"
        )
    unit = values / length
    similarity = np.clip(unit @ unit.T, -1, 1)
    if len(values) < 3:
        return Clustered(np.arange(len(values)), similarity.astype(np.float32))
    distances = squareform(1 - similarity, checks=False)
    tree = optimal_leaf_ordering(linkage(distances, "average"), distances)
    order = leaves_list(tree)
    return Clustered(order, similarity[np.ix_(order, order)].astype(np.float32))


@style()
def heat_map(
    similarity: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str],
    *,
    quantity: str = "cosine similarity",
) -> Figure:
    """Draw a similarity matrix on a scale from -1 to 1, with a strip of colours for the groups.

    Parameters
    ----------
    similarity : ndarray
        (n, n), in the order of the drawing.
    names : sequence of str
        n names; written if there are at most 90.
    groups : sequence of str
        n groups, blank where unknown. The 8 most frequent ones have a colour, others are grey.
    quantity : str
        Name of the scale.

    Returns
    -------
    Figure

    Raises
    ------
    DataError
        The numbers of rows, names and groups differ.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_rgb
    from matplotlib.patches import Patch

    count = len(similarity)
    if similarity.shape != (count, count) or len(names) != count or len(groups) != count:
        raise DataError(
            f"a heat map of {similarity.shape} came with {len(names)} names and {len(groups)} "
            "groups"
        )
    side = float(np.clip(0.13 * count, 3.2, 11))
    figure = empty(side + 3.4, side + 1.6)
    axes = figure.subplots()
    scale = LinearSegmentedColormap.from_list("similarity", DIVERGING)
    drawn = axes.imshow(similarity, cmap=scale, vmin=-1, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    outer = axes
    colours = group_colours(groups)
    if colours:
        outer = axes.inset_axes((-0.035, 0, 0.025, 1))
        outer.imshow(
            np.array([[to_rgb(colours.get(group, QUIET))] for group in groups]),
            aspect="auto",
            interpolation="nearest",
        )
        outer.set(xticks=[], yticks=[])
        outer.spines[:].set_visible(False)
        outer.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if count <= _MOST_LABELS:
        labels = [short(name, 24) for name in names]
        size = 7 if count > 30 else 8
        outer.set_yticks(range(count), labels, fontsize=size)
        axes.set_xticks(range(count), labels, fontsize=size, rotation=90)
    figure.colorbar(drawn, ax=axes, label=quantity, shrink=0.6)
    if colours:
        handles = [Patch(color=colour, label=short(name)) for name, colour in colours.items()]
        if any(group not in colours for group in groups):
            handles.append(Patch(color=QUIET, label="other or unknown"))
        figure.legend(
            handles=handles, loc="outside lower left", ncols=3, fontsize=8, labelcolor=INK
        )
    return figure


def group_colours(groups: Sequence[str]) -> dict[str, str]:
    """Colours of the 8 most frequent groups, in the order of their names; blank ones have none."""
    names, counts = np.unique([group for group in groups if group], return_counts=True)
    frequent = sorted(names[np.argsort(-counts, kind="stable")[: len(OKABE_ITO)]])
    return {str(name): colour for name, colour in zip(frequent, OKABE_ITO, strict=False)}
