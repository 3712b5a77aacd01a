"""Classical features as a baseline: measured by cp-measure, or read from another program's table.

They are scored by the step ``evaluate``, and checked before any step. Measuring them keeps a file
for each well, as ``profile`` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, COUNT, PLATE, PREFIX, SITE, WELL
from deepprofiler.commands import run_earlier
from deepprofiler.commands.analyze.descriptions import left_out_table
from deepprofiler.errors import ConfigError, DataError, counted, listing
from deepprofiler.files import replacing
from deepprofiler.imaging.object_features import CP_MEASURE, measure_objects, require_cp_measure
from deepprofiler.imaging.read import inspect, read_labels
from deepprofiler.imaging.segment import centers
from deepprofiler.parallel import ordered_map
from deepprofiler.parameters import Decides, deciding
from deepprofiler.profiling.averages import with_enough_cells
from deepprofiler.profiling.matching import Joined, defined_means, join, without_undefined
from deepprofiler.profiling.profile_files import identifying
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.freshness import (
    FileState,
    Provenance,
    describe,
    versions,
)
from deepprofiler.project.index import Site, Well
from deepprofiler.project.outcome import LOG, Failures, Outcome
from deepprofiler.project.sites import SiteReader, correction_digest, explain, named_images, states
from deepprofiler.project.well_file import (
    WellFeatures,
    WellProvenance,
    iterate,
    read_provenance_if_usable,
    write_well,
)

# Folder beside the baseline of random weights.
_BASELINE = "classical"
# So many rows and features are named in a note.
_NAMED = 5


def require_classical(source: str, path: Path, wells: pd.DataFrame) -> list[str]:
    """Check that classical features can be measured or read.

    Parameters
    ----------
    source : str
        As ``analyze.classical`` names it.
    path : Path
        Where the table is, if it is one.
    wells : DataFrame
        Plate and well of the wells of the index.

    Returns
    -------
    list of str
        What was found in a table, for a summary; nothing where features are to be measured.

    Raises
    ------
    ConfigError
        The table does not exist, or cp-measure is not installed.
    DataError
        The table cannot be read, has no plate and well, or no well of the index.
    """
    if source == CP_MEASURE:
        require_cp_measure()
        return []
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(
            f"analyze.classical names {source}: {path} {problem}; give {CP_MEASURE}, or the path "
            "of a table, relative to the project's folder"
        )
    ours = Profiles(wells, np.zeros((len(wells), 1)), ["none"])
    try:
        theirs = Profiles.read(path)
        joined = join(ours, theirs, [PLATE, WELL])
    except DataError as error:
        raise DataError(f"classical features of {path.name}: {error}") from None
    features = joined.profiles
    return [
        f"classical features: {len(features.names)} in {source}, of {len(features)} of "
        f"{len(wells)} wells{_respelled(joined)}{_not_features(theirs)}"
    ]


def classical_wells(project: Project, wells: Profiles, outcome: Outcome) -> Profiles | None:
    """Give the classical features of our wells, not normalized.

    Parameters
    ----------
    project : Project
    wells : Profiles
        Our well profiles, whose metadata and counts of cells are taken, so that the same wells
        take part in fits and scores.
    outcome : Outcome
        Takes notes on rows and features that are left out.

    Returns
    -------
    Profiles or None
        Wells with enough cells that the other table has as well, with every feature that is
        defined in all of them. None where ``analyze.classical`` is not set.

    Raises
    ------
    DataError
        The table cannot be read, has no plate and well, or none of our wells.
    """
    source = project.config.analyze.classical
    left_out_path = project.profiles_path("classical-features-left-out.csv")
    if source != CP_MEASURE:
        # Sites that an earlier run could not measure no longer matter.
        Failures(project, "analyze").write()
    if source is None:
        left_out_path.unlink(missing_ok=True)
        return None
    path = project.named_path(source)
    theirs = measure_cells(project, outcome) if source == CP_MEASURE else Profiles.read(path)
    try:
        joined = join(wells, theirs, [PLATE, WELL])
        features, left_out = without_undefined(with_enough_cells(joined.profiles))
    except DataError as error:
        raise DataError(f"classical features of {path.name}: {error}") from None
    table = left_out_table(left_out)
    with replacing(left_out_path) as temporary:
        table.to_csv(temporary, index=False)
    if joined.respelled:
        outcome.notes.append(f"classical features ({source}){_respelled(joined)}")
    for what, names in (
        ("wells that are not in the index or have no cells", joined.unknown),
        ("wells of the index that it does not have", joined.missing),
        ("features that are undefined in some well", list(left_out)),
    ):
        if names:
            more = ", …" if len(names) > _NAMED else ""
            outcome.notes.append(
                f"classical features ({source}): left out {len(names)} {what}: "
                f"{', '.join(names[:_NAMED])}{more}"
            )
    return features


def _not_features(theirs: Profiles) -> str:
    """Say how many columns describe objects without measuring them; nothing without any."""
    names = [name.removeprefix(PREFIX) for name in identifying(map(str, theirs.metadata.columns))]
    if not names:
        return ""
    columns = counted(len(names), "column identifies", "columns identify")
    return f"; {columns}, place or count objects and are no features: {listing(names, _NAMED)}"


def _respelled(joined: Joined) -> str:
    """Say how many wells the other table writes in another way; nothing where there are none."""
    if not joined.respelled:
        return ""
    own, other = joined.respelled[0]
    wells = counted(len(joined.respelled), "well is", "wells are")
    return f"; {wells} spelled otherwise there, such as {other} for {own}, and joined by place"


# -- measuring ---------------------------------------------------------------------------------


def measure_cells(project: Project, outcome: Outcome) -> Profiles:
    """Measure the nuclei of every well and average them.

    A well is kept while what its features are made from is the same: settings, images, label
    images, illumination, and the version of cp-measure. A well with a failed site is always
    measured again. Missing label images are made first, by ``locate``.

    Parameters
    ----------
    project : Project
    outcome : Outcome
        Takes what was written and left out.

    Returns
    -------
    Profiles
        A row for each well with nuclei: plate, well, number of nuclei, and the mean of each feature
        over the nuclei in which it is defined. It is also written to
        ``profiles/classical.parquet``.

    Raises
    ------
    ConfigError
        The package cp-measure is not installed.
    DataError
        No well has nuclei.
    """
    require_cp_measure()
    if not all(project.labels_path(site).exists() for site in project.index.sites):
        run_earlier(project, "locate", "classical features need label images", labels=True)
    plans = list(_plans(project))
    outdated = [plan for plan in plans if not _is_current(plan, project.root)]
    failures = Failures(project, "analyze")
    for plan, sites in _measured(outdated, SiteReader(project), project.workers):
        _write(plan, sites, failures)
    failures.write()
    for what, count in failures.counts().items():
        outcome.left_out[f"{what} from the classical features"] = count
    profiles = _average([plan.path for plan in plans])
    profiles.write(project.profiles_path("classical.parquet"))
    outcome.wrote.append(f"{len(profiles.names)} classical features of {len(profiles)} wells")
    return profiles


@dataclass(frozen=True)
class _MeasurementPlan:
    """A well to measure, its file, and what it is made from, but for the files.

    Attributes
    ----------
    labels : dict
        Names of the label images, one a site, as provenance knows them, to their paths.
    """

    well: Well
    path: Path
    labels: dict[str, Path]
    channels: tuple[str, ...]
    made_from: Provenance


def _plans(project: Project) -> Iterator[_MeasurementPlan]:
    """Plan every well of the index."""
    channels = project.index.channels
    correction = lru_cache(partial(correction_digest, project))
    prepare = deciding(project.config.prepare, Decides.FEATURES)
    settings = {f"prepare.{name}": value for name, value in prepare.items()}
    for well in project.index.wells():
        labels = [project.labels_path(site) for site in well.sites]
        yield _MeasurementPlan(
            well,
            project.well_path(well.plate, well.well, _BASELINE),
            {project.name_of(path): path for path in labels},
            channels,
            Provenance(
                output="classical features",
                settings={"dataset.channels": list(channels), **settings},
                inputs={
                    CP_MEASURE: version(CP_MEASURE),
                    "illumination": correction(well.plate),
                    **named_images(well.sites),
                },
                versions=versions(),
            ),
        )


def _is_current(plan: _MeasurementPlan, root: Path) -> bool:
    """Tell whether a well's file would be the same now, and was written without failures."""
    stored = read_provenance_if_usable(plan.path)
    if stored is None or stored.failed:
        return False
    if stored.made_from is None:
        LOG.info("%s was written by an earlier release; the well is measured again", plan.path)
        return False
    if differences := stored.made_from.differences(plan.made_from, root):
        reason = describe(differences)
        LOG.info("plate %s well %s is measured again: %s", stored.plate, stored.well, reason)
        return False
    return True


