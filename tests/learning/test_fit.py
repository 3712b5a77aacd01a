"""Training: it learns, it resumes bit for bit, and it stops at the first bad loss."""

from __future__ import annotations

import csv
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny_screen import (
    CHANNELS,
    CLASSES,
    SETTINGS,
    SIZE,
    VIEW,
    Pair,
    Screen,
    Single,
    Softening,
    changed,
    destination,
    make_screen,
    tiny,
)

from deepprofiler.errors import ConfigError, DataError, PluginError
from deepprofiler.learning import checkpoint
from deepprofiler.learning.batches import Batches, CropView
from deepprofiler.learning.checkpoint import Description
from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.fit import (
    DivergedError,
    History,
    Listeners,
    Trainer,
    TrainingFiles,
    fit,
)
from deepprofiler.learning.learning_settings import (
    Augmentation,
    Constant,
    Cosine,
    EarlyStopping,
    Plateau,
    Schedule,
    Steps,
    Train,
)
from deepprofiler.learning.metrics import (
    EpochMetrics,
    ValidationMetrics,
    best_epoch,
    stops_early,
)
from deepprofiler.learning.network import Network
from deepprofiler.learning.sampling import Cells

DESCRIPTION = Description(channels=("DNA", "ER"), seed=3)


@pytest.fixture
def screen() -> Screen:
    return make_screen()


def train(
    folder: Path,
    screen: Screen,
    network: Network | None = None,
    generator: CropGenerator | None = None,
    settings: Train = SETTINGS,
    *,
    description: Description = DESCRIPTION,
    resume: bool = True,
    progress: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **data: Any,
) -> History:
    return fit(
        network or tiny(),
        generator or Single(),
        replace(screen.data, **data),
        settings,
        destination(folder),
        description,
        resume=resume,
        listeners=Listeners(on_step=progress, callbacks=callbacks),
    )


def classification(metrics: EpochMetrics) -> Any:
    assert metrics.validation is not None
    return metrics.validation.classification


def weights(network: Network) -> list[np.ndarray]:
    return [weight.numpy() for weight in network.train.weights]


