"""Measure each plate's illumination and intensities; optionally write corrected 8-bit copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np

from deepprofiler.config.schema import Prepare
from deepprofiler.errors import DataError
from deepprofiler.imaging import illumination
from deepprofiler.imaging.eight_bit import image_limits, to_8bit
from deepprofiler.imaging.illumination import Illumination, IlluminationStatistics
from deepprofiler.imaging.quality import Quality, quality
from deepprofiler.imaging.read import read_site, write_png
from deepprofiler.parallel import ordered_map
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.index import Site
from deepprofiler.project.outcome import LOG, Failures, Outcome
from deepprofiler.project.site_quality import write_quality
from deepprofiler.project.sites import explain, load_illumination, require_whole_index

# Statistics travel between processes once per chunk; larger chunks would make progress coarse.
_CHUNK = 16
_CLIPPED_TOO_MUCH = 0.01


def prepare(project: Project) -> Outcome:
    """Write ``outputs/illumination/<plate>.h5`` and ``.csv``, and perhaps 8-bit copies.

    Plates of which every site was measured with the same settings are left alone; sites that could
    not be read then are tried again, and if one can be read now its plate is measured again.

    Parameters
    ----------
    project : Project

    Returns
    -------
    Outcome
        Sites that could not be read are left out of the plate's statistics and named.

    Raises
    ------
    ConfigError
        The index is a part that ``split`` wrote.
    """
    require_whole_index(project, "prepare")
    settings = project.config.prepare
    index = project.index
    outcome = Outcome("prepare", then="train (or locate, to look at the cells first)")
    failures = Failures(project, "prepare")
    plates = {
        plate: list(group) for plate, group in groupby(index.sites, key=lambda site: site.plate)
    }
    todo = {}
    for plate, sites in plates.items():
        unreadable = _unreadable(project, plate, sites)
        if unreadable is None:
            todo[plate] = sites
            continue
        for site, reason in unreadable:
            failures.add(plate, site.well, site.site, explain(site, reason))
    chunks = [chunk for sites in todo.values() for chunk in _chunks(sites)]
    total = sum(len(chunk) for chunk in chunks)
    measure = partial(_measure, channels=index.channels, settings=settings)
    results = ordered_map(measure, chunks, workers=min(project.workers, max(len(chunks), 1)))
    written = 0
    for plate, statistics, failed, measured in _by_plate(chunks, results, failures, total):
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
        finished = replace(
            finished,
            failed=tuple((site.well, site.site) for site in failed),
            percentiles_of=settings.percentiles_of,
            corrected=settings.illumination,
        )
        write_quality(project, plate, measured)
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
    """Whether a later stage would miss something that ``prepare`` makes, or find it outdated."""
    settings = project.config.prepare
    if not (settings.illumination or settings.compress):
        return False
    for plate, group in groupby(project.index.sites, key=lambda site: site.plate):
        path = project.illumination_path(plate)
        try:
            found = illumination.load(path, images=False)
        except DataError:
            return True
        if not _has_settings(project, found):
            return True
        if settings.compress and not _is_compressed(project, found, list(group)):
            return True
    return False


def _has_settings(project: Project, found: Illumination) -> bool:
    """Whether a plate was measured with the channels and settings of now."""
    settings = project.config.prepare
    copies = (found.percentiles_of, found.corrected)
    return (
        found.channels == project.index.channels
        and found.down_scale == settings.down_scale
        and found.median_size == settings.median_size
        and found.percentile_ranks == settings.percentiles
        and (not settings.compress or copies == (settings.percentiles_of, settings.illumination))
    )


def _unreadable(project: Project, plate: str, sites: list[Site]) -> list[tuple[Site, str]] | None:
    """Sites of a finished plate that still cannot be read; None: the plate must be measured."""
    path = project.illumination_path(plate)
    if not (path.exists() and project.quality_path(plate).exists()):
        return None
    try:
        found = illumination.load(path)
    except DataError as error:
        LOG.warning("%s; measuring plate %s anew", error, plate)
        return None
    failed = [site for site in sites if (site.well, site.site) in found.failed]
    if not _has_settings(project, found) or found.count + len(found.failed) != len(sites):
        return None
    reasons = []
    for site in failed:
        try:
            read_site(site.files)
        except DataError as error:
            reasons.append((site, str(error)))
    return reasons if len(reasons) == len(found.failed) else None


def _chunks(sites: list[Site]) -> Iterator[list[Site]]:
    for first in range(0, len(sites), _CHUNK):
        yield sites[first : first + _CHUNK]


@dataclass
class _Measured:
    """Statistics of some sites of one plate, their quality, and the sites that are unreadable."""

    statistics: IlluminationStatistics | None
    failed: list[tuple[Site, str]]
    quality: list[tuple[Site, Quality]]


def _measure(sites: list[Site], channels: tuple[str, ...], settings: Prepare) -> _Measured:
    statistics = IlluminationStatistics(channels, settings.down_scale)
    failed, measured = [], []
    for site in sites:
        try:
            image = read_site(site.files)
        except DataError as error:
            failed.append((site, str(error)))
            continue
        # A wrong size is no failure of one site: there is no function that fits both.
        statistics.add(image, str(site.files[0].path))
        measured.append((site, quality(image)))
    return _Measured(statistics if statistics.count else None, failed, measured)


def _by_plate(
    chunks: list[list[Site]], results: Iterator[_Measured], failures: Failures, total: int
) -> Iterator[tuple[str, IlluminationStatistics | None, list[Site], list[tuple[Site, Quality]]]]:
    """Merge the chunks' statistics, plate by plate; give failed sites, and the others' quality."""
    progress = iter(track((site for chunk in chunks for site in chunk), total, "prepare: sites"))
    pairs = zip(chunks, results, strict=True)
    for plate, group in groupby(pairs, key=lambda pair: pair[0][0].plate):
        merged: IlluminationStatistics | None = None
        failed: list[Site] = []
        qualities: list[tuple[Site, Quality]] = []
        for chunk, measured in group:
            for _ in chunk:
                next(progress)
            for site, reason in measured.failed:
                failures.add(plate, site.well, site.site, explain(site, reason))
                failed.append(site)
            qualities += measured.quality
            if merged is None:
                merged = measured.statistics
            elif measured.statistics is not None:
                merged.merge(measured.statistics)
        yield plate, merged, failed, qualities
    next(progress, None)


def _compress(project: Project, failures: Failures, outcome: Outcome) -> None:
    """Write the 8-bit copies of the plates that miss some."""
    index = project.index
    sites = []
    for plate, group in groupby(index.sites, key=lambda site: site.plate):
        members = list(group)
        path = project.illumination_path(plate)
        # Without the file no site of the plate could be read.
        if not path.exists():
            continue
        found = illumination.load(path, images=False)
        if not _is_compressed(project, found, members):
            sites += [site for site in members if (site.well, site.site) not in found.failed]
    clipped: dict[str, list[np.ndarray]] = {}
    failed: dict[str, list[tuple[str, str]]] = {}
    write = partial(_write_copy, paths=replace(project))
    results = ordered_map(write, sites, workers=min(project.workers, max(len(sites), 1)))
    for site, result in zip(sites, track(results, len(sites), "compress: sites"), strict=True):
        if isinstance(result, str):
            failures.add(site.plate, site.well, site.site, explain(site, result))
            failed.setdefault(site.plate, []).append((site.well, site.site))
        else:
            clipped.setdefault(site.plate, []).append(result)
    if clipped:
        count = sum(len(shares) for shares in clipped.values())
        outcome.wrote.append(f"8-bit copies of {count} sites to outputs/compressed/images")
    for plate, shares in clipped.items():
        share = np.mean(shares, axis=0)
        path = project.illumination_path(plate)
        illumination.save_clipped(path, share, failed.get(plate, ()))
        for name, value in zip(index.channels, share, strict=True):
            if value > _CLIPPED_TOO_MUCH:
                outcome.notes.append(
                    f"warning: {value:.1%} of the pixels of channel {name} on plate {plate} lie "
                    "outside prepare.percentiles and were clipped; widen them"
                )


def _is_compressed(project: Project, found: Illumination, sites: list[Site]) -> bool:
    """Whether a plate has all its copies, and their share of clipped pixels, written last."""
    failed = set(found.failed)
    return found.clipped is not None and all(
        project.compressed_path(site, position).exists()
        for site in sites
        if (site.well, site.site) not in failed
        for position in range(len(found.channels))
    )


def _write_copy(site: Site, paths: Project) -> np.ndarray | str:
    """Write one site's copies; return the shares of clipped pixels (C,), or what is wrong."""
    found = load_illumination(paths.illumination_path(site.plate))
    try:
        image = read_site(site.files)
        if image.shape != found.function.shape:
            raise DataError(
                f"{site.files[0].path} is {image.shape[:2]} pixels, its plate's illumination "
                f"function {found.function.shape[:2]}; run `prepare` again"
            )
    except DataError as error:
        return str(error)
    if found.corrected:
        image = illumination.correct(image, found.function)
    whole_plate = found.percentiles_of == "plate"
    limits = found.percentiles if whole_plate else image_limits(image, found.percentile_ranks)
    pixels, clipped = to_8bit(image, limits)
    for position in range(pixels.shape[2]):
        write_png(paths.compressed_path(site, position), pixels[:, :, position])
    return clipped
