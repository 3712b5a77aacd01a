"""Train the network to tell treatments apart: the auxiliary task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepprofiler.commands.export_cells import export_cells
from deepprofiler.config.schema import Config, Train
from deepprofiler.errors import ConfigError, counted
from deepprofiler.learning import checkpoint
from deepprofiler.learning.augment import Augmentation
from deepprofiler.learning.batches import Look
from deepprofiler.learning.cell_store import CellStore, read_made_from, table_path
from deepprofiler.learning.checkpoint import Checkpoint
from deepprofiler.learning.devices import (
    is_chief,
    make_strategy,
    require_equal_shares,
    set_seed,
    wait,
)
from deepprofiler.learning.fit import fit
from deepprofiler.learning.optimizer import (
    Constant,
    Cosine,
    Plateau,
    Recipe,
    Schedule,
    Steps,
)
from deepprofiler.learning.trackers import require_trackers, tracking
from deepprofiler.progress import Steps as Progress
from deepprofiler.project import Project
from deepprofiler.project.freshness import stored_provenance
from deepprofiler.project.networks import (
    begin_with,
    build_network,
    description,
    find_plugins,
    write_config,
)
from deepprofiler.project.outcome import LOG, Outcome
from deepprofiler.project.sites import SiteReader, crop_settings, require_whole_index
from deepprofiler.project.splits import NotTrained, TrainingCells, divide_cells
from deepprofiler.registry import CROP_GENERATORS

_SPLIT_REASONS = {
    NotTrained.BLANK_SPLIT: "blank in",
    NotTrained.OTHER_SPLIT: "train.validation does not name the value of",
}
_SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "cosine": Cosine,
    "step": Steps,
    "plateau": Plateau,
}


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
    # Before anything is built: an index without labels is refused.
    project.index.values("label")
    settings = config.train
    require_trackers(settings.trackers)
    # Before a plugin runs any of TensorFlow's operations.
    strategy = make_strategy(settings.devices)
    require_equal_shares(strategy, settings.batch_size)
    chief = is_chief(strategy)
    find_plugins(project)
    fresh = epoch == 1
    before = _before(project, fresh)
    seed = _seed(project, seed, before, outcome)
    about = description(project) | _cells_seen(config) | {"seed": seed}
    last, best = (project.checkpoint_path(name) for name in ("last", "best"))
    # Before anything is exported for a training that cannot go on.
    if before is not None:
        checkpoint.require(last, before.about, about)
    _require_next(last, epoch, 0 if before is None else before.epoch)
    if chief:
        _export(project, outcome)
    wait(strategy)
    store = _open_store(project, outcome)
    cells = divide_cells(project.index, store.table, settings, seed)
    outcome.notes += describe_cells(cells)
    generator = CROP_GENERATORS.build(settings.generator.name, params=settings.generator.params)
    set_seed(seed)
    with strategy.scope():
        network = build_network(project, len(cells.classes), settings.precision)
        # `fit` compares them too, but only after this run's config has replaced the earlier one's.
        if before is not None:
            checkpoint.require(last, before.about, {"classes": list(cells.classes)})
        elif begun := begin_with(project, network):
            outcome.notes.append(begun)
    if chief:
        write_config(project, seed)
    trackers = settings.trackers if chief else ()
    used = config.model_dump(mode="json", include={"crops", "train"})
    with (
        Progress(settings.epochs) as progress,
        tracking(trackers, project.experiment, used["crops"] | used["train"]) as callbacks,
    ):
        history = fit(
            network,
            generator,
            gather=store.gather,
            training=cells.training,
            validation=cells.validation,
            classes=list(cells.classes),
            look=Look(
                size=config.crops.size,
                rescale=config.crops.rescale,
                augmentation=Augmentation(**settings.augment.model_dump()),
                resize=config.crops.resize,
            ),
            recipe=_recipe(settings, seed),
            about=about,
            last=last,
            best=best,
            figures=project.history_path,
            logs=project.logs_folder,
            fresh=fresh,
            progress=progress if chief else None,
            strategy=strategy,
            callbacks=callbacks,
        )
    done = len(history.epochs) - history.resumed
    if done and chief:
        outcome.wrote.append(f"{done} epoch(s) to {last} and {best.name}")
    if history.resumed:
        outcome.notes.append(f"{history.resumed} epoch(s) had been finished before")
    row = history.epochs[-1]
    if "val_macro_accuracy" in row:
        outcome.notes.append(
            f"validation accuracy {row['val_accuracy']:.3f} of cells, "
            f"{row['val_macro_accuracy']:.3f} mean of {len(cells.classes)} classes "
            f"(chance {1 / len(cells.classes):.3f}); best epoch {history.best}"
        )
    return outcome


def describe_cells(cells: TrainingCells) -> list[str]:
    """Say which cells are trained on, and what is not used; log the former."""
    validating = 0 if cells.validation is None else len(cells.validation.row)
    LOG.info(
        "training on %d cells of %d labels (%d to %d each), validating on %d",
        cells.counts.sum(),
        len(cells.classes),
        cells.counts.min(),
        cells.counts.max(),
        validating,
    )
    notes = [
        f"not trained on: {counted(n, 'site', 'sites')} ({reason})"
        for reason, n in cells.labels.left_out.items()
    ]
    if cells.cells_of_unknown_sites:
        notes.append(
            f"{cells.cells_of_unknown_sites} exported cells are of sites that the index does not "
            "have"
        )
    if cells.sites_without_cells:
        sites = counted(cells.sites_without_cells, "site", "sites")
        notes.append(f"{sites} of the index without exported cells")
    if cells.sites is not None:
        notes += [
            f"neither trained on nor validated: {counted(n, 'site', 'sites')} "
            f"({_SPLIT_REASONS[reason]} {cells.sites.column})"
            for reason, n in cells.sites.left_out.items()
        ]
    if names := cells.labels_without_cells:
        labels = counted(len(names), "label", "labels")
        notes.append(f"{labels} without training cells: {', '.join(names)}")
    return notes


def _export(project: Project, outcome: Outcome) -> None:
    """Export what is missing or outdated.

    A machine that only trains may have the stores and none of the images.
    """
    paths = _store_paths(project)
    if _has_images(project) or not all(map(_is_whole, paths)):
        outcome.add(export_cells(project))
    else:
        outcome.notes.append("the images are not on this machine: the cells are used as exported")


def _open_store(project: Project, outcome: Outcome) -> CellStore:
    """Open the stores whose crops were made with the present settings."""
    # The store of a plate whose images can no longer be read may be of other settings.
    paths = [path for path in _store_paths(project) if _is_whole(path)]
    usable = [path for path in paths if _has_settings(project, path)]
    if outdated := len(paths) - len(usable):
        outcome.notes.append(
            f"{counted(outdated, 'plate is', 'plates are')} not trained on: the cells were "
            "exported with other settings, and the images cannot be read"
        )
    return CellStore(usable)


def _store_paths(project: Project) -> list[Path]:
    return [project.store_path(plate) for plate in project.index.plates]


def _has_settings(project: Project, path: Path) -> bool:
    """Tell whether crops were made with the present settings, whatever their inputs were."""
    stored = stored_provenance(read_made_from(path))
    return stored is not None and stored.settings == crop_settings(project).settings


def _is_whole(path: Path) -> bool:
    return path.exists() and table_path(path).exists()


def _has_images(project: Project) -> bool:
    """Tell whether any image, or 8-bit copy of one, is there."""
    reader = SiteReader(project)
    return any(
        file.path.exists()
        for site in project.index.sites
        for file in (*site.files, *reader.files(site))
    )


def _cells_seen(config: Config) -> dict[str, Any]:
    """Say which cells are learned from, and how: what a training must keep to its end."""
    crops = config.crops.model_dump(include={"mode", "coverage", "cells_per_well"})
    return {
        "generator": config.train.generator.model_dump(),
        **{f"crops.{key}": value for key, value in crops.items()},
        "train.validation": config.train.validation.model_dump(),
    }


def _recipe(settings: Train, seed: int) -> Recipe:
    optimizer, stopping = settings.optimizer, settings.early_stopping
    return Recipe(
        epochs=settings.epochs,
        steps=settings.steps,
        batch_size=settings.batch_size,
        optimizer=optimizer.name,
        learning_rate=settings.learning_rate,
        momentum=optimizer.momentum,
        weight_decay=optimizer.weight_decay,
        schedule=_SCHEDULES[settings.schedule.name](
            **settings.schedule.model_dump(exclude={"name"})
        ),
        label_smoothing=settings.label_smoothing,
        patience=stopping.patience if stopping else None,
        top_k=settings.top_k,
        seed=seed,
    )


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