def assert_same(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


class KilledError(Exception):
    """Stands for a process that ends."""


def kill_at(epoch: int, step: int) -> Any:
    def progress(now: int, at: int, steps: int, loss: float) -> None:
        if (now, at) == (epoch, step):
            raise KilledError

    return progress


def test_it_learns_and_writes_everything(tmp_path: Path, screen: Screen) -> None:
    network = tiny()
    steps: list[tuple[int, int, int]] = []
    settings = changed(SETTINGS, epochs=8)
    history = train(
        tmp_path,
        screen,
        network,
        settings=settings,
        progress=lambda epoch, step, of, loss: steps.append((epoch, step, of)),
    )
    per_epoch = -(-len(screen.training) // 16)
    assert steps == [(e, s, per_epoch) for e in range(1, 9) for s in range(1, per_epoch + 1)]
    last = history.epochs[-1]
    assert last.validation is not None
    found = classification(last)
    assert found.accuracy > 0.7
    # The figures, computed here from the network alone.
    crops = screen.gather(screen.validation.row)[0][:, 1:-1, 1:-1].astype(np.float64)
    low, high = crops.min((1, 2), keepdims=True), crops.max((1, 2), keepdims=True)
    logits = np.asarray(network.train((crops - low) / (high - low + 1e-7), training=False))
    label = screen.validation.label
    log_share = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    right = logits.argmax(axis=1) == label
    assert found.accuracy == pytest.approx(right.mean(), abs=1e-6)
    recalls = [right[label == k].mean() for k in range(len(CLASSES))]
    assert found.macro_accuracy == pytest.approx(np.mean(recalls), abs=1e-6)
    loss = -log_share[np.arange(len(label)), label].mean()
    assert last.validation.loss == pytest.approx(loss, rel=1e-4)

    stored = checkpoint.read(tmp_path / "checkpoint" / "last.h5")
    assert stored.epoch == 8
    assert stored.description == replace(DESCRIPTION, classes=CLASSES)
    assert stored.history == history.epochs
    best = checkpoint.read(tmp_path / "checkpoint" / "best.h5").epoch
    assert (
        best
        == history.best
        == 1 + np.argmin([metrics.monitored_loss for metrics in history.epochs])
    )
    with (tmp_path / "logs" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    assert float(rows[-1]["val_loss"]) == last.validation.loss
    events = list((tmp_path / "logs").glob("events.out.tfevents*"))
    tags = {
        value.tag
        for record in tf.data.TFRecordDataset([str(path) for path in events])
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value
    }
    assert {"loss", "accuracy", "val_macro_accuracy", "learning_rate"} <= tags


@pytest.mark.parametrize(
    ("optimizer", "generator", "dropout", "schedule"),
    [
        ("sgd", Single(), 0.0, Constant()),
        ("adam", Single(), 0.5, Cosine(warmup=1.5)),
        ("adamw", Pair(), 0.0, Plateau(patience=1, factor=0.1)),
        ("sgd", Softening(), 0.5, Steps(epochs=(2, 3), rates=(0.02, 0.01))),
    ],
)
def test_interrupted_equals_uninterrupted(
    tmp_path: Path,
    screen: Screen,
    optimizer: Any,
    generator: CropGenerator,
    dropout: float,
    schedule: Schedule,
) -> None:
    settings = changed(
        SETTINGS, epochs=3, optimizer={"name": optimizer, "weight_decay": 1e-3}, schedule=schedule
    )
    whole = tiny(dropout=dropout)
    history = train(tmp_path / "whole", screen, whole, generator, settings)

    with pytest.raises(KilledError):
        train(
            tmp_path / "parts",
            screen,
            tiny(dropout=dropout),
            generator,
            settings,
            progress=kill_at(2, 5),
        )
    # Another initialization: all must come from the checkpoint.
    parts = tiny(dropout=dropout, seed=99)
    resumed = train(tmp_path / "parts", screen, parts, generator, settings)
    assert resumed.resumed == 1
    assert_same(weights(whole), weights(parts))
    timing = {"seconds", "cells_per_second", "waiting"}
    for a, b in zip(history.epochs, resumed.epochs, strict=True):
        assert {k: v for k, v in a.to_row().items() if k not in timing} == {
            k: v for k, v in b.to_row().items() if k not in timing
        }
    for name in ("last.h5", "best.h5"):
        digests = {
            checkpoint.digest(tmp_path / part / "checkpoint" / name) for part in ("whole", "parts")
        }
        assert len(digests) == 1


def test_a_finished_training_is_left_alone(tmp_path: Path, screen: Screen) -> None:
    train(tmp_path, screen)
    path = tmp_path / "checkpoint" / "last.h5"
    before = path.read_bytes()
    network = tiny(seed=5)
    history = train(tmp_path, screen, network)
    assert (history.resumed, len(history.epochs)) == (2, 2)
    assert path.read_bytes() == before
    assert train(tmp_path, screen, settings=changed(SETTINGS, epochs=3)).resumed == 2


def test_a_fresh_start_replaces_nothing_before_its_first_epoch(
    tmp_path: Path, screen: Screen
) -> None:
    train(tmp_path, screen)
    kept = [tmp_path / "checkpoint" / f"{name}.h5" for name in ("last", "best")]
    before = [path.read_bytes() for path in kept]
    events = set((tmp_path / "logs").glob("events*"))
    with pytest.raises(KilledError):
        train(tmp_path, screen, resume=False, progress=kill_at(1, 3))
    assert [path.read_bytes() for path in kept] == before
    assert set((tmp_path / "logs").glob("events*")) == events

    history = train(tmp_path, screen, resume=False, settings=changed(SETTINGS, epochs=1))
    assert (history.resumed, len(history.epochs)) == (0, 1)
    assert [checkpoint.read(path).epoch for path in kept] == [1, 1]
    after = set((tmp_path / "logs").glob("events*"))
    assert len(after) == 1
    assert not after & events
    with (tmp_path / "logs" / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1


@contextmanager
def killed_before_change(number: int) -> Iterator[None]:
    """Raise KilledError in place of one of a process's renamings and removals of files."""
    originals = {"replace": Path.replace, "unlink": Path.unlink}
    count = 0

    def change(path: Path, *words: Any, name: str, **others: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            raise KilledError
        # Nothing is tidied up by a process that is no more.
        return originals[name](path, *words, **others) if count < number else path

    with pytest.MonkeyPatch.context() as patch:
        for name in originals:
            patch.setattr(Path, name, partialmethod(change, name=name))
        yield


def run_called(name: str) -> Description:
    return Description(channels=(name,))


def name_of_run(path: Path) -> str:
    channels = checkpoint.read(path).description.channels
    assert channels is not None
    return channels[0]


def test_a_process_that_ends_while_it_replaces_a_training(tmp_path: Path, screen: Screen) -> None:
    """Killed before each change of a file in turn: both checkpoints are always of one training."""
    one = changed(SETTINGS, epochs=1, steps=1)
    train(tmp_path / "old", screen, settings=changed(one, epochs=2), description=run_called("old"))
    seen = []
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "old", folder)
        last, best = (folder / "checkpoint" / f"{name}.h5" for name in ("last", "best"))
        try:
            with killed_before_change(number):
                train(folder, screen, settings=one, description=run_called("new"), resume=False)
        except KilledError:
            run = name_of_run(last)
        else:
            break
        assert not best.exists() or name_of_run(best) == run
        if (run, best.exists()) in seen:
            continue
        seen.append((run, best.exists()))
        # Whichever it is, it goes on.
        history = train(
            folder, screen, settings=changed(one, epochs=3), description=run_called(run)
        )
        assert len(history.epochs) == 3
        if run == "new":
            assert checkpoint.read(best).epoch == history.best
    assert seen == [("old", True), ("old", False), ("new", False), ("new", True)]
    assert name_of_run(last) == name_of_run(best) == "new"


def test_the_seed_decides(tmp_path: Path, screen: Screen) -> None:
    found = {}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        network = tiny()
        train(tmp_path / name, screen, network, description=Description(seed=seed))
        found[name] = weights(network)
    assert_same(found["a"], found["b"])
    assert any((a != c).any() for a, c in zip(found["a"], found["c"], strict=True))


def test_another_screen_is_not_gone_on_with(tmp_path: Path, screen: Screen) -> None:
    train(tmp_path, screen)
    with pytest.raises(DataError) as error:
        train(tmp_path, screen, description=replace(DESCRIPTION, channels=("ER", "DNA")))
    assert "['DNA', 'ER'] in the checkpoint, ['ER', 'DNA'] here" in str(error.value)
    with pytest.raises(DataError, match=r"classes: \['a', 'b', 'c'\] in the checkpoint"):
        train(tmp_path, screen, classes=("a", "c", "b"))
    with pytest.raises(
        DataError, match=r"optimizer match, nothing(?s:.*)--epoch 1` starts from scratch"
    ):
        train(tmp_path, screen, settings=changed(SETTINGS, optimizer={"name": "adam"}, epochs=5))


def test_labels_of_other_cells_are_not_gone_on_with(tmp_path: Path, screen: Screen) -> None:
    """As many cells of the same classes, which only the first training may have seen."""
    history = train(tmp_path, screen, generator=Softening())
    assert len(history.epochs) == 2
    more = changed(SETTINGS, epochs=3)
    with pytest.raises(DataError, match=r"cells: 180 \(\w{12}\) in the checkpoint, 180 \("):
        train(tmp_path, screen, generator=Softening(), settings=more, training=screen.validation)
    assert train(tmp_path, screen, generator=Softening(), settings=more).resumed == 2


def test_crops_shown_for_new_labels_are_not_counted(tmp_path: Path) -> None:
    screen = make_screen(per_class=60, flat=180)
    history = train(tmp_path, screen, generator=Softening(), settings=changed(SETTINGS, steps=2))
    assert [metrics.flat_crops for metrics in history.epochs] == [32, 32]


def test_flat_crops_do_no_harm_and_are_counted(tmp_path: Path) -> None:
    screen = make_screen(per_class=60, flat=8)
    batches = Batches(Single(), tiny(), screen.gather, screen.training, VIEW, 16)
    drawn = np.concatenate([batches.drawn(3, 1, step) for step in range(1, 13)])
    assert (drawn < 8).any()
    history = train(
        tmp_path, screen, settings=changed(SETTINGS, epochs=1, steps=12), progress=finite
    )
    assert history.epochs[0].flat_crops == (drawn < 8).sum()


def finite(epoch: int, step: int, steps: int, loss: float) -> None:
    assert np.isfinite(loss)


def test_a_bad_loss_stops_at_once(tmp_path: Path, screen: Screen) -> None:
    """A plate whose intensity table is damaged, found by the step that meets it."""
    view = replace(VIEW, rescale="none")
    batches = Batches(Single(), tiny(), screen.gather, screen.training, view, 16)
    # A cell that epoch 2 shows for the first time at step 7 or later.
    first = [batches.drawn(3, 1, step) for step in range(1, 13)]
    second = [batches.drawn(3, 2, step).ravel() for step in range(1, 13)]
    seen = set(np.concatenate([*first, *[rows[:, None] for rows in second[:6]]]).ravel())
    step, cell = next(
        (step, cell) for step in range(7, 13) for cell in second[step - 1] if cell not in seen
    )

    def poisoned(rows: np.ndarray) -> Any:
        crops, minimum, maximum = screen.gather(rows)
        maximum[rows == screen.training.row[cell]] = np.nan
        return crops, minimum, maximum

    with pytest.raises(DivergedError) as error:
        train(tmp_path, screen, view=view, gather=poisoned, settings=changed(SETTINGS, steps=12))
    message = str(error.value)
    assert f"stopped at epoch 2, step {step}: the loss is nan" in message
    plate, well = screen.training.places[screen.training.well[cell]]
    assert f"{plate}/{well} (" in message
    assert (error.value.epoch, error.value.step) == (2, step)
    assert (plate, well) in error.value.wells
    assert "last.h5 holds epoch 1" in message
    path = tmp_path / "checkpoint" / "last.h5"
    assert checkpoint.read(path).epoch == 1
    network = tiny()
    checkpoint.load(path, network)
    assert all(np.isfinite(weight).all() for weight in weights(network))
    resumed = train(tmp_path, screen, view=view, settings=changed(SETTINGS, steps=12))
    assert resumed.resumed == 1


def test_a_learning_rate_that_explodes(tmp_path: Path, screen: Screen) -> None:
    settings = changed(SETTINGS, learning_rate=1e36, epochs=3)
    with pytest.raises(DataError, match=r"epoch 1, step \d+: .*No epoch was finished.*lower"):
        train(tmp_path, screen, settings=settings)
    assert not (tmp_path / "checkpoint").exists()


def test_errors_while_reading_are_not_lost(tmp_path: Path, screen: Screen) -> None:
    calls = []

    def failing(rows: np.ndarray) -> Any:
        calls.append(len(rows))
        if len(calls) > 5:
            raise DataError("plate.h5 has vanished")
        return screen.gather(rows)

    with pytest.raises(DataError, match=r"plate\.h5 has vanished"):
        train(tmp_path, screen, gather=failing)


def test_full_memory_names_what_to_change(
    tmp_path: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\nmore lines")

    monkeypatch.setattr(Trainer, "epoch", full)
    said = r"train\.batch_size: 16 is too large for the memory of .*\(OOM when allocating\)$"
    with pytest.raises(ConfigError, match=said):
        train(tmp_path, screen)


def test_everything_is_closed_after_an_error(
    tmp_path: Path, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []
    monkeypatch.setattr(TrainingFiles, "close", lambda files: told.append("closed"))
    callback = keras.callbacks.LambdaCallback(on_train_end=lambda logs: told.append("end"))
    with pytest.raises(KilledError):
        train(tmp_path, screen, progress=kill_at(2, 1), callbacks=[callback])
    assert sorted(told) == ["closed", "end"]


def test_speed_and_waiting(tmp_path: Path, screen: Screen) -> None:
    """Once the data is slow, and once the steps are; the first epoch compiles."""
    settings = changed(SETTINGS, steps=10)

    def slow(rows: np.ndarray) -> Any:
        time.sleep(0.04)
        return screen.gather(rows)

    def hold(epoch: int, step: int, steps: int, loss: float) -> None:
        time.sleep(0.04)

    data = train(tmp_path / "data", screen, settings=settings, gather=slow, validation=None)
    steps = train(tmp_path / "steps", screen, settings=settings, progress=hold, validation=None)
    # Two batches are read at a time; steps come one after the other.
    for history, least in ((data, 10 * 0.04 / 2), (steps, 10 * 0.04)):
        metrics = history.epochs[1]
        assert metrics.seconds >= least
        assert metrics.cells_per_second == pytest.approx(10 * 16 / metrics.seconds)
    assert data.epochs[1].waiting > 0.5 > steps.epochs[1].waiting >= 0
    assert metrics.waiting * metrics.seconds < metrics.seconds - least + 0.01


class TestBlackCrops:
    """Of 1,000 crops three are all zero, and five have one constant channel."""

    @pytest.fixture
    def black(self) -> Screen:
        screen = make_screen(per_class=167)
        cells = screen.training

        def gather(rows: np.ndarray) -> Any:
            crops, minimum, maximum = (values.copy() for values in screen.gather(rows))
            crops[rows < 3], maximum[rows < 3] = 0, 0
            one = (rows >= 3) & (rows < 8)
            crops[one, :, :, 1], minimum[one, 1], maximum[one, 1] = 0, 7, 7
            return crops, minimum, maximum

        rows = np.arange(1000)
        training = Cells.from_columns(
            row=rows,
            label=rows % 3,
            classes=3,
            plate=[f"P{1 + row % 2}" for row in rows],
            well=[f"A{1 + row % 4:02d}" for row in rows],
        )
        assert len(cells) + len(screen.validation) == 1002
        return Screen(training, screen.validation, gather)

    def test_they_do_no_harm_and_are_counted(self, tmp_path: Path, black: Screen) -> None:
        losses: list[float] = []
        history = train(
            tmp_path,
            black,
            settings=changed(SETTINGS, epochs=1),
            progress=lambda epoch, step, steps, loss: losses.append(loss),
        )
        assert len(losses) == -(-1000 // 16)
        assert np.isfinite(losses).all()
        batches = Batches(Single(), tiny(), black.gather, black.training, VIEW, 16)
        flat = sum((batches.drawn(3, 1, step) < 8).sum() for step in range(1, 64))
        assert history.epochs[0].flat_crops == flat > 0

    def test_a_loss_that_is_no_number_at_step_20(self, tmp_path: Path, black: Screen) -> None:
        train(tmp_path, black, settings=changed(SETTINGS, epochs=1))
        kept = (tmp_path / "checkpoint" / "last.h5").read_bytes()
        view = replace(VIEW, rescale="none")
        batches = Batches(Single(), tiny(), black.gather, black.training, view, 16)
        drawn = [batches.drawn(3, 2, step).ravel() for step in range(1, 21)]
        cell = next(row for row in drawn[19] if row not in np.concatenate(drawn[:19]))

        def poisoned(rows: np.ndarray) -> Any:
            crops, minimum, maximum = black.gather(rows)
            maximum[rows == cell] = np.nan
            return crops, minimum, maximum

        with pytest.raises(DataError) as error:
            train(tmp_path, black, view=view, gather=poisoned)
        assert "stopped at epoch 2, step 20: the loss is nan" in str(error.value)
        wells = Counter(
            "/".join(black.training.places[black.training.well[row]]) for row in drawn[19]
        )
        for well, count in wells.items():
            assert f"{well} ({count})" in str(error.value)
        assert (tmp_path / "checkpoint" / "last.h5").read_bytes() == kept
        assert train(tmp_path, black).resumed == 1


def test_misfits_are_found_before_the_first_step(tmp_path: Path, screen: Screen) -> None:
    class Sequence(Single):
        def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
            return crops, labels[:, 0]

    with pytest.raises(PluginError, match="crop generator Sequence and tiny do not fit: inputs"):
        train(tmp_path, screen, generator=Sequence())
    with pytest.raises(PluginError, match=r"Single and tiny do not fit: targets are \(None, 3\)"):
        train(tmp_path, screen, tiny(classes=5))
    said = r"stored with side 10; size 8 .* needs 14: set crops\.margin to auto or at least 6"
    with pytest.raises(DataError, match=said):
        train(tmp_path, screen, view=CropView(SIZE, augmentation=Augmentation(shift=3)))
    four = replace(screen.training, classes=4)
    with pytest.raises(DataError, match="1 classes have no training cells: d"):
        train(tmp_path, screen, tiny(classes=4), training=four, classes=(*CLASSES, "d"))


def test_what_a_generator_does_wrong_later_is_said(tmp_path: Path, screen: Screen) -> None:
    class Late(Single):
        def draw(self, cells: Any, size: int, rng: np.random.Generator) -> np.ndarray:
            rows = super().draw(cells, size, rng)
            return rows - len(cells) if (rows == 50).any() else rows

    class Growing(Single):
        calls = 0

        def draw(self, cells: Any, size: int, rng: np.random.Generator) -> np.ndarray:
            Growing.calls += 1
            return np.repeat(super().draw(cells, size, rng), 1 + (Growing.calls > 6), axis=1)

    class Few(Single):
        def epoch_end(self, predict: Any, labels: np.ndarray) -> np.ndarray:
            return labels[:2]

    with pytest.raises(PluginError, match=r"Late: draw gives \(16, 1\) from -"):
        train(tmp_path / "late", screen, generator=Late(), settings=changed(SETTINGS, epochs=9))
    said = r"Growing: draw gives 2 cells an example, and gave 1 before; it must give the same"
    with pytest.raises(PluginError, match=said):
        train(tmp_path / "growing", screen, generator=Growing())
    with pytest.raises(
        PluginError, match=r"Few: epoch_end gives \(2, 3\); it must give \(180, 3\)"
    ):
        train(tmp_path / "few", screen, generator=Few())


def test_an_autoencoder(tmp_path: Path, screen: Screen) -> None:
    keras.utils.set_random_seed(0)
    crops = keras.Input((SIZE, SIZE, CHANNELS))
    code = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="code")(crops)
    image = keras.layers.Conv2D(CHANNELS, 3, padding="same", name="image")(code)
    network = Network(
        keras.Model(crops, image, name="auto"), keras.Model(crops, code), target="input"
    )
    history = train(tmp_path, screen, network, settings=changed(SETTINGS, epochs=4))
    assert history.epochs[-1].monitored_loss < history.epochs[0].monitored_loss
    assert history.epochs[0].accuracy is None


def test_without_validation(tmp_path: Path, screen: Screen) -> None:
    history = train(tmp_path, screen, validation=None)
    assert history.epochs[0].validation is None
    assert history.best == 1 + np.argmin([metrics.loss for metrics in history.epochs])


def test_validation_shows_every_cell_once_in_order(screen: Screen) -> None:
    batches = Batches(Single(), tiny(), screen.gather, screen.validation, VIEW, 50)
    shown = [(x.numpy(), y.numpy()) for x, y in batches.validation()]
    assert [len(x) for x, _ in shown] == [50, 50, 50, 30]
    labels = np.concatenate([y for _, y in shown])
    np.testing.assert_array_equal(labels.argmax(axis=1), screen.validation.label)
    crops = screen.gather(screen.validation.row)[0][:, 1:-1, 1:-1].astype(np.float32)
    crops -= crops.min(axis=(1, 2), keepdims=True)
    crops /= crops.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(np.concatenate([x for x, _ in shown]), crops, atol=1e-6)


def test_epochs_and_steps_differ(screen: Screen) -> None:
    batches = Batches(Single(), tiny(), screen.gather, screen.training, VIEW, 16)
    first = [x.numpy() for x, _ in batches.training(0, 1, 3)]
    again = [x.numpy() for x, _ in batches.training(0, 1, 3)]
    other = [x.numpy() for x, _ in batches.training(0, 2, 3)]
    np.testing.assert_array_equal(first, again)
    assert all((a != b).any() for a, b in zip(first, other, strict=True))
    assert (first[0] != first[1]).any()


def test_early_stopping(tmp_path: Path, screen: Screen) -> None:
    settings = changed(
        SETTINGS, epochs=30, learning_rate=1e-12, early_stopping={"patience": 2}, steps=1
    )
    history = train(tmp_path, screen, settings=settings, validation=None)
    assert history.stopped
    assert len(history.epochs) == history.best + 2 < 30
    again = train(tmp_path, screen, settings=settings, validation=None)
    assert again.resumed == len(again.epochs) == len(history.epochs)


def test_best_epoch_and_early_stopping() -> None:
    history = [
        EpochMetrics(i + 1, loss=9 - i, validation=ValidationMetrics(loss))
        for i, loss in enumerate((3.0, 2.0, 2.0, 2.5))
    ]
    assert best_epoch(history) == 2, "the first of equals"
    assert stops_early(history, EarlyStopping(patience=2))
    assert not stops_early(history, EarlyStopping(patience=3))
    assert not stops_early(history, None)
    assert best_epoch([]) == 0


def test_label_smoothing(tmp_path: Path, screen: Screen) -> None:
    """A network that answers 0 has loss log K, smoothed or not; a sure one pays for it."""
    network = tiny()
    network.train.get_layer("logits").set_weights([np.zeros((6, 3)), np.array([50.0, 0, 0])])
    only = replace(screen.validation, label=np.zeros_like(screen.validation.label))
    settings = changed(SETTINGS, epochs=1, steps=1, learning_rate=1e-12, label_smoothing=0.3)
    history = train(tmp_path, screen, network, settings=settings, validation=only)
    # Two wrong classes get 0.1 of the label each, at a cost of 50.
    assert history.epochs[0].monitored_loss == pytest.approx(0.2 * 50, rel=1e-3)
