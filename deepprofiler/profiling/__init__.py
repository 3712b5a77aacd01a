"""From features of cells to normalized profiles.

``TVN().fit(profiles, controls=mask).transform(profiles)``: every normalizer follows the contract
of :class:`~deepprofiler.profiling.normalizer.Normalizer`, and several make a
:class:`~deepprofiler.profiling.chain.Chain`. Profiles are metadata beside a matrix of features;
projects and configurations are not known here. Importing this package registers its normalizers,
and does not import TensorFlow or scikit-learn.
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
from deepprofiler.profiling.joint import Harmony, RankNormal
from deepprofiler.profiling.moments import CellMoments, Moments
from deepprofiler.profiling.normalizer import FitSummary, LeftOut, Normalizer
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.sphering import Sphering
from deepprofiler.profiling.standardize import Robust, Standardize
from deepprofiler.profiling.tvn import TVN, AuthorsTVN, EfaarTVN
from deepprofiler.profiling.well_effects import CellCount, WellPosition

__all__ = [
    "TVN",
    "AuthorsTVN",
    "CellCount",
    "CellMoments",
    "CellSample",
    "Chain",
    "EfaarTVN",
    "FitSummary",
    "Harmony",
    "LeftOut",
    "Moments",
    "Normalizer",
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
