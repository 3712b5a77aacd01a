"""Learning rates: each a pure function of the recipe, the step and the epochs that are finished.

Nothing is kept between steps, so that a resumed training has the rates of an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """What every schedule can do."""

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """Give the learning rate of one step.

        Parameters
        ----------
        first : float
            The recipe's learning rate.
        epochs, steps : int
            Number of epochs in all, and of steps an epoch.
        step : int
            Number of the step, from 1, counted over all epochs.
        losses : sequence of float
            Loss of each finished epoch, on validation cells if there are any.
        """


@dataclass(frozen=True)
class Constant:
    """The same rate throughout."""

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """See :class:`Schedule`."""
        return first


@dataclass(frozen=True)
class Cosine:
    """A linear rise, then half a cosine wave down to 0, which the step after the last would have.

    Source: Loshchilov and Hutter 2017 (SGDR), without restarts.

    Attributes
    ----------
    warmup : float
        Epochs in which the rate grows by equal amounts from step to step, up to the recipe's.
    """

    warmup: float = 0.0

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """See :class:`Schedule`."""
        rise = self.warmup * steps
        if step <= rise:
            return first * step / rise
        share = (step - 1 - rise) / (epochs * steps - rise)
        return first * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Steps:
    """Another rate from given epochs on.

    Attributes
    ----------
    epochs : tuple of int
        Numbers of the epochs, ascending, from 1.
    factor : float
        The rate is multiplied by it at each of them; not looked at where there are ``rates``.
    rates : tuple of float, optional
        The rate from each of them on.
    """

    epochs: tuple[int, ...]
    factor: float = 0.1
    rates: tuple[float, ...] | None = None

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """See :class:`Schedule`."""
        reached = sum(number <= len(losses) + 1 for number in self.epochs)
        if self.rates is None:
            return first * self.factor**reached
        return self.rates[reached - 1] if reached else first


@dataclass(frozen=True)
class Plateau:
    """A lower rate whenever the loss has not fallen for some epochs.

    As Keras's ``ReduceLROnPlateau`` with ``min_delta=0``.

    Attributes
    ----------
    patience : int
        Epochs without a lower loss, after which the rate falls and the count begins anew.
    factor : float
        What the rate is multiplied by.
    """

    patience: int = 3
    factor: float = 0.5

    def rate(
        self, first: float, epochs: int, steps: int, step: int, losses: Sequence[float]
    ) -> float:
        """See :class:`Schedule`."""
        rate, best, waited = first, math.inf, 0
        for loss in losses:
            best, waited = (loss, 0) if loss < best else (best, waited + 1)
            if waited == self.patience:
                rate, waited = rate * self.factor, 0
        return rate
