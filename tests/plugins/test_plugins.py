"""The contract that every model and crop generator keeps, run over the registries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from deepprofiler.errors import PluginError
from deepprofiler.learning import checkpoint
from deepprofiler.learning.batches import Batches, CropView
from deepprofiler.learning.checkpoint import Checkpoint
from deepprofiler.learning.crop_generator import CropGenerator
from deepprofiler.learning.devices import set_seed
from deepprofiler.learning.fit import Destination, History, TrainingData, fit
from deepprofiler.learning.learning_settings import Augmentation, Optimizer, Train
from deepprofiler.learning.network import Network, require_network
from deepprofiler.learning.sampling import Cells
from deepprofiler.registry import CROP_GENERATORS, MODELS, discover

discover(None)
CLASSES, BATCH = 3, 4
# So many layers that a step takes a processor seconds: run by make test-slow.
DEEP = re.compile(r"efficientnet|densenet|inception|vgg16|resnet(34|50|101|152)")
# What wraps another model is built around one that is small.
PARAMS = {"recurrent": {"backbone": "vgg11"}, "repeat_channels": {"backbone": "vgg11"}}
# In turn, so that all of them occur.
SIDES, CHANNELS = (32, 48, 64), (1, 2, 5)
SMALLEST = {"inception_resnet_v2": 75}


def shape_of(name: str) -> tuple[int, int, int]:
    number = MODELS.names().index(name)
    side = max(SIDES[number % len(SIDES)], SMALLEST.get(name, 0))
    return side, side, CHANNELS[number % len(CHANNELS)]


def build(name: str, seed: int) -> Network:
    set_seed(seed)
    return MODELS.build(name, shape_of(name), CLASSES, params=PARAMS.get(name))


def crops_of(name: str) -> np.ndarray:
    return np.random.default_rng(0).random((BATCH, *shape_of(name)), np.float32)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.slow] if DEEP.match(name) else [])
        for name in MODELS.names()
    ],
)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name: str) -> Network:
    return build(name, 0)


@pytest.fixture(scope="module")
def again(name: str) -> Network:
    """The same network, built a second time."""
    return build(name, 0)


class TestModels:
    def test_fits(self, network: Network, name: str) -> None:
        assert require_network(network, name, shape_of(name), CLASSES) is network
        assert network.train.input.dtype == network.backbone.input.dtype == "float32"
        assert network.train.output.dtype == "float32"

    def test_gives_logits(self, network: Network, name: str) -> None:
        if network.target == "input":
            pytest.skip("reconstructs its input")
        logits = np.asarray(network.train(inputs(network, name)))
        assert np.isfinite(logits).all()
        assert not np.allclose(logits.sum(axis=1), 1), "probabilities, not logits"

    def test_layers_give_features(self, network: Network, name: str) -> None:
        layers = network.layers()
        sizes = dict(layers)
        assert len(sizes) == len(layers)
        chosen = [layers[0][0], layers[len(layers) // 2][0], layers[-1][0]]
        features = np.asarray(network.features(chosen)(crops_of(name)))
        assert features.shape == (BATCH, sum(sizes[layer] for layer in chosen))
        assert np.isfinite(features).all()
        assert (features[:, -sizes[chosen[-1]] :].std(axis=0) > 0).any(), "all cells are alike"
        channels = [f"c{number}" for number in range(shape_of(name)[-1])]
        names = network.feature_names(chosen, channels)
        assert len(set(names)) == features.shape[1]
        assert network.columns(chosen)[chosen[-1]][1] == features.shape[1]

    def test_one_seed_makes_one_network(self, network: Network, again: Network) -> None:
        paths = [weight.path for weight in network.train.weights]
        assert [weight.path for weight in again.train.weights] == paths
        assert again.layers() == network.layers()
        for one, other in zip(network.train.weights, again.train.weights, strict=True):
            np.testing.assert_array_equal(one, other)

    def test_learns(self, again: Network, name: str) -> None:
        """Some steps lower the loss of the few cells that they are taken on."""
        x = inputs(again, name)
        y = x if again.target == "input" else np.eye(CLASSES, dtype="f")[np.arange(BATCH) % CLASSES]
        loss = (
            keras.losses.MeanSquaredError()
            if again.target == "input"
            else keras.losses.CategoricalCrossentropy(from_logits=True)
        )
        set_seed(0)
        again.train.compile(keras.optimizers.Adam(1e-3), loss, run_eagerly=True)
        losses = []
        for _ in range(4):
            # The same units are dropped in each step, so that the losses can be compared.
            again.set_seeds(0)
            losses.append(again.train.train_on_batch(x, y))
        assert np.isfinite(losses).all()
        assert min(losses[1:]) < losses[0], losses

    def test_is_the_same_when_loaded(
        self, network: Network, again: Network, name: str, tmp_path: Path
    ) -> None:
        """After training, so that nothing is what a new network has."""
        path = tmp_path / "last.h5"
        last = network.layers()[-1][0]
        crops = crops_of(name)
        truth = np.asarray(again.features([last])(crops))
        assert not np.array_equal(network.features([last])(crops), truth)
        checkpoint.save(path, Checkpoint(1), again)
        checkpoint.load(path, network)
        np.testing.assert_array_equal(network.features([last])(crops), truth)


def inputs(network: Network, name: str) -> np.ndarray:
    """What the training model takes; each example is one cell, or one cell several times."""
    crops = crops_of(name)
    if len(network.train.input_shape) == 5:
        return np.repeat(crops[:, np.newaxis], 2, axis=1)
    return crops


@pytest.fixture(scope="module")
def cells() -> Cells:
    rng = np.random.default_rng(0)
    count = 60
    return Cells.from_columns(
        row=np.arange(count)[::-1],
        label=np.arange(count) % CLASSES,
        classes=CLASSES,
        plate=rng.choice(["P1", "P2"], count),
        well=rng.choice(["A01", "A02", "B01"], count),
        batch=rng.choice(["1", "2"], count),
        replicate=rng.choice(["1", "2"], count),
    )


@pytest.fixture(params=CROP_GENERATORS.names())
def generator(request: pytest.FixtureRequest) -> Any:
    return CROP_GENERATORS.build(request.param)


class TestCropGenerators:
    def test_draw(self, generator: Any, cells: Cells) -> None:
        rows = generator.draw(cells, BATCH, np.random.default_rng(1))
        assert rows.ndim == 2
        assert len(rows) == BATCH
        assert np.issubdtype(rows.dtype, np.integer)
        assert 0 <= rows.min() <= rows.max() < len(cells)

    def test_draw_keeps_no_state(self, generator: Any, cells: Cells) -> None:
        first = generator.draw(cells, BATCH, np.random.default_rng(1))
        generator.draw(cells, BATCH, np.random.default_rng(2))
        again = generator.draw(cells, BATCH, np.random.default_rng(1))
        np.testing.assert_array_equal(first, again)
        other = generator.draw(cells, 32, np.random.default_rng(2))
        assert not np.array_equal(other, generator.draw(cells, 32, np.random.default_rng(3)))

    def test_every_label_is_drawn(self, generator: Any, cells: Cells) -> None:
        rows = generator.draw(cells, 100, np.random.default_rng(1))
        assert set(cells.label[rows[:, 0]]) == set(range(CLASSES))

    def test_combine(self, generator: Any, cells: Cells) -> None:
        width = generator.draw(cells, BATCH, np.random.default_rng(1)).shape[1]
        rng = np.random.default_rng(0)
        crops = rng.random((BATCH, width, 8, 8, 3), np.float32)
        labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=(BATCH, width))]
        seed = np.array([3, 4], np.int32)
        x, y = (np.asarray(part) for part in generator.combine(crops, labels, seed))
        assert x.dtype == y.dtype == np.float32
        assert x.shape in ((BATCH, 8, 8, 3), (BATCH, width, 8, 8, 3))
        assert y.shape == (BATCH, CLASSES)
        assert (y >= 0).all()
        np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
        # Nothing is brighter or darker than the cells that it is made of.
        cells_axis = tuple(range(1, 5))
        assert (x.reshape(BATCH, -1).max(axis=1) <= crops.max(axis=cells_axis) + 1e-6).all()
        assert (x.reshape(BATCH, -1).min(axis=1) >= crops.min(axis=cells_axis) - 1e-6).all()
        np.testing.assert_array_equal(x, generator.combine(crops, labels, seed)[0])

    def test_single_cells_are_shown_unmixed(self, generator: Any, cells: Cells) -> None:
        rows = generator.show(np.array([7, 2]))
        assert len(rows) == 2
        assert (rows == [[7], [2]]).all()
        crops = np.random.default_rng(0).random((2, rows.shape[1], 8, 8, 3), np.float32)
        crops[:] = crops[:, :1]
        labels = np.eye(CLASSES, dtype=np.float32)[cells.label[rows]]
        x, y = generator.combine(crops, labels, np.array([0, 0], np.int32))
        np.testing.assert_allclose(
            np.asarray(x).reshape(2, -1)[:, : 8 * 8 * 3], crops[:, 0].reshape(2, -1), rtol=1e-6
        )
        np.testing.assert_allclose(y, labels[:, 0], rtol=1e-6)

    def test_labels_after_an_epoch(self, generator: Any, cells: Cells) -> None:
        if not hasattr(generator, "epoch_end"):
            pytest.skip("leaves the labels alone")
        labels = np.eye(CLASSES, dtype=np.float32)[cells.label]
        before = labels.copy()
        said = np.full((len(cells), CLASSES), 1 / CLASSES, np.float32)
        found = generator.epoch_end(lambda rows: said[rows], labels)
        assert found.shape == labels.shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_array_equal(labels, before, err_msg="changed in place")

    def test_trains(self, generator: Any, cells: Cells, tmp_path: Path) -> None:
        history, _ = trained(generator, cells, tmp_path, epochs=3)
        assert history.epochs[-1].monitored_loss < history.epochs[0].monitored_loss

    def test_goes_on_as_if_nothing_had_happened(
        self, generator: Any, cells: Cells, tmp_path: Path
    ) -> None:
        """What a generator kept from epoch to epoch would be lost here."""
        _, whole = trained(generator, cells, tmp_path / "whole", epochs=2)
        trained(generator, cells, tmp_path / "parts", epochs=1)
        history, parts = trained(type(generator)(), cells, tmp_path / "parts", epochs=2)
        assert history.resumed == 1
        for one, other in zip(whole.train.weights, parts.train.weights, strict=True):
            np.testing.assert_array_equal(one, other)


def trained(generator: Any, cells: Cells, folder: Path, epochs: int) -> tuple[History, Network]:
    """Cells of three classes that differ in brightness, through the whole of training."""
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 60, (len(cells), 8, 8, 2), dtype=np.uint8)
    stored[cells.row] += (60 * cells.label[:, np.newaxis, np.newaxis, np.newaxis]).astype("u1")
    low, high = np.zeros((len(cells), 2), "f"), np.full((len(cells), 2), 255, "f")
    width = generator.draw(cells, 1, np.random.default_rng(1)).shape[1]
    crops = np.zeros((1, width, 8, 8, 2), np.float32)
    labels = np.zeros((1, width, CLASSES), np.float32)
    x, _ = generator.combine(crops, labels, np.zeros(2, np.int32))
    network = small_network(sequence=len(x.shape) == 5)
    history = fit(
        network,
        generator,
        TrainingData(
            gather=lambda rows: (stored[rows], low[rows], high[rows]),
            training=cells,
            validation=cells,
            classes=["a", "b", "c"],
            view=CropView(8, "none", Augmentation(shift=0)),
        ),
        Train(
            epochs=epochs,
            steps=8,
            batch_size=16,
            optimizer=Optimizer(name="adam"),
            learning_rate=0.05,
        ),
        Destination(
            folder / "last.h5", folder / "best.h5", folder / "history.csv", folder / "logs"
        ),
    )
    return history, network


def small_network(*, sequence: bool) -> Network:
    """A network for single cells, or the mean over the cells of a sequence."""
    set_seed(0)
    crop = keras.Input((8, 8, 2), name="crop")
    dense = keras.layers.Dense(6, activation="relu", name="dense")
    features = dense(keras.layers.GlobalAveragePooling2D(name="pool")(crop))
    backbone, crops = keras.Model(crop, features), crop
    if sequence:
        crops = keras.Input((None, 8, 8, 2), name="crops")
        features = dense(keras.layers.GlobalAveragePooling3D(name="mean")(crops))
    logits = keras.layers.Dense(CLASSES, name="logits")(features)
    return Network(keras.Model(crops, logits, name="small"), backbone)


class Right(CropGenerator):
    """Takes the first cells, again and again."""

    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        return np.arange(size)[:, np.newaxis]

    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        return crops[:, 0], labels[:, 0]


class Flat(Right):
    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        return np.arange(size)


class Short(Right):
    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        return np.zeros((2, 1), int)


class Beyond(Right):
    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        return np.full((size, 1), len(cells))


class Failing(Right):
    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        return cells.no_such_thing


class Floats(Right):
    def draw(self, cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
        return super().draw(cells, size, rng) * 1.0


class Whole(Right):
    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        return crops, labels[:, 0]


class Unequal(Right):
    def combine(self, crops: Any, labels: Any, seed: Any) -> tuple[Any, Any]:
        return crops[:, 0] + labels, labels[:, 0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Flat, r"Flat: draw gives \(4,\) from 0 to 3; it must give \(B, T\) = \(4, T\) positions"),
        (Short, r"Short: draw gives \(2, 1\) from 0 to 0; it must give .* from 0 to 59"),
        (Beyond, r"Beyond: draw gives \(4, 1\) from 60 to 60"),
        (Failing, r"test_plugins\.py line \d+: AttributeError: .*no_such_thing.*Failing cannot be"),
        (Floats, r"Floats: draw gives float64; it must give positions, which are whole numbers"),
        (Whole, r"Whole and small do not fit: inputs are \(None, 1, 8, 8, 2\), the model takes"),
        (Unequal, r"test_plugins\.py.*(?s:.*)Unequal cannot be used"),
    ],
)
def test_generators_that_cannot_be_used(cells: Cells, wrong: type[Right], said: str) -> None:
    def gather(rows: np.ndarray) -> tuple[np.ndarray, ...]:
        limits = np.zeros((len(rows), 2), "f")
        return np.zeros((len(rows), 8, 8, 2), np.uint8), limits, limits

    def check(generator: CropGenerator) -> None:
        network = small_network(sequence=False)
        Batches(
            generator, network, gather, cells, CropView(8, "none", Augmentation(shift=0)), 4
        ).check()

    check(Right())
    with pytest.raises(PluginError, match=said):
        check(wrong())
