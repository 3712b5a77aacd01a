"""The step ``normalize``: fit the configured normalizers on the wells of a screen; apply them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deepprofiler.columns import COUNT, PLATE, WELL, spoken
from deepprofiler.commands.analyze.aggregate import AggregatedWells
from deepprofiler.commands.analyze.descriptions import describe_chain, left_out_table
from deepprofiler.config.schema import Analyze, Config
from deepprofiler.errors import DataError, counted, listing
from deepprofiler.evaluation.screen import negative_rows, treatment_profiles, untreated_rows
from deepprofiler.files import replacing
from deepprofiler.parameters import Choice, Decides
from deepprofiler.profiling.averages import with_enough_cells
from deepprofiler.profiling.chain import Chain, make_chain
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.project.freshness import Provenance, describe, provenance, stored_provenance
from deepprofiler.project.outcome import LOG, Outcome

_WELLS, _TREATMENTS = "wells.parquet", "treatments.parquet"
_CHAIN, _LEFT_OUT = "normalization.npz", "features-left-out.csv"
# Control cells that a covariance of a batch needs.
_FEWEST = 2
# Share of the squared length of all treated wells above which one feature is worth a warning.
_DOMINANT = 0.5


@dataclass(frozen=True)
class NormalizedWells:
    """Normalized profiles of wells, and what normalized them.

    Attributes
    ----------
    wells : Profiles
        The wells that can be normalized.
    chain : Chain
        The fitted steps.
    """

    wells: Profiles
    chain: Chain

    def before(self, aggregated: AggregatedWells) -> Profiles:
        """Return the same wells as they were aggregated."""
        keys = [PLATE, WELL]
        kept = pd.MultiIndex.from_frame(self.wells.metadata[keys])
        return aggregated.wells.subset(
            pd.MultiIndex.from_frame(aggregated.wells.metadata[keys]).isin(kept)
        )


@dataclass(frozen=True)
class Normalization:
    """How the wells of a screen are normalized.

    Attributes
    ----------
    steps : tuple of Choice or None
        Configured normalizers; None: standardize, then TVN where all batches have controls.
    roles : mapping
        Role to column of metadata.
    control : str
        Value of the control column that marks a negative control.
    min_cells : int
        Wells with fewer take part in no fit.
    seed : int
        Of normalizers that draw at random.
    """

    steps: tuple[Choice, ...] | None
    roles: Mapping[str, str]
    control: str
    min_cells: int
    seed: int

    @classmethod
    def of(cls, project: Project) -> Normalization:
        """Read all of it from configuration and index."""
        settings, index = project.config.analyze, project.index
        return cls(
            steps=settings.normalize,
            roles=index.roles,
            control=index.control,
            min_cells=settings.min_cells,
            seed=project.config.dataset.seed,
        )

    def chain(self, steps: tuple[Choice, ...]) -> Chain:
        """Build a chain that is not fitted.

        Raises
        ------
        PluginError
            A step or a parameter does not exist, or a value cannot be used.
        """
        return make_chain(
            [(step.name, step.params) for step in steps],
            plate=PLATE,
            batch=self.roles["batch"],
            well=WELL,
            count=COUNT,
            seed=self.seed,
        )

    def controls(self, wells: Profiles) -> np.ndarray:
        """Tell which wells are negative controls, (n,) bool."""
        return negative_rows(wells, self.roles, self.control)

    def batches_without_controls(self, wells: Profiles) -> list[str]:
        """Name the batches with too few control cells for TVN, in wells with enough cells."""
        usable = with_enough_cells(wells)
        cells = np.where(self.controls(usable), usable.values(COUNT), 0)
        return [
            str(batch) or "(blank)"
            for (batch,), rows in usable.groups([self.roles["batch"]])
            if cells[rows].sum() < _FEWEST
        ]

    def steps_for(self, wells: Profiles) -> tuple[Choice, ...]:
        """Give the configured steps, or those that are chosen by default for these wells."""
        if self.steps is not None:
            return self.steps
        names = ["standardize"] if self.batches_without_controls(wells) else ["standardize", "tvn"]
        return tuple(Choice(name=name) for name in names)

    def fit(
        self,
        wells: Profiles,
        cells: CellMoments | None,
        steps: tuple[Choice, ...] | None = None,
    ) -> Chain:
        """Fit on the wells with enough cells and the controls.

        Parameters
        ----------
        wells : Profiles
            As aggregated.
        cells : CellMoments or None
            Moments of the controls' cells; without them, every step is fitted on wells.
        steps : tuple of Choice, optional
            In place of :meth:`steps_for` these wells.

        Raises
        ------
        PluginError
            A step or a parameter does not exist.
        DataError
            No well has enough cells, or a step cannot be fitted.
        """
        usable = with_enough_cells(wells)
        if not len(usable):
            raise DataError(f"no well has analyze.min_cells = {self.min_cells} cells; lower it")
        chain = self.chain(self.steps_for(wells) if steps is None else steps)
        return chain.fit(usable, controls=self.controls(usable), cells=cells)


def normalize_wells(
    project: Project, aggregated: AggregatedWells, outcome: Outcome, *, again: bool = False
) -> NormalizedWells:
    """Normalize the wells of one layer, or read the profiles on disk if they are current.

    Treatment profiles are always written again, since other settings decide them.

    Parameters
    ----------
    project : Project
    aggregated : AggregatedWells
        Of one layer.
    outcome : Outcome
        Takes what was written, and notes on wells that cannot be normalized.
    again : bool
        Normalize in any case.

    Raises
    ------
    PluginError
        A step or a parameter does not exist.
    DataError
        No well has enough cells, or a step cannot be fitted.
    """
    config, folder = project.config, project.profiles_folder
    normalization = Normalization.of(project)
    made_from = _made_from(config, normalization, aggregated)
    normalized = None if again else _read_if_current(folder, made_from, project.root)
    if normalized is None:
        normalized = _fit_and_apply(normalization, aggregated)
        normalized.chain.made_from = made_from.to_json()
        _write(folder, normalized)
        outcome.wrote.append(f"{len(normalized.wells)} normalized wells to {folder}")
    _write_treatments(folder, normalized.wells, normalization.roles, config.analyze)
    outcome.notes += _notes(normalization, aggregated, normalized)
    return normalized


def _notes(
    normalization: Normalization, aggregated: AggregatedWells, normalized: NormalizedWells
) -> Iterator[str]:
    """Say which wells are in no treatment's profile, and which are not normalized."""
    if "treatment" in normalization.roles:
        blank = int(untreated_rows(normalized.wells, normalization.roles).sum())
        if blank:
            wells = counted(blank, "well", "wells")
            yield f"{wells} with a blank treatment: left out of the profiles of treatments"
    if left_out := len(aggregated.wells) - len(normalized.wells):
        yield (
            f"{counted(left_out, 'well', 'wells')} not normalized, and only in "
            f"wells-unnormalized.parquet: fewer than {normalization.min_cells} cells, and no well "
            "of the plate or batch has more, or a normalizer applies only to the wells of its fit"
        )


