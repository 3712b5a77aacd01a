"""Train the network to tell treatments apart: the auxiliary task."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deepprofiler.errors import ConfigError, DataError
from deepprofiler.learning import checkpoint
from deepprofiler.learning.augment import Augmentation
from deepprofiler.learning.batches import Look
from deepprofiler.learning.cells import CellStore, read_settings, table_path
from deepprofiler.learning.checkpoint import Checkpoint
from deepprofiler.learning.device import set_seed
from deepprofiler.learning.fit import fit
from deepprofiler.learning.recipe import Recipe
from deepprofiler.learning.sampling import Cells
from deepprofiler.metadata import PLATE, SITE, WELL
from deepprofiler.progress import Steps
from deepprofiler.project import Project
from deepprofiler.registry import CROP_GENERATORS
from deepprofiler.splits import training_labels, validation_rows
from deepprofiler.stages.crops import crop_settings
from deepprofiler.stages.export_cells import export_cells
from deepprofiler.stages.networks import build_network, description, find_plugins, write_config
from deepprofiler.stages.outcome import LOG, Outcome
from deepprofiler.stages.sites import SiteReader, require_whole_index


def train(project: Project, *, epoch: int | None = None, seed: int | None = None) -> Outcome:
    """Write ``outputs/<experiment>/checkpoint/last.h5`` and ``best.h5``.

    Parameters
    ----------
    project : Project
    epoch : int, optional
        The epoch to go on with; 1 starts anew, and replaces what there is once its first epoch
        is finished. By default the one after the last finished.
    seed : int, optional
        In place of the config's, or, where training goes on, of the one that it began with.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        The index is one part of a split one, or training cannot go on with ``epoch``.
    """
    require_whole_index(project, "train")
    config = project.config
    outcome = Outcome("train", then="profile")
    index = project.index
    index.values("label")
    find_plugins(project)
    fresh = epoch == 1
    before = _before(project, fresh)
    seed = _seed(project, seed, before, outcome)
    about = description(project) | {"generator": config.train.generator.model_dump(), "seed": seed}
    last, best = (project.checkpoint_path(name) for name in ("last", "best"))
    # Before anything is exported for a training that cannot go on.
    if before is not None:
        checkpoint.require(last, before.about, about)
    _require_next(last, epoch, 0 if before is None else before.epoch)
    store = _open_store(project, outcome)
    chosen = _choose(project, store, seed, outcome)
    generator = CROP_GENERATORS.build(
        config.train.generator.name, params=config.train.generator.params
    )
    set_seed(seed)
    network = build_network(project, len(chosen.classes))
    settings = config.train
    augment, stopping = settings.augment, settings.early_stopping
    if before is not None:
        checkpoint.require(last, before.about, {"classes": chosen.classes})
    write_config(project, seed)
    with Steps(settings.epochs) as progress:
        history = fit(
            network,
            generator,
            gather=store.gather,
            training=chosen.training,
            validation=chosen.validation,
            classes=chosen.classes,
            look=Look(
                size=config.crops.size,
                rescale=config.crops.rescale,
                augmentation=Augmentation(
                    augment.flips, augment.turns, augment.rotations, augment.shift
                ),
            ),
            recipe=Recipe(
                epochs=settings.epochs,
                steps=settings.steps,
                batch_size=settings.batch_size,
                optimizer=settings.optimizer.name,
                learning_rate=settings.learning_rate,
                momentum=settings.optimizer.momentum,
                weight_decay=settings.optimizer.weight_decay,
                schedule=settings.schedule,
                label_smoothing=settings.label_smoothing,
                patience=stopping.patience if stopping else None,
                seed=seed,
            ),
            about=about,
            last=last,
            best=best,
            figures=project.history_path,
            logs=project.logs_folder,
            fresh=fresh,
            progress=progress,
        )
    done = len(history.epochs) - history.resumed
    if done:
        outcome.wrote.append(f"{done} epoch(s) to {last} and {best.name}")
    if history.resumed:
        outcome.notes.append(f"{history.resumed} epoch(s) had been finished before")
    row = history.epochs[-1]
    if "val_macro_accuracy" in row:
        outcome.notes.append(
            f"validation accuracy {row['val_accuracy']:.3f} of cells, "
            f"{row['val_macro_accuracy']:.3f} mean of {len(chosen.classes)} classes "
            f"(chance {1 / len(chosen.classes):.3f}); best epoch {history.best}"
        )
    return outcome


def layers(project: Project) -> list[tuple[str, int]]:
    """Name and number of features of each layer of the configured network."""
    find_plugins(project)
    return build_network(project, classes=2).layers()


def _open_store(project: Project, outcome: Outcome) -> CellStore:
    """Export what is missing or outdated, and open the stores that there are.

    A machine that only trains may have the stores and none of the images.
    """
    paths = [project.store_path(plate) for plate in project.index.plates]
    if _has_images(project) or not all(_is_whole(path) for path in paths):
        exported = export_cells(project)
        outcome.left_out = {f"{what} (export-sc)": n for what, n in exported.left_out.items()}
    else:
        outcome.notes.append("no image of the index is here: the cells are used as exported")
    # The store of a plate whose images cannot be read (any more) may be of other settings.
    expected = crop_settings(project)
    found = [path for path in paths if _is_whole(path)]
    usable = [path for path in found if _config(path) == expected]
    if len(usable) < len(found):
        outcome.notes.append(
            f"{len(found) - len(usable)} plate(s) are not trained on: their cells were exported "
            "with other settings, and their images cannot be read"
        )
    return CellStore(usable)


def _config(store: Path) -> object:
    """Give what the config said when a store was made."""
    return json.loads(read_settings(store)).get("config")


def _is_whole(store: Path) -> bool:
    return store.exists() and table_path(store).exists()


def _has_images(project: Project) -> bool:
    """Whether any image, or 8-bit copy of one, is there."""
    reader = SiteReader(project)
    return any(
        file.path.exists()
        for site in project.index.sites
        for file in (*site.files, *reader.files(site))
    )


@dataclass(frozen=True)
class _Chosen:
    """The cells to train on and to watch, and the names of their classes."""

    training: Cells
    validation: Cells | None
    classes: list[str]


def _choose(project: Project, store: CellStore, seed: int, outcome: Outcome) -> _Chosen:
    """Join labels from the index and divide the cells; what is not used is counted."""
    index, settings = project.index, project.config.train
    sites = pd.MultiIndex.from_frame(index.table[[PLATE, WELL, SITE]])
    where = sites.get_indexer(pd.MultiIndex.from_frame(store.table[["plate", "well", "site"]]))
    labels = training_labels(index, controls=settings.controls, labels=settings.labels)
    codes = np.where(where < 0, -1, labels.codes[where])
    for reason, count in labels.left_out.items():
        outcome.notes.append(f"not trained on: {count} site(s) {reason}")
    strangers = int((where < 0).sum())
    if strangers:
        outcome.notes.append(f"{strangers} exported cells are of sites that the index lacks")
    bare = len(sites) - len(np.unique(where[where >= 0]))
    if bare:
        outcome.notes.append(f"{bare} site(s) of the index have no exported cells")
    held = _held_out(project, codes, where, seed, outcome)
    counts = np.bincount(codes[(codes >= 0) & ~held], minlength=len(labels.classes))
    if (counts == 0).any():
        names = [name for name, n in zip(labels.classes, counts, strict=True) if n == 0]
        outcome.notes.append(f"{len(names)} label(s) have no training cells: {', '.join(names)}")
    kept = np.flatnonzero(counts)
    if len(kept) < 2:
        raise DataError(
            f"training needs two labels with cells; there are {len(kept)}: "
            f"{', '.join(labels.classes[code] for code in kept) or 'none'} "
            f"(column {index.roles['label']})"
        )
    # Codes of the classes that are left; -1 for the others, and for no label at all.
    recode = np.full(len(labels.classes) + 1, -1)
    recode[kept] = np.arange(len(kept))
    codes = recode[codes]
    classes = [labels.classes[code] for code in kept]
    LOG.info(
        "training on %d cells of %d labels (%d to %d each), validating on %d",
        ((codes >= 0) & ~held).sum(),
        len(classes),
        counts[kept].min(),
        counts[kept].max(),
        ((codes >= 0) & held).sum(),
    )

    def cells(rows: np.ndarray) -> Cells:
        columns = {
            role: index.values(role).to_numpy()[where[rows]]
            for role in ("batch", "replicate")
            if index.has(role)
        }
        return Cells.from_columns(
            row=rows,
            label=codes[rows],
            classes=len(classes),
            plate=store.table["plate"].to_numpy()[rows],
            well=store.table["well"].to_numpy()[rows],
            **columns,
        )

    watched = np.flatnonzero((codes >= 0) & held)
    return _Chosen(
        cells(np.flatnonzero((codes >= 0) & ~held)),
        cells(watched) if len(watched) else None,
        classes,
    )


def _held_out(
    project: Project, codes: np.ndarray, where: np.ndarray, seed: int, outcome: Outcome
) -> np.ndarray:
    """Which cells validate, (N,) bool; cells in neither half lose their code."""
    settings = project.config.train.validation
    sites = validation_rows(project.index, settings)
    if sites is not None:
        for reason, count in sites.left_out.items():
            outcome.notes.append(f"neither trained on nor validated: {count} site(s) {reason}")
        codes[~(sites.training | sites.validation)[where]] = -1
        return sites.validation[where] & (where >= 0)
    rng = np.random.default_rng(seed)
    held = np.zeros(len(codes), bool)
    for code in np.unique(codes[codes >= 0]):
        rows = rng.permutation(np.flatnonzero(codes == code))
        held[rows[: int(len(rows) * settings.fraction)]] = True
    return held


def _before(project: Project, fresh: bool) -> Checkpoint | None:
    """Read where training stands; None where it starts anew."""
    path = project.checkpoint_path("last")
    return None if fresh or not path.exists() else checkpoint.read(path)


def _seed(project: Project, given: int | None, before: Checkpoint | None, outcome: Outcome) -> int:
    """Choose the seed: the given one, the one that training began with, or the config's."""
    seed = project.config.dataset.seed
    if given is not None:
        return given
    begun = seed if before is None else int(before.about.get("seed", seed))
    if begun != seed:
        outcome.notes.append(
            f"training began with seed {begun} and goes on with it, not with dataset.seed: {seed}"
        )
    return begun


def _require_next(path: Path, epoch: int | None, finished: int) -> None:
    """Raise ConfigError unless ``epoch`` is the one after those that ``path`` holds."""
    if epoch not in (None, finished + 1):
        raise ConfigError(
            f"--epoch {epoch}: {path} holds {finished} finished epoch(s), so the next is "
            f"{finished + 1}; leave --epoch out to go on, or give 1 to start anew"
        )
