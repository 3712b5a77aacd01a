"""Place cells in a field and give each its own parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepprofiler.simulate.phenotype import Phenotype

Values = NDArray[np.float64]

LOBES = 3  # harmonics 2, 3 and 4 of a cell's outline


@dataclass(frozen=True)
class Cells:
    """N cells of one field; lengths in pixels, areas in pixels².

    Parameters
    ----------
    x, y : ndarray (N,)
        Centroid of the nuclei; the centre of pixel (0, 0) is (0, 0).
    angle : ndarray (N,)
        Direction of the long axis, radians.
    long, short : ndarray (N,)
        Semi-axes of the outline.
    lobes : ndarray (N, 3) of complex
        Amplitude and phase of the outline's harmonics.
    nucleus : ndarray (M, 5)
        Every nucleus: x, y, semi-axes, angle; all cells' after each other.
    owner : ndarray (M,) of int
        The cell of every nucleus.
    values : dict of str to ndarray (N,)
        The parameters of each cell, as in :class:`~deepprofiler.simulate.phenotype.Phenotype`.
    """

    x: Values
    y: Values
    angle: Values
    long: Values
    short: Values
    lobes: NDArray[np.complex128]
    nucleus: Values
    owner: NDArray[np.int64]
    values: dict[str, Values]

    @property
    def nucleus_area(self) -> Values:
        """Area of each cell's nuclei, pixels² (N,); where they overlap it counts twice."""
        area = np.pi * self.nucleus[:, 2] * self.nucleus[:, 3]
        return np.bincount(self.owner, area, minlength=len(self.x)).astype(np.float64)

    @property
    def cell_area(self) -> Values:
        """Area within each cell's outline, pixels² (N,)."""
        lobes = (np.abs(self.lobes) ** 2).sum(axis=1)
        return np.asarray(np.pi * self.long * self.short * (1 + lobes / 2), dtype=np.float64)


def make_cells(
    phenotype: Phenotype,
    density: float,
    shape: tuple[int, int],
    pixel_size: float,
    spread: float,
    rng: np.random.Generator,
) -> Cells:
    """Draw the parameters and places of a field's cells.

    Where there is room, the distance of two cells is at least 0.65 of their mean diameter. Cells
    lie up to 20 µm outside of the field, so that some are cut off by its edge.

    Parameters
    ----------
    phenotype : Phenotype
    density : float
        Expected number of cells with their centre in the field.
    shape : (int, int)
        H and W in pixels.
    pixel_size : float
        µm per pixel.
    spread : float
        Standard deviation of the logarithm of every parameter between cells.
    rng : numpy.random.Generator

    Returns
    -------
    Cells
    """
    H, W = shape
    border = 20 / pixel_size
    number = round(density * (H + 2 * border) * (W + 2 * border) / (H * W))
    values = phenotype.sample(number, spread, rng)
    mitotic = rng.random(number) < values["mitotic"]
    for name, factor in {"nucleus_area": 0.4, "cell_area": 0.45, "filaments": 0.5}.items():
        values[name][mitotic] *= factor
    for name, factor in {"nucleus_elongation": 1.8, "soluble": 1.8, "fibres": 0.1}.items():
        values[name][mitotic] *= factor
    values["cell_elongation"][mitotic] = 1.0
    values["nuclei"][mitotic] = 1.0
    values["mitotic"] = mitotic.astype(float)

    long, short = _axes(values["cell_area"], values["cell_elongation"], pixel_size)
    place = _place(0.65 * np.sqrt(long * short), shape, border, rng)
    angle = rng.uniform(0, np.pi, number)
    amplitude = values["roughness"][:, None] * np.abs(rng.normal(0, 1, (number, LOBES)))
    lobes = amplitude * np.exp(2j * np.pi * rng.random((number, LOBES)))

    count = 1 + rng.poisson(np.maximum(values["nuclei"] - 1, 0))
    owner = np.repeat(np.arange(number), count)
    share = np.exp(rng.normal(0, 0.35 * (count[owner] > 1), len(owner)))
    share /= np.bincount(owner, share, minlength=number)[owner]
    area = values["nucleus_area"][owner] * share
    elongation = values["nucleus_elongation"][owner]
    first, second = _axes(area, elongation, pixel_size)
    # Several nuclei lie around the middle, touching or overlapping; one nucleus lies in it.
    turn = 2 * np.pi * (rank(owner) / count[owner] + rng.random(number)[owner])
    turn += rng.normal(0, 0.6, len(owner)) / count[owner]
    ring = np.sqrt(first * second) / np.sin(np.pi / np.maximum(count[owner], 2))
    ring = np.minimum(ring * rng.uniform(0.55, 1.1, len(owner)), 0.6 * np.sqrt(long * short)[owner])
    ring *= count[owner] > 1
    dx, dy = ring * np.cos(turn), ring * np.sin(turn)
    middle = [np.bincount(owner, d * share, minlength=number)[owner] for d in (dx, dy)]
    tilt = angle[owner] + rng.normal(0, 0.25, len(owner))
    nucleus = np.stack(
        [
            place[owner, 0] + dx - middle[0],
            place[owner, 1] + dy - middle[1],
            first,
            second,
            np.where(count[owner] > 1, rng.uniform(0, np.pi, len(owner)), tilt),
        ],
        axis=1,
    )
    return Cells(place[:, 0], place[:, 1], angle, long, short, lobes, nucleus, owner, values)


def _axes(area: Values, elongation: Values, pixel_size: float) -> tuple[Values, Values]:
    """Semi-axes in pixels of ellipses of ``area`` (µm²) and axis ratio ``elongation``."""
    radius = np.sqrt(area / np.pi) / pixel_size
    stretch = np.sqrt(np.maximum(elongation, 1))
    return radius * stretch, radius / stretch


def _place(
    radius: Values, shape: tuple[int, int], border: float, rng: np.random.Generator
) -> Values:
    """Places (N, 2) as x, y at which discs of ``radius`` do not overlap, as far as possible."""
    size = np.array([shape[1], shape[0]]) - 0.5
    placed = np.empty((len(radius), 2))
    for number in range(len(radius)):
        tried = rng.uniform(-0.5 - border, size + border, (20, 2))
        if number:
            away = np.linalg.norm(tried[:, None] - placed[None, :number], axis=2)
            room = (away - radius[number] - radius[:number]).min(axis=1)
            # The first that fits; where none does, the one with the most room.
            tried = tried[np.argmax(np.minimum(room, 0))][None]
        placed[number] = tried[0]
    return placed


def rank(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of each item among those of its owner; ``owner`` is sorted."""
    return np.arange(len(owner)) - np.searchsorted(owner, owner)
