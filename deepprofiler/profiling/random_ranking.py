"""Average precision when candidates come in random order: its distribution, and p-values."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np

EXACT = 20_000
"""Up to so many ways to place the positives, all of them are enumerated."""

_CHUNK = 4_000_000


def random_average_precisions(
    positives: int, candidates: int, times: int, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """Average precisions of random orders: of all, if they are few, else of ``times`` draws.

    Returns
    -------
    values : ndarray
    exact : bool
        Whether these are all orders, each place of the positives once.
    """
    places = np.arange(1, positives + 1)
    if comb(candidates, positives) <= EXACT:
        ranks = np.array(list(combinations(range(1, candidates + 1), positives)))
        return (places / ranks).mean(axis=1), True
    values = np.empty(times)
    step = max(1, _CHUNK // candidates)
    for start in range(0, times, step):
        keys = rng.random((min(step, times - start), candidates))
        ranks = np.sort(np.argpartition(keys, positives - 1, axis=1)[:, :positives], axis=1) + 1
        values[start : start + step] = (places / ranks).mean(axis=1)
    return values, False


class RandomOrders:
    """Tests means of average precisions against candidates in random order.

    Queries with equally many positives and candidates are taken to share one random order, as
    copairs does: those of one label see each other, and independent orders would be too sure.
    Queries that differ in these numbers have orders of their own.

    Parameters
    ----------
    times : int
        Random orders, where there are too many to go through all.
    seed : int
    """

    def __init__(self, times: int, seed: int) -> None:
        self.times = times
        self._rng = np.random.default_rng(seed)
        self._known: dict[tuple[int, int], tuple[np.ndarray, bool]] = {}

    def p_value(
        self, mean: float, positives: np.ndarray, candidates: np.ndarray
    ) -> tuple[float, bool]:
        """Chance that random orders reach a mean, and whether it is exact.

        Parameters
        ----------
        mean : float
            Mean average precision of n queries.
        positives, candidates : ndarray of int, (n,)
            Of each query.
        """
        kinds, counts = np.unique(
            np.stack([positives, candidates], axis=1), axis=0, return_counts=True
        )
        nulls = [self._null(int(hits), int(total)) for hits, total in kinds]
        reached = mean - 1e-9  # What is equal but for rounding counts as reached.
        if len(nulls) == 1 and nulls[0][1]:
            return float((nulls[0][0] >= reached).mean()), True
        means = np.zeros(self.times)
        for (values, exact), count in zip(nulls, counts, strict=True):
            drawn = self._rng.choice(values, self.times) if exact else values
            means += drawn * (count / counts.sum())
        return float(((means >= reached).sum() + 1) / (self.times + 1)), False

    def _null(self, positives: int, candidates: int) -> tuple[np.ndarray, bool]:
        key = positives, candidates
        if key not in self._known:
            self._known[key] = random_average_precisions(*key, self.times, self._rng)
        return self._known[key]
