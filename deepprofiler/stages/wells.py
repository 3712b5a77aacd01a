"""Read the well files of an experiment once: means, moments of controls, a sample of cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.features import Origin, iterate
from deepprofiler.metadata import CELL, COUNT, FLAG, PLATE, SITE
from deepprofiler.profiling.aggregate import WellMeans, flag_small_wells
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.progress import track
from deepprofiler.project import Project

SAMPLED_CELLS = 2000


@dataclass(frozen=True)
class Gathered:
    """What the cells of an experiment come to.

    Attributes
    ----------
    wells : Profiles
        Mean of each well that has cells, as the network gave it.
    counts : DataFrame
        Every well of the index with its number of cells, those without cells too.
    controls : CellMoments
        Moments of the negative controls' cells by plate and batch, without small wells.
    sample : Profiles
        Up to 2,000 single cells, evenly from all wells.
    origin : Origin
        What made the features, as the first well tells.
    failed_sites : int
        Sites that could not be profiled, as the well files tell.
    not_finite : int
        Cells left out since a feature of theirs is not finite.
    """

    wells: Profiles
    counts: pd.DataFrame
    controls: CellMoments
    sample: Profiles
    origin: Origin
    failed_sites: int
    not_finite: int


def gather(project: Project, baseline: str | None = None) -> Gathered:
    """Stream all well files; only one is in memory at a time.

    Raises
    ------
    DataError
        A file is missing or damaged, or wells were profiled with different weights or layers.
    """
    index = project.index
    table = index.well_table()
    negative = (
        table[index.roles["control"]] == index.control
        if index.has("control")
        else pd.Series(False, table.index)
    )
    paths = [project.well_path(well.plate, well.well, baseline) for well in index.wells()]
    each = max(1, SAMPLED_CELLS // len(table))
    rng = np.random.default_rng(project.config.dataset.seed)
    groups = list(dict.fromkeys([PLATE, index.roles["batch"]]))
    first: Origin | None = None
    not_finite = failed_sites = 0
    sampled: list[tuple[pd.DataFrame, np.ndarray]] = []
    what = "analyze: wells" if baseline is None else f"analyze: wells, {baseline}"
    for position, well in enumerate(track(iterate(paths), len(paths), what)):
        if first is None:
            first = well.origin
            means = WellMeans(first.names, count=COUNT)
            controls = CellMoments(list(first.names))
        _require_same(first, well.origin, paths[position])
        metadata = {str(name): value for name, value in table.iloc[position].items()}
        failed_sites += len(well.origin.failed)
        not_finite += means.add(metadata, well.features)
        if negative.iloc[position] and len(well.features) >= project.config.analyze.min_cells:
            controls.add({column: metadata[column] for column in groups}, well.features)
        rows = np.sort(rng.permutation(len(well.features))[:each])
        finite = rows[np.isfinite(well.features[rows]).all(axis=1)]
        about = pd.DataFrame([metadata] * len(finite), columns=list(table.columns))
        about[SITE] = well.cells["site"].to_numpy(dtype=object)[finite] if len(finite) else ""
        about[CELL] = well.cells["cell"].to_numpy()[finite]
        sampled.append((about, well.features[finite]))
    if first is None:
        raise DataError(f"{project.index_path} has no wells")
    wells, counts = means.finish()
    if not len(wells):
        raise DataError("no well has cells; run `check` to see why")
    small = project.config.analyze.min_cells
    kept = [pair for pair in sampled if len(pair[0])]
    return Gathered(
        wells=flag_small_wells(wells, count=COUNT, minimum=small, flag=FLAG),
        counts=counts.assign(**{FLAG: counts[COUNT] < small}),
        controls=controls,
        sample=Profiles(
            pd.concat([about for about, _ in kept], ignore_index=True),
            np.concatenate([features for _, features in kept]),
            list(first.names),
        ),
        origin=first,
        failed_sites=failed_sites,
        not_finite=not_finite,
    )


def with_enough_cells(wells: Profiles) -> Profiles:
    """Leave out the wells that are flagged for too few cells: they take part in no fit or score."""
    return wells.subset(~wells.values(FLAG).astype(bool))


def _require_same(first: Origin, other: Origin, path: object) -> None:
    """Refuse to average features of different networks."""
    if (other.digest, other.names) != (first.digest, first.names):
        raise DataError(
            f"{path} was made with weights {other.checkpoint} ({other.digest[:12]}) and layers "
            f"{', '.join(other.layers)}; plate {first.plate} well {first.well} with "
            f"{first.checkpoint} ({first.digest[:12]}) and {', '.join(first.layers)}: run "
            "`profile` again, it redoes what differs"
        )
