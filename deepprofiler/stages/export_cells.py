"""Cut every cell out of its image, as 8-bit crops for training."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from deepprofiler.errors import ConfigError, DataError
from deepprofiler.imaging.crop import cut, mask_neighbours, quantize
from deepprofiler.imaging.read import inspect, read_labels
from deepprofiler.learning.cells import CellStoreWriter, margin
from deepprofiler.metadata import Site
from deepprofiler.parallel import ordered_map
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.stages.locate import locate
from deepprofiler.stages.outcome import LOG, Failures, Outcome
from deepprofiler.stages.prepare import is_needed, prepare
from deepprofiler.stages.sites import SiteReader, correction_digest, read_cells


def export_cells(project: Project) -> Outcome:
    """Write ``outputs/<single-cells>/<plate>.h5`` and its table beside it.

    Plates that were exported with the same settings and locations are left alone; of those that
    miss sites only these sites are read.

    Parameters
    ----------
    project : Project

    Returns
    -------
    Outcome
        Its notes account for every located cell: exported, or left out for a named reason.
    """
    make_inputs(project)
    failures = Failures(project, "export-sc")
    counts: Counter[str] = Counter()
    outcome = Outcome("export-sc", then="train")
    sites = project.index.sites
    progress = iter(track(sites, len(sites), "export-sc: sites"))
    kept = 0
    for plate, group in groupby(sites, key=lambda site: site.plate):
        plan = _plan(project, plate, list(group), failures, counts)
        kept += _export_plate(project, plan, failures, counts, progress)
    next(progress, None)
    failures.write()
    outcome.left_out = failures.counts()
    if counts["exported"]:
        outcome.wrote.append(f"{counts['exported']} cells to {project.store_path('').parent}")
    if kept:
        outcome.notes.append(f"kept {kept} cells that were exported before")
    parts = [f"{count} {reason}" for reason, count in counts.items() if reason != "located"]
    outcome.notes.append(
        f"{counts['located']} cells located = " + " + ".join(parts or ["0 exported"])
    )
    return outcome


def make_inputs(project: Project) -> None:
    """Run ``prepare`` and ``locate`` where the project has nothing of theirs yet.

    Raises
    ------
    ConfigError
        Something is missing and the index is one part of a split one: a plate's illumination is
        measured on all of its sites.
    """
    if project.is_part and (is_needed(project) or not project.has_locations()):
        raise ConfigError(
            f"{project.index_path.name} is a part of the index, and the project is not prepared: "
            "run prepare, locate and train on the whole index before its parts"
        )
    if is_needed(project):
        LOG.info("the illumination functions are missing: running prepare first")
        prepare(project)
    if not project.has_locations():
        LOG.info("the project has no locations: running locate first")
        locate(project)


@dataclass(frozen=True)
class _Plan:
    """The cells of one plate and the rows that their crops get."""

    plate: str
    sites: list[Site]
    shape: tuple[int, int]
    cells: pd.DataFrame
    settings: str


def _plan(
    project: Project, plate: str, sites: list[Site], failures: Failures, counts: Counter[str]
) -> _Plan:
    """Read the plate's locations, drop what cannot be cut, and cap the wells."""
    size = project.config.crops.size
    shape = _plate_shape(project, plate, sites)
    tables = []
    for site in sites:
        try:
            table, dropped = read_cells(project, site, shape, size)
        except DataError as error:
            failures.add(plate, site.well, site.site, str(error))
            continue
        for line, reason in dropped:
            failures.add(plate, site.well, site.site, reason, cell=line)
        counts["located"] += len(table) + len(dropped)
        counts["off their image"] += len(dropped)
        table = table[["cell", "x", "y"]]
        tables.append(table.assign(plate=plate, well=site.well, site=site.site))
    columns = ["plate", "well", "site", "cell", "x", "y"]
    cells = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    capped = _cap(cells[columns], project.config.crops.cells_per_well, project.config.dataset.seed)
    if len(capped) < len(cells):
        counts["beyond crops.cells_per_well"] += len(cells) - len(capped)
    capped = capped.reset_index(drop=True)
    return _Plan(plate, sites, shape, capped, _settings(project, plate, capped))