def _made_from(
    config: Config, normalization: Normalization, aggregated: AggregatedWells
) -> Provenance:
    """Say what the normalized wells are made from."""
    (layer,) = aggregated.layers
    steps = normalization.chain(normalization.steps_for(aggregated.wells)).steps
    values: dict[str, Any] = {
        "analyze.layer": layer,
        "analyze.normalize": [step.name for step in steps],
    }
    for position, step in enumerate(steps):
        parameters = json.loads(json.dumps(step.params(), default=_plain))
        place = f"analyze.normalize[{position}] {step.name}"
        values |= {f"{place}.{name}": value for name, value in parameters.items()}
    return provenance(
        config,
        Decides.NORMALIZED,
        values=values,
        inputs={"averages of wells": aggregated.made_from.digest},
    )


def _fit_and_apply(normalization: Normalization, aggregated: AggregatedWells) -> NormalizedWells:
    """Fit on the wells of one layer, and transform all that can be transformed."""
    wells = aggregated.wells
    chain = normalization.fit(wells, aggregated.cells)
    if normalization.steps is None and (lacking := normalization.batches_without_controls(wells)):
        LOG.warning(
            "profiles are standardized only: TVN needs negative controls (`%s` in the control "
            "column) in every batch, in wells with enough cells; without them: %s",
            normalization.control,
            f"{spoken(normalization.roles['batch'])} {listing(lacking, 5)}",
        )
    for sentence in describe_chain(chain):
        LOG.info("%s", sentence)
    normalized = chain.transform(wells.subset(chain.covers(wells)))
    _warn_of_dominant_feature(normalization, normalized)
    return NormalizedWells(normalized, chain)


def _warn_of_dominant_feature(normalization: Normalization, wells: Profiles) -> None:
    """Warn where one feature decides all similarities, such as one that controls hardly vary in."""
    treated = with_enough_cells(wells)
    squares = treated.features[~normalization.controls(treated)] ** 2
    if len(squares) and squares.shape[1] > 2 and squares.any():
        share = squares.sum(axis=0) / squares.sum()
        if share.max() > _DOMINANT:
            LOG.warning(
                "%s makes up %.0f %% of the length of the normalized profiles: their similarities "
                "say little of the %d other features; look for a feature that hardly varies among "
                "the controls, or for one outlying well",
                wells.names[int(share.argmax())],
                100 * share.max(),
                squares.shape[1] - 1,
            )


def _write(folder: Path, normalized: NormalizedWells) -> None:
    """Write wells, left out features and the fitted steps."""
    # Removed first and written last: it stands for the wells that it would make of the averages.
    (folder / _CHAIN).unlink(missing_ok=True)
    left_out = left_out_table(normalized.chain.left_out_)
    with replacing(folder / _LEFT_OUT) as temporary:
        left_out.to_csv(temporary, index=False)
    normalized.wells.write(folder / _WELLS)
    normalized.chain.save(folder / _CHAIN)


def _read_if_current(folder: Path, made_from: Provenance, root: Path) -> NormalizedWells | None:
    """Read normalized wells; None where they are to be made again, which is logged."""
    if not (folder / _CHAIN).exists():
        LOG.info("wells are not normalized yet: normalizing first")
        return None
    try:
        wells, chain = Profiles.read(folder / _WELLS), Chain.load(folder / _CHAIN)
    except DataError as error:
        LOG.info("normalizing first: normalized wells cannot be read (%s)", error)
        return None
    stored = stored_provenance(chain.made_from)
    if stored is None:
        LOG.info("normalizing first: %s was written by an earlier release", folder / _CHAIN)
        return None
    if differences := stored.differences(made_from, root):
        LOG.info("normalizing first: %s", describe(differences))
        return None
    return NormalizedWells(wells, chain)


def _write_treatments(
    folder: Path, wells: Profiles, roles: Mapping[str, str], settings: Analyze
) -> None:
    """Average normalized wells with enough cells to treatments, where the index names these."""
    path = folder / _TREATMENTS
    usable = with_enough_cells(wells)
    if "treatment" not in roles or untreated_rows(usable, roles).all():
        path.unlink(missing_ok=True)
        return
    treatment_profiles(usable, roles, aggregate=settings.aggregate, weight=settings.weight).write(
        path
    )


def _plain(value: Any) -> Any:
    """Return what JSON can hold in place of a value of NumPy."""
    return value.item() if isinstance(value, np.generic) else str(value)
