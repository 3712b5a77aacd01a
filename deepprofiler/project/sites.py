"""What the commands after ``prepare`` read of a site: its image, its cells, and their crops."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL
from deepprofiler.config.schema import Crops
from deepprofiler.errors import ConfigError, DataError
from deepprofiler.files import file_digest, file_name
from deepprofiler.imaging import illumination
from deepprofiler.imaging.crop import (
    cut,
    cut_resampled,
    grid_views,
    mask_neighbours,
    random_views,
)
from deepprofiler.imaging.illumination import Illumination
from deepprofiler.imaging.image_errors import ImageError
from deepprofiler.imaging.read import ImageFile, inspect, read_labels, read_site
from deepprofiler.learning.cell_store import margin
from deepprofiler.parameters import Decides
from deepprofiler.project import Project
from deepprofiler.project.freshness import FileState, Provenance, digest_of, provenance
from deepprofiler.project.index import Site
from deepprofiler.project.locations import read_locations, usable

# -- images ------------------------------------------------------------------------------------


class SiteReader:
    """Reads the images that the commands after ``prepare`` work on.

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
        self._project = replace(project)
        self._compressed = settings.compress
        self._corrected = settings.illumination and not settings.compress

    def files(self, site: Site) -> tuple[ImageFile, ...]:
        """Give the files that hold a site's channels."""
        if not self._compressed:
            return site.files
        count = len(self.channels)
        paths = [self._project.compressed_path(site, position) for position in range(count)]
        return tuple(ImageFile(path, 0, 1) for path in paths)

    def states(self, site: Site) -> dict[str, FileState]:
        """Read the state of those files, as far as they exist, by name."""
        return states({self._project.name_of(file.path): file.path for file in self.files(site)})

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
        path = self._project.illumination_path(site.plate)
        function = _function(path, _modified(path), self.channels)[:, :, wanted]
        if function.shape != image.shape:
            raise DataError(
                f"{site.files[0].path} is {_size(image)}, the illumination function of plate "
                f"{site.plate} is {_size(function)}: run `prepare` again after changing images"
            )
        return illumination.correct(image, function)


def read_uncorrected(files: Sequence[ImageFile]) -> np.ndarray:
    """Read images (H, W, C) that are to be corrected.

    Raises
    ------
    DataError
        A file cannot be read, or is itself an output of this program.
    """
    image = read_site(files)
    for path in dict.fromkeys(file.path for file in files):
        if (kind := inspect(path).written_as) == "copy":
            raise ImageError(
                path,
                "output",
                "an 8-bit copy that `prepare` wrote, which is corrected already: name the original "
                "image, or set prepare.illumination and prepare.compress to false",
            )
        if kind == "labels":
            raise ImageError(path, "output", "a label image that `locate` wrote, not a channel")
    return image


def image_paths(project: Project, site: Site) -> dict[str, Path]:
    """Give the paths of a site's image files as the index names them, by name."""
    return {project.name_of(file.path): file.path for file in site.files}


def named_images(sites: Sequence[Site]) -> dict[str, str | None]:
    """Digest, as an input of provenance, of which file and page each channel of sites is."""
    return {"images named by the index": digest_of([site.sources for site in sites])}


def states(paths: Mapping[str, Path]) -> dict[str, FileState]:
    """Read the state of files by name; a file that does not exist has none."""
    return {name: FileState.of(path) for name, path in paths.items() if path.is_file()}


def explain(site: Site, error: DataError) -> str:
    """Say where in the index a site stands that cannot be used, and which channel is to blame.

    Parameters
    ----------
    site : Site
    error : DataError
        An :class:`~deepprofiler.imaging.image_errors.ImageError` says which file cannot be used.

    Returns
    -------
    str
        Such as ``index.csv line 17: channel DNA names P1/a.tif, which does not exist. …``.
    """
    place = f"{site.index} line {site.line}"
    paths = [file.path for file in site.files]
    if not isinstance(error, ImageError) or error.path not in paths:
        return f"{place}: {error}"
    source, _, _ = site.sources[paths.index(error.path)]
    channels = [name for name, path in zip(site.channels, paths, strict=True) if path == error.path]
    return f"{place}: {error.in_index(channels, source)}"


def require_whole_index(project: Project, command: str) -> None:
    """Refuse a part that ``split`` wrote where only the whole index makes sense.

    Raises
    ------
    ConfigError
        The index is a part.
    """
    if project.is_part:
        raise ConfigError(
            f"{project.index_path.name} is a part of the index: run {command} on the whole index "
            "(without --metadata); parts are for `profile`"
        )


# -- illumination ------------------------------------------------------------------------------


def correction_digest(project: Project, plate: str) -> str | None:
    """Digest of what later commands use of a plate's illumination; None: nothing is used."""
    settings = project.config.prepare
    path = project.illumination_path(plate)
    if not (settings.illumination or settings.compress) or not path.exists():
        return None
    function = _function(path, _modified(path), project.index.channels)
    digest = hashlib.sha256(function.tobytes())
    if settings.compress:
        plate_illumination = load_illumination(path)
        ranks = plate_illumination.percentile_ranks
        digest.update(plate_illumination.percentiles.tobytes())
        digest.update(f"{ranks} of {plate_illumination.percentiles_of}".encode())
    return digest.hexdigest()


