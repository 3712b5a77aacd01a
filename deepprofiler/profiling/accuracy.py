"""The engine of the nearest-neighbour evaluations, and their result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.profiling.measure import Measure
from deepprofiler.profiling.neighbours import (
    Metric,
    Similarity,
    allowed_blocks,
    blank,
    codes_of,
    treated,
)
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.resampling import Interval, bootstrap, clopper_pearson
from deepprofiler.profiling.tables import spoken
from deepprofiler.profiling.votes import random_vote, vote


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
        How many neighbours vote; see :func:`~deepprofiler.profiling.votes.vote`.
    metric, seed
        As for :func:`~deepprofiler.profiling.evaluate.nsc`.

    Raises
    ------
    DataError
        As for :func:`~deepprofiler.profiling.evaluate.nsc`.
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
