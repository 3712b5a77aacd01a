"""Illumination function and intensity percentiles of a plate: their use and their file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.files import replacing

FORMAT = "deepprofiler-illumination"
VERSION = 2


@dataclass(frozen=True)
class Illumination:
    """What one plate's images have in common.

    Attributes
    ----------
    channels : tuple of str
    function : numpy.ndarray
        (H, W, C) float32, minimum exactly 1 in each channel.
    percentiles : numpy.ndarray
        (C, 2) float64: grey levels at the two ranks over all pixels as stored.
    percentile_ranks : tuple of float
        The two ranks, in percent.
    mean_image : numpy.ndarray
        (H / down_scale, W / down_scale, C) float32, mean over the sites.
    count : int
        Number of sites.
    down_scale, median_size : int
        Settings that made the function.
    flat : tuple of str
        Channels left uncorrected (their function is 1 everywhere), since their robust minimum is
        not above 0, or so small that dividing by it means nothing.
    failed : tuple of (str, str)
        Well and site of those that could not be read.
    percentiles_of : {"plate", "image"}
    corrected : bool
        Whether the 8-bit copies are divided by the function.
    clipped : numpy.ndarray or None
        (C,) share of pixels outside the percentiles in the 8-bit copies; None if none were made.
    """

    channels: tuple[str, ...]
    function: np.ndarray
    percentiles: np.ndarray
    percentile_ranks: tuple[float, float]
    mean_image: np.ndarray
    count: int
    down_scale: int
    median_size: int
    flat: tuple[str, ...]
    failed: tuple[tuple[str, str], ...] = ()
    percentiles_of: str = "plate"
    corrected: bool = True
    clipped: np.ndarray | None = None


def correct(image: np.ndarray, function: np.ndarray) -> np.ndarray:
    """Divide an image by a correction function.

    Parameters
    ----------
    image : numpy.ndarray
        (H, W, C), any numeric type.
    function : numpy.ndarray
        (H, W, C), finite and above 0; see :func:`require_usable`.

    Returns
    -------
    numpy.ndarray
        (H, W, C) float32; where a function is below 1, values beyond the image's type are kept.

    Raises
    ------
    DataError
        The shapes differ.
    """
    if image.shape != function.shape:
        raise DataError(
            f"an image of shape {image.shape} cannot be corrected by a function of shape "
            f"{function.shape}; run `prepare` again"
        )
    return np.divide(image, function, dtype=np.float32, casting="unsafe")


def save(path: Path, illumination: Illumination) -> None:
    """Write a plate's illumination as HDF5; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
    illumination : Illumination
    """
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        for name, value in asdict(illumination).items():
            if value is None:
                continue
            if isinstance(value, np.ndarray):
                file.create_dataset(name, data=value, compression="lzf", shuffle=True)
            elif name == "failed":
                # A dataset, since an attribute holds no more than 64 kB.
                file.create_dataset(name, (len(value), 2), h5py.string_dtype(), data=value or None)
            elif name in ("channels", "flat"):
                file.attrs.create(name, value, (len(value),), h5py.string_dtype())
            else:
                file.attrs[name] = value


def save_clipped(path: Path, clipped: np.ndarray, failed: Sequence[tuple[str, str]] = ()) -> None:
    """Add the share of pixels (C,) that a plate's 8-bit copies clipped, and sites without copy."""
    found = load(path)
    clipped = np.asarray(clipped, dtype=np.float64)
    save(path, replace(found, clipped=clipped, failed=(*found.failed, *failed)))


def load(path: Path, *, images: bool = True) -> Illumination:
    """Read a plate's illumination.

    Parameters
    ----------
    path : Path
    images : bool
        Without them, ``function`` and ``mean_image`` stay empty and reading takes no time.

    Returns
    -------
    Illumination

    Raises
    ------
    DataError
        The file does not exist, is damaged, is of another kind or another version, or its
        function is not finite and above 0 everywhere.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; run `prepare`")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT or file.attrs["version"] != VERSION:
                raise DataError(
                    f"{path} is no illumination file that this version can read; delete it and run "
                    "`prepare`"
                )
            lower, upper = file.attrs["percentile_ranks"]
            rows = slice(None) if images else slice(0)
            failed = file["failed"].asstr()[:].tolist()
            found = Illumination(
                channels=tuple(file.attrs["channels"]),
                function=file["function"][rows],
                percentiles=file["percentiles"][:],
                percentile_ranks=(float(lower), float(upper)),
                mean_image=file["mean_image"][rows],
                count=int(file.attrs["count"]),
                down_scale=int(file.attrs["down_scale"]),
                median_size=int(file.attrs["median_size"]),
                flat=tuple(file.attrs["flat"]),
                failed=tuple((well, site) for well, site in failed),
                percentiles_of=str(file.attrs["percentiles_of"]),
                corrected=bool(file.attrs["corrected"]),
                clipped=file["clipped"][:] if "clipped" in file else None,
            )
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and run `prepare`") from None
    try:
        require_usable(found.function)
    except DataError as error:
        raise DataError(f"{path}: {error}; delete it and run `prepare`") from None
    return found


def require_usable(function: np.ndarray) -> None:
    """Refuse a function that is not finite and above 0 everywhere (DataError)."""
    if not (np.min(function, initial=1) > 0 and np.max(function, initial=1) < np.inf):
        raise DataError("an illumination function must be finite and above 0 everywhere")
