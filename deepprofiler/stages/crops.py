"""What the config says of crops, and cutting them; shared by ``export-sc`` and ``profile``."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.files import file_digest
from deepprofiler.imaging.crop import cut, mask_neighbours
from deepprofiler.imaging.read import read_labels
from deepprofiler.imaging.resample import cut_resampled
from deepprofiler.learning.cells import margin
from deepprofiler.metadata import Site
from deepprofiler.project import Project


def crop_settings(project: Project) -> dict[str, Any]:
    """Give what the config alone says of the stored crops."""
    config = project.config
    return {
        "channels": list(project.index.channels),
        "crops": config.crops.model_dump(
            include={"mode", "coverage", "size", "geometry", "mask", "cells_per_well"}
        ),
        "stored_size": stored_size(project),
        "prepare": config.prepare.model_dump(include={"illumination", "compress"}),
    }


def stored_size(project: Project) -> int:
    """Side M of the stored crops: S and the margin that the augmentation needs, in pixels."""
    crops, augment = project.config.crops, project.config.train.augment
    if crops.margin == "auto":
        return crops.size + margin(crops.size, shift=augment.shift, rotations=augment.rotations)
    return crops.size + crops.margin + crops.margin % 2


def labels_digest(project: Project, site: Site) -> str | None:
    """Hash of the label image that masks a site's crops; None: none is used, or it is missing."""
    return file_digest(project.labels_path(site)) if project.config.crops.mask else None


def cut_cells(
    project: Project, site: Site, image: np.ndarray, centers: np.ndarray, size: int
) -> np.ndarray:
    """Cut the cells of one site, with their neighbours blanked where ``crops.mask`` is on.

    What ``size`` has beyond ``crops.size`` is margin.

    Returns
    -------
    numpy.ndarray
        (n, size, size, C), in the image's dtype; float32 where it was resampled.

    Raises
    ------
    DataError
        Cells are to be masked, and there is no label image, or it is of another size.
    """
    crops = _cut(project, image, centers, size)
    if not project.config.crops.mask:
        return crops
    path = project.labels_path(site)
    if not path.exists():
        raise DataError(f"crops.mask needs {path}; `locate --labels` writes it")
    labels = read_labels(path)
    if labels.shape != image.shape[:2]:
        height, width = image.shape[:2]
        raise DataError(
            f"{path} is {labels.shape[0]} × {labels.shape[1]} pixels, the site's images are "
            f"{height} × {width}: draw the labels on these images, or delete the file and run "
            "`locate --labels`"
        )
    own = _cut(project, labels[:, :, None], centers, size, nearest=True)
    return mask_neighbours(crops, own[:, :, :, 0])


def _cut(
    project: Project, image: np.ndarray, centers: np.ndarray, size: int, *, nearest: bool = False
) -> np.ndarray:
    crops = project.config.crops
    if crops.geometry == "nearest":
        return cut(image, centers, size)
    return cut_resampled(image, centers, crops.size, margin=size - crops.size, nearest=nearest)
