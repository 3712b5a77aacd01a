"""From profiles to scores: accuracy, retrieval, replication, links, mixing. No TensorFlow."""

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
from deepprofiler.evaluation.measure import Measure, Note, NoteCode, Reason
from deepprofiler.evaluation.mixing import silhouette
from deepprofiler.evaluation.neighbours import nearest_profiles, neighbours_table
from deepprofiler.evaluation.precision_recall import precision_recall
from deepprofiler.evaluation.replication import Replicating, percent_replicating
from deepprofiler.evaluation.resampling import (
    bootstrap,
    clopper_pearson,
    permuted_labels,
    shuffled,
)
from deepprofiler.evaluation.retrieval import AveragePrecision, Ranking, mean_average_precision
from deepprofiler.evaluation.screen import Screen

__all__ = [
    "Accuracy",
    "AveragePrecision",
    "Enrichment",
    "Measure",
    "Note",
    "NoteCode",
    "Ranking",
    "Reason",
    "Replicating",
    "Screen",
    "bootstrap",
    "clopper_pearson",
    "difference",
    "enrichment",
    "gene_accuracy",
    "k_nearest_accuracy",
    "mean_average_precision",
    "nearest_profiles",
    "neighbours_table",
    "nsc",
    "nscb",
    "percent_replicating",
    "permuted_labels",
    "precision_recall",
    "replicate_accuracy",
    "shuffled",
    "silhouette",
]
