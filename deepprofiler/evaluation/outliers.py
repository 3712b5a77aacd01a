"""Wells that differ from their plate. They are flagged for a person to look at, never left out.

Imported by the plate maps of the report alone; it is here since it judges wells and draws nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

LIMIT = 4.0
FEWEST = 8
# A normal distribution's standard deviation in units of its median absolute deviation.
_PER_DEVIATION = 1.4826


def outlying(values: Sequence[float] | np.ndarray, plates: Sequence[str]) -> np.ndarray:
    """Mask of values more than 4 robust standard deviations from the median of their plate.

    The robust standard deviation is 1.4826 times the median absolute deviation. NaN is no outlier.
    A plate with fewer than 8 values, or of which more than half are equal, has none.

    Parameters
    ----------
    values : sequence of float
        n values, NaN where nothing was measured.
    plates : sequence of str
        n names.

    Returns
    -------
    ndarray
        (n,) bool.
    """
    column = pd.Series(np.asarray(values, dtype=float))
    groups = column.groupby(pd.Series(list(plates), dtype=object))
    distance = (column - groups.transform("median")).abs()
    spread = distance.groupby(pd.Series(list(plates), dtype=object)).transform("median")
    enough = groups.transform("count") >= FEWEST
    far = distance > LIMIT * _PER_DEVIATION * spread
    return (far & enough & (spread > 0)).to_numpy(bool)
