"""Measure each plate's illumination and intensities; optionally write corrected 8-bit copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np

from deepprofiler.config import Prepare
from deepprofiler.errors import DataError
from deepprofiler.imaging import illumination
from deepprofiler.imaging.eight_bit import image_limits, to_8bit
from deepprofiler.imaging.illumination import Illumination, IlluminationStatistics
from deepprofiler.imaging.read import read_site, write_png
from deepprofiler.metadata import Site
from deepprofiler.parallel import ordered_map
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.stages.outcome import LOG, Failures, Outcome

# Statistics travel between processes once per chunk; larger chunks would make progress coarse.
_CHUNK = 16
_CLIPPED_TOO_MUCH = 0.01


def prepare(project: Project) -> Outcome:
    """Write ``outputs/illumination/<plate>.h5`` and, with ``prepare.compress``, 8-bit copies.

    Plates of which every site was measured with the same settings are left alone.

    Parameters
    ----------
    project : Project

    Returns
    -------
    Outcome
        Sites that could not be read are left out of the plate's statistics and named.
    """
    settings = project.config.prepare
    index = project.index
    outcome = Outcome("prepare", then="train (or locate, to look at the cells first)")
    failures = Failures(project, "prepare")
    plates = {
        plate: list(group) for plate, group in groupby(index.sites, key=lambda site: site.plate)
    }
    todo = {
        plate: sites
        for plate, sites in plates.items()
        if not _is_finished(project, plate, len(sites))
    }
    chunks = [chunk for sites in todo.values() for chunk in _chunks(sites)]
    total = sum(len(chunk) for chunk in chunks)
    measure = partial(_measure, channels=index.channels, settings=settings)
    results = ordered_map(measure, chunks, workers=min(project.workers, max(len(chunks), 1)))
    written = 0
    for plate, statistics in _by_plate(chunks, results, failures, total):
        if statistics is None:
            failures.add(plate, "", "", "none of the plate's sites could be read")
            continue
        finished = statistics.finish(
            median_size=settings.median_size, percentiles=settings.percentiles
        )
        # Before: an 8-bit copy never outlives the function that it was corrected by.
        for site in todo[plate]:
            for position in range(len(index.channels)):
                project.compressed_path(site, position).unlink(missing_ok=True)
        illumination.save(project.illumination_path(plate), finished)
        written += 1
    if written:
        outcome.wrote.append(f"illumination of {written} plate(s) to outputs/illumination")
    if written < len(index.plates):
        kept = sum(project.illumination_path(plate).exists() for plate in index.plates) - written
        outcome.notes.append(f"kept {kept} plate(s) that were finished before")
    if settings.compress:
        _compress(project, failures, outcome)
    failures.write()
    outcome.left_out = failures.counts()
    return outcome


def is_needed(project: Project) -> bool:
    """Whether a later stage would miss something that ``prepare`` makes."""
    settings = project.config.prepare
    if not (settings.illumination or settings.compress):
        return False
    return any(not project.illumination_path(plate).exists() for plate in project.index.plates)


def _is_finished(project: Project, plate: str, sites: int) -> bool:
    settings = project.config.prepare
    path = project.illumination_path(plate)
    if not path.exists():
        return False
    try:
        found = illumination.load(path)
    except DataError as error:
        LOG.warning("%s; measuring plate %s anew", error, plate)
        return False
    return (
        found.count == sites
        and found.channels == project.index.channels
        and found.down_scale == settings.down_scale
        and found.median_size == settings.median_size
        and found.percentile_ranks == settings.percentiles
    )


def _chunks(sites: list[Site]) -> Iterator[list[Site]]:
    for first in range(0, len(sites), _CHUNK):
        yield sites[first : first + _CHUNK]


@dataclass
class _Measured:
    """Statistics of some sites of one plate, and the sites that could not be read."""

    statistics: IlluminationStatistics | None
    failed: list[tuple[Site, str]]


def _measure(sites: list[Site], channels: tuple[str, ...], settings: Prepare) -> _Measured:
    statistics = IlluminationStatistics(channels, settings.down_scale)
    failed = []
    for site in sites:
        try:
            image = read_site(site.files)
        except DataError as error:
            failed.append((site, str(error)))
            continue
        # A wrong size is no failure of one site: there is no function that fits both.
        statistics.add(image, str(site.files[0].path))
    return _Measured(statistics if statistics.count else None, failed)


def _by_plate(
    chunks: list[list[Site]], results: Iterator[_Measured], failures: Failures, total: int
) -> Iterator[tuple[str, IlluminationStatistics | None]]:
    """Merge the chunks' statistics, plate by plate."""
    progress = iter(track((site for chunk in chunks for site in chunk), total, "prepare: sites"))
    pairs = zip(chunks, results, strict=True)
    for plate, group in groupby(pairs, key=lambda pair: pair[0][0].plate):
        merged: IlluminationStatistics | None = None
        for chunk, measured in group:
            for _ in chunk:
                next(progress)
            for site, reason in measured.failed:
                failures.add(plate, site.well, site.site, f"index line {site.line}: {reason}")
            if merged is None:
                merged = measured.statistics
            elif measured.statistics is not None:
                merged.merge(measured.statistics)
        yield plate, merged
    next(progress, None)


