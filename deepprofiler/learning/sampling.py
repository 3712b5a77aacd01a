"""Sampling: which cells are drawn for a batch. NumPy only; all randomness is the generator's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

# Where a cell comes from, from the coarsest to the finest level.
_LEVELS = ("batch", "replicate", "plate", "well")


@dataclass(frozen=True, eq=False)
class ClassWells:
    """The wells that the cells of one class come from.

    Attributes
    ----------
    codes : (G, 4) int64 array
        Batch, replicate, plate and well of each well, each numbered from 0 within the class.
    members : tuple of int64 arrays
        Positions of the cells of each well.
    replicates : dict
        For each batch the replicates in it.
    """

    codes: np.ndarray
    members: tuple[np.ndarray, ...]
    replicates: dict[int, list[int]]


@dataclass(frozen=True, eq=False)
class Cells:
    """N cells with their class, batch, replicate, plate and well, as integer codes.

    Attributes
    ----------
    row : (N,) int64 array
        The row of each cell's crop, which ``gather`` takes.
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
        """Encode names.

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
        """SHA-256 of rows, classes and wells, as hexadecimal text."""
        result = hashlib.sha256(np.stack([self.row, self.label, self.well]).tobytes())
        result.update("\0".join(self.places.reshape(-1).tolist()).encode())
        return result.hexdigest()

    @cached_property
    def by_label(self) -> tuple[np.ndarray, ...]:
        """Positions of the cells of each class, ascending."""
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
        """All positions sorted by class, batch and replicate, and their sort key, both (N,).

        The key is ``(label * batches + batch) * replicates + replicate``.
        """
        batches, replicates = int(self.batch.max()) + 1, int(self.replicate.max()) + 1
        key = (self.label * batches + self.batch) * replicates + self.replicate
        order = np.argsort(key, kind="stable")
        return order, key[order]

    @cached_property
    def class_wells(self) -> tuple[ClassWells, ...]:
        """The wells of each class."""
        return tuple(self._wells_of(positions) for positions in self.by_label)

    def _wells_of(self, positions: np.ndarray) -> ClassWells:
        table = np.stack([getattr(self, level)[positions] for level in _LEVELS], axis=1)
        wells, well = np.unique(table, axis=0, return_inverse=True)
        well = well.reshape(-1)
        ends = np.cumsum(np.bincount(well, minlength=len(wells)))[:-1]
        members = np.split(positions[np.argsort(well, kind="stable")], ends)
        codes = np.stack([_codes(column) for column in wells.T], axis=1)
        replicates: dict[int, list[int]] = {}
        for batch, replicate in np.unique(codes[:, :2], axis=0).tolist():
            replicates.setdefault(batch, []).append(replicate)
        return ClassWells(codes, tuple(members), replicates)


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
    positions: np.ndarray = cells.order[starts[label] + within]
    return positions


def _codes(names: np.ndarray) -> np.ndarray:
    """Number names in sorted order."""
    return np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.int64)


def sequence(cells: Cells, label: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Draw cells of one class from different batches where possible, in random order.

    As few batches as possible are repeated, then as few replicates (both by a maximum matching,
    which makes no repeat that can be avoided), then plates, wells and cells.

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
    wells = cells.class_wells[label]
    selection = _SequenceSelection(wells, length, rng)
    for batch, replicate in _matching(wells.replicates, length, rng):
        selection.add((wells.codes[:, 0] == batch) & (wells.codes[:, 1] == replicate))
    while len(selection.cells) < length:
        selection.add(np.ones(len(wells.codes), bool))
    return rng.permutation(np.array(selection.cells, np.int64))


def partners(cells: Cells, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a partner for each cell, to mix both.

    The partner's class is drawn uniformly, then a cell of that class uniformly from all other
    batches; where there is none, from all other replicates; otherwise from the whole class.

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
    order, key = cells.by_replicate

    def block(number: np.ndarray, span: int) -> tuple[np.ndarray, np.ndarray]:
        """Return where the cells of a class, or of a batch or replicate in it, begin and end."""
        return np.searchsorted(key, number * span), np.searchsorted(key, (number + 1) * span)

    in_batch = label * batches + cells.batch[first]
    whole = block(label, batches * replicates)
    same_batch = block(in_batch, replicates)
    same_replicate = block(in_batch * replicates + cells.replicate[first], 1)
    none = np.zeros_like(label), np.zeros_like(label)
    result = np.full(len(first), -1, np.int64)
    for (start, stop), (excluded, end) in (
        (whole, same_batch),
        # The whole class is of one batch then.
        (same_batch, same_replicate),
        (whole, none),
    ):
        allowed = (stop - start) - (end - excluded)
        drawn = (result < 0) & (allowed > 0)
        number = start + rng.integers(np.maximum(allowed, 1))
        number += np.where((end > excluded) & (number >= excluded), end - excluded, 0)
        result[drawn] = order[number[drawn]]
    return result


class _SequenceSelection:
    """The cells selected for a sequence, and the cost of selecting from each well again."""

    def __init__(self, wells: ClassWells, length: int, rng: np.random.Generator) -> None:
        self._wells = wells
        self._rng = rng
        # A number in which a repeat of a batch outweighs all repeats of replicates, and so on;
        # in lower digits the number of repeats, so that these are spread evenly.
        base = length + 1
        levels = range(wells.codes.shape[1])
        self._repeat_costs = [base ** (levels[-1] - level) for level in levels]
        self._first_costs = [base ** len(levels) * 2 ** (len(levels) - level) for level in levels]
        self._exhausted_cost = base ** len(levels)
        self._costs = [np.zeros(column.max() + 1, np.int64) for column in wells.codes.T]
        self._exhausted = np.zeros(len(wells.codes), np.int64)
        self._selected: dict[int, list[int]] = {}
        self.cells: list[int] = []

    def add(self, allowed: np.ndarray) -> None:
        """Select one more cell, from the wells that are allowed, (G,) bool."""
        candidates = np.flatnonzero(allowed)
        codes = self._wells.codes[candidates]
        cost = self._exhausted[candidates] + sum(
            costs[codes[:, level]] for level, costs in enumerate(self._costs)
        )
        cheapest = candidates[cost == cost.min()]
        well = int(cheapest[self._rng.integers(len(cheapest))])
        members, selected = self._wells.members[well], self._selected.setdefault(well, [])
        is_partly_used = 0 < len(selected) < len(members)
        free = np.setdiff1d(members, selected) if is_partly_used else members
        cell = int(free[self._rng.integers(len(free))])
        selected.append(cell)
        self.cells.append(cell)
        if len(selected) == len(members):
            self._exhausted[well] = self._exhausted_cost
        for level, code in enumerate(self._wells.codes[well]):
            is_first = self._costs[level][code] == 0
            self._costs[level][code] += (
                self._repeat_costs[level] + is_first * self._first_costs[level]
            )


def _matching(
    replicates: dict[int, list[int]], size: int, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Pair as many batches as possible, at most ``size``, with different replicates.

    Augmenting paths in random order (Kuhn's algorithm). Not SciPy's bipartite matching, which
    always gives the same one of several.
    """
    batch_of: dict[int, int] = {}

    def match(batch: int, seen: set[int]) -> bool:
        for replicate in rng.permutation(replicates[batch]).tolist():
            if replicate not in seen:
                seen.add(replicate)
                if replicate not in batch_of or match(batch_of[replicate], seen):
                    batch_of[replicate] = batch
                    return True
        return False

    for batch in rng.permutation(list(replicates)).tolist():
        if len(batch_of) == size:
            break
        match(batch, set())
    return [(batch, replicate) for replicate, batch in batch_of.items()]
