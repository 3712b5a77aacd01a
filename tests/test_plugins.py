"""The contract that every model and crop generator keeps, run over the registries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepprofiler.learning.network import Network
from deepprofiler.learning.sampling import Cells
from deepprofiler.registry import CROP_GENERATORS, MODELS, discover

discover(None)
SHAPE, CLASSES, BATCH = (48, 48, 3), 5, 4


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


@pytest.fixture(scope="module", params=MODELS.names())
def network(request: pytest.FixtureRequest) -> Network:
    return MODELS.build(request.param, SHAPE, CLASSES)


@pytest.fixture(params=CROP_GENERATORS.names())
def generator(request: pytest.FixtureRequest) -> Any:
    return CROP_GENERATORS.build(request.param)


class TestModels:
    def test_shapes(self, network: Network) -> None:
        assert network.target in ("label", "input")
        assert network.backbone.input_shape == (None, *SHAPE)
        assert network.train.input_shape[-3:] == SHAPE
        if network.target == "label":
            assert network.train.output_shape == (None, CLASSES)
        else:
            assert network.train.output_shape == network.train.input_shape

    def test_target_is_logits(self, network: Network) -> None:
        if network.target == "input":
            pytest.skip("reconstructs its input")
        shape = [size or 1 for size in network.train.input_shape]
        logits = network.train(np.random.default_rng(0).random((8, *shape[1:]), np.float32))
        assert np.isfinite(logits).all()
        assert not np.allclose(np.sum(logits, axis=1), 1), "probabilities, not logits"

    def test_layers_give_features(self, network: Network) -> None:
        layers = network.layers()
        assert layers
        crops = np.random.default_rng(0).random((2, *SHAPE), np.float32)
        for name, size in (layers[0], layers[len(layers) // 2], layers[-1]):
            features = np.asarray(network.features([name])(crops))
            assert features.shape == (2, size)
            assert np.isfinite(features).all()

    def test_weights_are_shared(self, network: Network) -> None:
        own = {id(weight) for weight in network.train.weights}
        assert {id(weight) for weight in network.backbone.weights} <= own

    def test_names_are_unique_and_stable(self, network: Network, request: Any) -> None:
        name = request.node.callspec.params["network"]
        again = MODELS.build(name, SHAPE, CLASSES)
        paths = [weight.path for weight in network.train.weights]
        assert len(set(paths)) == len(paths)
        assert [weight.path for weight in again.train.weights] == paths
        assert again.layers() == network.layers()


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

    def test_combine(self, generator: Any, cells: Cells) -> None:
        width = generator.draw(cells, BATCH, np.random.default_rng(1)).shape[1]
        rng = np.random.default_rng(0)
        crops = rng.random((BATCH, width, 8, 8, 3), np.float32)
        labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(CLASSES, size=(BATCH, width))]
        seed = np.array([3, 4], np.int32)
        x, y = generator.combine(crops, labels, seed)
        assert len(x) == BATCH
        assert y.shape == (BATCH, CLASSES)
        np.testing.assert_allclose(np.sum(y, axis=1), 1, rtol=1e-6)
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


def test_resnet18_is_the_paper_s() -> None:
    for channels in (3, 4, 5):
        network = MODELS.build("resnet18", (128, 128, channels), 103)
        assert 11.2e6 <= network.train.count_params() <= 11.4e6
    sizes = dict(network.layers())
    blocks = [f"conv{stage}{letter}" for stage in (2, 3, 4, 5) for letter in "ab"]
    assert [sizes[name] for name in blocks] == [64, 64, 128, 128, 256, 256, 512, 512]
    shapes = [network.backbone.get_layer(name).output.shape[1] for name in blocks]
    assert shapes == [32, 32, 16, 16, 8, 8, 4, 4]
    # Torchvision's ResNet18 has 11,176,512 weights below its head at three channels; this layout
    # has one projection and its normalization more (64² + 2·64), and Keras counts the moving
    # statistics of its 21 normalizations (2 · 4,864).
    three = MODELS.build("resnet18", (128, 128, 3), 103)
    assert three.backbone.count_params() == 11_176_512 + 64 * 64 + 2 * 64 + 2 * (4800 + 64)


def test_conv4a_runs_nothing_beyond_it() -> None:
    network = MODELS.build("resnet18", (48, 48, 3), 5)
    names = {layer.name for layer in network.features(["conv4a"]).layers}
    assert not any(name.startswith(("conv4b", "conv5", "pool5", "logits")) for name in names)
