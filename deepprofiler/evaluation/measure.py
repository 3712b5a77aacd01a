"""The result of an evaluation: a number, its intervals, and what a reader must know about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from deepprofiler.evaluation.resampling import Interval


class Reason(StrEnum):
    """Why a profile, unit or label does not count."""

    NO_LABEL = "no-label"
    """Its label is blank."""
    NO_PARTNER = "no-partner"
    """No allowed candidate has its label."""
    NO_NEGATIVE = "no-negative"
    """All allowed candidates have its label."""
    NO_REPLICATE = "no-replicate"
    """It has one well."""
    NO_NULL = "no-null"
    """It has more wells than there are treatments to draw a null from."""


class NoteCode(StrEnum):
    """What a note is about; each code is documented with the values that go with it."""

    LEFT_OUT = "left-out"
    """``reason`` (a :class:`Reason`), ``label`` (the column), ``count`` of ``total`` ``unit``,
    ``names``; of accuracies that count wells, ``labels_left_out`` of ``labels`` as well."""
    CONTROLS = "controls"
    """``count`` negative controls are neither queries nor neighbours."""
    ALL_TIED = "all-tied"
    """All similarities are equal."""
    TIED = "tied"
    """``count`` of ``total`` queries have tied nearest neighbours."""
    IN_BOTH = "in-both"
    """``difference`` on the ``count`` ``unit`` that count in both accuracies."""
    CLOSEST_PAIRS = "closest-pairs"
    """``count`` of the ``total`` closest pairs and the ``share`` of all pairs share a ``label``."""
    DEPENDENT_PAIRS = "dependent-pairs"
    """The test takes pairs as independent."""
    TIED_PAIRS = "tied-pairs"
    """``count`` pairs are tied at the threshold, for ``total`` places."""
    SINGLETONS = "singletons"
    """``count`` groups have one profile."""
    NEGATIVES = "negatives"
    """``negatives``: what positives are ranked against."""
    PERMUTED = "permuted"
    """Mean over ``count`` permutations of the labels of ``role``."""


@dataclass(frozen=True)
class Note:
    """A fact about a result: a code and its values.

    Attributes
    ----------
    code : str
        A :class:`NoteCode`, or, from an evaluation of a project, any other text.
    values : mapping
        As documented with the code.
    """

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number, its intervals, and what to compare it with.

    Attributes
    ----------
    name : str
        Such as ``NSC``.
    value : float
    n, total : int
        Units that count; all units, negative controls aside.
    unit : str
        What is counted, in the plural, such as ``treatments``.
    chance : float or None
        The value expected for random neighbours or a random order; None where there is none.
    exact : Interval or None
        Clopper–Pearson, as if units were independent; None where nothing is counted.
    by_compound : Interval or None
        Bootstrap over compounds (or other clusters) of the fixed outcomes.
    metric : str
        Similarity by which profiles were compared.
    null : str
        Negatives and null of chance and p-value, as ``scores.csv`` states them; may be empty.
    p_value : float or None
        Of the whole; None where each label has its own, or nothing was tested.
    notes : tuple of Note
        What was left out, and what limits the result.
    lower_is_better : bool
    """

    name: str
    value: float
    n: int
    total: int
    unit: str
    chance: float | None
    exact: Interval | None
    by_compound: Interval | None
    metric: str
    null: str = ""
    p_value: float | None = None
    notes: tuple[Note, ...] = ()
    lower_is_better: bool = False


def require_positive(name: str, value: int) -> None:
    """Raise ValueError where a parameter is below 1."""
    if value < 1:
        raise ValueError(f"{name}={value}; it must be at least 1")


def require_percentage(name: str, value: float) -> None:
    """Raise ValueError where a parameter is not between 0 and 100."""
    if not 0 < value < 100:
        raise ValueError(f"{name}={value}; it must be above 0 and below 100")
