"""One number that an evaluation comes to, with what is needed to believe it."""

from __future__ import annotations

from dataclasses import dataclass

from deepprofiler.evaluation.resampling import Interval


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number, how sure it is, and what it is to be compared with.

    Attributes
    ----------
    name : str
        Such as ``NSC``.
    value : float
    n, total : int
        Units that count; units there are, controls aside.
    unit : str
        What is counted, in the plural, such as ``treatments``.
    chance : float or None
        The value of a random neighbour or order; None where there is none.
    exact : Interval or None
        Clopper–Pearson, as if units were independent; None where nothing is counted.
    by_compound : Interval or None
        Bootstrap over compounds (or what stands for them) of the fixed outcomes.
    metric : str
        What profiles were compared by.
    null : str
        Negatives and the null that chance or p-value refer to, in words; may be empty.
    p_value : float or None
        Of the whole; None where each label has its own, or nothing was tested.
    notes : tuple of str
        What was left out and what to beware of, in sentences.
    lower_is_better : bool
        Whether a lower value is better.
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
    notes: tuple[str, ...] = ()
    lower_is_better: bool = False

    def __str__(self) -> str:
        said = []
        if self.exact is not None:
            said.append(f"95 % interval {self.exact.low:.2f} to {self.exact.high:.2f}")
        if self.by_compound is not None:
            low, high = self.by_compound.low, self.by_compound.high
            said.append(f"over compounds {low:.2f} to {high:.2f}")
        parts = [", ".join(said)] if said else []
        if self.p_value is not None:
            parts.append(f"p {self.p_value:.2g}")
        if self.chance is not None:
            parts.append(f"chance {self.chance:.3f}")
        return f"{self.name} {self.value:.3f} of {self.n} ({'; '.join([*parts, self.metric])})"
