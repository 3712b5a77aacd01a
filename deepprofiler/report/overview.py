"""The plates at a glance: cells, intensity and focus of every well, and which to look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT, FLAG, PLATE, WELL
from deepprofiler.evaluation.outliers import FEWEST, LIMIT, outlying
from deepprofiler.project.site_quality import columns, well_quality
from deepprofiler.report import plate_maps
from deepprofiler.report.drawings import Drawings
from deepprofiler.report.page import Wells

_PLATES_SHOWN = 12
_MEASURED = (
    "Intensity: mean grey level of the images as they are stored. Focus: slope of the power "
    "spectrum (Bray et al. 2012); the lower, the more blurred. Both are means over the sites of a "
    "well, measured by prepare."
)
_NOT_MEASURED = (
    "Intensity and focus are not known: prepare measures them, and has not done so for these "
    "plates or channels."
)


@dataclass(frozen=True)
class Overview:
    """Plate maps, and a table of the wells to look at: plate, well, why."""

    wells: Wells
    flagged: pd.DataFrame


def overview(drawings: Drawings) -> Overview:
    """Gather what is known of every well of the index, and save it as plate maps.

    Parameters
    ----------
    drawings : Drawings
        Of the experiment.
    """
    project, counts = drawings.project, drawings.gathered.counts
    table = counts[[PLATE, WELL]].reset_index(drop=True).astype(str)
    quantities = pd.DataFrame({"cells": counts[COUNT].to_numpy()})
    measured = well_quality(project)
    if measured is not None:
        joined = table.merge(measured, on=[PLATE, WELL], how="left")
        for name in columns(project.index.channels):
            quantities[name.replace("_", " of ", 1)] = joined[name]
    names = table[PLATE].tolist()
    reasons: list[list[str]] = [[] for _ in names]
    small = project.config.analyze.min_cells
    for position, (count, few) in enumerate(zip(counts[COUNT], counts[FLAG], strict=True)):
        if few:
            reasons[position].append(f"fewer than {small} cells" if count else "no cells")
    for name in map(str, list(quantities)[1:]):
        for outlier in np.flatnonzero(outlying(quantities[name].to_numpy(), names)):
            reasons[outlier].append(f"unusual {name[0].lower()}{name[1:]}")
    flags = ["; ".join(found) for found in reasons]
    about = _NOT_MEASURED if measured is None else _MEASURED
    about += (
        f" Flagged: fewer than {small} cells, or more than {LIMIT:g} robust standard deviations "
        f"from the median of a plate of at least {FEWEST} wells. Wells with few cells take no part "
        "in fits and scores; all others do. Also beside this page: cell-counts.png, .svg and .csv, "
        "and so on for each quantity."
    )
    wells = Wells(names, table[WELL].tolist(), quantities, flags, about)
    for file, quantity in _files(wells):
        _save(drawings, wells, file, quantity)
    marked = table.rename(columns={PLATE: "plate", WELL: "well"}).assign(why=flags)
    return Overview(wells, marked[marked["why"] != ""].reset_index(drop=True))


def _files(wells: Wells) -> Iterator[tuple[str, str]]:
    """File name and column of each map; channels are numbered, for their names may be anything."""
    yield "cell-counts", "cells"
    others = [str(name) for name in wells.quantities][1:]
    channels = len(others) // 2
    for position, name in enumerate(others):
        kind = "intensity" if position < channels else "focus"
        yield f"{kind}-{position % channels + 1}", name


def _save(drawings: Drawings, wells: Wells, file: str, quantity: str) -> None:
    """Save one map as PNG and SVG, and its data as CSV."""
    data = pd.DataFrame(
        {
            "plate": wells.plates,
            "well": wells.wells,
            quantity: wells.quantities[quantity].to_numpy(),
            "flag": wells.flags,
        }
    )
    shown = data[data["plate"].isin(drawings.index.plates[:_PLATES_SHOWN])]
    figure = plate_maps.plate_map(
        shown["plate"].tolist(),
        shown["well"].tolist(),
        shown[quantity].to_numpy(float),
        quantity=quantity,
        flagged=(shown["flag"] != "").to_numpy(),
        flag="flagged, see the table",
        from_zero=quantity == "cells",
    )
    drawings.picture(quantity, "", figure, file, data)