def _plate_shape(project: Project, plate: str, sites: list[Site]) -> tuple[int, int]:
    """Height and width of a plate's images, from the first file whose header can be read.

    A site whose file is broken keeps its rows in the store, so that after repair only they are
    written.
    """
    reader = SiteReader(project)
    for site in sites:
        try:
            return inspect(reader.files(site)[0].path).shape
        except DataError as error:
            reason = error
    raise DataError(f"none of the images of plate {plate} can be read; the last: {reason}")


def _cap(cells: pd.DataFrame, most: int | None, seed: int) -> pd.DataFrame:
    """Keep at most ``most`` cells of each well, drawn by seed, in their order."""
    if most is None:
        return cells
    chosen = []
    for rows in cells.groupby(["plate", "well"], sort=False).indices.values():
        if len(rows) > most:
            plate, well = cells["plate"].iloc[rows[0]], cells["well"].iloc[rows[0]]
            rng = np.random.default_rng((seed, crc32(f"{plate}\0{well}".encode())))
            rows = np.sort(rng.choice(rows, most, replace=False))
        chosen.append(rows)
    return cells.iloc[np.sort(np.concatenate(chosen))] if chosen else cells


def _settings(project: Project, plate: str, cells: pd.DataFrame) -> str:
    """Everything that decides a plate's crops, as text; equal text, equal crops."""
    identity = cells.to_csv(index=False).encode()
    return json.dumps(
        {
            "config": crop_settings(project),
            "illumination": correction_digest(project, plate),
            "cells": hashlib.sha256(identity).hexdigest(),
        },
        sort_keys=True,
    )


def crop_settings(project: Project) -> dict[str, Any]:
    """Give what the config alone says of the stored crops."""
    config = project.config
    return {
        "channels": list(project.index.channels),
        "crops": config.crops.model_dump(include={"size", "mask", "cells_per_well"}),
        "stored_size": stored_size(project),
        "prepare": config.prepare.model_dump(include={"illumination", "compress"}),
    }


def stored_size(project: Project) -> int:
    """Side M of the stored crops: S and the margin that the augmentation needs, in pixels."""
    crops, augment = project.config.crops, project.config.train.augment
    if crops.margin == "auto":
        return crops.size + margin(crops.size, shift=augment.shift, rotations=augment.rotations)
    return crops.size + crops.margin + crops.margin % 2


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
        settings=plan.settings,
    )
    with writer:
        before = len(writer.table)
        done = set(writer.table["row"])
        rows = {
            key: np.array([row for row in found if row not in done])
            for key, found in plan.cells.groupby(["well", "site"]).indices.items()
        }
        sites = [site for site in plan.sites if len(rows.get((site.well, site.site), ()))]
        cutter = _Cutter(
            SiteReader(project),
            replace(project),
            plan.shape,
            stored_size(project),
            project.config.crops.mask,
        )
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
                reason = f"index line {site.line}: {result}"
                failures.add(plan.plate, site.well, site.site, reason)
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

    reader: SiteReader
    paths: Project
    shape: tuple[int, int]
    size: int
    mask: bool

    def __call__(
        self, work: tuple[Site, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
        """Return crops (n, M, M, C) uint8 with minimum and maximum (n, C), or why not."""
        site, centers = work
        try:
            image = self.reader.image(site)
            if image.shape[:2] != self.shape:
                raise DataError(
                    f"{site.files[0].path} is {image.shape[0]} × {image.shape[1]} pixels, other "
                    f"images of the plate are {self.shape[0]} × {self.shape[1]}"
                )
            crops = cut_cells(self.paths, site, image, centers, self.size, self.mask)
        except DataError as error:
            return str(error)
        return quantize(crops)


def cut_cells(
    paths: Project, site: Site, image: np.ndarray, centers: np.ndarray, size: int, mask: bool
) -> np.ndarray:
    """Cut the cells of one site, with their neighbours blanked where ``mask`` is on.

    Returns
    -------
    numpy.ndarray
        (n, size, size, C), in the image's dtype.

    Raises
    ------
    DataError
        ``mask`` is on and there is no label image.
    """
    crops = cut(image, centers, size)
    if not mask:
        return crops
    path = paths.labels_path(site)
    if not path.exists():
        raise DataError(f"crops.mask needs {path}; `locate --labels` writes it")
    labels = read_labels(path)
    return mask_neighbours(crops, cut(labels[:, :, None], centers, size)[:, :, :, 0])
