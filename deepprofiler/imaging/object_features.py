"""Classical features of segmented objects, as CellProfiler measures them, by cp-measure.

Shape, intensity, texture, radial distribution and colocalization, under the names that
CellProfiler writes, so that profiles of networks can be compared with them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from deepprofiler.errors import ConfigError, DataError, install_extra

#: Name of these features in a config.
CP_MEASURE = "cp-measure"
# Left out: granularity and Costes' colocalization, which take longer than all others together.
_LEFT_OUT = {"granularity": False, "correlation_costes": False}
_OF_TWO_CHANNELS = ("correlation_pearson", "correlation_manders_fold", "correlation_rwc")
# Where an object lies in the field is not a feature of it.
_POSITION = re.compile(r"Location_|Center_[XY]|BoundingBox(Minimum|Maximum)_")
# Modules of CellProfiler that cp-measure names and that measure one channel.
_MODULES_OF_ONE = ("Intensity_", "RadialDistribution_")
# Scale, angle and number of grey levels, or ring and number of rings, at the end of a name.
_NUMBERS = re.compile(r"(?:_\d+(?:of\d+)?)*$")


def require_cp_measure() -> None:
    """Raise ConfigError where the package cp-measure is not installed."""
    try:
        import cp_measure.featurizer  # noqa: F401
    except ImportError:
        raise ConfigError(
            f"classical features are computed by cp-measure: {install_extra('classical')}"
        ) from None


def measure_objects(
    image: np.ndarray, labels: np.ndarray, channels: Sequence[str], *, full_scale: float
) -> tuple[np.ndarray, list[str]]:
    """Measure shape, intensity, texture, radial distribution and colocalization of each object.

    Parameters
    ----------
    image : ndarray, (H, W, C)
        Any numeric type.
    labels : ndarray, (H, W)
        Integers; 0 is background.
    channels : sequence of str
        C names.
    full_scale : float
        Value that counts as 1, as CellProfiler scales images: 255 for 8 bits, 65535 for 16 bits.

    Returns
    -------
    values : ndarray, (N, D) float64
        Objects in the order of their labels. NaN where a measurement is undefined, such as the
        correlation of a channel that is constant inside an object. D is 0 where there are no
        objects, whose measurements would have named the features.
    names : list of str
        D names as CellProfiler writes them, such as ``Nuclei_Intensity_MeanIntensity_DNA``.

    Raises
    ------
    ConfigError
        The package cp-measure is not installed.
    DataError
        Image and labels differ in size, or values lie outside 0 … ``full_scale``.
    """
    require_cp_measure()
    from cp_measure.featurizer import featurize, make_featurizer_config

    if labels.shape != image.shape[:2]:
        raise DataError(
            f"the label image is {labels.shape[0]} × {labels.shape[1]} pixels, the image "
            f"{image.shape[0]} × {image.shape[1]}"
        )
    if not labels.any():
        return np.empty((0, 0)), []
    scaled = np.moveaxis(image, -1, 0).astype(np.float64) / full_scale
    if not (scaled.min() >= 0 and scaled.max() <= 1):
        raise DataError(
            f"the image holds values from {image.min():g} to {image.max():g}; classical features "
            f"need 0 to {full_scale:g}"
        )
    # cp-measure joins a channel's name to a measurement by a mark that the name itself may hold.
    keys_of_channels = [f"channel{position}" for position in range(len(channels))]
    of_two_channels = dict.fromkeys(_OF_TWO_CHANNELS, len(channels) > 1)
    config = make_featurizer_config(keys_of_channels, **_LEFT_OUT, **of_two_channels)
    with np.errstate(invalid="ignore", divide="ignore"):
        values, keys, _ = featurize(scaled[None], labels[None, None], config)
    kept = [column for column, key in enumerate(keys) if not _POSITION.match(key)]
    names = dict(zip(keys_of_channels, channels, strict=True))
    return values[:, kept].astype(np.float64), [_name(keys[column], names) for column in kept]


def _name(key: str, channels: dict[str, str]) -> str:
    """Name a measurement as CellProfiler does: object, module, measure, channels, numbers.

    ``Correlation_`` of one channel is a measure of texture.
    """
    measure, *measured = key.split("__")
    is_colocalization = measure.startswith("Correlation_") and len(measured) == 2
    if not (is_colocalization or measure.startswith(_MODULES_OF_ONE)):
        measure = f"{'Texture' if measured else 'AreaShape'}_{measure}"
    numbers = _NUMBERS.search(measure)
    start = numbers.start() if numbers else len(measure)
    suffix = "".join(f"_{channels[channel]}" for channel in measured)
    return f"Nuclei_{measure[:start]}{suffix}{measure[start:]}"
