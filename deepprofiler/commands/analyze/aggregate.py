"""The step ``aggregate``: read each well file once, and keep on disk what all later steps need.

These are the profile of each well, the moments of the negative controls' cells, and a sample of
single cells. Only the cells of one well are in memory at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, COUNT, FLAG, PLATE, SITE, WELL
from deepprofiler.commands import require_experiment, run_earlier
from deepprofiler.config.schema import Crops
from deepprofiler.errors import DataError, counted
from deepprofiler.files import replacing
from deepprofiler.learning.learning_settings import Profile
from deepprofiler.parameters import Decides
from deepprofiler.profiling.averages import CellSample, WellProfiles, flag_small_wells
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.profiling_settings import Aggregate
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.freshness import (
    FileState,
    Provenance,
    describe,
    digest_of,
    provenance,
)
from deepprofiler.project.index import Well
from deepprofiler.project.outcome import LOG, Outcome
from deepprofiler.project.sites import states
from deepprofiler.project.well_file import (
    WellFeatures,
    WellProvenance,
    iterate,
    read_provenance,
)

SAMPLED_CELLS = 2000
# The layer of the paper's profiles.
_DEFAULT_LAYER = Profile().layers[0]


@dataclass(frozen=True)
class AggregatedWells:
    """The cells of an experiment, aggregated.

    Attributes
    ----------
    wells : Profiles
        A row for each well with cells, with the columns of all layers: mean or median of its
        features, not normalized.
    counts : DataFrame
        Every well of the index with its number of cells, wells without cells too.
    controls : dict
        Layer to the moments of the negative controls' cells by plate and batch; wells with too
        few cells are left out. One covariance for each layer, since its size grows with the square
        of the number of features.
    sample : Profiles
        Up to 2,000 single cells, the same number from every well.
    provenance : WellProvenance
        What made the features, as the first well file says.
    made_from : Provenance
        What the averages were made from.
    failed_sites : int
        Sites of the index that ``profile`` could not use.
    not_finite : int
        Cells that were left out, because a feature of theirs is not finite.
    unknown_sites : int
        Sites of the well files that the index does not have; their cells are left out.
    """

    wells: Profiles
    counts: pd.DataFrame
    controls: dict[str, CellMoments]
    sample: Profiles
    provenance: WellProvenance
    made_from: Provenance
    failed_sites: int
    not_finite: int
    unknown_sites: int = 0

    @property
    def layers(self) -> list[str]:
        """Names of the layers."""
        return list(self.provenance.layers)

    @property
    def cells(self) -> CellMoments | None:
        """Moments of the controls' cells, where there is one layer; None without control cells."""
        (moments,) = self.controls.values()
        return moments if moments else None

    def of_layer(self, layer: str | None) -> AggregatedWells:
        """Return the features of one layer only.

        Parameters
        ----------
        layer : str or None
            None: the layer of the paper's profiles, or the first where that was not profiled.

        Raises
        ------
        DataError
            The layer was not profiled.
        """
        if layer is None:
            layer = _DEFAULT_LAYER if _DEFAULT_LAYER in self.layers else self.layers[0]
        if layer not in self.layers:
            raise DataError(
                f"there are no features of the layer {layer}, only of {', '.join(self.layers)}; "
                "name it in profile.layers and run `profile`"
            )
        first, end = self.provenance.layers[layer]
        names = list(self.provenance.names[first:end])
        return replace(
            self,
            wells=self.wells.with_features(self.wells.features[:, first:end], names),
            controls={layer: self.controls[layer]},
            sample=self.sample.with_features(self.sample.features[:, first:end], names),
            provenance=replace(
                self.provenance, names=tuple(names), layers={layer: [0, end - first]}
            ),
        )


def aggregate_wells(project: Project, outcome: Outcome, *, again: bool = False) -> AggregatedWells:
    """Aggregate the cells of every well, or read the averages on disk if they are current.

    Parameters
    ----------
    project : Project
    outcome : Outcome
        Takes what was written and left out.
    again : bool
        Aggregate in any case.

    Returns
    -------
    AggregatedWells
        Of all layers.

    Raises
    ------
    DataError
        No well has cells; a well file is missing or damaged; or the features were made with
        different weights or layers, or from other crops than the configuration asks for.
    """
    aggregation = _Aggregation.of(project)
    folder = project.profiles_folder
    aggregated = None if again else _read_if_current(folder, aggregation)
    if aggregated is None:
        if not all(path.exists() for path in aggregation.paths):
            require_experiment(project)
            outcome.add(run_earlier(project, "profile", "some wells have no features"))
        files = states(aggregation.files)
        aggregated = aggregation.average()
        aggregated = replace(aggregated, made_from=aggregated.made_from.with_files(files))
        _write(folder, aggregated)
        outcome.wrote.append(f"averages of {len(aggregated.wells)} wells to {folder}")
    if aggregated.not_finite:
        outcome.left_out["cells with features that are not finite"] = aggregated.not_finite
    outcome.notes += _notes(aggregated, aggregation.min_cells)
    return aggregated


