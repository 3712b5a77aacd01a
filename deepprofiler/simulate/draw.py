"""Draw cells: parameters in, one image per structure, mixed into channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deepprofiler.simulate.cells import (
    LOBES,
    Cells,
    Values,
    rank,
)
from deepprofiler.simulate.phenotype import Phenotype

Image = NDArray[np.float32]
Points = tuple[Values, Values, Values]  # x, y in pixels and the weight of each point

# What each stain shows: brightness of every structure, untreated nuclei and cytoplasm being near 1.
STAINS: dict[str, dict[str, float]] = {
    "DNA": {"chromatin": 1.0, "body": 0.015},
    "Actin": {"body": 0.22, "cortex": 0.5, "fibres": 0.6, "clumps": 1.1, "vesicles": 0.9},
    "Tubulin": {"body": 0.06, "soluble": 0.45, "filaments": 0.75},
    "ER": {"reticulum": 0.9, "body": 0.1},
    "RNA": {"body": 0.45, "chromatin": 0.2, "nucleoli": 0.8},
    "AGP": {
        "body": 0.2,
        "cortex": 0.45,
        "fibres": 0.5,
        "clumps": 1.0,
        "golgi": 0.5,
        "vesicles": 0.8,
    },
    "Mito": {"mitochondria": 0.9, "body": 0.08},
}
THREE_CHANNELS = ("DNA", "Actin", "Tubulin")
FIVE_CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")

# Radius (standard deviation) of what is drawn as a round spot, µm.
_SPOTS = {"clumps": 0.9, "vesicles": 0.55, "nucleoli": 1.2, "golgi": 0.9}
_POINTS = 48  # points along one microtubule or fibre


def render(
    cells: Cells,
    channels: tuple[str, ...],
    shape: tuple[int, int],
    pixel_size: float,
    rng: np.random.Generator,
) -> Image:
    """Draw cells without any nuisance, in focus.

    Parameters
    ----------
    cells : Cells
    channels : tuple of str
        Names in :data:`STAINS`.
    shape : (int, int)
        H and W in pixels.
    pixel_size : float
        µm per pixel.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray (H, W, C) float32
        Brightness, about 1 in a nucleus of the DNA channel, 0 where there is no cell.
    """
    needed = {layer for channel in channels for layer in STAINS[channel]}
    layers = _bodies(cells, shape, pixel_size, rng)
    layers["chromatin"] = _chromatin(cells, shape, pixel_size, rng)
    lines = {"filaments": _filaments, "fibres": _fibres, "mitochondria": _mitochondria}
    for name, line in lines.items():
        if name in needed:
            layers[name] = _splat(*line(cells, pixel_size, rng), shape)
    for name, radius in _SPOTS.items():
        if name in needed:
            sigma = radius / pixel_size
            points = _splat(*_spots(cells, name, pixel_size, rng), shape)
            layers[name] = gaussian_filter(points, sigma, truncate=3)
            layers[name] *= 2 * np.pi * sigma**2  # the peak of one spot is its weight
    image = np.zeros((*shape, len(channels)), np.float32)
    for number, channel in enumerate(channels):
        for name, weight in STAINS[channel].items():
            image[:, :, number] += weight * layers[name]
    return image


def _radius(lobes: NDArray[Any], direction: NDArray[Any]) -> NDArray[Any]:
    """Outline's radius towards unit complex numbers, in units of the ellipse."""
    radius = 1 + np.zeros(direction.shape)
    power = direction
    for harmonic in range(LOBES):
        power = power * direction
        radius += (lobes[..., harmonic] * power).real
    return np.maximum(radius, 0.3)


def _bodies(
    cells: Cells, shape: tuple[int, int], pixel_size: float, rng: np.random.Generator
) -> dict[str, Image]:
    """What fills an outline: body, soluble tubulin, reticulum; and the cortex along it."""
    names = ("body", "soluble", "reticulum", "cortex")
    layers = {name: np.zeros(shape, np.float32) for name in names}
    fine, coarse = (_texture(shape, size / pixel_size, rng) for size in (0.8, 1.6))
    lobes = cells.lobes.astype(np.complex64)
    bright = {n: cells.values[n].tolist() for n in ("cytoplasm", "soluble", "cortex", "mitotic")}
    ellipses = np.stack([cells.x, cells.y, cells.long, cells.short, cells.angle], axis=1)
    for number, ellipse in enumerate(ellipses.tolist()):
        box, u, v = _frame(*ellipse, reach=1.5, shape=shape)
        far = np.sqrt(u * u + v * v) + 1e-6
        # 0 in the middle, 1 on the outline.
        reach = far / _radius(lobes[number], (u + 1j * v) / far)
        half = math.sqrt(ellipse[2] * ellipse[3]) / 2
        inside = np.clip((1 - reach) * half + 0.5, 0, 1)
        dome = inside * (0.3 + 0.7 * np.clip(1 - reach * reach, 0, 1))
        dome *= 1 + bright["mitotic"][number]  # a round cell is thicker
        body = dome * bright["cytoplasm"][number] * (1 + 0.12 * coarse[box])
        drawn = {
            "body": body,
            "soluble": dome * bright["soluble"][number],
            "reticulum": body * (1.3 - reach / 2) * (1 + fine[box] / 4),
            "cortex": inside * bright["cortex"][number] * np.exp(-(((reach - 0.92) * half) ** 2)),
        }
        for name, patch in drawn.items():
            np.maximum(layers[name][box], patch, out=layers[name][box])
    return layers


