"""What several stages read of a site: its image, corrected or not, and its cells."""

from __future__ import annotations

import glob
import hashlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd

from deepprofiler.errors import ConfigError, DataError
from deepprofiler.files import file_digest, file_name
from deepprofiler.imaging import illumination
from deepprofiler.imaging.crop import cut, cut_resampled, mask_neighbours
from deepprofiler.imaging.illumination import Illumination
from deepprofiler.imaging.read import ImageFile, read_labels, read_site
from deepprofiler.imaging.views import grid_views, random_views
from deepprofiler.learning.cell_store import margin
from deepprofiler.project import Project
from deepprofiler.project.index import Site
from deepprofiler.project.locations import read_locations, usable


class SiteReader:
    """Reads the images that the stages after ``prepare`` work on.

    With ``prepare.compress`` these are the corrected 8-bit copies; else the images themselves,
    divided by the plate's illumination function where ``prepare.illumination`` is on. Nothing is
    ever corrected twice.

    Parameters
    ----------
    project : Project
    """

    def __init__(self, project: Project):
        settings = project.config.prepare
        self.channels = project.index.channels
        # Only paths are needed from here on: a fresh copy leaves the index behind, which would
        # otherwise travel to every worker process with every site.
        self._paths = replace(project)
        self._compressed = settings.compress
        self._corrected = settings.illumination and not settings.compress

    def files(self, site: Site) -> tuple[ImageFile, ...]:
        """Give the files that hold a site's channels."""
        if not self._compressed:
            return site.files
        count = len(self.channels)
        paths = [self._paths.compressed_path(site, position) for position in range(count)]
        return tuple(ImageFile(path, 0, 1) for path in paths)

    def image(self, site: Site, channel: int | None = None) -> np.ndarray:
        """Read a site.

        Parameters
        ----------
        site : Site
        channel : int, optional
            Position of the one channel to read; all of them by default.

        Returns
        -------
        numpy.ndarray
            (H, W, C); float32 where it was corrected, else as stored.

        Raises
        ------
        DataError
            A file cannot be read, or its size is not that of the plate's illumination function.
        """
        wanted = slice(None) if channel is None else slice(channel, channel + 1)
        image = read_site(self.files(site)[wanted])
        if not self._corrected:
            return image
        path = self._paths.illumination_path(site.plate)
        function = _function(path, _written(path), self.channels)[:, :, wanted]
        if function.shape != image.shape:
            raise DataError(
                f"{site.files[0].path} is {_size(image)}, the illumination function of plate "
                f"{site.plate} is {_size(function)}: run `prepare` again after changing images"
            )
        return illumination.correct(image, function)


def correction_digest(project: Project, plate: str) -> str | None:
    """Hash of what later stages use of a plate's illumination; None: nothing is used."""
    settings = project.config.prepare
    path = project.illumination_path(plate)
    if not (settings.illumination or settings.compress) or not path.exists():
        return None
    function = _function(path, _written(path), project.index.channels)
    digest = hashlib.sha256(function.tobytes())
    if settings.compress:
        found = load_illumination(path)
        digest.update(found.percentiles.tobytes())
        digest.update(f"{found.percentile_ranks} of {found.percentiles_of}".encode())
    return digest.hexdigest()


def load_illumination(path: Path) -> Illumination:
    """Read a plate's illumination, or give the one that was read before, if it is still that."""
    return _illumination(path, _written(path))


# A run goes plate by plate, so two plates are enough.
@lru_cache(maxsize=2)
def _illumination(path: Path, written: int) -> Illumination:
    """Read what was ``written`` to ``path`` at that time."""
    return illumination.load(path)


@lru_cache(maxsize=2)
def _function(path: Path, written: int, channels: tuple[str, ...]) -> np.ndarray:
    """Read the function (H, W, C) of ``channels`` that was ``written`` to ``path`` at that time."""
    found = load_illumination(path)
    missing = [name for name in channels if name not in found.channels]
    if missing:
        raise DataError(
            f"{path} has no channel {', '.join(missing)}, only {', '.join(found.channels)}; run "
            "`prepare`"
        )
    if found.channels == channels:
        return found.function
    return found.function[:, :, [found.channels.index(name) for name in channels]]


def _written(path: Path) -> int:
    """When a file was written, in ns."""
    if not path.exists():
        raise DataError(f"{path} does not exist; run `prepare`")
    return path.stat().st_mtime_ns


