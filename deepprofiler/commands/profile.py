"""Write the features of every cell, one file per well."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
import pandas as pd

from deepprofiler.commands.export_cells import make_inputs
from deepprofiler.commands.train import train
from deepprofiler.errors import DataError
from deepprofiler.files import replacing, values_digest
from deepprofiler.learning.extract import extract
from deepprofiler.parallel import ordered_map
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.index import Site, Well
from deepprofiler.project.networks import (
    TRAINED,
    Weights,
    random_weights,
    trained_weights,
    versions,
    write_config,
)
from deepprofiler.project.outcome import LOG, Failures, Outcome
from deepprofiler.project.sites import (
    SiteReader,
    cells_digest,
    correction_digest,
    cut_cells,
    explain,
    labels_digest,
    read_cells,
    require_whole_index,
)
from deepprofiler.project.well_file import Origin, WellFeatures, finished_origin, write_well

RANDOM = "random"
# Twice as many sites are read ahead, whose crops wait in memory.
_READERS = 8


def profile(project: Project, *, random_seed: int | None = None) -> Outcome:
    """Write ``outputs/<experiment>/features/<plate>/<well>.h5``.

    Wells that are finished with the same weights, settings and locations are left alone, unless a
    site of theirs failed.

    Parameters
    ----------
    project : Project
    random_seed : int, optional
        Profile with untrained weights of this seed, as a baseline, into
        ``outputs/<experiment>/baselines/random-<seed>/features``.

    Returns
    -------
    Outcome
    """
    make_inputs(project)
    name = project.config.profile.checkpoint
    baseline = None if random_seed is None else f"random-{random_seed}"
    if random_seed is not None or name == RANDOM:
        seed = project.config.dataset.seed if random_seed is None else random_seed
        weights = random_weights(project, seed)
    else:
        if name in TRAINED and not project.checkpoint_path(name).exists():
            require_whole_index(project, "train")
            LOG.info("experiment %s has no weights: running train first", project.experiment)
            train(project)
        weights = trained_weights(project, name)
    if baseline is None:
        write_config(project, weights.seed, keep_training=name in TRAINED)
    return _Run(project, weights, baseline).all()


@dataclass
class _Site:
    """One site whose crops are on their way to the network: its cells, and what was left out."""

    site: Site
    cells: pd.DataFrame
    dropped: list[tuple[str, str]] = field(default_factory=list)
    failed: str = ""


class _Run:
    """Profiles the wells of a project with one set of weights."""

    def __init__(self, project: Project, weights: Weights, baseline: str | None):
        self.project = project
        self.weights = weights
        self.baseline = baseline
        self.failures = Failures(project, "profile")
        self._correction = lru_cache(partial(correction_digest, project))

    def all(self) -> Outcome:
        """Profile every well that is not current."""
        project = self.project
        wells = project.index.wells()
        inputs = {(well.plate, well.well): self._inputs(well) for well in wells}
        todo = [well for well in wells if not self._keep(well, inputs[well.plate, well.well])]
        done = cells = 0
        for well, results in self._wells(todo):
            cells += self._write(well, results, inputs[well.plate, well.well])
            done += 1
        if self.baseline is None:
            # A baseline sees the same sites; what failed is in the table already.
            self.failures.write()
        outcome = Outcome("profile", left_out=self.failures.counts(), then="analyze")
        if self.weights.warning:
            outcome.notes.append(self.weights.warning)
        if done:
            folder = project.features_folder(self.baseline)
            outcome.wrote.append(f"{cells} cells of {done} wells to {folder}")
        if len(wells) > done:
            outcome.notes.append(f"kept {len(wells) - done} wells that were finished before")
        return outcome

    def _wells(self, wells: list[Well]) -> Iterator[tuple[Well, list[tuple[_Site, np.ndarray]]]]:
        """Give each well's sites with their features, as the network finishes them."""
        sites = [site for well in wells for site in well.sites]
        cutter = _Cutter(self.project, self.weights.channels)
        waiting: deque[_Site] = deque()
        workers = min(self.project.workers, _READERS)

        def crops() -> Iterator[np.ndarray]:
            # Only what the table needs stays until the well is written, not the crops.
            for result, found in ordered_map(cutter, sites, workers=workers, kind="thread"):
                waiting.append(result)
                yield found

        batch = self.project.config.profile.batch_size
        features: Iterable[np.ndarray] = extract(crops(), self.weights.function, batch)
        progress = track(features, len(sites), "profile: sites")
        for well in wells:
            results = []
            for _ in well.sites:
                found = next(progress)
                results.append((waiting.popleft(), found))
            yield well, results
        next(progress, None)

    def _write(self, well: Well, results: list[tuple[_Site, np.ndarray]], inputs: str) -> int:
        """Write one well's file, name what was left out, and return its number of cells."""
        tables, matrices, failed, dropped = [], [], {}, []
        for result, features in results:
            site = result.site
            for line, reason in result.dropped:
                dropped.append((site.site, line, reason))
            if not result.failed and not np.isfinite(features).all():
                result.failed = (
                    "the network's features are not finite; look at the image for values that are "
                    "no numbers; if it is fine, train again or take other weights "
                    "(profile.checkpoint)"
                )
            if result.failed:
                reason = explain(site, result.failed)
                self.failures.add(well.plate, well.well, site.site, reason)
                failed[site.site] = reason
                continue
            result.cells.insert(0, "site", site.site)
            tables.append(result.cells)
            matrices.append(features)
        self._add_dropped(well, dropped)
        weights = self.weights
        size = len(weights.names)
        cells = pd.concat(tables, ignore_index=True) if tables else _no_cells()
        origin = Origin(
            plate=well.plate,
            well=well.well,
            names=weights.names,
            layers=weights.layers,
            channels=weights.channels,
            crop_size=self.project.config.crops.size,
            rescale=self.project.config.crops.rescale,
            checkpoint=weights.name,
            digest=weights.digest,
            inputs=inputs,
            failed=failed,
            dropped=tuple(dropped),
            versions=versions(),
        )
        found = np.concatenate([np.empty((0, size), np.float32), *matrices])
        with replacing(self.project.well_path(well.plate, well.well, self.baseline)) as temporary:
            write_well(temporary, WellFeatures(found, cells, origin))
        return len(cells)

    def _inputs(self, well: Well) -> str:
        """Hash everything but weights and pixels that decides a well's features."""
        config = self.project.config
        locations = []
        for site in well.sites:
            found = cells_digest(self.project, site)
            labels = labels_digest(self.project, site)
            locations.append([site.site, site.sources, found, labels])
        decides = {
            "channels": self.weights.channels,
            "crops": config.crops.model_dump(
                include={"size", "geometry", "rescale", "mask", "resize"}
            ),
            "prepare": config.prepare.model_dump(include={"illumination", "compress"}),
            "illumination": self._correction(well.plate),
            "locations": locations,
        }
        return values_digest(decides)

    def _keep(self, well: Well, inputs: str) -> bool:
        """Tell whether a well is current, and name again what was left out of it."""
        origin = finished_origin(self.project.well_path(well.plate, well.well, self.baseline))
        if origin is None:
            return False
        found = (origin.inputs, origin.digest, origin.names)
        if found != (inputs, self.weights.digest, self.weights.names) or origin.failed:
            return False
        self._add_dropped(well, origin.dropped)
        return True

    def _add_dropped(self, well: Well, dropped: Iterable[tuple[str, str, str]]) -> None:
        for site, line, reason in dropped:
            self.failures.add(well.plate, well.well, site, reason, cell=line)


class _Cutter:
    """Reads a site and cuts its cells, for a thread."""

    def __init__(self, project: Project, channels: tuple[str, ...]):
        self._project = project
        self._reader = SiteReader(project)
        self._channels = len(channels)

    def __call__(self, site: Site) -> tuple[_Site, np.ndarray]:
        """Give the site's cells and crops (n, S, S, C); none where it cannot be used."""
        size = self._project.config.crops.size
        try:
            image = self._reader.image(site)
            cells, dropped = read_cells(self._project, site, image.shape[:2], size)
            centers = cells[["x", "y"]].to_numpy()
            crops = cut_cells(self._project, site, image, centers, size)
        except DataError as error:
            none = np.empty((0, size, size, self._channels), np.float32)
            return _Site(site, _no_cells(), failed=str(error)), none
        return _Site(site, cells, dropped), crops


def _no_cells() -> pd.DataFrame:
    """Give the table of a site without cells."""
    return pd.DataFrame({"cell": np.empty(0, int), "x": np.empty(0), "y": np.empty(0)})
