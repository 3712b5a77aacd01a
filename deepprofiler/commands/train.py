"""Train the network to tell treatments apart: the auxiliary task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from deepprofiler.commands.export_cells import export_cells
from deepprofiler.errors import ConfigError, counted
from deepprofiler.learning import checkpoint
from deepprofiler.learning.batches import CropView
from deepprofiler.learning.cell_store import CellStore, read_made_from, table_path
from deepprofiler.learning.checkpoint import Checkpoint, Description
from deepprofiler.learning.devices import (
    is_chief,
    make_strategy,
    require_equal_shares,
    set_seed,
    wait,
)
from deepprofiler.learning.fit import Destination, History, Listeners, TrainingData, fit
from deepprofiler.learning.metrics import EpochMetrics
from deepprofiler.learning.trackers import require_trackers, tracking
from deepprofiler.parameters import Decides
from deepprofiler.progress import TrainingProgress
from deepprofiler.project import Project
from deepprofiler.project.freshness import stored_provenance
from deepprofiler.project.networks import (
    InitialWeights,
    build_network,
    description,
    find_plugins,
    load_initial_weights,
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


def train(project: Project, *, epoch: int | None = None, seed: int | None = None) -> Outcome:
    """Write ``outputs/<experiment>/checkpoint/last.h5`` and ``best.h5``.

    Parameters
    ----------
    project : Project
    epoch : int, optional
        The epoch to resume at; 1 starts from scratch, and replaces an earlier training once its
        first epoch is finished. By default the one after the last finished epoch.
    seed : int, optional
        In place of the config's or, where training is resumed, of the one that it began with.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        The index is one part of a split one, or training cannot be resumed at ``epoch``.
    """
    require_whole_index(project, "train")
    config = project.config
    settings = config.train
    outcome = Outcome("train", then="profile")
    # Before anything is built: an index without labels is refused.
    project.index.values("label")
    require_trackers(settings.trackers)
    # Before a plugin runs any of TensorFlow's operations.
    strategy = make_strategy(settings.devices)
    require_equal_shares(strategy, settings.batch_size)
    chief = is_chief(strategy)
    find_plugins(project)
    last = project.checkpoint_path("last")
    # Before anything is exported for a training that cannot be resumed.
    stored = None if epoch == 1 or not last.exists() else checkpoint.read(last)
    seed = _choose_seed(config.dataset.seed, seed, stored, outcome)
    belongs_to = replace(description(project, Decides.TRAINING), seed=seed)
    if stored is not None:
        checkpoint.require(last, stored.description, belongs_to)
    _require_next(last, epoch, 0 if stored is None else stored.epoch)
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
        if stored is not None:
            checkpoint.require(last, stored.description, Description(classes=tuple(cells.classes)))
            LOG.info("resuming after epoch %d of %s", stored.epoch, last)
        elif initial := load_initial_weights(project, network):
            outcome.notes.append(_describe_initial_weights(initial))
    if chief:
        write_config(project, seed)
    data = TrainingData(
        store.gather,
        cells.training,
        cells.validation,
        tuple(cells.classes),
        CropView(config.crops.size, config.crops.rescale, settings.augment, config.crops.resize),
    )
    with _listening(project, chief) as listeners, strategy.scope():
        history = fit(
            network,
            generator,
            data,
            settings,
            Destination(
                last, project.checkpoint_path("best"), project.history_path, project.logs_folder
            ),
            belongs_to,
            resume=stored is not None,
            listeners=listeners,
        )
    trained = len(history.epochs) - history.resumed
    if trained and chief:
        outcome.wrote.append(f"{counted(trained, 'epoch', 'epochs')} to {last} and best.h5")
    outcome.notes += _describe_history(history, len(cells.classes))
    return outcome


@contextmanager
def _listening(project: Project, chief: bool) -> Iterator[Listeners]:
    """Show progress, log each epoch and send its metrics to services; on the chief only."""
    if not chief:
        yield Listeners()
        return
    settings = project.config.train
    shown = project.config.model_dump(mode="json", include={"crops", "train"})
    with (
        TrainingProgress(settings.epochs) as progress,
        tracking(
            settings.trackers, project.experiment, shown["crops"] | shown["train"]
        ) as callbacks,
    ):
        yield Listeners(
            on_step=progress,
            on_epoch=lambda metrics: LOG.info(describe_epoch(metrics, settings.epochs)),
            callbacks=callbacks,
        )


def describe_epoch(metrics: EpochMetrics, epochs: int) -> str:
    """Describe an epoch in one line, for the log.

    Parameters
    ----------
    metrics : EpochMetrics
    epochs : int
        Number of epochs of the whole training.
    """
    figures = [f"loss {metrics.loss:.4g}"]
    if metrics.accuracy is not None:
        figures.append(f"accuracy {metrics.accuracy:.3f}")
    parts = [", ".join(figures)]
    if metrics.validation is not None:
        figures = [f"loss {metrics.validation.loss:.4g}"]
        # Such as `top 5 accuracy`, from the names of `history.csv`.
        figures += [
            f"{name.removeprefix('val_').replace('_', ' ').replace('f1', 'F1')} {value:.3f}"
            for name, value in metrics.validation.to_row().items()
            if name != "val_loss"
        ]
        parts.append(f"validation {', '.join(figures)}")
    parts.append(f"{metrics.flat_crops} crops with a flat channel")
    parts.append(f"{metrics.cells_per_second:.0f} cells/s, {metrics.waiting:.0%} waiting for data")
    return f"epoch {metrics.epoch} of {epochs}: {'; '.join(parts)}"


def _describe_initial_weights(weights: InitialWeights) -> str:
    layers = "" if weights.layers is None else f"{counted(weights.layers, 'layer', 'layers')} of "
    text = f"training begins with {layers}{weights.name} (weights {weights.digest[:12]})"
    return f"{text}; not loaded: {', '.join(weights.not_loaded)}" if weights.not_loaded else text


def _describe_history(history: History, classes: int) -> list[str]:
    notes = []
    if history.resumed:
        notes.append(f"{counted(history.resumed, 'epoch', 'epochs')} finished before")
    validation = history.epochs[-1].validation
    if validation is not None and validation.classification is not None:
        notes.append(
            f"validation accuracy {validation.classification.accuracy:.3f} of cells, "
            f"{validation.classification.macro_accuracy:.3f} mean of {classes} classes "
            f"(chance {1 / classes:.3f}); best epoch {history.best}"
        )
    return notes


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


def _choose_seed(
    configured: int, given: int | None, stored: Checkpoint | None, outcome: Outcome
) -> int:
    """Choose the seed: the given one, the one that training began with, or the configured one."""
    if given is not None:
        return given
    if stored is None or stored.description.seed in (None, configured):
        return configured
    outcome.notes.append(
        f"training is resumed with the seed {stored.description.seed} that it began with; "
        f"dataset.seed is {configured}"
    )
    return int(stored.description.seed)


def _require_next(path: Path, epoch: int | None, finished: int) -> None:
    """Raise ConfigError unless ``epoch`` is the one after those that ``path`` holds."""
    if epoch not in (None, finished + 1):
        raise ConfigError(
            f"--epoch {epoch}: {path} holds {counted(finished, 'epoch', 'epochs')}, so the next "
            f"is {finished + 1}; leave --epoch out to resume, or give 1 to start from scratch"
        )
