"""Do nearest neighbours share mechanism, treatment or gene? NSC, NSCB and the paper's Table 1.

All are one question: has a profile's nearest allowed neighbour, or have most of the k nearest, the
same label? They differ in the label, in what a neighbour must not share, and in what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepprofiler.profiling.accuracy import Accuracy, nearest_neighbour_accuracy
from deepprofiler.profiling.neighbours import Metric
from deepprofiler.profiling.profiles import Profiles


def nsc(
    profiles: Profiles,
    *,
    treatment: str,
    compound: str,
    mechanism: str,
    controls: np.ndarray | None,
    metric: Metric = "cosine",
    seed: int = 0,
) -> Accuracy:
    """Not-same-compound accuracy: how often the nearest other compound shares the mechanism.

    Parameters
    ----------
    profiles : Profiles
        One row per treatment; of several, the results are averaged.
    treatment, compound, mechanism : str
        Columns of metadata. Rows with a blank mechanism are neither queries nor neighbours.
    controls : ndarray of bool, (n,), or None
        Negative controls: neither queries nor neighbours.
    metric : {"cosine", "correlation", "euclidean"}
    seed : int
        Of the bootstrap.

    Returns
    -------
    Accuracy
        Treatments whose mechanism no other compound has are left out and counted.

    Raises
    ------
    DataError
        A column is missing (the nearest name is given), a value is not finite, a vector is zero
        under cosine, or no treatment is left.
    """
    return nearest_neighbour_accuracy(
        profiles,
        name="NSC",
        label=mechanism,
        differ=[compound],
        unit=treatment,
        cluster=compound,
        controls=controls,
        metric=metric,
        seed=seed,
    )


def nscb(
    profiles: Profiles,
    *,
    treatment: str,
    compound: str,
    mechanism: str,
    batch: str,
    controls: np.ndarray | None,
    metric: Metric = "cosine",
    seed: int = 0,
) -> Accuracy:
    """Not-same-compound-or-batch accuracy: as :func:`nsc`, and the neighbour is of another batch.

    Parameters
    ----------
    profiles : Profiles
        One row per treatment in each batch; the results of a treatment's rows are averaged.
    treatment, compound, mechanism, batch : str
        Columns of metadata.
    controls, metric, seed
        As for :func:`nsc`.

    Returns
    -------
    Accuracy
        n counts treatments. Those whose mechanism no other compound has in another batch are left
        out and counted.

    Raises
    ------
    DataError
        As for :func:`nsc`.
    """
    return nearest_neighbour_accuracy(
        profiles,
        name="NSCB",
        label=mechanism,
        differ=[compound, batch],
        unit=treatment,
        cluster=compound,
        controls=controls,
        metric=metric,
        seed=seed,
    )


def k_nearest_accuracy(
    profiles: Profiles,
    *,
    k: int = 5,
    treatment: str,
    compound: str,
    mechanism: str,
    controls: np.ndarray | None,
    metric: Metric = "cosine",
    seed: int = 0,
) -> Accuracy:
    """Leave-one-compound-out k-NN: the mechanism most of the k nearest of other compounds have.

    Parameters
    ----------
    profiles : Profiles
        One row per treatment; of several, the results are averaged.
    k : int
        How many neighbours vote; fewer where fewer are allowed. One is :func:`nsc`.
    treatment, compound, mechanism, controls, metric, seed
        As for :func:`nsc`.

    Returns
    -------
    Accuracy
        Neighbours that are equally near at the k-th place, and mechanisms with equally many votes,
        count by expectation.

    Raises
    ------
    DataError
        As for :func:`nsc`.
    """
    return nearest_neighbour_accuracy(
        profiles,
        name=f"{k}-NN",
        label=mechanism,
        differ=[compound],
        unit=treatment,
        cluster=compound,
        controls=controls,
        k=k,
        metric=metric,
        seed=seed,
    )


def replicate_accuracy(
    profiles: Profiles,
    *,
    treatment: str,
    controls: np.ndarray | None,
    compound: str | None = None,
    differ: Sequence[str] = (),
    unit: str | None = None,
    metric: Metric = "cosine",
    seed: int = 0,
) -> Accuracy:
    """Share of wells whose nearest treated well is of the same treatment (the paper's Table 1).

    Parameters
    ----------
    profiles : Profiles
        One row per well.
    treatment : str
        Column of metadata.
    controls : ndarray of bool, (n,), or None
        Negative controls: neither queries nor neighbours.
    compound : str, optional
        What the bootstrap draws; else the treatment.
    differ : sequence of str
        Columns in which a neighbour must differ, such as the plate or the well position.
    unit : str, optional
        Column, such as the treatment, whose wells are averaged before they count.
    metric, seed
        As for :func:`nsc`.

    Returns
    -------
    Accuracy
        n counts wells, or units.

    Raises
    ------
    DataError
        As for :func:`nsc`.
    """
    return nearest_neighbour_accuracy(
        profiles,
        name="replicate accuracy",
        label=treatment,
        differ=differ,
        unit=unit,
        cluster=compound or treatment,
        controls=controls,
        metric=metric,
        seed=seed,
    )


def gene_accuracy(
    profiles: Profiles,
    *,
    variant: str,
    gene: str,
    controls: np.ndarray | None,
    differ: Sequence[str] = (),
    unit: str | None = None,
    metric: Metric = "cosine",
    seed: int = 0,
) -> Accuracy:
    """Share of wells whose nearest other variant is of the same gene (the paper's Table 1).

    Parameters
    ----------
    profiles : Profiles
        One row per well.
    variant, gene : str
        Columns of metadata. Wells of genes with one variant are left out and counted.
    controls, differ, unit, metric, seed
        As for :func:`replicate_accuracy`; the bootstrap draws genes.

    Returns
    -------
    Accuracy
        n counts wells, or units.

    Raises
    ------
    DataError
        As for :func:`nsc`.
    """
    return nearest_neighbour_accuracy(
        profiles,
        name="gene accuracy",
        label=gene,
        differ=[variant, *differ],
        unit=unit,
        cluster=gene,
        controls=controls,
        metric=metric,
        seed=seed,
    )