def average_wells(project: Project, baseline: str | None = None) -> AggregatedWells:
    """Aggregate the cells of every well, of the experiment or of a baseline; nothing is written.

    Parameters
    ----------
    project : Project
    baseline : str, optional
        Folder in ``baselines`` of the experiment.

    Raises
    ------
    DataError
        As for :func:`aggregate_wells`; a missing well file too.
    """
    return _Aggregation.of(project, baseline).average()


def _notes(aggregated: AggregatedWells, min_cells: int) -> Iterator[str]:
    """Say which wells and cells take no part in what follows."""
    if aggregated.unknown_sites:
        yield (
            f"left out the cells of {counted(aggregated.unknown_sites, 'site', 'sites')} not in "
            "the index"
        )
    if empty := len(aggregated.counts) - len(aggregated.wells):
        yield f"{counted(empty, 'well', 'wells')} without cells: only in counts.csv"
    if small := int(aggregated.wells.values(FLAG).sum()):
        yield (
            f"{counted(small, 'well', 'wells')} with fewer than {min_cells} cells: flagged in the "
            "tables, left out of fits and scores"
        )


# -- averages ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Aggregation:
    """The wells of an index, their files, and how their cells are aggregated.

    Attributes
    ----------
    wells : list of Well
    files : dict
        File of each well, by the name that provenance knows it by.
    metadata : DataFrame
        One row a well.
    negative : ndarray of bool, (wells,)
        Which wells are negative controls.
    groups : list of str
        Columns by which the moments of control cells are kept apart.
    statistic : str
    min_cells : int
    crops : Crops
        What the features must have been made from.
    seed : int
        Of the sample of cells.
    made_from : Provenance
        What the averages are made from, but for the well files.
    root : Path
        Folder that relative names of files start from.
    title : str
        Of the progress bar.
    """

    wells: list[Well]
    files: dict[str, Path]
    metadata: pd.DataFrame
    negative: np.ndarray
    groups: list[str]
    statistic: Aggregate
    min_cells: int
    crops: Crops
    seed: int
    made_from: Provenance
    root: Path
    title: str

    @classmethod
    def of(cls, project: Project, baseline: str | None = None) -> _Aggregation:
        """Read all of it from a project."""
        index, config = project.index, project.config
        wells, metadata = index.wells(), index.well_table()
        if not wells:
            raise DataError(f"{index.path} has no wells")
        paths = [project.well_path(well.plate, well.well, baseline) for well in wells]
        batch, control = index.roles["batch"], index.roles.get("control")
        sites = [[site.plate, site.well, site.site] for site in index.sites]
        return cls(
            wells=wells,
            files={project.name_of(path): path for path in paths},
            metadata=metadata,
            negative=np.zeros(len(wells), bool)
            if control is None
            else (metadata[control] == index.control).to_numpy(bool),
            groups=list(dict.fromkeys([PLATE, batch])),
            statistic=config.analyze.aggregate,
            min_cells=config.analyze.min_cells,
            crops=config.crops,
            seed=config.dataset.seed,
            made_from=provenance(
                config,
                Decides.PROFILES,
                values={
                    "dataset.columns.batch": batch,
                    "dataset.columns.control": control,
                    "dataset.control": index.control,
                },
                inputs={_SITES: digest_of(sites), _METADATA: _metadata_digest(metadata)},
            ),
            root=project.root,
            title="analyze: wells" if baseline is None else f"analyze: wells, {baseline}",
        )

    @property
    def paths(self) -> list[Path]:
        """File of each well."""
        return list(self.files.values())

    def average(self) -> AggregatedWells:
        """Read one well file after the other."""
        paths = self.paths
        first = read_provenance(paths[0])
        self.require_crops(first)
        profiles = WellProfiles(first.names, COUNT, self.statistic)
        controls = {
            layer: CellMoments(list(first.names[begin:end]))
            for layer, (begin, end) in first.layers.items()
        }
        sample = CellSample(len(self.wells), SAMPLED_CELLS, self.seed)
        not_finite = failed_sites = unknown_sites = 0
        for position, stored in enumerate(track(iterate(paths), len(paths), self.title)):
            well, path = self.wells[position], paths[position]
            _require_own(stored.provenance, well, path)
            _require_same(first, stored.provenance, path)
            sites = {site.site for site in well.sites}
            failed_sites += len(sites & set(stored.provenance.failed))
            unknown_sites += len(set(stored.cells[SITE]) - sites)
            cells = _of_sites(stored, sites)
            metadata = {str(name): text for name, text in self.metadata.iloc[position].items()}
            not_finite += profiles.add(metadata, cells.features, cells.cells[SITE])
            sample.add(position, metadata, cells.cells[[SITE, CELL]], cells.features)
            if self.negative[position]:
                self._add_controls(controls, metadata, cells)
        wells, counts = profiles.finish()
        if not len(wells):
            raise DataError("no well has cells; run `check` to see why")
        return AggregatedWells(
            wells=flag_small_wells(wells, count=COUNT, minimum=self.min_cells, flag=FLAG),
            counts=counts.assign(**{FLAG: counts[COUNT] < self.min_cells}),
            controls=controls,
            sample=sample.finish(first.names, [*self.metadata.columns, SITE, CELL]),
            provenance=first,
            made_from=self.made_from,
            failed_sites=failed_sites,
            not_finite=not_finite,
            unknown_sites=unknown_sites,
        )

    def _add_controls(
        self, controls: dict[str, CellMoments], metadata: dict[str, Any], well: WellFeatures
    ) -> None:
        """Add the cells of a control well to the moments, if it has enough of them."""
        finite = well.features[np.isfinite(well.features).all(axis=1)]
        if len(finite) < max(self.min_cells, 1):
            return
        group = {column: metadata[column] for column in self.groups}
        for layer, (begin, end) in well.provenance.layers.items():
            controls[layer].add(group, finite[:, begin:end])

    def require_crops(self, features: WellProvenance) -> None:
        """Refuse features of other crops than the configuration asks for."""
        expected = self.crops.size, self.crops.rescale
        if (features.crop_size, features.rescale) != expected:
            raise DataError(
                f"the features of plate {features.plate} well {features.well} were made from "
                f"{_crops(features)}; the configuration asks for crops of {expected[0]} pixels, "
                f"rescaled by {expected[1]}: run `profile`, or change crops back"
            )