@dataclass(frozen=True)
class _SiteObjects:
    """The objects of one site, or why there are none.

    Attributes
    ----------
    x, y : ndarray, (N,)
        Centres in pixels.
    features : ndarray, (N, D)
    names : tuple of str
        D names; a site without objects has none.
    files : dict
        States of images and label image.
    failed : DataError or None
    """

    x: np.ndarray = field(default_factory=lambda: np.empty(0))
    y: np.ndarray = field(default_factory=lambda: np.empty(0))
    features: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    names: tuple[str, ...] = ()
    files: dict[str, FileState] = field(default_factory=dict)
    failed: DataError | None = None


@dataclass(frozen=True)
class _Measure:
    """Measures one site, in a process of its own."""

    reader: SiteReader
    channels: tuple[str, ...]

    def __call__(self, work: tuple[Site, str, Path]) -> _SiteObjects:
        """Read image and labels of a site, and measure the objects."""
        site, labels_name, labels_path = work
        try:
            files = states({labels_name: labels_path}) | self.reader.states(site)
            labels = read_labels(labels_path)
            image = self.reader.image(site)
            stored = inspect(self.reader.files(site)[0].path).dtype
            full = float(np.iinfo(stored).max) if stored.kind == "u" else 1.0
            features, names = measure_objects(image, labels, self.channels, full_scale=full)
        except DataError as error:
            return _SiteObjects(failed=error)
        x, y, _ = centers(labels)
        return _SiteObjects(x, y, features, tuple(names), files)


