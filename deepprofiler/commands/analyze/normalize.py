"""Fit the configured normalization on the wells of a screen, and apply it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT, PLATE, WELL, spoken
from deepprofiler.commands.analyze.aggregate import AGGREGATE, Gathered, with_enough_cells
from deepprofiler.errors import DataError, listing
from deepprofiler.evaluation.screen import negative_rows, treatments_of, unnamed
from deepprofiler.files import replacing
from deepprofiler.parameters import Choice
from deepprofiler.profiling.chain import Chain, make_chain
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.project.outcome import LOG

_WELLS, _CHAIN = "wells.parquet", "normalization.npz"
# Control cells of a batch that have a covariance at all.
_FEWEST = 2
# Share of the squared length of all treated wells, in one of their features, that is said.
_RULES = 0.5


@dataclass(frozen=True)
class Normalized:
    """Well profiles and what normalized them.

    Attributes
    ----------
    wells : Profiles
        The wells that can be normalized.
    chain : Chain
        The fitted steps.
    """

    wells: Profiles
    chain: Chain

    def before(self, gathered: Gathered) -> Profiles:
        """Return the same wells as they were aggregated."""
        keys = [PLATE, WELL]
        kept = pd.MultiIndex.from_frame(self.wells.metadata[keys])
        return gathered.wells.subset(
            pd.MultiIndex.from_frame(gathered.wells.metadata[keys]).isin(kept)
        )


def configured_steps(project: Project, wells: Profiles) -> tuple[Choice, ...]:
    """Name the steps of ``analyze.normalize``; by default TVN where all batches have controls."""
    steps = project.config.analyze.normalize
    if steps is not None:
        return steps
    chosen = ["standardize"] if without_controls(project, wells) else ["standardize", "tvn"]
    return tuple(Choice(name=name) for name in chosen)


def without_controls(project: Project, wells: Profiles) -> list[str]:
    """Name the batches with too few control cells for TVN, in wells with enough cells."""
    usable = with_enough_cells(wells)
    cells = np.where(negative_rows(project.index, usable), usable.values(COUNT), 0)
    batches = usable.groups([project.index.roles["batch"]])
    return [str(batch) or "(blank)" for (batch,), rows in batches if cells[rows].sum() < _FEWEST]


def fit_chain(
    project: Project,
    wells: Profiles,
    cells: CellMoments | None,
    steps: tuple[Choice, ...] | None = None,
) -> Chain:
    """Fit a normalization on the wells with enough cells and the controls.

    Parameters
    ----------
    project : Project
    wells : Profiles
        As aggregated; those with too few cells take no part.
    cells : CellMoments or None
        Moments of the controls' cells; without them all is fitted on wells.
    steps : tuple of Choice, optional
        In place of the configured ones.

    Raises
    ------
    ConfigError
        A step or a parameter does not exist.
    DataError
        No well has enough cells, or a step cannot be fitted.
    """
    usable = with_enough_cells(wells)
    if not len(usable):
        raise DataError(
            f"no well has analyze.min_cells = {project.config.analyze.min_cells} cells; lower it"
        )
    steps = configured_steps(project, wells) if steps is None else steps
    controls = negative_rows(project.index, usable)
    return _chain(project, steps).fit(usable, controls=controls, cells=cells)


def normalize(project: Project, gathered: Gathered) -> Normalized:
    """Fit on the wells of one layer, transform all that can be, and write what came of it."""
    chain = fit_chain(project, gathered.wells, gathered.cells)
    by_default = project.config.analyze.normalize is None
    if by_default and (lacking := without_controls(project, gathered.wells)):
        LOG.warning(
            "profiles are standardized only: TVN needs negative controls (`%s` in the control "
            "column) in every batch, in wells with enough cells; without them: %s",
            project.index.control,
            f"{spoken(project.index.roles['batch'])} {listing(lacking, 5)}",
        )
    for note in chain.notes_:
        LOG.info("%s", note)
    wells = chain.transform(gathered.wells.subset(chain.covers(gathered.wells)))
    _warn_of_one_feature(project, wells)
    # Gone while the wells are replaced: they are what it would make of the averages.
    project.profiles_path(_CHAIN).unlink(missing_ok=True)
    left_out = pd.DataFrame(chain.left_out_.items(), columns=["feature", "reason"])
    with replacing(project.profiles_path("features-left-out.csv")) as temporary:
        left_out.to_csv(temporary, index=False)
    wells.write(project.profiles_path(_WELLS))
    chain.save(project.profiles_path(_CHAIN))
    return Normalized(wells, chain)


def check_steps(project: Project) -> None:
    """Refuse ``analyze.normalize`` before anything is computed, if it cannot be used.

    Raises
    ------
    ConfigError
        A step or a parameter does not exist, or a value cannot be used.
    """
    _chain(project, project.config.analyze.normalize or ())


def write_treatments(project: Project, wells: Profiles) -> None:
    """Average normalized wells with enough cells to treatments, where the index names these."""
    path = project.profiles_path("treatments.parquet")
    usable = with_enough_cells(wells)
    if not project.index.has("treatment") or unnamed(project.index, usable).all():
        path.unlink(missing_ok=True)
        return
    treatments_of(usable, project.index, project.config.analyze).write(path)


def read_normalized(project: Project, gathered: Gathered) -> tuple[Normalized | None, str]:
    """Read what :func:`normalize` wrote, if it is what would be written now.

    Returns
    -------
    Normalized or None
    str
        Where it is None, why: nothing there, newer averages, or other steps.
    """
    path = project.profiles_path(_CHAIN)
    if not path.exists():
        return None, "wells are not normalized yet"
    made = path.stat().st_mtime_ns
    if project.profiles_path(AGGREGATE).stat().st_mtime_ns > made:
        return None, "there are newer averages of wells than normalized ones"
    try:
        wells, chain = Profiles.read(project.profiles_path(_WELLS)), Chain.load(path)
    except DataError as error:
        return None, f"normalized wells cannot be read ({error})"
    expected = _chain(project, configured_steps(project, gathered.wells))
    fitted_on = chain.steps[0].names_in_ if chain.steps else wells.names
    if _said(chain) != _said(expected) or fitted_on != gathered.wells.names:
        return None, "wells were normalized with other settings"
    return Normalized(wells, chain), ""


def _chain(project: Project, steps: tuple[Choice, ...]) -> Chain:
    return make_chain(
        [(step.name, step.params) for step in steps],
        plate=PLATE,
        batch=project.index.roles["batch"],
        well=WELL,
        count=COUNT,
        seed=project.config.dataset.seed,
    )


def _warn_of_one_feature(project: Project, wells: Profiles) -> None:
    """Tell where one feature rules all similarities, such as one that controls hardly vary in."""
    treated = with_enough_cells(wells)
    squares = treated.features[~negative_rows(project.index, treated)] ** 2
    if len(squares) and squares.shape[1] > 2 and squares.any():
        share = squares.sum(axis=0) / squares.sum()
        if share.max() > _RULES:
            LOG.warning(
                "%s makes up %.0f %% of the length of the normalized profiles: their similarities "
                "say little of the %d other features; look for a feature that hardly varies among "
                "the controls, or for one outlying well",
                wells.names[int(share.argmax())],
                100 * share.max(),
                squares.shape[1] - 1,
            )


def _said(chain: Chain) -> str:
    """Names and parameters of all steps, as text that a file keeps."""
    return json.dumps([[step.name, step.params()] for step in chain.steps], default=_plain)


def _plain(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