def _of_sites(well: WellFeatures, sites: set[str]) -> WellFeatures:
    """Leave out the cells of all other sites."""
    kept = well.cells[SITE].isin(sites).to_numpy(bool)
    if kept.all():
        return well
    cells = well.cells[kept].reset_index(drop=True)
    return replace(well, features=well.features[kept], cells=cells)


def _require_own(features: WellProvenance, well: Well, path: Path) -> None:
    """Refuse a file that was copied from another well."""
    if (features.plate, features.well) != (well.plate, well.well):
        raise DataError(
            f"{path} holds plate {features.plate} well {features.well}; delete it and run `profile`"
        )


def _require_same(first: WellProvenance, other: WellProvenance, path: Path) -> None:
    """Refuse to average features of different networks, layers or crops."""
    if (other.digest, other.names) != (first.digest, first.names):
        raise DataError(
            f"{path} was made with weights {other.checkpoint} ({other.digest[:12]}) and layers "
            f"{', '.join(other.layers)}; plate {first.plate} well {first.well} with "
            f"{first.checkpoint} ({first.digest[:12]}) and {', '.join(first.layers)}: run "
            "`profile` again, it computes what differs"
        )
    crops = first.crop_size, first.rescale, first.channels
    if (other.crop_size, other.rescale, other.channels) != crops:
        raise DataError(
            f"{path} was made from {_crops(other)}; plate {first.plate} well {first.well} from "
            f"{_crops(first)}: run `profile` again, it computes what differs"
        )


def _crops(features: WellProvenance) -> str:
    """Say what a network saw."""
    return (
        f"crops of {features.crop_size} pixels, rescaled by {features.rescale}, channels "
        f"{', '.join(features.channels)}"
    )


# -- averages on disk --------------------------------------------------------------------------

FORMAT = "deepprofiler aggregate"
VERSION = 3
#: Written last, so that it stands for all of them.
AGGREGATE = "aggregate.npz"
_WELLS, _COUNTS, _SAMPLE = "wells-unnormalized.parquet", "counts.csv", "cells.parquet"
# Inputs that provenance names.
_SITES, _METADATA = "sites of the index", "metadata of the wells"
_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, DataError)


