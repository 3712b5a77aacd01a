"""Score profiles and their baselines under one protocol, by what the index knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.metadata import COUNT, MEMBERS, Index
from deepprofiler.profiling.accuracy import Accuracy
from deepprofiler.profiling.aggregate import Weight, cell_count_profiles, group_means
from deepprofiler.profiling.evaluate import gene_accuracy, nsc, nscb, replicate_accuracy
from deepprofiler.profiling.neighbours import Metric
from deepprofiler.profiling.profiles import Profiles


@dataclass(frozen=True)
class Scores:
    """The accuracies of one method.

    Attributes
    ----------
    name, about : str
        As it stands in a sentence, and one line on what it is.
    results : dict
        Metric's name to its accuracy.
    undefined : dict
        Metric's name to the reason why it has no value.
    """

    name: str
    about: str
    results: dict[str, Accuracy] = field(default_factory=dict)
    undefined: dict[str, str] = field(default_factory=dict)


def negative_rows(index: Index, profiles: Profiles) -> np.ndarray:
    """Which profiles are negative controls, (n,) bool."""
    if not index.has("control"):
        return np.zeros(len(profiles), bool)
    return profiles.values(index.roles["control"]) == index.control


def treatments_of(wells: Profiles, index: Index, weight: Weight, *by: str) -> Profiles:
    """Mean profile of each treatment, or of each treatment in each value of other roles."""
    known = [index.roles[role] for role in ("treatment", *by) if index.has(role)]
    columns = list(dict.fromkeys(known))
    return group_means(wells, columns, count=COUNT, members=MEMBERS, weight=weight)


def score(
    wells: Profiles, index: Index, weight: Weight, seed: int, *, name: str, about: str
) -> Scores:
    """Compute every accuracy that the roles of the index allow.

    Parameters
    ----------
    wells : Profiles
        Normalized well profiles; negative controls and small wells take no part.
    index : Index
    weight : {"cells", "wells"}
    seed : int
        Of the bootstrap.
    name, about : str
        See :class:`Scores`.
    """
    scores = Scores(name, about)
    treated = wells.subset(~negative_rows(index, wells))
    metric: Metric = "euclidean" if len(wells.names) == 1 else "cosine"
    for what, compute in _accuracies(treated, index, weight, metric, seed).items():
        try:
            scores.results[what] = compute()
        except DataError as error:
            scores.undefined[what] = str(error)
    return scores


def _accuracies(
    wells: Profiles, index: Index, weight: Weight, metric: Metric, seed: int
) -> dict[str, Callable[[], Accuracy]]:
    """Names and computations of the accuracies, the most telling first."""
    if not (index.has("treatment") and len(wells)):
        return {}
    roles = index.roles
    treatment, batch = roles["treatment"], roles["batch"]
    compound = roles.get("compound", treatment)
    common: dict[str, Any] = {"controls": None, "metric": metric, "seed": seed}
    found: dict[str, Callable[[], Accuracy]] = {}
    if index.has("mechanism"):
        matched = common | {
            "treatment": treatment,
            "compound": compound,
            "mechanism": roles["mechanism"],
        }
        by = ("mechanism", "compound")
        found["NSC"] = lambda: nsc(treatments_of(wells, index, weight, *by), **matched)
        if len(set(wells.values(batch))) > 1:
            found["NSCB"] = lambda: nscb(
                treatments_of(wells, index, weight, *by, "batch"), batch=batch, **matched
            )
    if index.has("gene"):
        found["gene accuracy"] = lambda: gene_accuracy(
            wells, variant=treatment, gene=roles["gene"], **common
        )
    found["replicate accuracy"] = lambda: replicate_accuracy(
        wells, treatment=treatment, compound=compound, **common
    )
    return found


def count_scores(wells: Profiles, index: Index, weight: Weight, seed: int) -> Scores:
    """Score the number of cells alone."""
    return score(
        cell_count_profiles(wells, count=COUNT),
        index,
        weight,
        seed,
        name="the cell count",
        about="one number a well: how many cells it has",
    )
