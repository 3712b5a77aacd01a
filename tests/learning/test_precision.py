"""Networks of half precision: their weights, their crops, and a resume that is exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from test_fit import KilledError, assert_same, classification, kill_at, train, weights
from tiny_screen import CHANNELS, SETTINGS, SIZE, Single, changed, make_screen, tiny

from deepprofiler.learning import checkpoint
from deepprofiler.learning.batches import Batches, CropView
from deepprofiler.learning.devices import precision
from deepprofiler.learning.extract import feature_function
from deepprofiler.learning.learning_settings import Augmentation, Plateau, Precision
from deepprofiler.learning.network import Network

HALVES: list[Precision] = ["bfloat16", "float16"]


def build(name: Precision, **options: Any) -> Network:
    with precision(name):
        return tiny(**options)


@pytest.mark.parametrize("name", HALVES)
def test_only_computations_are_of_half_precision(name: Precision) -> None:
    network = build(name)
    assert network.train.get_layer("conv").compute_dtype == name
    assert {weight.dtype for weight in network.train.weights} == {"float32"}
    assert tiny().train.get_layer("conv").compute_dtype == "float32", "what is built afterwards"


@pytest.mark.parametrize("name", ["float32", *HALVES])
def test_crops_are_rescaled_before_they_are_rounded(name: Precision) -> None:
    """Four crops with extreme values; bfloat16 cannot tell 65534 from 65535."""
    rng = np.random.default_rng(0)
    crops = np.zeros((4, SIZE, SIZE, CHANNELS), np.float32)
    crops[0] = np.linspace(100, 200, SIZE * SIZE).reshape(SIZE, SIZE, 1)
    crops[2] = 65535
    bits = rng.integers(0, 2, crops[3].shape)
    crops[3] = 65534 + bits
    expected = np.zeros_like(crops)
    expected[0] = (crops[0] - 100) / 100
    expected[3] = bits
    network = build(name)
    features = feature_function(network, ["conv"], "min-max", SIZE)(crops)
    wanted = network.features(["conv"])(expected)
    assert features.dtype == "float32"
    np.testing.assert_allclose(features, np.asarray(wanted, np.float32), rtol=1e-5, atol=1e-6)
    assert np.ptp(np.asarray(features)[3]) > 0.01
    # The same on the way of training.
    stored = np.zeros((2, SIZE, SIZE, CHANNELS), np.uint8)
    stored[1] = bits
    cells = replace(make_screen().validation, row=np.arange(2), label=np.arange(2))
    low = np.full((2, CHANNELS), 65534, np.float32)
    view = CropView(SIZE, augmentation=Augmentation(shift=0))
    batches = Batches(Single(), network, lambda rows: (stored, low, low + 1), cells, view, 2)
    ((x, _),) = batches.validation(np.arange(2))
    np.testing.assert_allclose(x.numpy(), [np.zeros_like(bits), bits], rtol=1e-6)


@pytest.mark.parametrize("name", HALVES)
def test_it_learns_and_its_weights_fit_any_precision(tmp_path: Path, name: Precision) -> None:
    screen = make_screen()
    network = build(name)
    history = train(tmp_path, screen, network, settings=changed(SETTINGS, epochs=8))
    assert classification(history.epochs[-1]).accuracy > 0.7
    whole = tiny(seed=9)
    checkpoint.load(tmp_path / "checkpoint" / "last.h5", whole)
    assert_same(weights(network), weights(whole))
    crops = np.random.default_rng(0).random((20, SIZE, SIZE, CHANNELS), dtype=np.float32)
    exact, rounded = (np.asarray(n.train(crops), np.float32) for n in (whole, network))
    assert 0 < np.abs(exact - rounded).max() < 0.02 * np.abs(exact).max()


def test_interrupted_equals_uninterrupted_with_a_loss_scale(tmp_path: Path) -> None:
    screen = make_screen()
    settings = changed(
        SETTINGS,
        epochs=4,
        optimizer={"name": "adam"},
        schedule=Plateau(patience=1, factor=0.1),
        steps=6,
    )
    whole = build("float16", dropout=0.3)
    history = train(tmp_path / "whole", screen, whole, settings=settings)
    with pytest.raises(KilledError):
        train(
            tmp_path / "parts",
            screen,
            build("float16", dropout=0.3),
            settings=settings,
            progress=kill_at(3, 4),
        )
    parts = build("float16", dropout=0.3, seed=99)
    resumed = train(tmp_path / "parts", screen, parts, settings=settings)
    assert resumed.resumed == 2
    assert_same(weights(whole), weights(parts))
    assert [metrics.loss for metrics in history.epochs] == [
        metrics.loss for metrics in resumed.epochs
    ]
    optimizers = [network.train.optimizer for network in (whole, parts)]
    state = [[np.asarray(value) for value in one.variables] for one in optimizers]
    assert_same(*state)
    assert int(optimizers[1].step_counter) == 4 * 6


def test_a_step_that_overflows_is_skipped(tmp_path: Path) -> None:
    """The scale is halved until gradients are finite; the network is not spoiled."""
    network = build("float16")
    logits = network.train.get_layer("logits")
    kernel = np.zeros((6, 3), np.float32)
    kernel[:, 0] = 50
    logits.set_weights([kernel, np.zeros(3, np.float32)])
    before = weights(network)
    settings = changed(SETTINGS, epochs=1, steps=1)
    train(tmp_path, make_screen(), network, settings=settings, validation=None)
    optimizer = network.train.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert float(optimizer.dynamic_scale) == 2.0**14
    trained = [number for number, w in enumerate(network.train.weights) if w.trainable]
    assert_same([before[k] for k in trained], [weights(network)[k] for k in trained])