def _write(folder: Path, aggregated: AggregatedWells) -> None:
    """Write averages, counts and the sample of cells as tables, and the moments of controls."""
    (folder / AGGREGATE).unlink(missing_ok=True)
    aggregated.wells.write(folder / _WELLS)
    aggregated.sample.write(folder / _SAMPLE)
    with replacing(folder / _COUNTS) as temporary:
        counts = aggregated.counts.sort_values([PLATE, WELL], kind="stable")
        counts.to_csv(temporary, index=False)
    groups: list[Any] = []
    arrays = {}
    for layer, moments in aggregated.controls.items():
        for group, (n, mean, triangle) in moments.kept.items():
            arrays[f"{len(groups)}/mean"] = mean
            arrays[f"{len(groups)}/scatter"] = triangle
            groups.append([layer, group, n])
    header = {
        "format": FORMAT,
        "version": VERSION,
        "made_from": aggregated.made_from.to_json(),
        "features": aggregated.provenance.to_json(),
        "failed_sites": aggregated.failed_sites,
        "not_finite": aggregated.not_finite,
        "unknown_sites": aggregated.unknown_sites,
        "groups": groups,
    }
    with replacing(folder / AGGREGATE) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, about=np.array(json.dumps(header)), **arrays)


def _read_if_current(folder: Path, aggregation: _Aggregation) -> AggregatedWells | None:
    """Read the averages on disk; None where they are to be made again, which is logged.

    Well files that were deleted do not matter: the averages are all that is needed then.
    """
    if not (folder / AGGREGATE).exists():
        LOG.info("wells are not aggregated yet: aggregating first")
        return None
    try:
        aggregated = _read(folder, aggregation)
    except _DAMAGE as error:
        LOG.info("aggregating first: the averages of wells cannot be read (%s)", error)
        return None
    differences = aggregated.made_from.differences(aggregation.made_from, aggregation.root)
    if differences:
        LOG.info("aggregating first: %s", describe(differences, file="well file"))
        return None
    aggregation.require_crops(aggregated.provenance)
    return aggregated


def _read(folder: Path, aggregation: _Aggregation) -> AggregatedWells:
    """Read what :func:`_write` wrote, or the release before."""
    counts = _read_counts(folder / _COUNTS)
    # Opened here, because NumPy leaves a damaged file open.
    with (folder / AGGREGATE).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        header = json.loads(str(stored["about"]))
        if header["format"] != FORMAT or header["version"] not in (2, VERSION):
            raise ValueError(
                f"{AGGREGATE} is a file of {header['format']}, version {header['version']}"
            )
        if header["version"] == 2:
            features = WellProvenance.from_version_1(header["origin"])
            made_from = _made_from_version_2(header, stored["files"], counts, aggregation)
        else:
            features = WellProvenance.from_json(header["features"])
            made_from = Provenance.from_json(header["made_from"])
        controls = _moments(features, header["groups"], stored)
    return AggregatedWells(
        wells=Profiles.read(folder / _WELLS),
        counts=counts,
        controls=controls,
        sample=Profiles.read(folder / _SAMPLE),
        provenance=features,
        made_from=made_from,
        failed_sites=header["failed_sites"],
        not_finite=header["not_finite"],
        unknown_sites=header["unknown_sites"],
    )


def _made_from_version_2(
    header: dict[str, Any], files: np.ndarray, counts: pd.DataFrame, aggregation: _Aggregation
) -> Provenance:
    """Give what version 2 says of its inputs in the form of today.

    It knows sizes and times of well files (wells, 2), -1 where there was none, and no digests.
    """
    settings = header["settings"]
    states = zip(aggregation.files, files.tolist(), strict=False)
    return replace(
        aggregation.made_from,
        settings={
            "dataset.columns.batch": settings["batch"],
            "dataset.columns.control": settings["control"][0],
            "dataset.control": settings["control"][1],
            "dataset.seed": settings["seed"],
            "analyze.aggregate": settings["aggregate"],
            "analyze.min_cells": settings["min_cells"],
        },
        inputs={
            _SITES: header["sites"],
            _METADATA: _metadata_digest(counts.drop(columns=[COUNT, FLAG])),
        },
        files={name: FileState(size, time, "") for name, (size, time) in states if size >= 0},
    )


def _moments(features: WellProvenance, groups: list[Any], stored: Any) -> dict[str, CellMoments]:
    """Put the moments of control cells together again."""
    controls = {
        layer: CellMoments(list(features.names[first:end]))
        for layer, (first, end) in features.layers.items()
    }
    for position, (layer, group, n) in enumerate(groups):
        key = tuple((column, value) for column, value in group)
        mean, triangle = (stored[f"{position}/{name}"] for name in ("mean", "scatter"))
        controls[layer].kept[key] = n, mean, triangle
    return controls


def _read_counts(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[COUNT] = table[COUNT].astype(int)
    table[FLAG] = table[FLAG] == "True"
    return table


def _metadata_digest(table: pd.DataFrame) -> str:
    """Hash a table of wells, whatever the order of its rows."""
    rows = table.sort_values([PLATE, WELL], kind="stable")
    return digest_of([list(rows), rows.to_numpy().tolist()])
