"""Results of normalization in words: the one place of each sentence that the steps share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from deepprofiler.columns import spoken
from deepprofiler.errors import counted
from deepprofiler.profiling.chain import Chain
from deepprofiler.profiling.normalizer import FitSummary, LargestValue, LeftOut, Normalizer
from deepprofiler.profiling.profiles import row_text
from deepprofiler.profiling.standardize import CONTROLS_PER_PLATE, LARGEST


def describe_chain(chain: Chain) -> list[str]:
    """Return sentences on what every step of a fitted chain was fitted on."""
    return [sentence for step in chain.steps for sentence in describe_fit(step)]


def describe_fit(step: Normalizer) -> list[str]:
    """Return sentences on what a fitted normalizer was fitted on, and on what it left out.

    Each begins with the normalizer's name.
    """
    describe = _FITS.get(step.name, _other_fit)
    return [f"{step.name}: {sentence}" for sentence in describe(step)]


def describe_left_out(reason: LeftOut) -> str:
    """Return in words why a feature is left out, such as ``no spread (all 1) in plate P1``."""
    words = _REASONS[reason.code](reason.values)
    if reason.code in ("text", "one-value", "undefined"):
        return words
    where = "the screen" if reason.column is None else f"{spoken(reason.column)} {reason.group}"
    return f"{words} in {where}"


def left_out_table(left_out: Mapping[str, LeftOut]) -> pd.DataFrame:
    """Return the features that are left out as a table: feature, reason in words, code."""
    rows = [(name, describe_left_out(reason), reason.code) for name, reason in left_out.items()]
    return pd.DataFrame(rows, columns=["feature", "reason", "code"])


def _equal_values(values: Mapping[str, Any]) -> str:
    equal, n = values["equal"], values["n"]
    return f"{'all' if equal == n else f'{equal} of {n} are'} {values['value']:g}"


_REASONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "no-spread": lambda values: f"no spread ({_equal_values(values)})",
    "no-median-deviation": lambda values: f"no median deviation ({_equal_values(values)})",
    "infinite": lambda values: "infinite values",
    "too-large-to-square": lambda values: (
        f"values too large to square (up to {values['largest']:.3g})"
    ),
    "too-few-values": lambda values: f"only {values['n']} known values",
    "one-value": lambda values: f"no two different values among {values['n']} known",
    "undefined": lambda values: f"undefined in {values['undefined']} of {values['n']} profiles",
    "text": lambda values: str(values["reason"]),
}


def _standardize(step: Normalizer) -> Iterator[str]:
    fitted = step.fitted_
    wells = "all wells" if fitted.reference == "all" else "negative controls"
    if isinstance(fitted.n, dict) and fitted.group is not None:
        fewest = min(fitted.n.values(), default=0)
        plates = "the plate" if len(fitted.n) == 1 else f"each of {len(fitted.n)} plates"
        too_few = (
            f"; fewer than {CONTROLS_PER_PLATE} are too few" if fewest < CONTROLS_PER_PLATE else ""
        )
        article = "the " if fitted.reference == "controls" else ""
        yield f"fitted on {article}{wells} of {plates}, at least {fewest} wells{too_few}"
    else:
        n = _total(fitted)
        wells = f"all {n} wells" if fitted.reference == "all" else f"the {n} {wells}"
        yield f"fitted on {wells} of the screen{_why_screen(fitted)}"
    yield from _left_out(step, fitted.d)
    if fitted.missing:
        yield f"{fitted.missing} missing values stay missing"
    if fitted.largest is not None:
        yield _largest(fitted.largest)


def _left_out(step: Normalizer, size: int) -> Iterator[str]:
    if step.left_out_:
        name, reason = next(iter(step.left_out_.items()))
        yield (
            f"{len(step.left_out_)} of {size} features left out as undefined, such as {name}: "
            f"{describe_left_out(reason)}"
        )


def _why_screen(fitted: FitSummary) -> str:
    if fitted.fewest_controls is None:
        return ""
    return (
        f", because plate {fitted.fewest_controls.plate} has {fitted.fewest_controls.n} negative "
        f"controls and every plate needs {CONTROLS_PER_PLATE}"
    )


def _largest(largest: LargestValue) -> str:
    text = (
        f"largest absolute value {largest.value:.3g} ({largest.feature}; "
        f"{row_text(largest.profile)})"
    )
    if largest.value > LARGEST:
        return f"{text}; beyond {LARGEST:.0f}, one feature dominates every similarity"
    return text


def _rank_normal(step: Normalizer) -> Iterator[str]:
    left_out, missing = len(step.left_out_), step.fitted_.missing
    yield (
        f"fitted on all {step.fitted_.n} wells"
        + (f"; {left_out} features left out" if left_out else "")
        + (f"; {missing} missing values stay missing" if missing else "")
    )


def _harmony(step: Normalizer) -> Iterator[str]:
    mixed = " and ".join(
        f"{size} values of {spoken(column)}" for column, size in step.fitted_.mixed.items()
    )
    yield f"{step.fitted_.n} wells mixed" + (f" over {mixed}" if mixed else "")


def _well_position(step: Normalizer) -> Iterator[str]:
    fitted = step.fitted_
    counts = list(fitted.n.values()) if isinstance(fitted.n, dict) else [fitted.n]
    effect = (
        ""
        if fitted.largest_effect is None
        else f"; the largest effect removed is {fitted.largest_effect:.3g}"
    )
    yield f"rows and columns of {len(counts)} plates, at least {min(counts)} wells each{effect}"


def _cell_count(step: Normalizer) -> Iterator[str]:
    fitted = step.fitted_
    cells = "" if fitted.counts is None else " of {:.0f} to {:.0f} cells".format(*fitted.counts)
    yield f"fitted on {fitted.n} control wells{cells}"


def _sphering(step: Normalizer) -> Iterator[str]:
    yield f"{step.params()['method']} fitted on {_controls(step.fitted_)}{_shrinkage(step.fitted_)}"
    yield from _left_out(step, len(step.names_in_))


def _tvn(step: Normalizer) -> Iterator[str]:
    fitted = step.fitted_
    yield f"fitted on {_controls(fitted)}{_shrinkage(fitted)}"
    yield from _left_out(step, len(step.names_in_))
    if fitted.batches:
        fewest = min(fitted.batches, key=lambda batch: batch.n)
        weights = [batch.shrinkage for batch in fitted.batches if batch.shrinkage is not None]
        yield (
            f"{counted(len(fitted.batches), 'batch', 'batches')} aligned, each on at least "
            f"{fewest.n} control {fitted.unit} (fewest in {spoken(step.params()['batch'])} "
            f"{fewest.batch or '(blank)'}, rank {fewest.rank} of {fitted.d})"
            + (f"; shrinkage {min(weights):.3g} to {max(weights):.3g}" if weights else "")
        )


def _tvn_authors(step: Normalizer) -> Iterator[str]:
    yield f"fitted on {_controls(step.fitted_)}{_added(step.fitted_, '; ')}"
    yield from _left_out(step, len(step.names_in_))
    if step.fitted_.batches:
        yield f"{counted(len(step.fitted_.batches), 'batch', 'batches')} aligned"


def _tvn_efaar(step: Normalizer) -> Iterator[str]:
    fitted = step.fitted_
    aligned = counted(len(fitted.batches), "batch", "batches")
    yield f"fitted on {_controls(fitted)}; {aligned} aligned{_added(fitted, ', ')}"
    yield from _left_out(step, len(step.names_in_))


def _other_fit(step: Normalizer) -> Iterator[str]:
    """Describe the fit of a normalizer of a project or of another package."""
    fitted = step.fitted_
    reference = "control " if fitted.reference == "controls" else ""
    left_out = f"; {len(step.left_out_)} features left out" if step.left_out_ else ""
    rank = "" if fitted.rank is None else f", rank {fitted.rank}"
    yield (
        f"fitted on {_total(fitted)} {reference}{fitted.unit}, {fitted.d} features"
        f"{rank}{_shrinkage(fitted)}{left_out}"
    )


_FITS: dict[str, Callable[[Normalizer], Iterator[str]]] = {
    "standardize": _standardize,
    "robust": _standardize,
    "rank-normal": _rank_normal,
    "harmony": _harmony,
    "well-position": _well_position,
    "cell-count": _cell_count,
    "sphering": _sphering,
    "tvn": _tvn,
    "tvn-authors": _tvn_authors,
    "tvn-efaar": _tvn_efaar,
}


def _controls(fitted: FitSummary) -> str:
    rank = "" if fitted.rank is None else f", rank {fitted.rank}"
    return f"{fitted.n} control {fitted.unit}, {fitted.d} features{rank}"


def _shrinkage(fitted: FitSummary) -> str:
    return "" if fitted.shrinkage is None else f", shrinkage {fitted.shrinkage:.3g}"


def _added(fitted: FitSummary, separator: str) -> str:
    if fitted.added is None:
        return ""
    return f"{separator}{fitted.added:g} added to every eigenvalue"


def _total(fitted: FitSummary) -> int:
    return sum(fitted.n.values()) if isinstance(fitted.n, dict) else fitted.n
