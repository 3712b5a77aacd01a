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
