"""The comparison of the learned profile with its baselines, in numbers and in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from deepprofiler.report.wording import number, share


@dataclass(frozen=True)
class Estimate:
    """A share or a mean between 0 and 1, with its 95 % interval.

    Attributes
    ----------
    value : float
    n : int
        Number of units that it is computed from.
    low, high : float, optional
        95 % interval.
    right : float, optional
        How many of the n units are right, where units are counted; ties make it fractional.
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
    key : str
        Identifies it in :attr:`Method.estimates`: the evaluation's name, such as ``nsc``.
    name : str
        Its name in text, such as ``NSC``.
    unit : str
        What is counted, in the plural: ``treatments``.
    meaning : str
        Where units are counted, what the right ones do: ``have the same mechanism as their nearest
        neighbour``. Otherwise a name: ``mean average precision of finding the same treatment``.
    chance : float, optional
        Value expected by chance.
    counted : bool
        Whether the value is a share of units that are right.
    """

    key: str
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
    description : str
        One line.
    estimates : mapping
        From :attr:`Metric.key` to its estimate; a metric that could not be computed is absent.
    """

    name: str
    description: str
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Methods that are scored by the same protocol.

    Attributes
    ----------
    metrics : sequence of Metric
        The first one decides the verdict.
    methods : sequence of Method
        The first one is compared with the others, its baselines.
    """

    metrics: Sequence[Metric]
    methods: Sequence[Method]


@dataclass(frozen=True)
class LeftOutCount:
    """Something that is not part of the result.

    Attributes
    ----------
    what : str
        In the plural: ``sites``.
    count : int
    total : int or None
        Out of how many.
    why : str
        The reason, such as ``fewer than 10 cells``.
    """

    what: str
    count: int
    total: int | None
    why: str


class Verdict(StrEnum):
    """How the first method compares with its baselines."""

    CLEAR = "clear"
    """Higher than every baseline, and no intervals overlap."""
    OPEN = "open"
    """Higher, but intervals overlap or are missing; or there is nothing to compare."""
    NONE = "none"
    """Not higher than chance or than a baseline."""


@dataclass(frozen=True)
class Summary:
    """The top of the page.

    Attributes
    ----------
    lead : str
        The main result with its interval, and the verdict.
    verdict : Verdict
    findings : list of str
        One paragraph per metric, with every baseline.
    left_out : str
    """

    lead: str
    verdict: Verdict
    findings: list[str]
    left_out: str


def summarize(comparison: Comparison, left_out: Sequence[LeftOutCount]) -> Summary:
    """Put the main result, its interval, the baselines and what was left out into sentences.

    A difference is called clear only if intervals do not overlap. This rule is conservative:
    methods that are scored on the same treatments have correlated errors.
    """
    if not comparison.methods:
        return Summary("Nothing was evaluated.", Verdict.OPEN, [], _left_out_text(left_out))
    subject, *baselines = comparison.methods
    measured = [metric for metric in comparison.metrics if metric.key in subject.estimates]
    if measured:
        verdict, sentence = _verdict(measured[0], subject, baselines)
        lead = f"{_result_text(measured[0], subject)} {sentence}"
    else:
        verdict, lead = Verdict.OPEN, f"No accuracy could be computed for {subject.name}."
    findings = [_finding_text(metric, subject, baselines) for metric in measured]
    return Summary(lead, verdict, findings, _left_out_text(left_out))


def _verdict(metric: Metric, subject: Method, baselines: Sequence[Method]) -> tuple[Verdict, str]:
    """Compare the subject with chance and with its baselines; give the verdict and a sentence."""
    own = subject.estimates[metric.key]
    lowest = own.value if own.low is None else own.low
    if metric.chance is not None and lowest <= metric.chance:
        return Verdict.NONE, f"This is not distinguishable from chance ({share(metric.chance)})."
    rivals = [
        (method.name, method.estimates[metric.key])
        for method in baselines
        if metric.key in method.estimates
    ]
    if not rivals:
        return Verdict.OPEN, "There is no baseline to compare it with."
    name, best = max(rivals, key=lambda rival: rival[1].value)
    reached = f"{name} ({share(best.value)})"
    if own.value <= best.value:
        return Verdict.NONE, f"This is not higher than {reached}."
    if own.low is None or any(rival.high is None for _, rival in rivals):
        return Verdict.OPEN, (
            f"This is higher than {reached}, but without intervals for all methods the difference "
            "may be due to chance."
        )
    overlapping = [
        other for other, rival in rivals if rival.high is not None and rival.high >= own.low
    ]
    if overlapping == [name]:
        return Verdict.OPEN, (
            f"This is higher than {reached}, but not clearly: their 95\u00a0% intervals overlap."
        )
    if overlapping:
        return Verdict.OPEN, (
            f"This is higher than {reached}, but not clearly: the interval overlaps with that of "
            f"{' and that of '.join(overlapping)}."
        )
    which = "the best baseline" if len(rivals) > 1 else "the baseline"
    return Verdict.CLEAR, f"This is clearly higher than {which}, {reached}."


def _result_text(metric: Metric, subject: Method) -> str:
    """What the subject reaches."""
    own = subject.estimates[metric.key]
    interval = _interval_text(own)
    certainty = f"95\u00a0% interval {interval}" if interval else "no interval"
    if metric.counted and own.right is not None:
        return (
            f"With {subject.name}, {number(own.right)} of {number(own.n)} {metric.unit} "
            f"{metric.meaning} ({share(own.value)}; {certainty})."
        )
    return (
        f"With {subject.name}, {metric.name} ({metric.definition}) is {share(own.value)} "
        f"({certainty}; {number(own.n)} {metric.unit})."
    )


def _finding_text(metric: Metric, subject: Method, baselines: Sequence[Method]) -> str:
    """Every method's value with its interval, then chance."""
    values = []
    for method in (subject, *baselines):
        estimate = method.estimates.get(metric.key)
        if estimate is not None:
            interval = _interval_text(estimate)
            values.append(
                f"{method.name} {share(estimate.value)}" + (f" ({interval})" if interval else "")
            )
    if metric.chance is not None:
        values.append(f"chance {share(metric.chance)}")
    name = metric.name[:1].upper() + metric.name[1:]
    n = f"n\u00a0=\u00a0{number(subject.estimates[metric.key].n)} {metric.unit}"
    return f"{name} ({metric.definition}): {'; '.join(values)}. {n}."


def _interval_text(estimate: Estimate) -> str:
    """Interval of an estimate; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{share(estimate.low)}–{share(estimate.high)}"


def _left_out_text(left_out: Sequence[LeftOutCount]) -> str:
    """One sentence on all that was left out."""
    parts = [
        f"{number(item.count)}"
        + (f" of {number(item.total)}" if item.total is not None else "")
        + f" {item.what} ({item.why})"
        for item in left_out
        if item.count
    ]
    return f"Left out: {'; '.join(parts)}." if parts else "Nothing was left out."
