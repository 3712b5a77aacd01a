"""Optimizers and losses against their formulas."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from deepprofiler.learning.learning_settings import Optimizer, Train
from deepprofiler.learning.optimizer import make_loss, make_optimizer

RATE, DECAY, STEPS = 0.1, 0.05, 4
GRADIENTS = np.random.default_rng(0).normal(size=(STEPS, 3))


def network() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign([[1.0], [-2.0], [3.0]])
    return model


def sgd(weights: np.ndarray, decay: float) -> np.ndarray:
    """Momentum, with decay apart from it."""
    speed = np.zeros(3)
    for gradient in GRADIENTS:
        speed = 0.9 * speed - RATE * gradient
        weights = weights * (1 - RATE * decay) + speed
    return weights


def adam(weights: np.ndarray, decay: float) -> np.ndarray:
    """Kingma and Ba 2015; decay as Loshchilov and Hutter 2019."""
    first = second = np.zeros(3)
    for step, gradient in enumerate(GRADIENTS, 1):
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        root = np.sqrt(second / (1 - 0.999**step))
        weights = weights * (1 - RATE * decay) - RATE * first / (1 - 0.9**step) / (root + 1e-7)
    return weights


@pytest.mark.parametrize("decay", [0.0, DECAY])
@pytest.mark.parametrize(("name", "formula"), [("sgd", sgd), ("adam", adam), ("adamw", adam)])
def test_optimizers(name: Any, formula: Any, decay: float) -> None:
    model = network()
    settings = Train(optimizer=Optimizer(name=name, weight_decay=decay), learning_rate=RATE)
    optimizer = make_optimizer(settings, model)
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient[:, None], "float32")])
    expected = formula(np.array([1.0, -2.0, 3.0]), decay)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], expected, rtol=1e-4)
    # Names that count up would differ between two runs in one process.
    assert {variable.path.split("/")[0] for variable in optimizer.variables} == {name}


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy(smoothing: float) -> None:
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(5, 4)), rng.dirichlet(np.ones(4), size=5)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    smoothed = (1 - smoothing) * labels + smoothing / 4
    expected = -(smoothed * np.log(shares)).sum(axis=1).mean()
    loss = make_loss(Train(label_smoothing=smoothing), "label")
    assert float(loss(labels.astype("f"), logits.astype("f"))) == pytest.approx(expected, rel=1e-5)


def test_squared_error() -> None:
    rng = np.random.default_rng(2)
    wanted, made = rng.random((2, 3, 4, 4, 2)).astype("f")
    expected = np.mean((wanted - made) ** 2)
    assert float(make_loss(Train(), "input")(wanted, made)) == pytest.approx(expected, rel=1e-5)
