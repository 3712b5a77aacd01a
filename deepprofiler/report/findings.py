"""What a comparison of methods says, in numbers and in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A share or a mean between 0 and 1, and how sure it is.

    Attributes
    ----------
    value : float
    n : int
        How many units it rests on.
    low, high : float, optional
        95 % interval.
    right : float, optional
        How many of the n are right, where they are counted; ties may make it fractional.
    """

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    right: float | None = None


@dataclass(frozen=True)
class Metric:
    """What is measured.

    Attributes
    ----------
    name : str
        Such as ``NSC``.
    unit : str
        What is counted, in the plural: ``treatments``.
    meaning : str
        Where units are counted, what the right ones do: ``have a nearest neighbour of the same
        mechanism``. Otherwise a name: ``mean average precision of finding the same treatment``.
    chance : float, optional
        What a guess reaches.
    counted : bool
        Whether the value is a share of units that are right.
    """

    name: str
    unit: str
    meaning: str
    chance: float | None = None
    counted: bool = True

    @property
    def definition(self) -> str:
        """The meaning as a name."""
        return f"share of {self.unit} that {self.meaning}" if self.counted else self.meaning


@dataclass(frozen=True)
class Method:
    """A row of the comparison.

    Attributes
    ----------
    name : str
        As it stands in a sentence: ``the learned profile``, ``random weights``.
    about : str
        One line on what it is.
    estimates : mapping
        Metric's name to its estimate; a metric that could not be computed is absent.
    """

    name: str
    about: str
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Methods under one protocol.

    Attributes
    ----------
    metrics : sequence of Metric
        The first decides the verdict.
    methods : sequence of Method
        The first is judged, the others are its baselines.
    """

    metrics: Sequence[Metric]
    methods: Sequence[Method]


@dataclass(frozen=True)
class LeftOut:
    """Something that did not enter the result.

    Attributes
    ----------
    what : str
        In the plural: ``sites``.
    count : int
    total : int or None
        Out of how many.
    why : str
        Ends a sentence: ``could not be read``.
    """

    what: str
    count: int
    total: int | None
    why: str


@dataclass(frozen=True)
class Sentences:
    """The first screen in words.

    Attributes
    ----------
    lead : str
        What was found, how sure it is, and the verdict against the baselines.
    level : {"clear", "open", "none"}
        The verdict as a word.
    findings : list of str
        One paragraph per metric, with every baseline.
    left_out : str
    """

    lead: str
    level: str
    findings: list[str]
    left_out: str


def number(value: Any) -> str:
    """Write a number: whole ones in full with thin spaces, others with three digits."""
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


def interval(estimate: Estimate) -> str:
    """Write the interval of an estimate, or nothing where it has none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{share(estimate.low)}–{share(estimate.high)}"


def sentences(comparison: Comparison, left_out: Sequence[LeftOut]) -> Sentences:
    """Say what was found, how sure it is, against which baselines, and what is missing.

    A difference is called clear where the intervals do not overlap: a cautious rule, since
    methods that are judged on the same treatments err together.
    """
    if not comparison.methods:
        return Sentences("Nothing was evaluated.", "open", [], _left_out(left_out))
    subject, *baselines = comparison.methods
    measured = [metric for metric in comparison.metrics if metric.name in subject.estimates]
    if not measured:
        lead, level = f"There is no number that judges {subject.name}.", "open"
    else:
        level, verdict = _verdict(measured[0], subject, baselines)
        lead = f"{_found(measured[0], subject)} {verdict}"
    findings = [
        f"{metric.name}, {metric.definition}: {_compared(metric, subject, baselines)}"
        for metric in measured
    ]
    return Sentences(lead, level, findings, _left_out(left_out))


def _found(metric: Metric, subject: Method) -> str:
    """Say what the subject reaches."""
    own = subject.estimates[metric.name]
    sure = f"95\u00a0% interval {interval(own)}" if interval(own) else "no interval known"
    if metric.counted and own.right is not None:
        return (
            f"With {subject.name}, {number(own.right)} of {number(own.n)} {metric.unit} "
            f"{metric.meaning} ({share(own.value)}; {sure})."
        )
    return (
        f"With {subject.name}, {metric.name} ({metric.definition}) is {share(own.value)} "
        f"({sure}; {number(own.n)} {metric.unit})."
    )


def _verdict(metric: Metric, subject: Method, baselines: Sequence[Method]) -> tuple[str, str]:
    """Level and sentence: how the subject stands against chance and the best baseline."""
    own = subject.estimates[metric.name]
    if metric.chance is not None and (own.value if own.low is None else own.low) <= metric.chance:
        return "none", f"That is not told apart from a guess ({share(metric.chance)})."
    rivals = [method for method in baselines if metric.name in method.estimates]
    if not rivals:
        return "open", "No baseline stands beside it."
    best = max(rivals, key=lambda method: method.estimates[metric.name].value)
    other = best.estimates[metric.name]
    reached = f"{best.name} ({share(other.value)})"
    if own.value <= other.value:
        return "none", f"That is no better than {reached}."
    highs = [method.estimates[metric.name].high for method in rivals]
    if own.low is not None and all(high is not None and high < own.low for high in highs):
        others = "the best of the baselines" if len(rivals) > 1 else "the baseline"
        return "clear", f"That is clearly better than {others}, {reached}."
    return "open", (
        f"That is better than {reached}, but not beyond doubt: "
        "the intervals overlap or are not known."
    )


def _compared(metric: Metric, subject: Method, baselines: Sequence[Method]) -> str:
    """List every method's value with its interval, then the guess."""
    parts = [
        f"{method.name} {share(estimate.value)}"
        + (f" ({interval(estimate)})" if interval(estimate) else "")
        for method in (subject, *baselines)
        if (estimate := method.estimates.get(metric.name)) is not None
    ]
    if metric.chance is not None:
        parts.append(f"a guess {share(metric.chance)}")
    count = f"n\u00a0=\u00a0{number(subject.estimates[metric.name].n)} {metric.unit}"
    return f"{'; '.join(parts)}. {count}."


def _left_out(left_out: Sequence[LeftOut]) -> str:
    """List in one sentence what was left out."""
    some = [item for item in left_out if item.count]
    if not some:
        return "Nothing was left out."
    parts = [
        f"{number(item.count)}"
        + (f" of {number(item.total)}" if item.total is not None else "")
        + f" {item.what} ({item.why})"
        for item in some
    ]
    return f"Left out: {'; '.join(parts)}."