def _chromatin(
    cells: Cells, shape: tuple[int, int], pixel_size: float, rng: np.random.Generator
) -> Image:
    """Nuclei with their texture; condensed in mitosis."""
    layer = np.zeros(shape, np.float32)
    grain = _texture(shape, 0.8 / pixel_size, rng)
    contrast = cells.values["chromatin"][cells.owner].tolist()
    mitotic = cells.values["mitotic"][cells.owner].tolist()
    for number, ellipse in enumerate(cells.nucleus.tolist()):
        box, u, v = _frame(*ellipse, reach=1.3, shape=shape)
        squared = u * u + v * v
        edge = math.sqrt(ellipse[2] * ellipse[3])
        patch = np.clip((1 - np.sqrt(squared)) * edge + 0.5, 0, 1) * (1 - 0.15 * squared)
        patch *= np.clip(1 + contrast[number] * grain[box], 0.2, None) * (1 + 0.9 * mitotic[number])
        np.maximum(layer[box], patch, out=layer[box])
    return layer


def _frame(
    x: float,
    y: float,
    long: float,
    short: float,
    angle: float,
    *,
    reach: float,
    shape: tuple[int, int],
) -> tuple[tuple[slice, slice], Image, Image]:
    """A box of ``reach`` semi-axes around an ellipse, and its pixels in units of these."""
    c, s = math.cos(angle), math.sin(angle)
    width = reach * math.hypot(long * c, short * s) + 2
    height = reach * math.hypot(long * s, short * c) + 2
    left, right = np.clip([int(x - width), int(x + width) + 1], 0, shape[1]).tolist()
    top, bottom = np.clip([int(y - height), int(y + height) + 1], 0, shape[0]).tolist()
    dx = np.arange(left, right, dtype=np.float32)[None, :] - x
    dy = np.arange(top, bottom, dtype=np.float32)[:, None] - y
    box = (slice(top, bottom), slice(left, right))
    u, v = (c * dx + s * dy) / long, (c * dy - s * dx) / short
    return box, u.astype(np.float32, copy=False), v.astype(np.float32, copy=False)