def require_whole_index(project: Project, stage: str) -> None:
    """Refuse a part that ``split`` wrote where only the whole index makes sense.

    Raises
    ------
    ConfigError
        The index is a part.
    """
    if project.is_part:
        raise ConfigError(
            f"{project.index_path.name} is a part of the index: run {stage} on the whole index "
            "(without --metadata); parts are for `profile`"
        )


def explain(site: Site, reason: str) -> str:
    """Say where in the index a site stands that cannot be used, and which channel is to blame.

    Parameters
    ----------
    site : Site
    reason : str
        Text of the error, which begins with the path of the image where one is to blame.

    Returns
    -------
    str
        Such as ``index.csv line 17: channel DNA names P1/a.tif, which does not exist. …``.
    """
    place = f"{site.index} line {site.line}"
    for file, (source, _, _) in zip(site.files, site.sources, strict=True):
        rest = reason.removeprefix(str(file.path))
        if rest == reason or rest[:1] not in (":", " "):
            continue
        pairs = zip(site.channels, site.sources, strict=True)
        names = [name for name, (other, _, _) in pairs if other == source]
        channels = f"channel{'s' * (len(names) > 1)} {', '.join(names)}"
        if rest != " does not exist":
            return f"{place}: {channels}: {reason}"
        text = f"{place}: {channels} name{'s' * (len(names) == 1)} {source}, which does not exist"
        relative = not Path(source).is_absolute()
        return f"{text}. Paths are relative to inputs/images." if relative else text
    return f"{place}: {reason}"


def _size(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{height} × {width} pixels in {channels} channels"


def read_cells(
    project: Project, site: Site, shape: tuple[int, int], size: int
) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Give a site's cells and set apart those whose crop lies off the image.

    With ``crops.mode`` grid or random these are views of the whole field, and nothing is read.

    Parameters
    ----------
    project : Project
    site : Site
    shape : tuple of int
        Height and width of the site's image in pixels.
    size : int
        Crop side in pixels.

    Returns
    -------
    cells : pandas.DataFrame
        ``cell`` (row in the location file, or number of the view, counted from 0), ``x``, ``y``
        in pixels, and what the location file carried.
    dropped : list of (str, str)
        Line in the location file and reason, for every cell left out.

    Raises
    ------
    DataError
        The site was not located, its location file is damaged, or its image is smaller than a
        view.
    """
    if project.config.crops.mode != "cells":
        return _views(project, site, shape, size), []
    path = project.locations_path(site)
    if not path.exists():
        raise DataError(_not_located(path, site))
    table = read_locations(path)
    inside, reasons = usable(table, shape, size, path)
    table.insert(0, "cell", np.arange(len(table)))
    cells = table[inside].drop(columns="line", errors="ignore").reset_index(drop=True)
    return cells, reasons


def cells_digest(project: Project, site: Site) -> str | None:
    """Tell what decides where a site's cells are; None: its location file is missing."""
    crops = project.config.crops
    if crops.mode == "cells":
        return file_digest(project.locations_path(site))
    return f"{crops.mode} {crops.coverage} seed {project.config.dataset.seed}"


def _views(project: Project, site: Site, shape: tuple[int, int], size: int) -> pd.DataFrame:
    """Give the views of a site's field, as a table of cells."""
    crops = project.config.crops
    place = {"grid": grid_views, "random": random_views}[crops.mode]
    name = f"{site.plate}\0{site.well}\0{site.site}"
    rng = np.random.default_rng((project.config.dataset.seed, crc32(name.encode())))
    try:
        centers = place(shape, size, crops.coverage, rng)
    except DataError as error:
        raise DataError(
            f"site {site.site} of well {site.well}: {error}; set crops.size to {min(shape)} or less"
        ) from None
    x, y = centers.T
    return pd.DataFrame({"cell": np.arange(len(centers)), "x": x, "y": y})


def _not_located(path: Path, site: Site) -> str:
    """Say that a site has no location file, and whether one has almost its name."""
    message = f"site {site.site} of well {site.well} was not located: {path} does not exist"
    before = f"{file_name(site.well)}-"
    for other in sorted(path.parent.glob(f"{glob.escape(before)}*-Nuclei.csv")):
        number = other.name.removeprefix(before).removesuffix("-Nuclei.csv")
        if number.lstrip("0") == site.site.lstrip("0"):
            return (
                f"{message}, but {other.name} does: the index asks for site `{site.site}`, the "
                f"file is for `{number}`; write the site the same way in both"
            )
    return f"{message}; run `locate`, or write a file with only a header for a site without cells"


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
