"""From features of cells to profiles, and from profiles to what they say. Needs no TensorFlow.

Numbers in, numbers out: nothing here knows of a project, a config or a path.
"""

from deepprofiler.profiling.aggregate import (
    WellMeans,
    cell_count_profiles,
    flag_small_wells,
    group_means,
)
from deepprofiler.profiling.chain import Chain, make_chain
from deepprofiler.profiling.evaluate import (
    Accuracy,
    gene_accuracy,
    nsc,
    nscb,
    replicate_accuracy,
)
from deepprofiler.profiling.moments import CellMoments, Moments
from deepprofiler.profiling.neighbours import nearest_profiles
from deepprofiler.profiling.normalize import Standardize
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.resampling import bootstrap, clopper_pearson, shuffled
from deepprofiler.profiling.retrieval import AveragePrecision, mean_average_precision
from deepprofiler.profiling.tvn import TVN

__all__ = [
    "TVN",
    "Accuracy",
    "AveragePrecision",
    "CellMoments",
    "Chain",
    "Moments",
    "Profiles",
    "Standardize",
    "WellMeans",
    "bootstrap",
    "cell_count_profiles",
    "clopper_pearson",
    "flag_small_wells",
    "gene_accuracy",
    "group_means",
    "make_chain",
    "mean_average_precision",
    "nearest_profiles",
    "nsc",
    "nscb",
    "replicate_accuracy",
    "shuffled",
]
