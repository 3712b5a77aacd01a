"""From features of cells to profiles, and from profiles to what they say. Needs no TensorFlow.

Numbers in, numbers out: nothing here knows of a project, a config or a path.
"""

from deepprofiler.evaluation.accuracy import (
    Accuracy,
    gene_accuracy,
    k_nearest_accuracy,
    nsc,
    nscb,
    replicate_accuracy,
)
from deepprofiler.evaluation.differences import difference
from deepprofiler.evaluation.links import Enrichment, enrichment
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.mixing import silhouette
from deepprofiler.evaluation.precision_recall import precision_recall
from deepprofiler.evaluation.replication import Replicating, percent_replicating
from deepprofiler.evaluation.resampling import bootstrap, clopper_pearson, shuffled
from deepprofiler.evaluation.retrieval import AveragePrecision, mean_average_precision
from deepprofiler.evaluation.similarity import nearest_profiles
from deepprofiler.profiling.averages import (
    WellProfiles,
    cell_count_profiles,
    flag_small_wells,
    group_means,
    group_medians,
)
from deepprofiler.profiling.chain import Chain, make_chain
from deepprofiler.profiling.correct import CellCount, WellPosition
from deepprofiler.profiling.joint import Harmony, RankNormal
from deepprofiler.profiling.moments import CellMoments, Moments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.sphering import Sphering
from deepprofiler.profiling.standardize import Robust, Standardize
from deepprofiler.profiling.tvn import TVN, AuthorsTVN, EfaarTVN
from deepprofiler.report import plot

__all__ = [
    "TVN",
    "Accuracy",
    "AuthorsTVN",
    "AveragePrecision",
    "CellCount",
    "CellMoments",
    "Chain",
    "EfaarTVN",
    "Enrichment",
    "Harmony",
    "Measure",
    "Moments",
    "Profiles",
    "RankNormal",
    "Replicating",
    "Robust",
    "Sphering",
    "Standardize",
    "WellPosition",
    "WellProfiles",
    "bootstrap",
    "cell_count_profiles",
    "clopper_pearson",
    "difference",
    "enrichment",
    "flag_small_wells",
    "gene_accuracy",
    "group_means",
    "group_medians",
    "k_nearest_accuracy",
    "make_chain",
    "mean_average_precision",
    "nearest_profiles",
    "nsc",
    "nscb",
    "percent_replicating",
    "plot",
    "precision_recall",
    "replicate_accuracy",
    "shuffled",
    "silhouette",
]
