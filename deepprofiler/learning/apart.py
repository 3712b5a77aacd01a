"""Cells that go together, taken from as different places as there are.

The rules of sequences and mixtures (Caicedo et al. 2018, Figures 3 and 4): cells of one example
come from different batches and replicates, so that no stain or plate is common to them.
"""

from __future__ import annotations

import numpy as np

from deepprofiler.learning.sampling import Cells, Places


def sequence(cells: Cells, label: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Draw cells of one class that repeat as few batches as possible, in random order.

    Then, of the choices that are left, as few replicates as possible (both by a maximum
    matching, so that no repeat that can be avoided is made), then plates, wells and cells, one
    after the other.

    Parameters
    ----------
    cells : Cells
        The class must have a cell.
    label : int
        Class.
    length : int
        Number of cells T.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    (T,) int64 array
        Positions in ``cells``; a cell is repeated only where the class has fewer than T.
    """
    places = cells.by_place[label]
    used = _Used(places, length, rng)
    for batch, replicate in _matching(places.replicates, length, rng):
        used.take((places.codes[:, 0] == batch) & (places.codes[:, 1] == replicate))
    while len(used.chosen) < length:
        used.take(np.ones(len(places.codes), bool))
    return rng.permutation(np.array(used.chosen, np.int64))


def partners(cells: Cells, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw for each cell one to be mixed with.

    Its class is drawn uniformly, then a cell of that class uniformly from all other batches;
    where there are none, from all other replicates; else from the whole class.

    Parameters
    ----------
    cells : Cells
        Every class must have a cell.
    first : (B,) int array
        Positions in ``cells``.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    (B,) int64 array
        Positions in ``cells``.
    """
    label = rng.integers(cells.classes, size=len(first))
    batches, replicates = cells.batch.max() + 1, cells.replicate.max() + 1
    order, code = cells.by_replicate

    def block(number: np.ndarray, span: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the cells of a class, or of a batch or a replicate in it, begin and end."""
        return np.searchsorted(code, number * span), np.searchsorted(code, (number + 1) * span)

    in_batch = label * batches + cells.batch[first]
    whole = block(label, batches * replicates)
    same_batch = block(in_batch, replicates)
    same_replicate = block(in_batch * replicates + cells.replicate[first], 1)
    none = np.zeros_like(label), np.zeros_like(label)
    result = np.full(len(first), -1, np.int64)
    for (start, stop), (hole, end) in (
        (whole, same_batch),
        # Every cell is of the same batch then.
        (same_batch, same_replicate),
        (whole, none),
    ):
        free = (stop - start) - (end - hole)
        todo = (result < 0) & (free > 0)
        number = start + rng.integers(np.maximum(free, 1))
        number += np.where((end > hole) & (number >= hole), end - hole, 0)
        result[todo] = order[number[todo]]
    return result


class _Used:
    """What a sequence has taken by now, and what it costs to take from each place again."""

    def __init__(self, places: Places, length: int, rng: np.random.Generator) -> None:
        self._places = places
        self._rng = rng
        # A number in which a repeat of a batch outweighs all repeats of replicates, and so on;
        # below these, how often, so that repeats are spread evenly.
        base = length + 1
        levels = range(places.codes.shape[1])
        self._again = [base ** (levels[-1] - level) for level in levels]
        self._first = [base ** len(levels) * 2 ** (len(levels) - level) for level in levels]
        self._nothing_new = base ** len(levels)
        self._costs = [np.zeros(column.max() + 1, np.int64) for column in places.codes.T]
        self._exhausted = np.zeros(len(places.codes), np.int64)
        self._taken: dict[int, list[int]] = {}
        self.chosen: list[int] = []

    def take(self, allowed: np.ndarray) -> None:
        """Choose one more cell, of the places that are allowed, (G,) bool."""
        found = np.flatnonzero(allowed)
        codes = self._places.codes[found]
        cost = self._exhausted[found] + sum(
            costs[codes[:, level]] for level, costs in enumerate(self._costs)
        )
        cheapest = found[cost == cost.min()]
        place = int(cheapest[self._rng.integers(len(cheapest))])
        members, taken = self._places.members[place], self._taken.setdefault(place, [])
        free = np.setdiff1d(members, taken) if 0 < len(taken) < len(members) else members
        cell = int(free[self._rng.integers(len(free))])
        taken.append(cell)
        self.chosen.append(cell)
        if len(taken) == len(members):
            self._exhausted[place] = self._nothing_new
        for level, code in enumerate(self._places.codes[place]):
            new = self._costs[level][code] == 0
            self._costs[level][code] += self._again[level] + new * self._first[level]


def _matching(
    replicates: dict[int, list[int]], size: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Pair as many batches as possible, at most ``size``, each with a replicate of its own.

    Augmenting paths in random order (Kuhn's method).
    """
    batch_of: dict[int, int] = {}

    def place(batch: int, seen: set[int]) -> bool:
        for replicate in rng.permutation(replicates[batch]).tolist():
            if replicate not in seen:
                seen.add(replicate)
                if replicate not in batch_of or place(batch_of[replicate], seen):
                    batch_of[replicate] = batch
                    return True
        return False

    for batch in rng.permutation(list(replicates)).tolist():
        if len(batch_of) == size:
            break
        place(batch, set())
    return [(batch, replicate) for replicate, batch in batch_of.items()]