def _measured(
    plans: Sequence[_MeasurementPlan], reader: SiteReader, workers: int
) -> Iterator[tuple[_MeasurementPlan, list[_SiteObjects]]]:
    """Measure all sites in parallel, and give them well by well."""
    work = [
        (site, name, path)
        for plan in plans
        for site, (name, path) in zip(plan.well.sites, plan.labels.items(), strict=True)
    ]
    measure = _Measure(reader, reader.channels)
    results = ordered_map(measure, work, workers=min(workers, max(len(work), 1)))
    progress = track(results, len(work), "analyze: sites, classical features")
    for plan in plans:
        yield plan, [next(progress) for _ in plan.well.sites]
    next(progress, None)


def _write(plan: _MeasurementPlan, sites: list[_SiteObjects], failures: Failures) -> None:
    """Write one well's file, and report the sites that were left out."""
    well, failed = plan.well, {}
    for site, objects in zip(well.sites, sites, strict=True):
        if objects.failed is not None:
            failed[site.site] = explain(site, objects.failed)
            failures.add(well.plate, well.well, site.site, failed[site.site])
    names = next((objects.names for objects in sites if objects.names), ())
    pairs = [pair for pair in zip(well.sites, sites, strict=True) if len(pair[1].x)]
    cells = pd.DataFrame(
        {
            SITE: [site.site for site, objects in pairs for _ in objects.x],
            CELL: np.concatenate([np.empty(0, int), *(np.arange(len(s.x)) for _, s in pairs)]),
            "x": np.concatenate([np.empty(0), *(objects.x for _, objects in pairs)]),
            "y": np.concatenate([np.empty(0), *(objects.y for _, objects in pairs)]),
        }
    )
    files = {name: state for objects in sites for name, state in objects.files.items()}
    provenance = WellProvenance(
        plate=well.plate,
        well=well.well,
        names=names,
        layers={CP_MEASURE: [0, len(names)]},
        channels=plan.channels,
        crop_size=0,
        rescale="none",
        checkpoint=CP_MEASURE,
        digest=version(CP_MEASURE),
        made_from=plan.made_from.with_files(files),
        failed=failed,
    )
    none = np.empty((0, len(names)), np.float32)
    features = np.concatenate([none, *(objects.features for _, objects in pairs)])
    with replacing(plan.path) as temporary:
        write_well(temporary, WellFeatures(features, cells, provenance))


def _average(paths: Sequence[Path]) -> Profiles:
    """Average the cells of each well; each feature over the cells in which it is defined."""
    means = []
    for well in iterate(paths):
        if count := len(well.features):
            place = pd.DataFrame({PLATE: [well.provenance.plate], WELL: [well.provenance.well]})
            cells = Profiles(
                place.loc[[0] * count],
                well.features.astype(np.float64),
                list(well.provenance.names),
                str(well.features.dtype),
            )
            means.append(defined_means(cells, [PLATE, WELL]).with_column(COUNT, count))
    if not means:
        raise DataError("the label images in outputs/labels hold no nuclei to measure")
    return Profiles.concat(means)
