"""Cut every cell out of its image, as 8-bit crops for training."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from zlib import crc32

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.commands.locate import is_needed as locating_is_needed
from deepprofiler.commands.locate import locate
from deepprofiler.commands.prepare import is_needed as preparing_is_needed
from deepprofiler.commands.prepare import prepare
from deepprofiler.errors import ConfigError, DataError
from deepprofiler.imaging.crop import quantize
from deepprofiler.imaging.read import inspect
from deepprofiler.learning.cell_store import CELL_COLUMNS, CellStoreWriter
from deepprofiler.parallel import ordered_map
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.index import Site
from deepprofiler.project.outcome import LOG, Failures, Outcome
from deepprofiler.project.sites import (
    SiteReader,
    correction_digest,
    crop_settings,
    cut_cells,
    explain,
    labels_digest,
    read_cells,
    require_whole_index,
    stored_size,
)

_VERSION_1_HEADER = ["plate", "well", "site", "cell", "x", "y"]


def export_cells(project: Project) -> Outcome:
    """Write ``outputs/<single-cells>/<plate>.h5`` and its table beside it.

    A plate whose settings, illumination, locations and label images are those of its store keeps
    the crops that are there, and only sites that could not be read before are read. If any of
    them changed, the plate is exported anew. A plate without a readable image is left out.

    Parameters
    ----------
    project : Project

    Returns
    -------
    Outcome
        Its notes account for every located cell: exported, or left out for a named reason.

    Raises
    ------
    ConfigError
        The index is one part of a split one: its stores would lack the other parts' cells.
    """
    require_whole_index(project, "export-sc")
    make_inputs(project)
    failures = Failures(project, "export-sc")
    counts: Counter[str] = Counter()
    outcome = Outcome("export-sc", then="train")
    sites = project.index.sites
    progress = iter(track(sites, len(sites), "export-sc: sites"))
    kept = 0
    for plate, group in groupby(sites, key=lambda site: site.plate):
        members = list(group)
        plan = _plan(project, plate, members, failures, counts)
        if plan is None:
            for _ in members:
                next(progress)
            continue
        kept += _export_plate(project, plan, failures, counts, progress)
    next(progress, None)
    failures.write()
    outcome.left_out = failures.counts()
    if counts["exported"]:
        outcome.wrote.append(f"{counts['exported']} cells to {project.store_path('').parent}")
    if kept:
        outcome.notes.append(f"kept {kept} cells that were exported before")
    parts = [f"{n} {reason}" for reason, n in counts.items() if n and reason != "located"]
    what = "cells located" if project.config.crops.mode == "cells" else "views"
    outcome.notes.append(f"{counts['located']} {what} = " + " + ".join(parts or ["0 exported"]))
    return outcome


def make_inputs(project: Project) -> None:
    """Run ``prepare`` and ``locate`` where later stages would miss something of theirs.

    Raises
    ------
    ConfigError
        Something is missing and the index is one part of a split one: a plate's illumination is
        measured on all of its sites.
    """
    unprepared, unlocated = preparing_is_needed(project), locating_is_needed(project)
    if project.is_part and (unprepared or unlocated):
        raise ConfigError(
            f"{project.index_path.name} is a part of the index, and the project is not prepared: "
            "run prepare, locate and train on the whole index before its parts"
        )
    if unprepared:
        LOG.info("the illumination functions are missing or outdated: running prepare first")
        prepare(project)
    if unlocated:
        LOG.info("locations are missing: running locate first")
        locate(project)


@dataclass(frozen=True)
class _Plan:
    """The cells of one plate and the rows that their crops get."""

    plate: str
    sites: list[Site]
    cells: pd.DataFrame
    made_from: str


def _plan(
    project: Project, plate: str, sites: list[Site], failures: Failures, counts: Counter[str]
) -> _Plan | None:
    """Read the plate's locations, drop what cannot be cut, and cap the wells.

    None where no image of the plate can be read; then each of its sites is a failure.
    """
    find = partial(_shape, SiteReader(project))
    shapes = list(ordered_map(find, sites, workers=project.workers, kind="thread"))
    readable = [shape for shape in shapes if not isinstance(shape, str)]
    tables = []
    for site, shape in zip(sites, shapes, strict=True):
        if not readable:
            failures.add(plate, site.well, site.site, explain(site, str(shape)))
            continue
        # A site whose file is broken keeps its rows, so that after repair only they are written.
        size = readable[0] if isinstance(shape, str) else shape
        try:
            table, dropped = read_cells(project, site, size, project.config.crops.size)
        except DataError as error:
            failures.add(plate, site.well, site.site, str(error))
            continue
        for line, reason in dropped:
            failures.add(plate, site.well, site.site, reason, cell=line)
        counts["located"] += len(table) + len(dropped)
        counts["off their image"] += len(dropped)
        table = table.rename(columns={"cell": CELL})
        tables.append(table.assign(**{PLATE: plate, WELL: site.well, SITE: site.site}))
    if not readable:
        return None
    columns = list(CELL_COLUMNS)
    cells = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    capped = _cap(cells[columns], project.config.crops.cells_per_well, project.config.dataset.seed)
    counts["beyond crops.cells_per_well"] += len(cells) - len(capped)
    capped = capped.reset_index(drop=True)
    return _Plan(plate, sites, capped, _made_from(project, plate, sites, capped))


def _shape(reader: SiteReader, site: Site) -> tuple[int, int] | str:
    """Height and width of a site's images by the first file's header, or why it has none."""
    try:
        return inspect(reader.files(site)[0].path).shape
    except DataError as error:
        return str(error)


def _cap(cells: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    """Keep at most ``most`` cells of each well, drawn by seed, in their order."""
    if most is None:
        return cells
    chosen = []
    for rows in cells.groupby([PLATE, WELL], sort=False).indices.values():
        if len(rows) > most:
            plate, well = cells[PLATE].iloc[rows[0]], cells[WELL].iloc[rows[0]]
            rng = np.random.default_rng((seed, crc32(f"{plate}\0{well}".encode())))
            rows = np.sort(rng.choice(rows, most, replace=False))
        chosen.append(rows)
    return cells.iloc[np.sort(np.concatenate(chosen))] if chosen else cells


def _made_from(project: Project, plate: str, sites: list[Site], cells: pd.DataFrame) -> str:
    """Everything that decides a plate's crops, as text; equal text, equal crops."""
    # Column names as in version 1 of the store, so that its crops stay current.
    identity = cells.to_csv(index=False, header=_VERSION_1_HEADER).encode()
    labels = json.dumps([labels_digest(project, site) for site in sites]).encode()
    return json.dumps(
        {
            "config": crop_settings(project),
            "illumination": correction_digest(project, plate),
            "labels": hashlib.sha256(labels).hexdigest() if project.config.crops.mask else None,
            "cells": hashlib.sha256(identity).hexdigest(),
        },
        sort_keys=True,
    )