def load_illumination(path: Path) -> Illumination:
    """Read a plate's illumination, or give the one that was read before, if it is still that."""
    return _illumination(path, _modified(path))


# A run goes plate by plate, so two plates are enough.
@lru_cache(maxsize=2)
def _illumination(path: Path, modified: int) -> Illumination:
    """Read what was written to ``path`` at that time."""
    return illumination.load(path)


@lru_cache(maxsize=2)
def _function(path: Path, modified: int, channels: tuple[str, ...]) -> np.ndarray:
    """Read the function (H, W, C) of ``channels`` that was written to ``path`` at that time."""
    plate_illumination = load_illumination(path)
    missing = [name for name in channels if name not in plate_illumination.channels]
    if missing:
        raise DataError(
            f"{path} has no channel {', '.join(missing)}, only "
            f"{', '.join(plate_illumination.channels)}; run `prepare`"
        )
    if plate_illumination.channels == channels:
        return plate_illumination.function
    order = [plate_illumination.channels.index(name) for name in channels]
    return plate_illumination.function[:, :, order]


def _modified(path: Path) -> int:
    """When a file was written, in ns."""
    if not path.exists():
        raise DataError(f"{path} does not exist; run `prepare`")
    return path.stat().st_mtime_ns


def _size(image: np.ndarray) -> str:
    height, width, channels = image.shape
    return f"{height} × {width} pixels in {channels} channels"


# -- cells -------------------------------------------------------------------------------------


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
        ``Metadata_Cell`` (row in the location file, or number of the view, counted from 0), ``x``,
        ``y`` in pixels, and what the location file carried.
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
    table.insert(0, CELL, np.arange(len(table)))
    cells = table[inside].drop(columns="line", errors="ignore").reset_index(drop=True)
    return cells, reasons


def cells_digests(project: Project, sites: tuple[Site, ...]) -> dict[str, str | None]:
    """Digests of what decides where the cells of sites are, and of what masks their neighbours.

    Returns
    -------
    dict
        Name of the input to its digest; None where the file is missing.
    """
    crops = project.config.crops
    if crops.mode != "cells":
        return {"seed of views": str(project.config.dataset.seed)}
    digests = {f"locations of site {s.site}": file_digest(project.locations_path(s)) for s in sites}
    if crops.mask:
        digests |= {f"labels of site {s.site}": file_digest(project.labels_path(s)) for s in sites}
    return digests


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
    return pd.DataFrame({CELL: np.arange(len(centers)), "x": x, "y": y})


def _not_located(path: Path, site: Site) -> str:
    """Say that a site has no location file, and whether one has almost its name."""
    message = f"site {site.site} of well {site.well} was not located: {path} does not exist"
    before = f"{file_name(site.well)}-"
    for other in sorted(path.parent.glob(f"{glob.escape(before)}*-Nuclei.csv")):
        number = other.name.removeprefix(before).removesuffix("-Nuclei.csv")
        if number.lstrip("0") == site.site.lstrip("0"):
            return (
                f"{message}, but {other.name} does: the index names site `{site.site}`, the "
                f"file is for `{number}`; write the site the same way in both"
            )
    return f"{message}; run `locate`, or write a file with only a header for a site without cells"


# -- crops -------------------------------------------------------------------------------------


def crop_settings(project: Project) -> Provenance:
    """Give the settings that stored crops are made with."""
    values = {"dataset.channels": project.index.channels, "stored size": stored_size(project)}
    return provenance(project.config, Decides.CROPS, values=values)


def stored_size(project: Project) -> int:
    """Side M of the stored crops: S and the margin that the augmentation needs, in pixels."""
    crops, augment = project.config.crops, project.config.train.augment
    if crops.margin == "auto":
        return crops.size + margin(crops.size, shift=augment.shift, rotations=augment.rotations)
    return crops.size + crops.margin + crops.margin % 2


def cut_cells(
    project: Project, site: Site, image: np.ndarray, centers: np.ndarray, size: int
) -> np.ndarray:
    """Cut the cells of one site, with their neighbours blanked where ``crops.mask`` is on.

    Parameters
    ----------
    project : Project
    site : Site
    image : numpy.ndarray
        (H, W, C).
    centers : numpy.ndarray
        (n, 2) x and y in pixels.
    size : int
        Side of the crops in pixels; what it has beyond ``crops.size`` is margin.

    Returns
    -------
    numpy.ndarray
        (n, size, size, C), in the image's dtype; float32 where it was resampled.

    Raises
    ------
    DataError
        Cells are to be masked, and there is no label image that fits the site's images.
    """
    settings = project.config.crops
    crops = _cut(settings, image, centers, size)
    if not settings.mask:
        return crops
    path = project.labels_path(site)
    if not path.exists():
        raise DataError(f"crops.mask needs {path}; `locate --labels` writes it")
    height, width = image.shape[:2]
    labels = read_labels(path, (height, width))
    own = _cut(settings, labels[:, :, None], centers, size, nearest=True)
    return mask_neighbours(crops, own[:, :, :, 0])


def _cut(
    settings: Crops, image: np.ndarray, centers: np.ndarray, size: int, *, nearest: bool = False
) -> np.ndarray:
    if settings.geometry == "nearest":
        return cut(image, centers, size)
    return cut_resampled(
        image, centers, settings.size, margin=size - settings.size, nearest=nearest
    )
