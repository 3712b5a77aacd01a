"""Put cells under a microscope: blur, gain, background, vignetting, noise.

A file of its own: what an image loses and gains between the cells and the disk, whose truth is
tested without writing a screen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from deepprofiler.simulate.cells import Cells, make_cells
from deepprofiler.simulate.design import Nuisance, ScreenDesign
from deepprofiler.simulate.draw import render
from deepprofiler.simulate.plan import Batch, Site, generator


def draw_site(
    design: ScreenDesign, seed: int, site: Site, batch: Batch
) -> tuple[NDArray[np.uint16], Cells, float]:
    """Draw one field with its nuisance.

    Returns
    -------
    image : ndarray (H, W, C) uint16
    cells : Cells
        All that were drawn, also those whose centre lies outside of the field.
    blur : float
        Standard deviation of the point spread, pixels.
    """
    well, nuisance = site.well, design.nuisance
    rng = generator(seed, "site", well.plate, well.well, site.name)
    cells = make_cells(
        well.phenotype, well.cells, design.image_size, design.pixel_size, design.cell_spread, rng
    )
    signal = render(cells, design.channels, design.image_size, design.pixel_size, rng)
    blur = batch.blur * np.exp(rng.normal(0, nuisance.site_blur)) / design.pixel_size
    light = vignette(design.image_size, nuisance.vignetting)
    image = np.empty(signal.shape, np.uint16)
    for channel in range(signal.shape[2]):
        sharp = gaussian_filter(signal[:, :, channel], blur, truncate=3, mode="nearest")
        sharp *= np.float32(design.levels * batch.gain[channel] * well.gain)
        image[:, :, channel] = _expose(sharp, batch.background[channel], light, nuisance, rng)
    return image, cells, float(blur)


def vignette(shape: tuple[int, int], loss: float) -> NDArray[np.float32]:
    """Share of the light at each pixel (H, W): 1 in the centre, 1 − ``loss`` in the corners."""
    y, x = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    return 1 - loss / 2 * (y[:, None] ** 2 + x[None, :] ** 2)


def _expose(
    signal: NDArray[np.float32],
    background: float,
    light: NDArray[np.float32],
    nuisance: Nuisance,
    rng: np.random.Generator,
) -> NDArray[np.uint16]:
    """Grey levels of a signal (H, W) that is given in grey levels, with noise."""
    level = light * (signal + np.float32(background))
    noise = rng.standard_normal(level.shape, dtype=np.float32)
    noise *= np.sqrt(np.float32(nuisance.shot_noise) * level + np.float32(nuisance.read_noise**2))
    level += noise
    level += np.float32(nuisance.offset)
    return np.clip(np.rint(level), 0, 65535).astype(np.uint16)
