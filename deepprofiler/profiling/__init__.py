"""From features of cells to normalized profiles. Needs no TensorFlow.

Tables beside matrices in, tables out: nothing here knows of a project, a config or a path.
"""

from deepprofiler.profiling.averages import (
    CellSample,
    WellProfiles,
    cell_count_profiles,
    flag_small_wells,
    group_means,
    group_medians,
    with_enough_cells,
)
from deepprofiler.profiling.chain import Chain, make_chain
from deepprofiler.profiling.correct import CellCount, WellPosition
from deepprofiler.profiling.joint import Harmony, RankNormal
from deepprofiler.profiling.moments import CellMoments, Moments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.sphering import Sphering
from deepprofiler.profiling.standardize import Robust, Standardize
from deepprofiler.profiling.tvn import TVN, AuthorsTVN, EfaarTVN

__all__ = [
    "TVN",
    "AuthorsTVN",
    "CellCount",
    "CellMoments",
    "CellSample",
    "Chain",
    "EfaarTVN",
    "Harmony",
    "Moments",
    "Profiles",
    "RankNormal",
    "Robust",
    "Sphering",
    "Standardize",
    "WellPosition",
    "WellProfiles",
    "cell_count_profiles",
    "flag_small_wells",
    "group_means",
    "group_medians",
    "make_chain",
    "with_enough_cells",
]
