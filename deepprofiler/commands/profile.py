"""Write the features of every cell, one file per well.

An option is an argument of :func:`profile`, and is declared in ``cli.py``.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, SITE
from deepprofiler.commands import other_experiments, run_earlier
from deepprofiler.commands.export_cells import make_inputs
from deepprofiler.errors import ConfigError, DataError, counted
from deepprofiler.files import replacing
from deepprofiler.learning.extract import extract
from deepprofiler.parallel import ordered_map
from deepprofiler.parameters import Decides
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.freshness import (
    FileState,
    Provenance,
    describe,
    digest_of,
    provenance,
)
from deepprofiler.project.index import Site, Well
from deepprofiler.project.networks import (
    RANDOM,
    TRAINED,
    Weights,
    random_weights,
    require_weight_file,
    trained_weights,
    write_config,
)
from deepprofiler.project.outcome import LOG, Failures, Outcome
from deepprofiler.project.sites import (
    SiteReader,
    cells_digests,
    correction_digest,
    cut_cells,
    explain,
    named_images,
    read_cells,
    require_whole_index,
)
from deepprofiler.project.well_file import (
    DroppedCell,
    WellFeatures,
    WellProvenance,
    read_provenance_if_usable,
    write_well,
)

# Twice as many sites are read ahead, whose crops wait in memory.
_READERS = 8
_NOT_FINITE = (
    "the network's features are not finite; look for values in the image that are not numbers; if "
    "there are none, train again or use other weights (profile.checkpoint)"
)


def profile(project: Project, *, random_seed: int | None = None) -> Outcome:
    """Write ``outputs/<experiment>/features/<plate>/<well>.h5``.

    A well is kept while what its features are made from is the same: weights, settings, images,
    locations, illumination. A well with a failed site is always computed again.

    Parameters
    ----------
    project : Project
    random_seed : int, optional
        Profile with untrained weights of this seed, as a baseline, into
        ``outputs/<experiment>/baselines/random-<seed>/features``.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        There are no weights, and the experiment or the weights were named, or other experiments
        exist: only the first of all is trained without being asked for.
    """
    if random_seed is None:
        require_weight_file(project)
        _refuse_unasked_training(project)
    make_inputs(project)
    weights = _weights(project, random_seed)
    if random_seed is None:
        write_config(project, weights.seed, keep_training=weights.trained)
    baseline = None if random_seed is None else f"random-{random_seed}"
    return _Profiler(project, weights, baseline).run()


def _refuse_unasked_training(project: Project) -> None:
    """Stop where training, the longest command, would begin because of a slip.

    A name may be mistyped, ``--exp`` forgotten, or a config of the original name no weights.
    """
    settings = project.config.profile
    path = project.checkpoint_path(settings.checkpoint)
    if settings.checkpoint not in TRAINED or path.exists():
        return
    weights_are_named = "checkpoint" in settings.model_fields_set
    if not (weights_are_named or project.experiment_is_named or project.experiments()):
        return
    files = sorted(file.name for file in path.parent.glob("[!.]*"))
    choices = ["random", "imagenet", *files]
    raise ConfigError(
        f"{path} does not exist: experiment {project.experiment} is not trained; run `train` to "
        f"train it; name other weights in profile.checkpoint: {', '.join(choices)}; "
        f"{other_experiments(project)}"
    )


def _weights(project: Project, random_seed: int | None) -> Weights:
    """Load the configured weights, trained first where there are none; or make random ones."""
    name = project.config.profile.checkpoint
    if random_seed is not None or name == RANDOM:
        return random_weights(
            project, project.config.dataset.seed if random_seed is None else random_seed
        )
    if name in TRAINED and not project.checkpoint_path(name).exists():
        require_whole_index(project, "train")
        run_earlier(project, "train", f"experiment {project.experiment} has no weights")
    return trained_weights(project, name)


@dataclass
class _SiteCells:
    """The cells of one site whose crops are on their way to the network, and what was left out."""

    site: Site
    cells: pd.DataFrame
    states: dict[str, FileState]
    dropped: list[DroppedCell] = field(default_factory=list)
    failed: DataError | None = None


@dataclass(frozen=True)
class _WellPlan:
    """A well to profile, its file, and what it will be made from, but for the images."""

    well: Well
    path: Path
    made_from: Provenance


class _Profiler:
    """Profiles the wells of a project with one set of weights."""

    def __init__(self, project: Project, weights: Weights, baseline: str | None):
        self.project = project
        self.weights = weights
        self.baseline = baseline
        self.reader = SiteReader(project)
        self.failures = Failures(project, "profile")
        self._reasons: Counter[str] = Counter()
        self._correction = lru_cache(partial(correction_digest, project))

    def run(self) -> Outcome:
        """Profile every well that is not current."""
        project = self.project
        plans = [self._plan(well) for well in project.index.wells()]
        outdated = [plan for plan in plans if not self._keep(plan)]
        for reason, count in self._reasons.items():
            LOG.info("%s computed again: %s", counted(count, "well is", "wells are"), reason)
        cells = sum(self._write(plan, results) for plan, results in self._features(outdated))
        if self.baseline is None:
            # A baseline reads the same sites: what failed is in the table already.
            self.failures.write()
        outcome = Outcome("profile", left_out=self.failures.counts(), then="analyze")
        if self.weights.warning:
            outcome.notes.append(self.weights.warning)
        if outdated:
            folder = project.features_folder(self.baseline)
            outcome.wrote.append(f"{cells} cells of {len(outdated)} wells to {folder}")
        if kept := len(plans) - len(outdated):
            outcome.notes.append(f"kept {kept} wells that are up to date")
        return outcome

    def _plan(self, well: Well) -> _WellPlan:
        made_from = provenance(
            self.project.config,
            Decides.FEATURES,
            values={"dataset.channels": self.weights.channels},
            inputs={
                "weights": self.weights.digest,
                "feature names": digest_of(self.weights.names),
                "illumination": self._correction(well.plate),
                **named_images(well.sites),
                **cells_digests(self.project, well.sites),
            },
        )
        path = self.project.well_path(well.plate, well.well, self.baseline)
        return _WellPlan(well, path, made_from)

    def _keep(self, plan: _WellPlan) -> bool:
        """Tell whether a well is current, and report again what was left out of it."""
        stored = read_provenance_if_usable(plan.path)
        if stored is None or stored.failed:
            return False
        if stored.made_from is None:
            self._reasons["the files were written by an earlier version"] += 1
            return False
        if differences := stored.made_from.differences(plan.made_from, self.project.root):
            self._reasons[describe(differences)] += 1
            return False
        self._report_dropped(plan.well, stored.dropped)
        return True

    def _features(
        self, plans: list[_WellPlan]
    ) -> Iterator[tuple[_WellPlan, list[tuple[_SiteCells, np.ndarray]]]]:
        """Give each well's sites with their features, as the network finishes them."""
        sites = [site for plan in plans for site in plan.well.sites]
        read_site = _ReadSite(self.project, self.reader, self.weights.channels)
        waiting: deque[_SiteCells] = deque()
        workers = min(self.project.workers, _READERS)

        def crops() -> Iterator[np.ndarray]:
            # Only what the table needs stays until the well is written, not the crops.
            for cells, site_crops in ordered_map(read_site, sites, workers=workers, kind="thread"):
                waiting.append(cells)
                yield site_crops

        batch = self.project.config.profile.batch_size
        features: Iterable[np.ndarray] = extract(crops(), self.weights.function, batch)
        progress = track(features, len(sites), "profile: sites")
        for plan in plans:
            results = []
            for _ in plan.well.sites:
                site_features = next(progress)
                results.append((waiting.popleft(), site_features))
            yield plan, results
        next(progress, None)

    def _write(self, plan: _WellPlan, results: list[tuple[_SiteCells, np.ndarray]]) -> int:
        """Write one well's file, name what was left out, and return its number of cells."""
        well, weights = plan.well, self.weights
        tables, matrices, failed = [], [], {}
        for cells, features in results:
            if cells.failed is None and not np.isfinite(features).all():
                cells.failed = DataError(_NOT_FINITE)
            if cells.failed is not None:
                reason = explain(cells.site, cells.failed)
                self.failures.add(well.plate, well.well, cells.site.site, reason)
                failed[cells.site.site] = reason
                continue
            cells.cells.insert(0, SITE, cells.site.site)
            tables.append(cells.cells)
            matrices.append(features)
        dropped = tuple(cell for cells, _ in results for cell in cells.dropped)
        self._report_dropped(well, dropped)
        table = pd.concat(tables, ignore_index=True) if tables else _no_cells()
        files = {name: state for cells, _ in results for name, state in cells.states.items()}
        well_provenance = WellProvenance(
            plate=well.plate,
            well=well.well,
            names=weights.names,
            layers=weights.layers,
            channels=weights.channels,
            crop_size=self.project.config.crops.size,
            rescale=self.project.config.crops.rescale,
            checkpoint=weights.name,
            digest=weights.digest,
            trained=weights.trained,
            made_from=plan.made_from.with_files(files),
            failed=failed,
            dropped=dropped,
        )
        matrix = np.concatenate([np.empty((0, len(weights.names)), np.float32), *matrices])
        with replacing(plan.path) as temporary:
            write_well(temporary, WellFeatures(matrix, table, well_provenance))
        return len(table)

    def _report_dropped(self, well: Well, dropped: Iterable[DroppedCell]) -> None:
        for cell in dropped:
            self.failures.add(well.plate, well.well, cell.site, cell.reason, cell=cell.line)


class _ReadSite:
    """Reads a site and cuts its cells, for a thread."""

    def __init__(self, project: Project, reader: SiteReader, channels: tuple[str, ...]):
        self._project = project
        self._reader = reader
        self._channels = len(channels)

    def __call__(self, site: Site) -> tuple[_SiteCells, np.ndarray]:
        """Give the site's cells and crops (n, S, S, C); none where it cannot be used."""
        size = self._project.config.crops.size
        states: dict[str, FileState] = {}
        try:
            image = self._reader.image(site)
            states = self._reader.states(site)
            cells, reasons = read_cells(self._project, site, image.shape[:2], size)
            crops = cut_cells(self._project, site, image, cells[["x", "y"]].to_numpy(), size)
        except DataError as error:
            none = np.empty((0, size, size, self._channels), np.float32)
            return _SiteCells(site, _no_cells(), states, failed=error), none
        dropped = [DroppedCell(site.site, line, reason) for line, reason in reasons]
        return _SiteCells(site, cells, states, dropped), crops


def _no_cells() -> pd.DataFrame:
    """Give the table of a site without cells."""
    return pd.DataFrame({CELL: np.empty(0, int), "x": np.empty(0), "y": np.empty(0)})
