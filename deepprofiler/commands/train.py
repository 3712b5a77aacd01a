"""Train the network to tell treatments apart: the auxiliary task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepprofiler.config.schema import Config, Train
from deepprofiler.errors import ConfigError
from deepprofiler.learning import checkpoint
from deepprofiler.learning.augment import Augmentation
from deepprofiler.learning.batches import Look
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
from deepprofiler.project.networks import (
    begin_with,
    build_network,
    description,
    find_plugins,
    write_config,
)
from deepprofiler.project.outcome import Outcome
from deepprofiler.project.sites import require_whole_index
from deepprofiler.project.training_cells import choose, export, open_store
from deepprofiler.registry import CROP_GENERATORS

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
        export(project, outcome)
    wait(strategy)
    store = open_store(project, outcome)
    chosen = choose(project, store, seed, outcome)
    generator = CROP_GENERATORS.build(settings.generator.name, params=settings.generator.params)
    set_seed(seed)
    with strategy.scope():
        network = build_network(project, len(chosen.classes), settings.precision)
        # `fit` compares them too, but only after this run's config has replaced the earlier one's.
        if before is not None:
            checkpoint.require(last, before.about, {"classes": chosen.classes})
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
            training=chosen.training,
            validation=chosen.validation,
            classes=chosen.classes,
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
            f"{row['val_macro_accuracy']:.3f} mean of {len(chosen.classes)} classes "
            f"(chance {1 / len(chosen.classes):.3f}); best epoch {history.best}"
        )
    return outcome


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
