"""Measure each plate's illumination and intensities; optionally write corrected 8-bit copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np

from deepprofiler.errors import DataError, counted
from deepprofiler.imaging import illumination
from deepprofiler.imaging.illumination import Illumination, IlluminationStatistics
from deepprofiler.imaging.imaging_settings import Prepare
from deepprofiler.imaging.intensities import image_limits, to_8bit
from deepprofiler.imaging.quality import Quality, quality
from deepprofiler.imaging.read import read_site, write_copy
from deepprofiler.parallel import ordered_map
from deepprofiler.parameters import Decides
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.freshness import (
    FileState,
    Provenance,
    describe,
    provenance,
    stored_provenance,
)
from deepprofiler.project.index import Site
from deepprofiler.project.outcome import LOG, Failures, Outcome
from deepprofiler.project.site_quality import write_quality
from deepprofiler.project.sites import (
    explain,
    image_paths,
    load_illumination,
    named_images,
    read_uncorrected,
    require_whole_index,
    states,
)

# Statistics travel between processes once per chunk; larger chunks would make progress coarse.
_CHUNK = 16
_CLIPPED_TOO_MUCH = 0.01


def prepare(project: Project) -> Outcome:
    """Write ``outputs/illumination/<plate>.h5`` and ``.csv``, and perhaps 8-bit copies.

    A plate is kept while what it was measured on is the same: settings and images. Sites that
    could not be read are tried again; if one of them can be read now, its plate is measured again.

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
    outdated = {}
    for plate, sites in _plates(project):
        unreadable = _unreadable(project, plate, sites)
        if unreadable is None:
            outdated[plate] = sites
            continue
        for site, error in unreadable:
            failures.add(plate, site.well, site.site, explain(site, error))
    chunks = [chunk for sites in outdated.values() for chunk in _chunks(sites)]
    total = sum(len(chunk) for chunk in chunks)
    measure = partial(
        _measure, project=replace(project), channels=index.channels, settings=settings
    )
    results = ordered_map(measure, chunks, workers=min(project.workers, max(len(chunks), 1)))
    written = 0
    for plate, measured in _by_plate(chunks, results, failures, total):
        if measured.statistics is None:
            failures.add(plate, "", "", "none of the plate's sites could be read")
            continue
        uncorrected = _write(project, plate, outdated[plate], measured)
        if uncorrected and settings.illumination:
            outcome.notes.append(
                f"plate {plate}: {', '.join(uncorrected)} stays uncorrected, since its dark parts "
                "are not above 0"
            )
        written += 1
    if written:
        plates = counted(written, "plate", "plates")
        outcome.wrote.append(f"illumination of {plates} to outputs/illumination")
    if written < len(index.plates):
        kept = sum(project.illumination_path(plate).exists() for plate in index.plates) - written
        outcome.notes.append(f"kept {counted(kept, 'plate', 'plates')} measured before")
    if settings.compress:
        _compress(project, failures, outcome)
    failures.write()
    outcome.left_out = failures.counts()
    return outcome


def is_needed(project: Project) -> bool:
    """Whether a later command would miss something that ``prepare`` makes, or find it outdated."""
    settings = project.config.prepare
    if not (settings.illumination or settings.compress):
        return False
    for plate, sites in _plates(project):
        try:
            measured = illumination.load(project.illumination_path(plate), images=False)
        except DataError:
            return True
        if not _is_current(project, plate, sites, measured):
            return True
        if settings.compress and not _is_compressed(project, measured, sites):
            return True
    return False


def _plates(project: Project) -> Iterator[tuple[str, list[Site]]]:
    for plate, group in groupby(project.index.sites, key=lambda site: site.plate):
        yield plate, list(group)


def _made_from(project: Project, sites: list[Site], *, copies: bool) -> Provenance:
    """Say what a plate's illumination would be made from, with what decides its copies or not."""
    outputs = (Decides.ILLUMINATION, Decides.COPIES) if copies else (Decides.ILLUMINATION,)
    return provenance(
        project.config,
        *outputs,
        values={"dataset.channels": project.index.channels},
        inputs=named_images(sites),
    )


def _is_current(project: Project, plate: str, sites: list[Site], measured: Illumination) -> bool:
    """Whether a plate would be measured the same now; if not, the reason is logged."""
    stored = stored_provenance(measured.made_from)
    if stored is None:
        LOG.info("plate %s was measured by an earlier version: it is measured again", plate)
        return False
    now = _made_from(project, sites, copies=project.config.prepare.compress)
    if differences := stored.differences(now, project.root):
        LOG.info("plate %s is measured again: %s", plate, describe(differences))
        return False
    return True


def _unreadable(
    project: Project, plate: str, sites: list[Site]
) -> list[tuple[Site, DataError]] | None:
    """Sites of a measured plate that still cannot be read; None: it must be measured again."""
    path = project.illumination_path(plate)
    if not (path.exists() and project.quality_path(plate).exists()):
        return None
    try:
        measured = illumination.load(path)
    except DataError as error:
        LOG.warning("%s; plate %s is measured again", error, plate)
        return None
    if not _is_current(project, plate, sites, measured):
        return None
    unreadable = []
    for site in sites:
        if (site.well, site.site) in measured.failed:
            try:
                read_uncorrected(site.files)
            except DataError as error:
                unreadable.append((site, error))
    return unreadable if len(unreadable) == len(measured.failed) else None


def _chunks(sites: list[Site]) -> Iterator[list[Site]]:
    for first in range(0, len(sites), _CHUNK):
        yield sites[first : first + _CHUNK]


