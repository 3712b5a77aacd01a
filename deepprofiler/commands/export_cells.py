"""Cut every cell out of its image, as 8-bit crops for training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from zlib import crc32

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, PLATE, SITE, WELL
from deepprofiler.commands import run_earlier
from deepprofiler.commands.locate import is_needed as locating_is_needed
from deepprofiler.commands.prepare import is_needed as preparing_is_needed
from deepprofiler.errors import ConfigError, DataError
from deepprofiler.imaging.crop import quantize
from deepprofiler.imaging.read import inspect
from deepprofiler.learning.cell_store import CELL_COLUMNS, CellStoreWriter
from deepprofiler.parallel import ordered_map
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.freshness import (
    FileState,
    Provenance,
    describe,
    digest_of,
    stored_provenance,
)
from deepprofiler.project.index import Site
from deepprofiler.project.outcome import LOG, Failures, Outcome
from deepprofiler.project.sites import (
    SiteReader,
    cells_digests,
    correction_digest,
    crop_settings,
    cut_cells,
    explain,
    named_images,
    read_cells,
    require_whole_index,
    stored_size,
)


def export_cells(project: Project) -> Outcome:
    """Write ``outputs/<single-cells>/<plate>.h5`` and its table beside it.

    The crops of a plate are kept while what they are made from is the same: settings, images,
    illumination, locations, label images. Then only sites that could not be read before are read.
    A plate without a readable image is left out.

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
    what = "located cells" if project.config.crops.mode == "cells" else "views"
    outcome.notes.append(f"{counts['located']} {what}: {', '.join(parts or ['0 exported'])}")
    return outcome


def make_inputs(project: Project) -> None:
    """Run ``prepare`` and ``locate`` where outputs of theirs are missing or outdated.

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
        run_earlier(project, "prepare", "the illumination functions are missing or outdated")
    if unlocated:
        run_earlier(project, "locate", "locations are missing")


def _made_from(project: Project, plate: str, sites: list[Site], cells: pd.DataFrame) -> Provenance:
    """Say what a plate's crops would be made from now, but for the images themselves."""
    # Site by site: sites of different wells have the same name.
    labels = [cells_digests(project, (site,)) for site in sites if project.config.crops.mask]
    return crop_settings(project).with_inputs(
        {
            "cells": digest_of(cells.to_csv(index=False)),
            "illumination": correction_digest(project, plate),
            "label images": digest_of(labels),
            **named_images(sites),
        }
    )


@dataclass(frozen=True)
class _PlatePlan:
    """The cells of one plate, whose positions are their slots, and what they are made from."""

    plate: str
    sites: list[Site]
    cells: pd.DataFrame
    made_from: Provenance


def _plan(
    project: Project, plate: str, sites: list[Site], failures: Failures, counts: Counter[str]
) -> _PlatePlan | None:
    """Read the plate's locations, drop what cannot be cut, and cap the wells.

    None where no image of the plate can be read; then each of its sites is a failure.
    """
    read_shape = partial(_shape, SiteReader(project))
    shapes = list(ordered_map(read_shape, sites, workers=project.workers, kind="thread"))
    readable = [shape for shape in shapes if not isinstance(shape, DataError)]
    tables = []
    for site, shape in zip(sites, shapes, strict=True):
        if not readable:
            assert isinstance(shape, DataError)
            failures.add(plate, site.well, site.site, explain(site, shape))
            continue
        # A site whose file is broken keeps its slots, so that after repair only they are written.
        size = readable[0] if isinstance(shape, DataError) else shape
        try:
            table, dropped = read_cells(project, site, size, project.config.crops.size)
        except DataError as error:
            failures.add(plate, site.well, site.site, str(error))
            continue
        for line, reason in dropped:
            failures.add(plate, site.well, site.site, reason, cell=line)
        counts["located"] += len(table) + len(dropped)
        counts["off their image"] += len(dropped)
        named = {PLATE: plate, WELL: site.well, SITE: site.site}
        tables.append(table[[CELL, "x", "y"]].assign(**named))
    if not readable:
        return None
    columns = list(CELL_COLUMNS)
    cells = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    capped = _cap(cells[columns], project.config.crops.cells_per_well, project.config.dataset.seed)
    counts["beyond crops.cells_per_well"] += len(cells) - len(capped)
    capped = capped.reset_index(drop=True)
    return _PlatePlan(plate, sites, capped, _made_from(project, plate, sites, capped))


def _shape(reader: SiteReader, site: Site) -> tuple[int, int] | DataError:
    """Height and width of a site's images by the first file's header, or why it has none."""
    try:
        return inspect(reader.files(site)[0].path).shape
    except DataError as error:
        return error


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


def _export_plate(
    project: Project,
    plan: _PlatePlan,
    failures: Failures,
    counts: Counter[str],
    progress: Iterator[Site],
) -> int:
    """Write one plate's missing sites; return how many cells were there before."""
    files: dict[str, FileState] = {}

    def is_current(text: str) -> bool:
        stored = stored_provenance(text)
        if stored is None:
            LOG.info("the crops of plate %s are of an earlier version: exported again", plan.plate)
            return False
        if differences := stored.differences(plan.made_from, project.root):
            reason = describe(differences)
            LOG.info("the crops of plate %s are exported again: %s", plan.plate, reason)
            return False
        files.update(stored.files)
        return True

    writer = CellStoreWriter(
        project.store_path(plan.plate),
        cells=plan.cells,
        size=stored_size(project),
        channels=project.index.channels,
        made_from=plan.made_from.to_json(),
        is_current=is_current,
    )
    with writer:
        before = len(writer.table)
        written = set(writer.table["row"])
        rows = {
            key: np.array([row for row in slots if row not in written])
            for key, slots in plan.cells.groupby([WELL, SITE]).indices.items()
        }
        sites = [site for site in plan.sites if len(rows.get((site.well, site.site), ()))]
        cut_site = _CutSite(project, SiteReader(project), stored_size(project))
        centers = [
            plan.cells.loc[rows[(site.well, site.site)], ["x", "y"]].to_numpy() for site in sites
        ]
        results = ordered_map(
            cut_site, zip(sites, centers, strict=True), workers=project.workers, kind="thread"
        )
        for site, result in zip(sites, results, strict=True):
            next(progress)
            slots = rows[(site.well, site.site)]
            if isinstance(result, DataError):
                failures.add(plan.plate, site.well, site.site, explain(site, result))
                counts["in sites that could not be read"] += len(slots)
            else:
                writer.write(slots, result.crops, result.minimum, result.maximum)
                files |= result.states
                counts["exported"] += len(slots)
        for _ in range(len(plan.sites) - len(sites)):
            next(progress)
        writer.made_from = plan.made_from.with_files(files).to_json()
    if before:
        counts["kept from before"] += before
    return before


@dataclass(frozen=True)
class _Crops:
    """Crops (n, M, M, C) uint8 of a site with minimum and maximum (n, C), and its files' states."""

    crops: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    states: dict[str, FileState]


@dataclass(frozen=True)
class _CutSite:
    """Reads a site and cuts its cells."""

    project: Project
    reader: SiteReader
    size: int

    def __call__(self, work: tuple[Site, np.ndarray]) -> _Crops | DataError:
        """Return the crops of a site, or why there are none."""
        site, centers = work
        try:
            image = self.reader.image(site)
            crops = cut_cells(self.project, site, image, centers, self.size)
        except DataError as error:
            return error
        return _Crops(*quantize(crops), self.reader.states(site))
