"""Do nearest neighbours share mechanism, treatment or gene? NSC, NSCB and the paper's Table 1.

All are one question: has a profile's nearest allowed neighbour, or have most of the k nearest, the
same label? They differ in the label, in what a neighbour must not share, and in what is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure
from deepprofiler.evaluation.resampling import Interval, bootstrap, clopper_pearson
from deepprofiler.evaluation.similarity import (
    Metric,
    Similarity,
    allowed_blocks,
    blank,
    codes_of,
    treated,
)
from deepprofiler.profiling.profiles import Profiles


def vote(similarity: np.ndarray, codes: np.ndarray, count: int, k: int) -> np.ndarray:
    """Chances of each label to have most votes of the k nearest, exact over all orders of the tied.

    Candidates that are equally near at the k-th place are equally likely to be asked, and where
    labels have equally many votes, each is equally likely to be taken.

    Parameters
    ----------
    similarity : ndarray, (q, c)
        Of queries with candidates; -inf where a candidate is not allowed. Each query has one.
    codes : ndarray of int, (c,)
        Labels of the candidates, below ``count``.
    count : int
        Number of labels, K.
    k : int
        All allowed candidates vote where there are fewer.

    Returns
    -------
    ndarray, (q, K)
        Each row adds up to 1.
    """
    chances = np.zeros((len(similarity), count))
    if k == 1:
        nearest = np.nonzero(similarity == similarity.max(axis=1, keepdims=True))
        np.add.at(chances, (nearest[0], codes[nearest[1]]), 1)
        return chances / chances.sum(axis=1, keepdims=True)
    for query, row in enumerate(similarity):
        ranked = np.sort(row[np.isfinite(row)])[::-1]
        last = ranked[min(k, len(ranked)) - 1]
        sure = np.bincount(codes[row > last], minlength=count)
        tied = np.bincount(codes[row == last], minlength=count)
        places = min(k, len(ranked)) - int(sure.sum())
        there = np.flatnonzero(sure + tied)
        voters = list(zip(sure[there].tolist(), tied[there].tolist(), strict=True))
        chances[query, there] = [chance_to_win(voters, own, places) for own in range(len(there))]
    return chances


def random_vote(allowed: np.ndarray, same: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """Chance that k candidates drawn at random vote for the query's own label.

    Parameters
    ----------
    allowed, same : ndarray of bool, (q, c)
        Candidates of each query; those among them that have its label.
    codes, k
        As for :func:`vote`.

    Returns
    -------
    ndarray, (q,)
    """
    if k == 1:
        return same.sum(axis=1) / allowed.sum(axis=1)
    known: dict[tuple[int, ...], float] = {}
    chances = []
    for mine, others in zip(same.sum(axis=1), allowed & ~same, strict=True):
        sizes = np.sort(np.bincount(codes[others]))
        key = (int(mine), *sizes[sizes > 0].tolist())
        if key not in known:
            known[key] = chance_to_win([(0, size) for size in key], 0, min(k, sum(key)))
        chances.append(known[key])
    return np.array(chances)


def chance_to_win(voters: Sequence[tuple[int, int]], own: int, places: int) -> float:
    """Chance that one label has the most votes; where several have, each is equally likely taken.

    Parameters
    ----------
    voters : sequence of (int, int), K
        Of each label, the votes that count in any case, and the voters that are equally near.
    own : int
        Position of the label in question.
    places : int
        How many of the equally near vote: at most all of them.
    """
    sure, tied = voters[own]
    others = [pair for position, pair in enumerate(voters) if position != own]
    won = 0.0
    for drawn in range(min(tied, places) + 1):
        if sure + drawn:
            ways = _ways_to_stay_below(others, sure + drawn, places - drawn)
            won += comb(tied, drawn) * sum(count / (1 + level) for level, count in ways.items())
    return won / comb(sum(tied for _, tied in voters), places)


def _ways_to_stay_below(
    others: Sequence[tuple[int, int]], votes: int, places: int
) -> dict[int, int]:
    """Ways to fill the places so that no other label has more votes, by how many have as many."""
    # Ways by (places filled, labels that draw level), one label after the other.
    ways = {(0, 0): 1}
    for sure, tied in others:
        grown: dict[tuple[int, int], int] = {}
        for (filled, level), count in ways.items():
            for drawn in range(min(tied, places - filled, votes - sure) + 1):
                key = filled + drawn, level + (sure + drawn == votes)
                grown[key] = grown.get(key, 0) + count * comb(tied, drawn)
        ways = grown
    return {level: count for (filled, level), count in ways.items() if filled == places}


@dataclass(frozen=True, kw_only=True)
class Accuracy(Measure):
    """Result of a nearest-neighbour evaluation.

    Its value is the share of the n units whose nearest neighbour, or most of whose nearest
    neighbours, have their label; ties by expectation. Chance is the value expected if each query's
    neighbours were drawn from its allowed ones.

    Attributes
    ----------
    chance : float
    exact, by_compound : Interval
    queries : DataFrame
        One row per query that counts: ``row`` (in the profiles), ``unit``, ``label``,
        ``neighbour`` (row of the nearest; of the equally near, the first of another label if there
        is one), ``nearest`` and ``nearest_label`` (its unit and label), ``similarity``, ``tied``
        (how many are equally near), ``predicted`` (the likeliest label), ``right`` (0 … 1).
    units : DataFrame
        One row per unit that counts: ``unit`` (a row number where each row is one), ``label``,
        ``cluster``, ``queries``, ``right``.
    left_out : DataFrame
        One row per unit that does not count: ``unit``, ``label``, ``reason``.
    votes : DataFrame
        How many ``units`` of a ``label`` were ``predicted`` as which; adds up to n.
    """

    chance: float
    exact: Interval
    by_compound: Interval
    queries: pd.DataFrame
    units: pd.DataFrame
    left_out: pd.DataFrame
    votes: pd.DataFrame

    @property
    def confusion(self) -> pd.DataFrame:
        """Units by label (rows) and predicted label (columns)."""
        return self.votes.pivot_table(
            index="label", columns="predicted", values="units", aggfunc="sum", fill_value=0.0
        )

    @property
    def wrong(self) -> pd.DataFrame:
        """Queries that are not wholly right, the most similar first.

        Columns ``unit``, ``label``, ``nearest``, ``nearest_label``, ``similarity``, ``right``.
        """
        columns = ["unit", "label", "nearest", "nearest_label", "similarity", "right"]
        found = self.queries.loc[self.queries["right"] < 1, columns]
        return found.sort_values("similarity", ascending=False, kind="stable", ignore_index=True)


def nearest_neighbour_accuracy(
    profiles: Profiles,
    *,
    name: str,
    label: str,
    differ: Sequence[str],
    unit: str | None,
    cluster: str,
    controls: np.ndarray | None,
    k: int = 1,
    metric: Metric = "cosine",
    seed: int = 0,
) -> Accuracy:
    """Share of units whose nearest allowed neighbour, or most of k, have the same label.

    Parameters
    ----------
    profiles : Profiles
    name : str
        Of the result.
    label : str
        Column that must agree; rows where it is blank take no part.
    differ : sequence of str
        Columns in which query and neighbour must differ.
    unit : str or None
        Column whose rows are averaged before they count; None: every row counts.
    cluster : str
        Column that the bootstrap draws by.
    controls : ndarray of bool, (n,), or None
        Rows that are neither queries nor neighbours.
    k : int
        How many neighbours vote; see :func:`~deepprofiler.evaluation.accuracy.vote`.
    metric, seed
        As for :func:`~deepprofiler.evaluation.accuracy.nsc`.

    Raises
    ------
    DataError
        As for :func:`~deepprofiler.evaluation.accuracy.nsc`.
    """
    if k < 1:
        raise ValueError(f"k={k}; at least one neighbour votes")
    codes, labels = codes_of(profiles, label)
    keys = [codes_of(profiles, column)[0] for column in differ]
    clusters = profiles.values(cluster)
    # Without a unit every row counts by itself.
    units = profiles.values(unit) if unit else np.arange(len(profiles))
    others = treated(profiles, controls)
    unlabelled = blank(labels)[codes[others]]
    rows = others[~unlabelled]
    similarity = Similarity(profiles, rows, metric)

    parts, votes, flat = [], [], True
    for block, allowed in allowed_blocks(rows, rows, keys):
        same = allowed & (codes[block][:, None] == codes[rows][None])
        asked = same.any(axis=1)
        block, allowed, same = block[asked], allowed[asked], same[asked]
        if not len(block):
            continue
        scores = np.where(allowed, similarity.block(block, rows), -np.inf)
        tied = scores == scores.max(axis=1, keepdims=True)
        # Of the equally near, one of another label is shown, so that what went wrong can be seen.
        shown = np.where((tied & ~same).any(axis=1, keepdims=True), tied & ~same, tied)
        first = rows[shown.argmax(axis=1)]
        flat &= bool((tied == allowed).all())
        cast = vote(scores, codes[rows], len(labels), k)
        query = np.arange(len(block))
        parts.append(
            pd.DataFrame(
                {
                    "row": block,
                    "unit": units[block],
                    "label": labels[codes[block]],
                    "neighbour": first,
                    "nearest": units[first],
                    "nearest_label": labels[codes[first]],
                    "predicted": labels[cast.argmax(axis=1)],
                    "similarity": scores.max(axis=1),
                    "tied": tied.sum(axis=1),
                    "right": cast[query, codes[block]],
                    "chance": random_vote(allowed, same, codes[rows], k),
                }
            )
        )
        query, code = np.nonzero(cast)
        votes.append(
            pd.DataFrame(
                {"row": block[query], "predicted": labels[code], "share": cast[query, code]}
            )
        )
    if not parts:
        rule = f"that differs in {' and '.join(differ)}" if differ else "beside itself"
        raise DataError(
            f"{name} is undefined: of {len(rows)} profiles with a {label} none has a neighbour of "
            f"the same {label} {rule} ({len(profiles) - len(others)} controls and "
            f"{int(unlabelled.sum())} profiles without a {label} do not count)"
        )
    queries = pd.concat(parts, ignore_index=True)
    key = queries["unit"]
    counted = queries.groupby(key.rename("key"), sort=False).agg(
        unit=("unit", "first"),
        label=("label", "first"),
        row=("row", "first"),
        queries=("right", "size"),
        right=("right", "mean"),
        chance=("chance", "mean"),
    )
    counted = counted.assign(cluster=clusters[counted["row"].to_numpy()]).reset_index(drop=True)
    left_out = _left_out(label, units, labels[codes], others, unlabelled, queries)

    weight = 1 / key.groupby(key).transform("size")
    ballot = pd.concat(votes, ignore_index=True).merge(
        pd.DataFrame({"row": queries["row"], "label": queries["label"], "weight": weight}), on="row"
    )
    ballot["units"] = ballot["share"] * ballot["weight"]
    n = len(counted)
    right = counted["right"].to_numpy(float)
    return Accuracy(
        name=name,
        value=float(right.mean()),
        n=n,
        total=n + len(left_out),
        unit=f"{spoken(unit)}s" if unit else "profiles",
        null="neighbours drawn at random from the allowed profiles",
        chance=float(counted["chance"].mean()),
        exact=clopper_pearson(min(float(right.sum()), n), n),
        by_compound=bootstrap(right, counted["cluster"].to_numpy(), seed=seed),
        metric=metric,
        queries=queries,
        units=counted[["unit", "label", "cluster", "queries", "right"]],
        left_out=left_out,
        votes=ballot.groupby(["label", "predicted"])["units"].sum().reset_index(),
        notes=_notes(profiles, others, n, left_out, queries, flat, unit, label),
    )


def _left_out(
    label: str,
    units: np.ndarray,
    labels: np.ndarray,
    others: np.ndarray,
    unlabelled: np.ndarray,
    queries: pd.DataFrame,
) -> pd.DataFrame:
    """Units, controls aside, of which no row was a query, and why."""
    out = np.setdiff1d(others, queries["row"])
    out = out[~np.isin(units[out].astype(str), queries["unit"].to_numpy().astype(str))]
    blank = set(others[unlabelled])
    reasons = [f"no {spoken(label)}" if row in blank else "no allowed partner" for row in out]
    table = pd.DataFrame({"unit": units[out], "label": labels[out], "reason": reasons})
    return table.drop_duplicates("unit", ignore_index=True)


def _notes(
    profiles: Profiles,
    others: np.ndarray,
    n: int,
    left_out: pd.DataFrame,
    queries: pd.DataFrame,
    flat: bool,
    unit: str | None,
    label: str,
) -> tuple[str, ...]:
    what = spoken(unit) if unit else "profile"
    asked = set(queries["label"])
    labels = len(asked.union(left_out["label"]))
    notes = []
    for reason, group in left_out.groupby("reason", sort=True):
        names = list(dict.fromkeys(map(str, group["unit" if unit else "label"])))
        named = ", ".join(name or "blank" for name in names[:5])
        verb = "has" if len(group) == 1 else "have"
        more = ", …" if len(names) > 5 else ""
        lost = len(set(group["label"]) - asked)
        whole = f" ({lost} of {labels} {spoken(label)}s)" if lost and not unit else ""
        notes.append(
            f"{len(group)} of {n + len(left_out)} {what}s{whole} {verb} {reason}, left out: "
            f"{named}{more}"
        )
    controls = len(profiles) - len(others)
    if controls:
        notes.append(f"controls, neither queries nor neighbours: {controls}")
    tied = int((queries["tied"] > 1).sum())
    if flat and len(queries) > 1 and tied:
        notes.append("all similarities are tied: the result says nothing of the profiles")
    elif tied:
        notes.append(f"{tied} of {len(queries)} queries have tied nearest neighbours")
    return tuple(notes)


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
