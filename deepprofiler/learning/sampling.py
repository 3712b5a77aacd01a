"""Which cells to learn from next: NumPy only, and every draw is decided by its generator."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

# Where a cell is, from what most cells share to what fewest do.
_LEVELS = ("batch", "replicate", "plate", "well")


@dataclass(frozen=True, eq=False)
class Places:
    """The places of one class's cells.

    Attributes
    ----------
    codes : (G, 4) int64 array
        Batch, replicate, plate and well of each place, each numbered from 0 within the class.
    members : tuple of int64 arrays
        Positions of the cells of each place.
    replicates : dict
        For each batch the replicates that it has.
    """

    codes: np.ndarray
    members: tuple[np.ndarray, ...]
    replicates: dict[int, list[int]]


@dataclass(frozen=True, eq=False)
class Cells:
    """What sampling must know of N cells, as integer codes.

    Attributes
    ----------
    row : (N,) int64 array
        Where each cell's crop is: the row that ``gather`` takes.
    label : (N,) int64 array
        Class, 0 … K − 1.
    batch, replicate, plate, well : (N,) int64 arrays
        Codes; a well's code is unique over plates.
    places : (N_wells, 2) array of str
        Plate and well name of each well code.
    classes : int
        Number of classes K.
    """

    row: np.ndarray
    label: np.ndarray
    batch: np.ndarray
    replicate: np.ndarray
    plate: np.ndarray
    well: np.ndarray
    places: np.ndarray
    classes: int

    @classmethod
    def from_columns(
        cls,
        *,
        row: ArrayLike,
        label: ArrayLike,
        classes: int,
        plate: ArrayLike,
        well: ArrayLike,
        batch: ArrayLike | None = None,
        replicate: ArrayLike | None = None,
    ) -> Cells:
        """Make codes of names.

        Parameters
        ----------
        row, label : (N,) int arrays
            Row of the crop, and class code 0 … K − 1.
        classes : int
            Number of classes K.
        plate, well : (N,) arrays of str
            Names.
        batch, replicate : (N,) arrays of str, optional
            Names; without them the plate is the batch and all cells are one replicate.
        """
        plates = np.asarray(plate, dtype=str)
        wells = np.asarray(well, dtype=str)
        plate_code = _codes(plates)
        _, first, well_code = np.unique(
            np.stack([plate_code, _codes(wells)], axis=1),
            axis=0,
            return_index=True,
            return_inverse=True,
        )
        codes = np.asarray(label, dtype=np.int64)
        return cls(
            row=np.asarray(row, dtype=np.int64),
            label=codes,
            batch=plate_code if batch is None else _codes(np.asarray(batch, dtype=str)),
            replicate=np.zeros_like(codes)
            if replicate is None
            else _codes(np.asarray(replicate, dtype=str)),
            plate=plate_code,
            well=well_code.reshape(-1),
            places=np.stack([plates[first], wells[first]], axis=1),
            classes=classes,
        )

    def __len__(self) -> int:
        return len(self.row)

    def digest(self) -> str:
        """SHA-256 of which cells these are and of their classes, as hexadecimal text."""
        result = hashlib.sha256(np.stack([self.row, self.label, self.well]).tobytes())
        result.update("\0".join(self.places.reshape(-1).tolist()).encode())
        return result.hexdigest()

    @cached_property
    def by_label(self) -> tuple[np.ndarray, ...]:
        """For each class the positions of its cells, ascending."""
        return tuple(np.split(self.order, np.cumsum(self.counts)[:-1]))

    @cached_property
    def order(self) -> np.ndarray:
        """All positions, class by class, (N,)."""
        return np.argsort(self.label, kind="stable")

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of cells of each class, (K,)."""
        return np.bincount(self.label, minlength=self.classes)

    @cached_property
    def by_replicate(self) -> tuple[np.ndarray, np.ndarray]:
        """All positions by class, batch and replicate, and each one's number of these three.

        The number is ``(label * batches + batch) * replicates + replicate``, ascending.
        """
        batches, replicates = int(self.batch.max()) + 1, int(self.replicate.max()) + 1
        number = (self.label * batches + self.batch) * replicates + self.replicate
        order = np.argsort(number, kind="stable")
        return order, number[order]

    @cached_property
    def by_place(self) -> tuple[Places, ...]:
        """For each class where its cells are."""
        return tuple(self._places(positions) for positions in self.by_label)

    def _places(self, positions: np.ndarray) -> Places:
        table = np.stack([getattr(self, level)[positions] for level in _LEVELS], axis=1)
        places, place = np.unique(table, axis=0, return_inverse=True)
        place = place.reshape(-1)
        ends = np.cumsum(np.bincount(place, minlength=len(places)))[:-1]
        members = np.split(positions[np.argsort(place, kind="stable")], ends)
        codes = np.stack([_codes(column) for column in places.T], axis=1)
        replicates: dict[int, list[int]] = {}
        for batch, replicate in np.unique(codes[:, :2], axis=0).tolist():
            replicates.setdefault(batch, []).append(replicate)
        return Places(codes, tuple(members), replicates)


def balanced(cells: Cells, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a class uniformly, then a cell of that class uniformly; with replacement.

    Parameters
    ----------
    cells : Cells
        Every class must have a cell.
    size : int
        Number of draws.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    (size,) int64 array
        Positions in ``cells``.
    """
    label = rng.integers(cells.classes, size=size)
    within = rng.integers(cells.counts[label])
    starts = np.cumsum(cells.counts) - cells.counts
    return cells.order[starts[label] + within]


def _codes(names: np.ndarray) -> np.ndarray:
    """Replace names by their place in sorted order."""
    return np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)


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