def _texture(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> Image:
    """Smooth noise of mean 0 and standard deviation 1."""
    noise = gaussian_filter(
        rng.standard_normal(shape, dtype=np.float32), sigma, truncate=3, mode="wrap"
    )
    return np.asarray(noise / noise.std(), dtype=np.float32)


def _splat(x: Values, y: Values, weight: Values, shape: tuple[int, int]) -> Image:
    """Add weights to the nearest pixels; points outside of the image are lost."""
    column, row = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
    seen = (column >= 0) & (column < shape[1]) & (row >= 0) & (row < shape[0])
    flat = row[seen] * shape[1] + column[seen]
    total = np.bincount(flat, weight[seen], minlength=shape[0] * shape[1])
    return total.reshape(shape).astype(np.float32)


def _to_image(cells: Cells, owner: NDArray[np.int64], place: NDArray[np.complex128]) -> Values:
    """Points in units of a cell's outline, as complex u + iv, to pixels (2, …)."""
    owner = owner.reshape(-1, *[1] * (place.ndim - 1))
    far = np.abs(place)
    direction = place / np.maximum(far, 1e-9)
    place = place * _radius(cells.lobes[owner], direction)
    u, v = place.real * cells.long[owner], place.imag * cells.short[owner]
    c, s = np.cos(cells.angle)[owner], np.sin(cells.angle)[owner]
    return np.stack([cells.x[owner] + c * u - s * v, cells.y[owner] + s * u + c * v])


def _line(cells: Cells, owner: NDArray[np.int64], place: NDArray[np.complex128]) -> Points:
    """Points of lines (L, P) in a cell's units to pixels, weighted by the length they stand for."""
    x, y = _to_image(cells, owner, place)
    step = np.hypot(np.diff(x, axis=1), np.diff(y, axis=1))
    weight = np.concatenate([step, step[:, -1:]], axis=1)
    return x.ravel(), y.ravel(), weight.ravel()


def _bundles(cells: Cells, owner: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """The bundle of every filament, and the number of bundles in all cells."""
    size = np.maximum(np.rint(cells.values["bundling"]), 1)[owner]
    first = rank(owner) % size == 0
    return np.cumsum(first) - 1, int(first.sum())


def _filaments(cells: Cells, pixel_size: float, rng: np.random.Generator) -> Points:
    """Microtubules: from around the nucleus to the outline, alone or in bundles."""
    count = rng.poisson(cells.values["filaments"])
    owner = np.repeat(np.arange(len(count)), count)
    group, groups = _bundles(cells, owner)
    along = np.linspace(0, 1, _POINTS)
    start = rng.uniform(0, 2 * np.pi, groups)[group] + rng.normal(0, 0.07, len(owner))
    curl = rng.normal(0, 0.6, groups)[group] + rng.normal(0, 0.05, len(owner))
    wave = rng.normal(0, 0.12, groups)[group]
    phase = rng.uniform(0, 2 * np.pi, groups)[group]
    end = rng.uniform(0.65, 0.98, len(owner))
    turn = start[:, None] + curl[:, None] * along
    turn += wave[:, None] * np.sin(2 * np.pi * along + phase[:, None])
    far = 0.3 + (end[:, None] - 0.3) * along
    return _line(cells, owner, far * np.exp(1j * turn))


def _fibres(cells: Cells, pixel_size: float, rng: np.random.Generator) -> Points:
    """Stress fibres: nearly parallel chords along the long axis."""
    count = rng.poisson(cells.values["fibres"])
    owner = np.repeat(np.arange(len(count)), count)
    side = rng.uniform(-0.85, 0.85, len(owner))
    half = np.sqrt(1 - side**2) * 0.95
    ends = np.sort(rng.uniform(-1, 1, (2, len(owner))), axis=0)
    ends = half * np.where(ends < 0, -np.sqrt(-ends.clip(None, 0)), np.sqrt(ends.clip(0)))
    along = ends[0][:, None] + (ends[1] - ends[0])[:, None] * np.linspace(0, 1, _POINTS)
    tilt = rng.normal(0, 0.3, len(cells.x))[owner] + rng.normal(0, 0.06, len(owner))
    x, y, weight = _line(cells, owner, (along + 1j * side[:, None]) * np.exp(1j * tilt[:, None]))
    return x, y, weight * np.repeat(np.exp(rng.normal(-0.1, 0.5, len(owner))), _POINTS)


def _mitochondria(cells: Cells, pixel_size: float, rng: np.random.Generator) -> Points:
    """Short curved rods of about 4 µm, carried outwards by microtubules and along their bundles."""
    count = rng.poisson(cells.values["mitochondria"])
    owner = np.repeat(np.arange(len(count)), count)
    length = rng.gamma(4, 1.0, len(owner)) / pixel_size
    length /= np.sqrt(cells.long * cells.short)[owner]
    along = np.linspace(-0.5, 0.5, _POINTS // 4) * length[:, None]
    carried = np.clip(cells.values["filaments"] / Phenotype().filaments, 0.25, 1)[owner]
    far = 0.38 + 0.5 * carried * rng.random(len(owner)) ** 1.5
    group, groups = _bundles(cells, owner)
    turn = rng.uniform(0, 2 * np.pi, groups)[group] + rng.normal(0, 0.12, len(owner))
    tilt = turn + rng.normal(0, 0.6, len(owner))
    bend = rng.normal(0, 1.2, len(owner))
    centre = far * np.exp(1j * turn)
    rod = (along + 1j * bend[:, None] * along**2) * np.exp(1j * tilt[:, None])
    return _line(cells, owner, centre[:, None] + rod)


def _spots(cells: Cells, name: str, pixel_size: float, rng: np.random.Generator) -> Points:
    """Round spots: x, y in pixels and the brightness of their peak."""
    if name == "nucleoli":
        # In the nuclei, in proportion to their number, within 0.7 of the radius.
        per_nucleus = cells.values["nucleoli"] / np.bincount(cells.owner, minlength=len(cells.x))
        count = rng.poisson(per_nucleus[cells.owner] * (cells.values["mitotic"][cells.owner] == 0))
        x, y, long, short, angle = np.repeat(cells.nucleus, count, axis=0).T
        far, turn = 0.7 * np.sqrt(rng.random(len(x))), rng.uniform(0, 2 * np.pi, len(x))
        u, v = far * long * np.cos(turn), far * short * np.sin(turn)
        x = x + np.cos(angle) * u - np.sin(angle) * v
        y = y + np.sin(angle) * u + np.cos(angle) * v
        return x, y, np.exp(rng.normal(-0.1, 0.3, len(x)))
    number = np.full(len(cells.x), 14.0) if name == "golgi" else cells.values[name]
    owner = np.repeat(np.arange(len(number)), rng.poisson(number))
    if name == "golgi":
        side = rng.uniform(0, 2 * np.pi, len(cells.x))[owner]
        place = 0.48 * np.exp(1j * side) + rng.normal(0, 0.09, (len(owner), 2)) @ np.array([1, 1j])
    else:
        far = rng.uniform(0.35, 0.9, len(owner))
        place = far * np.exp(1j * rng.uniform(0, 2 * np.pi, len(owner)))
    x, y = _to_image(cells, owner, place)
    return x, y, np.exp(rng.normal(-0.1, 0.4, len(owner)))
