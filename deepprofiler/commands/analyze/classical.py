"""Classical features as a baseline: computed here, or a table of another program."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT, PLATE, WELL
from deepprofiler.commands.analyze.aggregate import with_enough_cells
from deepprofiler.commands.locate import locate
from deepprofiler.errors import DataError
from deepprofiler.files import file_digest, replacing, values_digest
from deepprofiler.imaging.object_features import CP_MEASURE, measure_objects, require_cp_measure
from deepprofiler.imaging.read import inspect, read_labels
from deepprofiler.imaging.segment import centers
from deepprofiler.parallel import ordered_map
from deepprofiler.profiling.join import defined_means, join, without_undefined
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.index import Site, Well
from deepprofiler.project.networks import versions
from deepprofiler.project.outcome import LOG, Failures, Outcome
from deepprofiler.project.sites import SiteReader, correction_digest, explain
from deepprofiler.project.well_file import (
    Origin,
    WellFeatures,
    finished_origin,
    iterate,
    write_well,
)

# Folder beside the baseline of random weights.
_BASELINE = "classical"


def measure_cells(project: Project, outcome: Outcome) -> Profiles:
    """Measure the nuclei of every well and average them.

    Wells that are finished with the same label images and settings are left alone, unless a site
    of theirs failed. Label images that are missing are made first, by ``locate``.

    Parameters
    ----------
    project : Project
    outcome : Outcome
        Takes what was written and left out.

    Returns
    -------
    Profiles
        A row for each well with nuclei: plate, well, number of nuclei, and the mean of each feature
        over those in which it is defined. It is also written to ``profiles/classical.parquet``.

    Raises
    ------
    ConfigError
        The package cp-measure is not installed.
    DataError
        No well has nuclei.
    """
    require_cp_measure()
    if not all(project.labels_path(site).exists() for site in project.index.sites):
        LOG.info("classical features need label images: running locate with labels first")
        locate(project, labels=True)
    wells = project.index.wells()
    correction = lru_cache(partial(correction_digest, project))
    inputs = [_inputs(project, well, correction(well.plate)) for well in wells]
    todo = [
        (well, digest)
        for well, digest in zip(wells, inputs, strict=True)
        if not _is_current(project, well, digest)
    ]
    failures = Failures(project, "analyze")
    sites = [site for well, _ in todo for site in well.sites]
    measure = _Measure(SiteReader(project), replace(project), project.index.channels)
    found = ordered_map(measure, sites, workers=min(project.workers, max(len(sites), 1)))
    results = track(found, len(sites), "analyze: sites, classical features")
    for well, digest in todo:
        _write(project, well, [next(results) for _ in well.sites], digest, failures)
    next(results, None)
    failures.write()
    for what, count in failures.counts().items():
        outcome.left_out[f"{what} from the classical features"] = count
    return _average(project, wells, outcome)


@dataclass(frozen=True)
class _Site:
    """Objects of one site: centres (N,), features (N, D) and their D names; or why there are none.

    A site without objects has no names.
    """

    x: np.ndarray
    y: np.ndarray
    features: np.ndarray
    names: tuple[str, ...]
    failed: str = ""


@dataclass(frozen=True)
class _Measure:
    """Measures one site."""

    reader: SiteReader
    paths: Project
    channels: tuple[str, ...]

    def __call__(self, site: Site) -> _Site:
        """Read image and labels of ``site``, and measure the objects."""
        none = np.empty(0)
        try:
            labels = read_labels(self.paths.labels_path(site))
            image = self.reader.image(site)
            stored = inspect(self.reader.files(site)[0].path).dtype
            full = float(np.iinfo(stored).max) if stored.kind == "u" else 1.0
            features, names = measure_objects(image, labels, self.channels, full_scale=full)
        except DataError as error:
            return _Site(none, none, np.empty((0, 0)), (), str(error))
        x, y, _ = centers(labels)
        return _Site(x, y, features, tuple(names))


def _write(
    project: Project, well: Well, results: list[_Site], inputs: str, failures: Failures
) -> None:
    """Write one well's file, and name the sites that were left out."""
    failed = {}
    for site, result in zip(well.sites, results, strict=True):
        if result.failed:
            failed[site.site] = explain(site, result.failed)
            failures.add(well.plate, well.well, site.site, failed[site.site])
    names = next((result.names for result in results if result.names), ())
    pairs = [pair for pair in zip(well.sites, results, strict=True) if len(pair[1].x)]
    cells = pd.DataFrame(
        {
            "site": [site.site for site, result in pairs for _ in result.x],
            "cell": np.concatenate([np.empty(0, int), *(np.arange(len(r.x)) for _, r in pairs)]),
            "x": np.concatenate([np.empty(0), *(result.x for _, result in pairs)]),
            "y": np.concatenate([np.empty(0), *(result.y for _, result in pairs)]),
        }
    )
    origin = Origin(
        plate=well.plate,
        well=well.well,
        names=names,
        layers={CP_MEASURE: [0, len(names)]},
        channels=project.index.channels,
        crop_size=0,
        rescale="none",
        checkpoint=CP_MEASURE,
        digest=version(CP_MEASURE),
        inputs=inputs,
        failed=failed,
        versions=versions(),
    )
    features = np.concatenate(
        [np.empty((0, len(names)), np.float32), *(result.features for _, result in pairs)]
    )
    with replacing(project.well_path(well.plate, well.well, _BASELINE)) as temporary:
        write_well(temporary, WellFeatures(features, cells, origin))