@dataclass
class _Measured:
    """What was measured on some sites of one plate.

    Attributes
    ----------
    statistics : IlluminationStatistics or None
        None where no site could be read.
    failed : list of (Site, DataError)
    quality : list of (Site, Quality)
    states : dict
        Name of each image file that was read to its state.
    """

    statistics: IlluminationStatistics | None
    failed: list[tuple[Site, DataError]]
    quality: list[tuple[Site, Quality]]
    states: dict[str, FileState]

    def merge(self, other: _Measured) -> None:
        """Add what was measured on further sites of the plate."""
        if self.statistics is None:
            self.statistics = other.statistics
        elif other.statistics is not None:
            self.statistics.merge(other.statistics)
        self.failed += other.failed
        self.quality += other.quality
        self.states |= other.states


def _measure(
    sites: list[Site], project: Project, channels: tuple[str, ...], settings: Prepare
) -> _Measured:
    statistics = IlluminationStatistics(channels, settings.down_scale)
    measured = _Measured(None, [], [], {})
    for site in sites:
        try:
            image = read_uncorrected(site.files)
        except DataError as error:
            measured.failed.append((site, error))
            continue
        # A wrong size is not a failure of one site: no function fits both.
        statistics.add(image, str(site.files[0].path))
        measured.quality.append((site, quality(image)))
        measured.states |= states(image_paths(project, site))
    measured.statistics = statistics if statistics.count else None
    return measured


def _by_plate(
    chunks: list[list[Site]], results: Iterator[_Measured], failures: Failures, total: int
) -> Iterator[tuple[str, _Measured]]:
    """Merge what was measured on the chunks, plate by plate, and report the failed sites."""
    progress = iter(track((site for chunk in chunks for site in chunk), total, "prepare: sites"))
    pairs = zip(chunks, results, strict=True)
    for plate, group in groupby(pairs, key=lambda pair: pair[0][0].plate):
        merged = _Measured(None, [], [], {})
        for chunk, measured in group:
            for _ in chunk:
                next(progress)
            for site, error in measured.failed:
                failures.add(plate, site.well, site.site, explain(site, error))
            merged.merge(measured)
        yield plate, merged
    next(progress, None)


def _write(project: Project, plate: str, sites: list[Site], measured: _Measured) -> tuple[str, ...]:
    """Write a plate's illumination and the quality of its sites.

    Returns
    -------
    tuple of str
        Channels that no function could be made for; see ``Illumination.flat``.
    """
    settings = project.config.prepare
    assert measured.statistics is not None
    finished = measured.statistics.finish(
        median_size=settings.median_size, percentiles=settings.percentiles
    )
    # Before: an 8-bit copy never outlives the function that it was corrected by.
    for site in sites:
        for position in range(len(project.index.channels)):
            project.compressed_path(site, position).unlink(missing_ok=True)
    made_from = _made_from(project, sites, copies=True).with_files(measured.states)
    finished = replace(
        finished,
        failed=tuple((site.well, site.site) for site, _ in measured.failed),
        percentiles_of=settings.percentiles_of,
        corrected=settings.illumination,
        made_from=made_from.to_json(),
    )
    write_quality(project, plate, measured.quality)
    illumination.save(project.illumination_path(plate), finished)
    return finished.flat


def _compress(project: Project, failures: Failures, outcome: Outcome) -> None:
    """Write the 8-bit copies of the plates that lack some."""
    index = project.index
    sites = []
    for plate, members in _plates(project):
        path = project.illumination_path(plate)
        # Without the file no site of the plate could be read.
        if not path.exists():
            continue
        measured = illumination.load(path, images=False)
        if not _is_compressed(project, measured, members):
            sites += [site for site in members if (site.well, site.site) not in measured.failed]
    clipped: dict[str, list[np.ndarray]] = {}
    failed: dict[str, list[tuple[str, str]]] = {}
    write = partial(_write_copy, project=replace(project))
    results = ordered_map(write, sites, workers=min(project.workers, max(len(sites), 1)))
    for site, result in zip(sites, track(results, len(sites), "compress: sites"), strict=True):
        if isinstance(result, DataError):
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


def _is_compressed(project: Project, measured: Illumination, sites: list[Site]) -> bool:
    """Whether a plate has all its copies, and their share of clipped pixels, written last."""
    failed = set(measured.failed)
    return measured.clipped is not None and all(
        project.compressed_path(site, position).exists()
        for site in sites
        if (site.well, site.site) not in failed
        for position in range(len(measured.channels))
    )


def _write_copy(site: Site, project: Project) -> np.ndarray | DataError:
    """Write one site's copies; return the shares of clipped pixels (C,), or what is wrong."""
    measured = load_illumination(project.illumination_path(site.plate))
    try:
        image = read_site(site.files)
        if image.shape != measured.function.shape:
            raise DataError(
                f"{site.files[0].path} is {image.shape[:2]} pixels, its plate's illumination "
                f"function {measured.function.shape[:2]}; run `prepare` again"
            )
    except DataError as error:
        return error
    if measured.corrected:
        image = illumination.correct(image, measured.function)
    whole_plate = measured.percentiles_of == "plate"
    limits = measured.percentiles if whole_plate else image_limits(image, measured.percentile_ranks)
    pixels, clipped = to_8bit(image, limits)
    for position in range(pixels.shape[2]):
        write_copy(project.compressed_path(site, position), pixels[:, :, position])
    return clipped
