"""Learning rates against Keras's own schedules and callbacks, and closed forms."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from deepprofiler.learning.learning_settings import (
    Constant,
    Cosine,
    Plateau,
    Schedule,
    Steps,
)

FIRST, EPOCHS, STEPS = 0.2, 10, 7


def rates(schedule: Schedule, losses: list[float] | None = None) -> np.ndarray:
    """Rates (epochs, steps); the loss falls unless it is given."""
    losses = losses or [1 / epoch for epoch in range(1, EPOCHS)]
    return np.array(
        [
            [
                schedule.rate(FIRST, EPOCHS, STEPS, epoch * STEPS + step, losses[:epoch])
                for step in range(1, STEPS + 1)
            ]
            for epoch in range(EPOCHS)
        ]
    )


def test_constant() -> None:
    assert (rates(Constant()) == FIRST).all()


def test_cosine_is_that_of_keras() -> None:
    expected = keras.optimizers.schedules.CosineDecay(FIRST, EPOCHS * STEPS)
    found = rates(Cosine()).ravel()
    np.testing.assert_allclose(found, [float(expected(k)) for k in range(70)], atol=1e-7)
    assert found[0] == FIRST


def test_warm_up() -> None:
    found = rates(Cosine(warmup=2)).ravel()
    np.testing.assert_allclose(found[:14], FIRST * np.arange(1, 15) / 14, rtol=1e-12)
    after = keras.optimizers.schedules.CosineDecay(FIRST, 8 * STEPS)
    np.testing.assert_allclose(found[14:], [float(after(k)) for k in range(56)], atol=1e-7)
    # A rise that ends within an epoch, and one that never ends.
    half = rates(Cosine(warmup=0.5)).ravel()
    np.testing.assert_allclose(half[:3], FIRST * np.arange(1, 4) / 3.5)
    assert half.max() < FIRST * 1.001
    np.testing.assert_allclose(rates(Cosine(warmup=10)).ravel(), FIRST * np.arange(1, 71) / 70)
    assert (rates(Cosine(warmup=99)) < FIRST).all()


def test_steps() -> None:
    found = rates(Steps(epochs=(4, 8), factor=0.1))
    expected = np.array([FIRST] * 3 + [FIRST * 0.1] * 4 + [FIRST * 0.01] * 3)
    np.testing.assert_allclose(found, np.repeat(expected[:, None], STEPS, axis=1))
    found = rates(Steps(epochs=(1, 6), rates=(0.05, 0.001)))
    assert found[:5].ravel() == pytest.approx(0.05)
    assert found[5:].ravel() == pytest.approx(0.001)
    assert rates(Steps(epochs=(2,), rates=(0.05,)))[0, 0] == FIRST


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_plateau_is_that_of_keras(patience: int, seed: int) -> None:
    losses = np.random.default_rng(seed).integers(1, 6, EPOCHS).astype(float).tolist()
    optimizer = SimpleNamespace(learning_rate=np.float64(FIRST))
    callback = keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience, min_delta=0)
    callback.set_model(SimpleNamespace(optimizer=optimizer))
    callback.on_train_begin()
    expected = []
    for epoch, loss in enumerate(losses):
        expected.append(optimizer.learning_rate)
        callback.on_epoch_end(epoch, {"loss": loss})
    found = rates(Plateau(patience=patience, factor=0.5), losses)
    np.testing.assert_allclose(found, np.repeat(np.array(expected)[:, None], STEPS, axis=1))
    assert found[-1, 0] < FIRST or losses[-1] == min(losses)