def _average(project: Project, wells: list[Well], outcome: Outcome) -> Profiles:
    """Average the cells of each well, and write the table."""
    paths = [project.well_path(well.plate, well.well, _BASELINE) for well in wells]
    means = []
    for well in iterate(paths):
        count = len(well.features)
        if count:
            named = pd.DataFrame({PLATE: [well.origin.plate], WELL: [well.origin.well]})
            cells = Profiles(
                named.loc[[0] * count], well.features.astype(np.float64), list(well.origin.names)
            )
            means.append(defined_means(cells, [PLATE, WELL]).with_column(COUNT, count))
    if not means:
        raise DataError("the label images in outputs/labels hold no nuclei to measure")
    profiles = Profiles.concat(means)
    path = project.profiles_path("classical.parquet")
    profiles.write(path)
    outcome.wrote.append(f"{len(profiles.names)} classical features of {len(profiles)} wells")
    return profiles


def _inputs(project: Project, well: Well, correction: str | None) -> str:
    """Hash everything but pixels that decides a well's features."""
    decides = {
        "channels": project.index.channels,
        "prepare": project.config.prepare.model_dump(include={"illumination", "compress"}),
        "illumination": correction,
        "labels": [
            [site.site, site.sources, file_digest(project.labels_path(site))] for site in well.sites
        ],
    }
    return values_digest(decides)


def _is_current(project: Project, well: Well, inputs: str) -> bool:
    """Tell whether a well's file was made of the same, without failures."""
    origin = finished_origin(project.well_path(well.plate, well.well, _BASELINE))
    if origin is None:
        return False
    return (origin.inputs, origin.digest, origin.failed) == (inputs, version(CP_MEASURE), {})


# So many rows and features are named in a note.
_NAMED = 5


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
        The table cannot be read, has no plate and well, or no well of ours.
    """
    source = project.config.analyze.classical
    left_out_path = project.profiles_path("classical-features-left-out.csv")
    if source != CP_MEASURE:
        # What it could not measure is no longer of interest.
        Failures(project, "analyze").write()
    if source is None:
        left_out_path.unlink(missing_ok=True)
        return None
    path = project.named_path(source)
    theirs = measure_cells(project, outcome) if source == CP_MEASURE else Profiles.read(path)
    try:
        joined = join(wells, theirs, [PLATE, WELL])
        found, left_out = without_undefined(with_enough_cells(joined.profiles))
    except DataError as error:
        raise DataError(f"classical features of {path.name}: {error}") from None
    table = pd.DataFrame(left_out.items(), columns=["feature", "reason"])
    with replacing(left_out_path) as temporary:
        table.to_csv(temporary, index=False)
    for what, names in (
        ("well(s) that the index does not have with cells", joined.unknown),
        ("of our wells that it does not have", joined.missing),
        ("feature(s) that are undefined in some well", list(left_out)),
    ):
        if names:
            more = ", …" if len(names) > _NAMED else ""
            outcome.notes.append(
                f"classical features ({source}): left out {len(names)} {what}: "
                f"{', '.join(names[:_NAMED])}{more}"
            )
    return found
