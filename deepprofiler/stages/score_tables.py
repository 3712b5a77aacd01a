"""The tables of an analysis that tell how well profiles match, and which do not."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.profiling.accuracy import Accuracy
from deepprofiler.profiling.measure import Measure
from deepprofiler.profiling.neighbours import nearest_profiles
from deepprofiler.profiling.resampling import Interval
from deepprofiler.profiling.retrieval import AveragePrecision
from deepprofiler.project import Project
from deepprofiler.stages.scores import Scores
from deepprofiler.stages.screen import Screen

SCORES = (
    "method",
    "metric",
    "value",
    "n",
    "unit",
    "left_out",
    "low",
    "high",
    "low_over_compounds",
    "high_over_compounds",
    "chance",
    "p_value",
    "similarity",
    "null",
)
_LABEL = ("label", "queries", "average_precision", "normalized", "p_value", "corrected_p_value")
_VOTES = ("label", "predicted", "units")
_WRONG = ("unit", "label", "nearest", "nearest_label", "similarity", "right")
_NEIGHBOURS = ("treatment", "group", "rank", "neighbour", "neighbour_group", "similarity")
_NEAREST = 5


def write_scores(project: Project, methods: Sequence[Scores], screen: Screen) -> None:
    """Write ``scores.csv`` of all methods, and the matches of the first one.

    Parameters
    ----------
    project : Project
    methods : sequence of Scores
    screen : Screen
        The profiles that the first method is of.
    """
    rows = [_row(method.name, measure) for method in methods for measure in method.all]
    _write(project, "scores.csv", pd.DataFrame(rows, columns=list(SCORES)))
    found = methods[0].all
    accuracies = [one for one in found if isinstance(one, Accuracy)]
    _write(project, "confusion.csv", _stack({one.name: one.votes for one in accuracies}, _VOTES))
    # Wells have no names of their own: their wrong matches say nothing that confusions do not.
    wrong = {one.name: one.wrong for one in accuracies if one.unit != "profiles"}
    _write(project, "wrong-matches.csv", _stack(wrong, _WRONG))
    labels = {one.name: one.labels for one in found if isinstance(one, AveragePrecision)}
    _write(project, "average-precision.csv", _stack(labels, _LABEL))
    if screen.has("treatment"):
        _write(project, "neighbours.csv", neighbours(screen))
    else:
        project.profiles_path("neighbours.csv").unlink(missing_ok=True)


def _row(method: str, measure: Measure) -> dict[str, object]:
    exact, compounds = measure.exact, measure.by_compound
    return {
        "method": method,
        "metric": measure.name,
        "value": measure.value,
        "n": measure.n,
        "unit": measure.unit,
        "left_out": measure.total - measure.n,
        "low": _bound(exact, "low"),
        "high": _bound(exact, "high"),
        "low_over_compounds": _bound(compounds, "low"),
        "high_over_compounds": _bound(compounds, "high"),
        "chance": measure.chance,
        "p_value": measure.p_value,
        "similarity": measure.metric,
        "null": measure.null,
    }


def _bound(interval: Interval | None, side: str) -> float | None:
    return None if interval is None else float(getattr(interval, side))


def _stack(tables: dict[str, pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """One table of several, the metric's name first."""
    parts = [table[list(columns)].assign(metric=name) for name, table in tables.items()]
    empty = pd.DataFrame(columns=["metric", *columns])
    return pd.concat(parts, ignore_index=True)[["metric", *columns]] if parts else empty


def neighbours(screen: Screen) -> pd.DataFrame:
    """Find the five nearest treatments of other compounds of each treatment.

    Parameters
    ----------
    screen : Screen

    Returns
    -------
    DataFrame
        Columns ``treatment, group, rank, neighbour, neighbour_group, similarity``; the group is the
        mechanism, else the gene, else blank. Empty where there is no neighbour.
    """
    try:
        profiles = screen.treatments
        treatment = screen.column("treatment")
        roles = [role for role in ("mechanism", "gene") if screen.has(role)]
        group = screen.column(roles[0]) if roles else treatment
        group = group if group in profiles.metadata else treatment
        found = nearest_profiles(
            profiles,
            name=treatment,
            controls=None,
            differ=[screen.column("compound")],
            count=_NEAREST,
            metric=screen.metric,
            shown=[group],
        )
    except DataError:
        # What is wrong with the profiles is said where they are scored.
        return pd.DataFrame(columns=list(_NEIGHBOURS))
    return pd.DataFrame(
        {
            "treatment": found[treatment],
            "group": found[group] if roles else "",
            "rank": found["rank"],
            "neighbour": found[f"neighbour_{treatment}"],
            "neighbour_group": found[f"neighbour_{group}"] if roles else "",
            "similarity": found["similarity"],
        }
    )


def _write(project: Project, name: str, table: pd.DataFrame) -> None:
    with replacing(project.profiles_path(name)) as temporary:
        table.to_csv(temporary, index=False)
