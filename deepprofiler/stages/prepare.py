"""Measure each plate's illumination and intensities; optionally write corrected 8-bit copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np

from deepprofiler.config import Prepare
from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.imaging import illumination
from deepprofiler.imaging.illumination import Illumination, IlluminationStatistics
from deepprofiler.imaging.read import read_site, write_png
from deepprofiler.metadata import Site
from deepprofiler.parallel import ordered_map
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.stages.outcome import Failures, Outcome

# Statistics travel between processes once per chunk; larger chunks would make progress coarse.
_CHUNK = 16
_CLIPPED_TOO_MUCH = 0.01


def prepare(project: Project) -> Outcome:
    """Write ``outputs/illumination/<plate>.h5`` and, with ``prepare.compress``, 8-bit copies.

    Plates that are finished with the same settings are left alone.

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
    failed_before = {plate for plate, _, _ in failures.earlier()}
    todo = [
        plate
        for plate in index.plates
        if plate in failed_before or not _is_finished(project, plate, settings)
    ]
    sites = [site for site in index.sites if site.plate in set(todo)]
    chunks = [
        chunk
        for _, group in groupby(sites, key=lambda site: site.plate)
        for chunk in _chunks(list(group))
    ]
    measure = partial(_measure, channels=index.channels, settings=settings)
    results = ordered_map(measure, chunks, workers=min(project.workers, max(len(chunks), 1)))
    written = 0
    for plate, statistics in _by_plate(chunks, results, failures, len(sites)):
        if statistics is None:
            failures.add(plate, "", "", "none of the plate's sites could be read")
            continue
        finished = statistics.finish(
            median_size=settings.median_size, percentiles=settings.percentiles
        )
        illumination.save(project.illumination_path(plate), finished)
        written += 1
    if written:
        outcome.wrote.append(f"illumination of {written} plate(s) to outputs/illumination")
    if written < len(index.plates):
        kept = sum(project.illumination_path(plate).exists() for plate in index.plates) - written
        outcome.notes.append(f"kept {kept} plate(s) that were finished before")
    if settings.compress:
        _compress(project, failures, outcome, set(todo))
    failures.write()
    outcome.left_out = failures.counts()
    return outcome


def is_needed(project: Project) -> bool:
    """Whether a later stage would miss something that ``prepare`` makes."""
    settings = project.config.prepare
    if not (settings.illumination or settings.compress):
        return False
    return any(not project.illumination_path(plate).exists() for plate in project.index.plates)


def _is_finished(project: Project, plate: str, settings: Prepare) -> bool:
    path = project.illumination_path(plate)
    if not path.exists():
        return False
    found = illumination.load(path)
    return (
        found.channels == project.index.channels
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


def _compress(project: Project, failures: Failures, outcome: Outcome, plates: set[str]) -> None:
    """Write the 8-bit copies that do not exist yet, or whose plate was measured anew."""
    index = project.index
    failed = {(row.plate, row.well, row.site) for row in failures.rows}
    sites = [
        site
        for site in index.sites
        if (site.plate, site.well, site.site) not in failed
        and project.illumination_path(site.plate).exists()
        and (
            site.plate in plates
            or not all(project.compressed_path(site, name).exists() for name in index.channels)
        )
    ]
    clipped: dict[str, list[np.ndarray]] = {}
    write = partial(_write_copy, paths=replace(project), channels=index.channels)
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


def _write_copy(site: Site, paths: Project, channels: tuple[str, ...]) -> np.ndarray | str:
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
    pixels, clipped = illumination.to_8bit(
        illumination.correct(image, found.function), found.percentiles
    )
    for position, channel in enumerate(channels):
        with replacing(paths.compressed_path(site, channel)) as temporary:
            write_png(temporary, pixels[:, :, position])
    return clipped