def _compress(project: Project, failures: Failures, outcome: Outcome) -> None:
    """Write the 8-bit copies of the plates that miss some."""
    index = project.index
    failed = {(row.plate, row.well, row.site) for row in failures.rows}
    sites = []
    for plate, group in groupby(index.sites, key=lambda site: site.plate):
        members = list(group)
        if _is_compressed(project, plate, members):
            continue
        sites += [site for site in members if (plate, site.well, site.site) not in failed]
    clipped: dict[str, list[np.ndarray]] = {}
    write = partial(
        _write_copy,
        paths=replace(project),
        whole_plate=project.config.prepare.percentiles_of == "plate",
    )
    results = ordered_map(write, sites, workers=min(project.workers, max(len(sites), 1)))
    for site, result in zip(sites, track(results, len(sites), "compress: sites"), strict=True):
        if isinstance(result, str):
            failures.add(site.plate, site.well, site.site, f"index line {site.line}: {result}")
        else:
            clipped.setdefault(site.plate, []).append(result)
    if clipped:
        count = sum(len(shares) for shares in clipped.values())
        outcome.wrote.append(f"8-bit copies of {count} sites to outputs/compressed/images")
    for plate, shares in clipped.items():
        share = np.mean(shares, axis=0)
        illumination.save_clipped(project.illumination_path(plate), share)
        for name, value in zip(index.channels, share, strict=True):
            if value > _CLIPPED_TOO_MUCH:
                outcome.notes.append(
                    f"warning: {value:.1%} of the pixels of channel {name} on plate {plate} lie "
                    "outside prepare.percentiles and were clipped; widen them"
                )


def _is_compressed(project: Project, plate: str, sites: list[Site]) -> bool:
    """Whether a plate has all its copies, and their share of clipped pixels, written last."""
    path = project.illumination_path(plate)
    if not path.exists():
        return True
    return illumination.load(path).clipped is not None and all(
        project.compressed_path(site, position).exists()
        for site in sites
        for position in range(len(project.index.channels))
    )


def _write_copy(site: Site, paths: Project, whole_plate: bool) -> np.ndarray | str:
    """Write one site's copies; return the shares of clipped pixels (C,), or what is wrong."""
    found: Illumination = illumination.load(paths.illumination_path(site.plate))
    try:
        image = read_site(site.files)
        if image.shape != found.function.shape:
            raise DataError(
                f"{site.files[0].path} is {image.shape[:2]} pixels, its plate's illumination "
                f"function {found.function.shape[:2]}; run `prepare` again"
            )
    except DataError as error:
        return str(error)
    corrected = illumination.correct(image, found.function)
    limits = found.percentiles if whole_plate else image_limits(corrected, found.percentile_ranks)
    pixels, clipped = to_8bit(corrected, limits)
    for position in range(pixels.shape[2]):
        write_png(paths.compressed_path(site, position), pixels[:, :, position])
    return clipped