def _export_plate(
    project: Project,
    plan: _Plan,
    failures: Failures,
    counts: Counter[str],
    progress: Iterator[Site],
) -> int:
    """Write one plate's missing sites; return how many cells were there before."""
    writer = CellStoreWriter(
        project.store_path(plan.plate),
        cells=plan.cells,
        size=stored_size(project),
        channels=project.index.channels,
        made_from=plan.made_from,
    )
    with writer:
        before = len(writer.table)
        done = set(writer.table["row"])
        rows = {
            key: np.array([row for row in found if row not in done])
            for key, found in plan.cells.groupby([WELL, SITE]).indices.items()
        }
        sites = [site for site in plan.sites if len(rows.get((site.well, site.site), ()))]
        cutter = _Cutter(project, SiteReader(project), stored_size(project))
        centers = [
            plan.cells.loc[rows[(site.well, site.site)], ["x", "y"]].to_numpy() for site in sites
        ]
        results = ordered_map(
            cutter, zip(sites, centers, strict=True), workers=project.workers, kind="thread"
        )
        for site, result in zip(sites, results, strict=True):
            next(progress)
            found = rows[(site.well, site.site)]
            if isinstance(result, str):
                failures.add(plan.plate, site.well, site.site, explain(site, result))
                counts["in sites that could not be read"] += len(found)
            else:
                writer.write(found, *result)
                counts["exported"] += len(found)
        for _ in range(len(plan.sites) - len(sites)):
            next(progress)
    if before:
        counts["kept from before"] += before
    return before


@dataclass(frozen=True)
class _Cutter:
    """Reads a site and cuts its cells."""

    project: Project
    reader: SiteReader
    size: int

    def __call__(
        self, work: tuple[Site, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
        """Return crops (n, M, M, C) uint8 with minimum and maximum (n, C), or why not."""
        site, centers = work
        try:
            image = self.reader.image(site)
            crops = cut_cells(self.project, site, image, centers, self.size)
        except DataError as error:
            return str(error)
        return quantize(crops)
