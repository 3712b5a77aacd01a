"""Is the nearest neighbour right? k-NN votes with ties, NSC, NSCB, replicate and gene accuracy.

All accuracies ask one question: does the nearest allowed neighbour of a profile, or most of its k
nearest, have the profile's label? They differ in the label, in what a neighbour must not share, and
in what is counted. Ties count by expectation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import comb

import numpy as np
import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import DataError
from deepprofiler.evaluation.measure import Measure, Note, NoteCode, Reason, require_positive
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


@dataclass(frozen=True, kw_only=True)
class Accuracy(Measure):
    """Share of units whose nearest neighbour, or most of whose k nearest, have their label.

    Ties count by expectation. Chance is the value expected if the neighbours of each query were
    drawn at random from its allowed candidates.

    Attributes
    ----------
    chance : float
    exact, by_compound : Interval
    queries : DataFrame
        One row per query that counts: ``row`` (in the profiles), ``unit``, ``label``,
        ``neighbour`` (row of the nearest; of tied ones, the first of another label if there is
        one), ``nearest`` and ``nearest_label`` (unit and label of that row), ``predicted`` (the
        label with the largest share of votes), ``similarity``, ``tied`` and ``candidates`` (number
        of tied nearest neighbours and of allowed candidates), ``right`` (0 to 1), ``chance``.
    units : DataFrame
        One row per unit that counts: ``unit`` (a row number where each row is a unit), ``label``,
        ``cluster``, ``queries``, ``right``.
    left_out : DataFrame
        One row per unit that does not count: ``unit``, ``label``, ``reason`` (a
        :class:`~deepprofiler.evaluation.measure.Reason`).
    votes : DataFrame
        Number of ``units`` of a ``label`` that were ``predicted`` to have another; sums to n.
    """

    chance: float
    exact: Interval
    by_compound: Interval
    queries: pd.DataFrame = field(repr=False)
    units: pd.DataFrame = field(repr=False)
    left_out: pd.DataFrame = field(repr=False)
    votes: pd.DataFrame = field(repr=False)

    @property
    def confusion(self) -> pd.DataFrame:
        """Units by label (rows) and predicted label (columns)."""
        return self.votes.pivot_table(
            index="label", columns="predicted", values="units", aggfunc="sum", fill_value=0.0
        )

    @property
    def wrong(self) -> pd.DataFrame:
        """Queries that are not entirely right, the most similar first.

        Columns ``unit``, ``label``, ``nearest``, ``nearest_label``, ``similarity``, ``right``.
        """
        columns = ["unit", "label", "nearest", "nearest_label", "similarity", "right"]
        rows = self.queries.loc[self.queries["right"] < 1, columns]
        return rows.sort_values("similarity", ascending=False, kind="stable", ignore_index=True)


# Votes of the k nearest, with ties.


def vote(similarity: np.ndarray, codes: np.ndarray, count: int, k: int) -> np.ndarray:
    """Probability of each label to win the vote of the k nearest, exact over all orders of ties.

    Candidates that are tied at the k-th place are equally likely to vote. Labels that are tied
    for the most votes are equally likely to win.

    Parameters
    ----------
    similarity : ndarray, (q, c)
        Of queries with candidates; -inf where a candidate is not allowed. Each query needs at
        least one that is.
    codes : ndarray of int, (c,)
        Labels of the candidates, below ``count``.
    count : int
        Number of labels, K.
    k : int
        Where fewer candidates are allowed, all of them vote.

    Returns
    -------
    ndarray, (q, K)
        Each row sums to 1.
    """
    chances = np.zeros((len(similarity), count))
    if k == 1:
        nearest = np.nonzero(similarity == similarity.max(axis=1, keepdims=True))
        np.add.at(chances, (nearest[0], codes[nearest[1]]), 1)
        return np.asarray(chances / chances.sum(axis=1, keepdims=True))
    for query, row in enumerate(similarity):
        ranked = np.sort(row[np.isfinite(row)])[::-1]
        last = ranked[min(k, len(ranked)) - 1]
        certain = np.bincount(codes[row > last], minlength=count)
        tied = np.bincount(codes[row == last], minlength=count)
        places = min(k, len(ranked)) - int(certain.sum())
        present = np.flatnonzero(certain + tied)
        voters = list(zip(certain[present].tolist(), tied[present].tolist(), strict=True))
        chances[query, present] = [win_chance(voters, own, places) for own in range(len(present))]
    return chances


def random_vote(allowed: np.ndarray, same: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """Probability that the query's own label wins the vote of k candidates drawn at random.

    Parameters
    ----------
    allowed, same : ndarray of bool, (q, c)
        Allowed candidates of each query; those of them that have its label.
    codes, k
        As for :func:`vote`.

    Returns
    -------
    ndarray, (q,)
    """
    if k == 1:
        return np.asarray(same.sum(axis=1) / allowed.sum(axis=1))
    cache: dict[tuple[int, ...], float] = {}
    chances = []
    for own, others in zip(same.sum(axis=1), allowed & ~same, strict=True):
        sizes = np.sort(np.bincount(codes[others]))
        key = (int(own), *sizes[sizes > 0].tolist())
        if key not in cache:
            cache[key] = win_chance([(0, size) for size in key], 0, min(k, sum(key)))
        chances.append(cache[key])
    return np.array(chances)


def win_chance(voters: Sequence[tuple[int, int]], own: int, places: int) -> float:
    """Probability that one label has the most votes; tied winners are equally likely.

    Parameters
    ----------
    voters : sequence of (int, int), K
        Of each label, the votes that are certain, and the candidates that are tied for the
        remaining places.
    own : int
        Position of the label in question.
    places : int
        Number of tied candidates that vote; at most all of them.
    """
    certain, tied = voters[own]
    others = [pair for position, pair in enumerate(voters) if position != own]
    ways = 0.0
    for drawn in range(min(tied, places) + 1):
        if certain + drawn:
            ties = _ways_without_more_votes(others, certain + drawn, places - drawn)
            ways += comb(tied, drawn) * sum(count / (1 + level) for level, count in ties.items())
    return ways / comb(sum(tied for _, tied in voters), places)


def _ways_without_more_votes(
    others: Sequence[tuple[int, int]], votes: int, places: int
) -> dict[int, int]:
    """Ways to fill the places so that no other label has more votes, by how many have as many."""
    # Ways by (places filled, labels with as many votes), adding one label after the other.
    ways = {(0, 0): 1}
    for certain, tied in others:
        extended: dict[tuple[int, int], int] = {}
        for (filled, level), count in ways.items():
            for drawn in range(min(tied, places - filled, votes - certain) + 1):
                key = filled + drawn, level + (certain + drawn == votes)
                extended[key] = extended.get(key, 0) + count * comb(tied, drawn)
        ways = extended
    return {level: count for (filled, level), count in ways.items() if filled == places}


# From neighbours to an accuracy.


@dataclass(frozen=True, kw_only=True)
class MatchingRule:
    """Which neighbour is right, and what is counted.

    Attributes
    ----------
    name : str
        Of the accuracy.
    label : str
        Column that must agree; rows where it is blank take no part.
    differ : tuple of str
        Columns in which query and neighbour must differ.
    unit : str or None
        Column whose rows are averaged before they count; None: every row counts.
    cluster : str
        Column that the bootstrap draws by.
    k : int
        Number of neighbours that vote; see :func:`vote`.
    metric : {"cosine", "correlation", "euclidean"}
    """

    name: str
    label: str
    cluster: str
    differ: tuple[str, ...] = ()
    unit: str | None = None
    k: int = 1
    metric: Metric = "cosine"


def nearest_neighbour_accuracy(
    profiles: Profiles, rule: MatchingRule, *, controls: np.ndarray | None, seed: int = 0
) -> Accuracy:
    """Share of units whose nearest allowed neighbour, or most of k, have the same label.

    Parameters
    ----------
    profiles : Profiles
    rule : MatchingRule
    controls : ndarray of bool, (n,), or None
        Negative controls: neither queries nor neighbours.
    seed : int
        Of the bootstrap.

    Raises
    ------
    DataError
        As for :func:`nsc`.
    """
    require_positive("k", rule.k)
    part = _Participants.of(profiles, rule, controls)
    queries, shares = _match(profiles, rule, part)
    if queries is None:
        raise _undefined(profiles, rule, part)
    units = _by_unit(queries).assign(
        cluster=lambda table: profiles.values(rule.cluster)[table["row"].to_numpy()]
    )
    left_out = _left_out(part, queries)
    n, right = len(units), units["right"].to_numpy(float)
    return Accuracy(
        name=rule.name,
        value=float(right.mean()),
        n=n,
        total=n + len(left_out),
        unit=f"{spoken(rule.unit)}s" if rule.unit else "profiles",
        null="neighbours drawn at random from the allowed profiles",
        chance=float(units["chance"].mean()),
        # Sums of shares of votes may exceed n in the last digit.
        exact=clopper_pearson(min(float(right.sum()), n), n),
        by_compound=bootstrap(right, units["cluster"].to_numpy(), seed=seed),
        metric=rule.metric,
        queries=queries,
        units=units[["unit", "label", "cluster", "queries", "right"]],
        left_out=left_out,
        votes=_votes_by_label(queries, shares),
        notes=(
            *_notes_left_out(rule, n, queries, left_out),
            *_notes_controls(len(profiles) - len(part.treated)),
            *_notes_ties(queries),
        ),
    )


@dataclass(frozen=True)
class _Participants:
    """Labels and units of n profiles, and which of them take part.

    ``codes`` (n,) are positions in ``labels`` (K,); ``units`` (n,) are the values that are
    averaged, or row numbers. ``treated`` are the rows that are not controls; ``rows`` those of them
    with a label, and ``unlabelled`` those without.
    """

    codes: np.ndarray
    labels: np.ndarray
    units: np.ndarray
    treated: np.ndarray
    rows: np.ndarray
    unlabelled: np.ndarray

    @classmethod
    def of(
        cls, profiles: Profiles, rule: MatchingRule, controls: np.ndarray | None
    ) -> _Participants:
        codes, labels = codes_of(profiles, rule.label)
        units = profiles.values(rule.unit) if rule.unit else np.arange(len(profiles))
        rows = treated(profiles, controls)
        unlabelled = blank(labels)[codes[rows]]
        return cls(codes, labels, units, rows, rows[~unlabelled], rows[unlabelled])


def _match(
    profiles: Profiles, rule: MatchingRule, part: _Participants
) -> tuple[pd.DataFrame | None, pd.DataFrame]:
    """Queries that have an allowed neighbour of their label, and their shares of votes.

    Votes have the columns ``row`` (of the query), ``predicted`` and ``share``. There are no
    queries (None) where no profile has such a neighbour.
    """
    keys = [codes_of(profiles, column)[0] for column in rule.differ]
    similarity = Similarity(profiles, part.rows, rule.metric)
    candidates = part.codes[part.rows]
    queries, votes = [], []
    for block, allowed in allowed_blocks(part.rows, part.rows, keys):
        same = allowed & (part.codes[block][:, None] == candidates[None])
        counts = same.any(axis=1)
        block, allowed, same = block[counts], allowed[counts], same[counts]
        if not len(block):
            continue
        scores = np.where(allowed, similarity.block(block, part.rows), -np.inf)
        shares = vote(scores, candidates, len(part.labels), rule.k)
        queries.append(
            _nearest(part, block, scores, same).assign(
                predicted=part.labels[shares.argmax(axis=1)],
                candidates=allowed.sum(axis=1),
                right=shares[np.arange(len(block)), part.codes[block]],
                chance=random_vote(allowed, same, candidates, rule.k),
            )
        )
        query, code = np.nonzero(shares)
        votes.append(
            pd.DataFrame(
                {
                    "row": block[query],
                    "predicted": part.labels[code],
                    "share": shares[query, code],
                }
            )
        )
    if not queries:
        return None, pd.DataFrame()
    return pd.concat(queries, ignore_index=True), pd.concat(votes, ignore_index=True)


def _nearest(
    part: _Participants, block: np.ndarray, scores: np.ndarray, same: np.ndarray
) -> pd.DataFrame:
    """Nearest neighbour of each query (q,), from similarities (q, c) with all candidates."""
    tied = scores == scores.max(axis=1, keepdims=True)
    # Of tied neighbours, one of another label is shown, so that errors can be seen.
    shown = np.where((tied & ~same).any(axis=1, keepdims=True), tied & ~same, tied)
    neighbour = part.rows[shown.argmax(axis=1)]
    return pd.DataFrame(
        {
            "row": block,
            "unit": part.units[block],
            "label": part.labels[part.codes[block]],
            "neighbour": neighbour,
            "nearest": part.units[neighbour],
            "nearest_label": part.labels[part.codes[neighbour]],
            "similarity": scores.max(axis=1),
            "tied": tied.sum(axis=1),
        }
    )


def _by_unit(queries: pd.DataFrame) -> pd.DataFrame:
    """Average the queries of each unit."""
    # The key has a name of its own, since "unit" stays a column.
    groups = queries.groupby(queries["unit"].rename("key"), sort=False)
    return groups.agg(
        unit=("unit", "first"),
        label=("label", "first"),
        row=("row", "first"),
        queries=("right", "size"),
        right=("right", "mean"),
        chance=("chance", "mean"),
    ).reset_index(drop=True)


def _votes_by_label(queries: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """Sum the shares of votes by label and prediction; each unit weighs 1."""
    weighted = pd.DataFrame(
        {
            "row": queries["row"],
            "label": queries["label"],
            "weight": 1 / queries.groupby("unit")["row"].transform("size"),
        }
    )
    votes = shares.merge(weighted, on="row")
    votes["units"] = votes["share"] * votes["weight"]
    return votes.groupby(["label", "predicted"])["units"].sum().reset_index()


def _left_out(part: _Participants, queries: pd.DataFrame) -> pd.DataFrame:
    """Units, negative controls aside, of which no row is a query, with the reason."""
    rows = np.setdiff1d(part.treated, queries["row"])
    rows = rows[~np.isin(part.units[rows].astype(str), queries["unit"].to_numpy().astype(str))]
    unlabelled = np.isin(rows, part.unlabelled)
    table = pd.DataFrame(
        {
            "unit": part.units[rows],
            "label": part.labels[part.codes[rows]],
            "reason": np.where(unlabelled, Reason.NO_LABEL, Reason.NO_PARTNER),
        }
    )
    return table.drop_duplicates("unit", ignore_index=True)


def _undefined(profiles: Profiles, rule: MatchingRule, part: _Participants) -> DataError:
    """Error for profiles of which none has an allowed neighbour of its label."""
    differ = f" that differs in {' and '.join(rule.differ)}" if rule.differ else ""
    return DataError(
        f"{rule.name} is undefined: of {len(part.rows)} profiles with a {rule.label}, none has "
        f"another profile of the same {rule.label}{differ} ({len(profiles) - len(part.treated)} "
        f"negative controls and {len(part.unlabelled)} profiles without a {rule.label} are not "
        "counted)"
    )


def _notes_left_out(
    rule: MatchingRule, n: int, queries: pd.DataFrame, left_out: pd.DataFrame
) -> list[Note]:
    """What was left out, by reason."""
    scored = set(queries["label"])
    labels = len(scored.union(left_out["label"]))
    notes = []
    for reason, group in left_out.groupby("reason", sort=True):
        values = {
            "reason": Reason(str(reason)),
            "label": spoken(rule.label),
            "count": len(group),
            "total": n + len(left_out),
            "unit": f"{spoken(rule.unit) if rule.unit else 'profile'}s",
            "names": tuple(dict.fromkeys(map(str, group["unit" if rule.unit else "label"]))),
        }
        if not rule.unit:
            values |= {"labels_left_out": len(set(group["label"]) - scored), "labels": labels}
        notes.append(Note(NoteCode.LEFT_OUT, values))
    return notes


def _notes_controls(count: int) -> list[Note]:
    return [Note(NoteCode.CONTROLS, {"count": count})] if count else []


def _notes_ties(queries: pd.DataFrame) -> list[Note]:
    """Whether nearest neighbours are tied, and whether all similarities are."""
    tied = int((queries["tied"] > 1).sum())
    if not tied:
        return []
    if len(queries) > 1 and (queries["tied"] == queries["candidates"]).all():
        return [Note(NoteCode.ALL_TIED)]
    return [Note(NoteCode.TIED, {"count": tied, "total": len(queries)})]


# The accuracies of the field.


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
        One row per treatment; the results of several rows are averaged.
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
        Treatments whose mechanism no other compound has are left out and counted in
        ``left_out``.

    Raises
    ------
    DataError
        A column is missing (the nearest name is given), a value is not finite, a vector is zero
        under cosine, or no treatment is left.
    """
    rule = MatchingRule(
        name="NSC",
        label=mechanism,
        differ=(compound,),
        unit=treatment,
        cluster=compound,
        metric=metric,
    )
    return nearest_neighbour_accuracy(profiles, rule, controls=controls, seed=seed)


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
    """Not-same-compound-or-batch accuracy: as :func:`nsc`, with neighbours of other batches only.

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
    rule = MatchingRule(
        name="NSCB",
        label=mechanism,
        differ=(compound, batch),
        unit=treatment,
        cluster=compound,
        metric=metric,
    )
    return nearest_neighbour_accuracy(profiles, rule, controls=controls, seed=seed)


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
    """Leave-one-compound-out k-NN: how often the k nearest compounds vote for the mechanism.

    Parameters
    ----------
    profiles : Profiles
        One row per treatment; the results of several rows are averaged.
    k : int
        Number of neighbours that vote; fewer where fewer are allowed. One is :func:`nsc`.
    treatment, compound, mechanism, controls, metric, seed
        As for :func:`nsc`.

    Returns
    -------
    Accuracy
        Neighbours that are tied at the k-th place, and mechanisms with equally many votes, count by
        expectation.

    Raises
    ------
    DataError
        As for :func:`nsc`.
    """
    rule = MatchingRule(
        name=f"{k}-NN",
        label=mechanism,
        differ=(compound,),
        unit=treatment,
        cluster=compound,
        k=k,
        metric=metric,
    )
    return nearest_neighbour_accuracy(profiles, rule, controls=controls, seed=seed)


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
        Column that the bootstrap draws by; by default the treatment.
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
    rule = MatchingRule(
        name="replicate accuracy",
        label=treatment,
        differ=tuple(differ),
        unit=unit,
        cluster=compound or treatment,
        metric=metric,
    )
    return nearest_neighbour_accuracy(profiles, rule, controls=controls, seed=seed)


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
    rule = MatchingRule(
        name="gene accuracy",
        label=gene,
        differ=(variant, *differ),
        unit=unit,
        cluster=gene,
        metric=metric,
    )
    return nearest_neighbour_accuracy(profiles, rule, controls=controls, seed=seed)
