"""The engine of the nearest-neighbour evaluations, and their result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
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


@dataclass(frozen=True)
class Accuracy:
    """Result of a nearest-neighbour evaluation.

    Attributes
    ----------
    name : str
        ``NSC``, ``NSCB``, ``replicate accuracy`` or ``gene accuracy``.
    value : float
        Share of the n units whose nearest neighbour has their label; ties by expectation.
    n, total : int
        Units that count; units there are, controls aside.
    chance : float
        The value expected if each query's neighbour were drawn from its allowed ones.
    exact : Interval
        Clopper–Pearson, as if units were independent.
    by_compound : Interval
        Bootstrap over compounds (or what stands for them) of the fixed outcomes.
    metric : str
    queries : DataFrame
        One row per query that counts: ``row`` (in the profiles), ``unit``, ``label``,
        ``neighbour`` (row of the first nearest), ``predicted`` (its label), ``similarity``,
        ``tied`` (how many are equally near), ``right`` (0 … 1).
    units : DataFrame
        One row per unit that counts: ``unit`` (a row number where each row is one), ``label``,
        ``cluster``, ``queries``, ``right``.
    left_out : DataFrame
        One row per unit that does not count: ``unit``, ``label``, ``reason``.
    votes : DataFrame
        How many ``units`` of a ``label`` were ``predicted`` as which; adds up to n.
    notes : tuple of str
        What was left out and what to beware of, in sentences.
    """

    name: str
    value: float
    n: int
    total: int
    chance: float
    exact: Interval
    by_compound: Interval
    metric: str
    queries: pd.DataFrame
    units: pd.DataFrame
    left_out: pd.DataFrame
    votes: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def confusion(self) -> pd.DataFrame:
        """Units by label (rows) and predicted label (columns)."""
        return self.votes.pivot_table(
            index="label", columns="predicted", values="units", aggfunc="sum", fill_value=0.0
        )

    def __str__(self) -> str:
        return (
            f"{self.name} {self.value:.3f} of {self.n} (95 % interval {self.exact.low:.2f} to "
            f"{self.exact.high:.2f}, over compounds {self.by_compound.low:.2f} to "
            f"{self.by_compound.high:.2f}; chance {self.chance:.3f}; {self.metric})"
        )


def nearest_neighbour_accuracy(
    profiles: Profiles,
    *,
    name: str,
    label: str,
    differ: Sequence[str],
    unit: str | None,
    cluster: str,
    controls: np.ndarray | None,
    metric: Metric = "cosine",
    seed: int = 0,
) -> Accuracy:
    """Share of units whose nearest allowed neighbour has the same label.

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
    metric, seed
        As for :func:`~deepprofiler.profiling.evaluate.nsc`.

    Raises
    ------
    DataError
        As for :func:`~deepprofiler.profiling.evaluate.nsc`.
    """
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
        first = rows[tied.argmax(axis=1)]
        shares = tied / tied.sum(axis=1, keepdims=True)
        flat &= bool((tied == allowed).all())
        parts.append(
            pd.DataFrame(
                {
                    "row": block,
                    "unit": units[block],
                    "label": labels[codes[block]],
                    "neighbour": first,
                    "predicted": labels[codes[first]],
                    "similarity": scores.max(axis=1),
                    "tied": tied.sum(axis=1),
                    "right": (shares * same).sum(axis=1),
                    "chance": same.sum(axis=1) / allowed.sum(axis=1),
                }
            )
        )
        query, candidate = np.nonzero(tied)
        cast = np.bincount(
            query * len(labels) + codes[rows[candidate]], weights=shares[query, candidate]
        )
        query, code = np.divmod(np.flatnonzero(cast), len(labels))
        votes.append(
            pd.DataFrame({"row": block[query], "predicted": labels[code], "share": cast[cast > 0]})
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
        chance=float(counted["chance"].mean()),
        exact=clopper_pearson(min(float(right.sum()), n), n),
        by_compound=bootstrap(right, counted["cluster"].to_numpy(), seed=seed),
        metric=metric,
        queries=queries,
        units=counted[["unit", "label", "cluster", "queries", "right"]],
        left_out=left_out,
        votes=ballot.groupby(["label", "predicted"])["units"].sum().reset_index(),
        notes=_notes(profiles, others, n, left_out, queries, flat, unit),
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
    reasons = [f"no {label}" if row in blank else "no allowed partner" for row in out]
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
) -> tuple[str, ...]:
    what = spoken(unit) if unit else "profile"
    notes = []
    for reason, group in left_out.groupby("reason", sort=True):
        names = list(dict.fromkeys(map(str, group["unit" if unit else "label"])))
        named = ", ".join(name or "blank" for name in names[:5])
        verb = "has" if len(group) == 1 else "have"
        more = ", …" if len(names) > 5 else ""
        notes.append(
            f"{len(group)} of {n + len(left_out)} {what}s {verb} {reason}, left out: {named}{more}"
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
