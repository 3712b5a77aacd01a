"""What the nearest neighbours of a profile vote for, where some of them are equally near."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np


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
