"""Numbers and results in words: numbers, names of columns, measures and their notes.

The log of ``analyze`` and the report page both take their sentences from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from deepprofiler.errors import counted
from deepprofiler.evaluation.measure import Measure, Note, NoteCode, Reason
from deepprofiler.evaluation.retrieval import Negatives
from deepprofiler.evaluation.scores import Undefined

# Names that a note lists; more are given as a number.
_NAMES_LISTED = 5

_REASONS: dict[Reason, str] = {
    Reason.NO_LABEL: "have no {label}",
    Reason.NO_PARTNER: "have no allowed neighbour of the same {label}",
    Reason.NO_NEGATIVE: "have only allowed neighbours of the same {label}",
    Reason.NO_REPLICATE: "have one well",
    Reason.NO_NULL: "have more wells than there are treatments to draw a null from",
}

_NEGATIVES: dict[Negatives, str] = {
    "others": "profiles of other labels",
    "controls": "negative controls",
    "both": "profiles of other labels and negative controls",
}

_NEGATIVES = {
    "others": "treated profiles of other labels",
    "controls": "negative controls",
    "both": "treated profiles of other labels and negative controls",
}


def _left_out(values: Mapping[str, Any]) -> str:
    reason = _REASONS[Reason(values["reason"])].format(label=values["label"])
    labels = ""
    if values.get("labels_left_out"):
        labels = f" ({values['labels_left_out']} of {values['labels']} {values['label']}s)"
    names = list(values["names"])
    listed = ", ".join(names[:_NAMES_LISTED])
    if len(names) > _NAMES_LISTED:
        listed += f" and {len(names) - _NAMES_LISTED} more"
    return (
        f"{values['count']} of {values['total']} {values['unit']}{labels} {reason} and are left "
        f"out{': ' if names else ''}{listed}"
    )


_NOTES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    NoteCode.LEFT_OUT: _left_out,
    NoteCode.CONTROLS: lambda values: (
        f"{counted(values['count'], 'negative control is', 'negative controls are')} neither "
        "queries nor neighbours"
    ),
    NoteCode.ALL_TIED: lambda values: (
        "all similarities are equal, so the result says nothing about the profiles"
    ),
    NoteCode.TIED: lambda values: (
        f"{values['count']} of {values['total']} queries have tied nearest neighbours"
    ),
    NoteCode.IN_BOTH: lambda values: (
        f"on the {values['count']} {values['unit']} that count in both: {values['difference']:+.3f}"
    ),
    NoteCode.CLOSEST_PAIRS: lambda values: (
        f"{values['count']:.4g} of the {values['total']} closest pairs share their "
        f"{values['label']}, and {values['share']:.1%} of all pairs do"
    ),
    NoteCode.DEPENDENT_PAIRS: lambda values: (
        "Fisher's test assumes independent pairs, but pairs that share a profile are not"
    ),
    NoteCode.TIED_PAIRS: lambda values: (
        f"{values['count']} pairs are tied at the threshold, for {values['total']} places"
    ),
    NoteCode.SINGLETONS: lambda values: (
        f"{counted(values['count'], 'group has', 'groups have')} one profile, with silhouette 0"
    ),
    NoteCode.NEGATIVES: lambda values: f"negatives: {_NEGATIVES[values['negatives']]}",
    NoteCode.PERMUTED: lambda values: (
        f"mean of {values['count']} permutations of the {values['role']}s"
    ),
}


def number(value: Any) -> str:
    """Write whole numbers in full with thin spaces, and others with three digits."""
    if isinstance(value, str):
        return value
    if not np.isfinite(value):
        return "not defined"
    if float(value) == round(float(value)) and abs(value) < 1e15:
        return f"{round(float(value)):,}".replace(",", "\u202f")
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    return f"{value:.3g}"


def share(value: float) -> str:
    """Write a share or an accuracy with two decimals."""
    return f"{value:.2f}".replace("-", "−")


def column_label(column: str) -> str:
    """Name of a column of ``neighbours.csv`` as a label: ``neighbour_dose`` is dose."""
    return column.removeprefix("neighbour_").replace("_", " ")


def note_text(note: Note) -> str:
    """Put a note into words.

    A note of a project's own evaluation, with a code that is not a
    :class:`~deepprofiler.evaluation.measure.NoteCode`, is shown as its code.
    """
    return _NOTES[note.code](note.values) if note.code in _NOTES else str(note.code)


def measure_text(measure: Measure) -> str:
    """Give a measure in one line.

    Such as ``NSC 0.667 (30 treatments; 95 % interval 0.47 to 0.83; cosine)``.
    """
    intervals = []
    if measure.exact is not None:
        intervals.append(f"95 % interval {measure.exact.low:.2f} to {measure.exact.high:.2f}")
    if measure.by_compound is not None:
        low, high = measure.by_compound.low, measure.by_compound.high
        intervals.append(f"over compounds {low:.2f} to {high:.2f}")
    parts = [", ".join(intervals)] if intervals else []
    if measure.p_value is not None:
        parts.append(f"p {measure.p_value:.2g}")
    if measure.chance is not None:
        parts.append(f"chance {measure.chance:.3f}")
    return (
        f"{measure.name} {measure.value:.3f} ({measure.n} {measure.unit}; "
        f"{'; '.join([*parts, measure.metric])})"
    )


def undefined_text(undefined: Undefined) -> str:
    """Say why an evaluation has no value."""
    if undefined.error is not None:
        return str(undefined.error)
    if undefined.missing == "batch":
        return "all wells are of one batch"
    return (
        f"the index has no {undefined.missing}; name its column in "
        f"dataset.columns.{undefined.missing}"
    )
