"""The same features under other normalizations and corrections, by every metric."""

from __future__ import annotations

from importlib.util import find_spec

from deepprofiler.config import Named
from deepprofiler.errors import DataError
from deepprofiler.project import Project
from deepprofiler.stages.normalization import Normalized, configured_steps, fit_chain
from deepprofiler.stages.outcome import LOG, Outcome
from deepprofiler.stages.scores import Scores, score
from deepprofiler.stages.screen import negative_rows
from deepprofiler.stages.wells import Gathered, with_enough_cells

PLAIN = "without normalization"


def corrections(
    project: Project, gathered: Gathered, done: Normalized, chosen: Scores, outcome: Outcome
) -> dict[str, Scores]:
    """Score no normalization, standardization, TVN and Harmony beside what the config asks for.

    Parameters
    ----------
    project : Project
        Its ``analyze.baselines`` asks for all; without it, only no normalization is scored.
    gathered : Gathered
        Of one layer.
    done : Normalized
    chosen : Scores
        Of the configured normalization, which is not scored again.
    outcome : Outcome
        Takes notes on what cannot be computed.

    Returns
    -------
    dict
        Names such as ``standardize + tvn`` to scores, in the order of a table; ``chosen`` itself
        among them.
    """
    configured = configured_steps(project, gathered.wells)
    found = {
        PLAIN: chosen
        if not configured
        else score(
            project,
            done.before(gathered),
            name=PLAIN,
            about="the same wells as aggregated, without analyze.normalize",
        )
    }
    if project.config.analyze.baselines:
        for names in _known(project, gathered, outcome):
            steps = tuple(Named(name=name) for name in names)
            if steps == configured:
                found[_name(steps)] = chosen
                continue
            try:
                found[_name(steps)] = _scored(project, gathered, steps)
            except DataError as error:
                outcome.notes.append(f"no comparison with {_name(steps)}: {error}")
    if all(chosen is not scores for scores in found.values()):
        # Of the same steps with other parameters, the config's stand for their name.
        name = _name(configured)
        found[f"{name}, as configured" if name in found else name] = chosen
    return found


def _known(project: Project, gathered: Gathered, outcome: Outcome) -> list[list[str]]:
    """Names of the steps to compare, as far as the screen and the installation allow."""
    wells = with_enough_cells(gathered.wells)
    batches = len(set(wells.values(project.index.roles["batch"])))
    known = [["standardize"]]
    if negative_rows(project.index, wells).any():
        known.append(["standardize", "tvn"])
    if batches > 1 and find_spec("harmonypy") is None:
        outcome.notes.append(
            'no comparison with Harmony: pip install "deepprofiler-keras[harmony]"'
        )
    elif batches > 1:
        known.append(["standardize", "harmony"])
    return known


def _name(steps: tuple[Named, ...]) -> str:
    return " + ".join(step.name for step in steps)


def _scored(project: Project, gathered: Gathered, steps: tuple[Named, ...]) -> Scores:
    LOG.info("the same features with %s, to compare", _name(steps))
    chain = fit_chain(project, gathered.wells, gathered.cells, steps)
    return score(
        project,
        chain.transform(gathered.wells.subset(chain.covers(gathered.wells))),
        name=_name(steps),
        about="the same features under another normalization",
    )
