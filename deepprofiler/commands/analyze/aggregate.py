"""Read the well files of an experiment once: profiles, moments of controls, a sample of cells."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from deepprofiler.columns import CELL, COUNT, FLAG, PLATE, SITE, WELL
from deepprofiler.config.schema import Profile
from deepprofiler.errors import DataError
from deepprofiler.files import replacing, values_digest
from deepprofiler.profiling.averages import WellProfiles, flag_small_wells
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.index import Well
from deepprofiler.project.well_file import (
    Origin,
    WellFeatures,
    iterate,
)

SAMPLED_CELLS = 2000
# The layer of the paper's profiles.
_USUAL_LAYER = Profile().layers[0]


@dataclass(frozen=True)
class Gathered:
    """What the cells of an experiment come to.

    Attributes
    ----------
    wells : Profiles
        Each well that has cells: mean or median of its features, as the network gave them; the
        columns of all layers.
    counts : DataFrame
        Every well of the index with its number of cells, those without cells too.
    controls : dict
        From layer to the moments of the negative controls' cells by plate and batch, without
        small wells. Layers are apart, as a covariance grows with the square of its features.
    sample : Profiles
        Up to 2,000 single cells, evenly from all wells.
    origin : Origin
        What made the features, as the first well tells.
    failed_sites : int
        Sites that could not be profiled, as the well files tell.
    not_finite : int
        Cells left out since a feature of theirs is not finite.
    unknown_sites : int
        Sites of the well files that the index does not have; their cells are left out.
    """

    wells: Profiles
    counts: pd.DataFrame
    controls: dict[str, CellMoments]
    sample: Profiles
    origin: Origin
    failed_sites: int
    not_finite: int
    unknown_sites: int = 0

    @property
    def cells(self) -> CellMoments | None:
        """Moments of the controls' cells, where there is one layer; None without control cells."""
        (moments,) = self.controls.values()
        return moments if moments else None

    def of_layer(self, layer: str) -> Gathered:
        """Return the same with the features of one layer only.

        Raises
        ------
        DataError
            There is no such layer.
        """
        if layer not in self.origin.layers:
            raise DataError(
                f"there are no features of {layer}, only of {', '.join(self.origin.layers)}; name "
                "it in profile.layers and run `profile`"
            )
        first, end = self.origin.layers[layer]
        names = list(self.origin.names[first:end])
        origin = replace(self.origin, names=tuple(names), layers={layer: [0, end - first]})
        wells = self.wells.with_features(self.wells.features[:, first:end], names)
        sample = self.sample.with_features(self.sample.features[:, first:end], names)
        controls = {layer: self.controls[layer]}
        return replace(self, wells=wells, sample=sample, controls=controls, origin=origin)


def main_layer(project: Project, origin: Origin) -> str:
    """Name the layer that profiles are made of: ``analyze.layer``, by default the paper's."""
    asked = project.config.analyze.layer
    if asked is not None:
        return asked
    return _USUAL_LAYER if _USUAL_LAYER in origin.layers else next(iter(origin.layers))


def gather(project: Project, baseline: str | None = None) -> Gathered:
    """Stream all well files; only one is in memory at a time.

    Raises
    ------
    DataError
        A file is missing or damaged, or wells were profiled with different weights, layers or
        crops, or with other crops than the config asks for.
    """
    index = project.index
    table = index.well_table()
    negative = (
        table[index.roles["control"]] == index.control
        if index.has("control")
        else pd.Series(False, table.index)
    )
    wells_of_index = index.wells()
    paths = [project.well_path(well.plate, well.well, baseline) for well in wells_of_index]
    small = project.config.analyze.min_cells
    groups = list(dict.fromkeys([PLATE, index.roles["batch"]]))
    first: Origin | None = None
    not_finite = failed_sites = unknown_sites = 0
    sample = _Sample(table, project.config.dataset.seed)
    what = "analyze: wells" if baseline is None else f"analyze: wells, {baseline}"
    files = track(iterate(paths), len(paths), what)
    for position, (found, known) in enumerate(zip(files, wells_of_index, strict=True)):
        _require_own(found.origin, known, paths[position])
        well, unknown = _of_index(found, known)
        unknown_sites += unknown
        if first is None:
            first = well.origin
            _require_configured(project, first)
            profiles = WellProfiles(first.names, COUNT, project.config.analyze.aggregate)
            controls = {
                layer: CellMoments(list(first.names[begin:end]))
                for layer, (begin, end) in first.layers.items()
            }
        _require_same(first, well.origin, paths[position])
        metadata = {str(name): value for name, value in table.iloc[position].items()}
        failed_sites += len(_sites(known) & set(well.origin.failed))
        not_finite += profiles.add(metadata, well.features, well.cells["site"])
        finite = well.features[np.isfinite(well.features).all(axis=1)]
        if negative.iloc[position] and len(finite) >= max(small, 1):
            group = {column: metadata[column] for column in groups}
            for layer, (begin, end) in first.layers.items():
                controls[layer].add(group, finite[:, begin:end])
        sample.add(position, metadata, well)
    if first is None:
        raise DataError(f"{project.index_path} has no wells")
    wells, counts = profiles.finish()
    if not len(wells):
        raise DataError("no well has cells; run `check` to see why")
    return Gathered(
        wells=flag_small_wells(wells, count=COUNT, minimum=small, flag=FLAG),
        counts=counts.assign(**{FLAG: counts[COUNT] < small}),
        controls=controls,
        sample=sample.finish(list(first.names)),
        origin=first,
        failed_sites=failed_sites,
        not_finite=not_finite,
        unknown_sites=unknown_sites,
    )


def _of_index(well: WellFeatures, known: Well) -> tuple[WellFeatures, int]:
    """Leave out the cells of sites that the index does not have; give the number of these."""
    sites = _sites(known)
    unknown = set(well.cells["site"]) - sites
    if not unknown:
        return well, 0
    named = well.cells["site"].isin(sites).to_numpy(bool)
    return replace(well, features=well.features[named], cells=well.cells[named]), len(unknown)


def _sites(well: Well) -> set[str]:
    """Names of the sites that the index has of a well."""
    return {site.site for site in well.sites}


class _Sample:
    """Draws cells evenly from all wells, or one cell each of some wells where these are many."""

    def __init__(self, table: pd.DataFrame, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._columns = [*table.columns, SITE, CELL]
        self._each = max(1, SAMPLED_CELLS // max(1, len(table)))
        self._wells = set(range(len(table)))
        if len(table) > SAMPLED_CELLS:
            self._wells = set(self._rng.permutation(len(table))[:SAMPLED_CELLS].tolist())
        self._parts: list[tuple[pd.DataFrame, np.ndarray]] = []

    def add(self, position: int, metadata: dict[str, str], well: WellFeatures) -> None:
        """Draw from one well."""
        if position not in self._wells:
            return
        rows = np.sort(self._rng.permutation(len(well.features))[: self._each])
        rows = rows[np.isfinite(well.features[rows]).all(axis=1)]
        if not len(rows):
            return
        about = pd.DataFrame([metadata] * len(rows))
        about[SITE] = well.cells["site"].to_numpy(dtype=object)[rows]
        about[CELL] = well.cells["cell"].to_numpy()[rows]
        self._parts.append((about, well.features[rows]))

    def finish(self, names: list[str]) -> Profiles:
        """Return all that was drawn; where wells are many and most are empty, perhaps nothing."""
        if not self._parts:
            about = pd.DataFrame(columns=self._columns)
            return Profiles(about, np.empty((0, len(names)), np.float32), names)
        about = pd.concat([about for about, _ in self._parts], ignore_index=True)
        return Profiles(about, np.concatenate([found for _, found in self._parts]), names)


def with_enough_cells(wells: Profiles) -> Profiles:
    """Leave out the wells that are flagged for too few cells: they take part in no fit or score."""
    return wells.subset(~wells.values(FLAG).astype(bool))


def _require_own(origin: Origin, well: Well, path: Path) -> None:
    """Refuse a file that was copied from another well."""
    if (origin.plate, origin.well) != (well.plate, well.well):
        raise DataError(
            f"{path} holds plate {origin.plate} well {origin.well}; delete it and run `profile`"
        )


def _require_same(first: Origin, other: Origin, path: object) -> None:
    """Refuse to average features of different networks or crops."""
    if (other.digest, other.names) != (first.digest, first.names):
        raise DataError(
            f"{path} was made with weights {other.checkpoint} ({other.digest[:12]}) and layers "
            f"{', '.join(other.layers)}; plate {first.plate} well {first.well} with "
            f"{first.checkpoint} ({first.digest[:12]}) and {', '.join(first.layers)}: run "
            "`profile` again, it redoes what differs"
        )
    if _crops(other) != _crops(first):
        raise DataError(
            f"{path} was made of {_crops(other)}; plate {first.plate} well {first.well} of "
            f"{_crops(first)}: run `profile` again, it redoes what differs"
        )


def _require_configured(project: Project, origin: Origin) -> None:
    """Refuse features of other crops than the config asks for."""
    crops = project.config.crops
    asked = f"crops of {crops.size} pixels, rescaled by {crops.rescale}"
    if not _crops(origin).startswith(asked):
        raise DataError(
            f"the features of plate {origin.plate} well {origin.well} were made of "
            f"{_crops(origin)}; the config asks for {asked}: run `profile`, or change crops back"
        )


def _crops(origin: Origin) -> str:
    """Say what a network saw."""
    return (
        f"crops of {origin.crop_size} pixels, rescaled by {origin.rescale}, channels "
        f"{', '.join(origin.channels)}"
    )


FORMAT = "deepprofiler aggregate"
VERSION = 2
_WELLS, _COUNTS, _SAMPLE = "wells-unnormalized.parquet", "counts.csv", "cells.parquet"
#: Written last, so that it stands for all of them.
AGGREGATE = "aggregate.npz"


def write_aggregated(project: Project, gathered: Gathered) -> None:
    """Write averages, counts and the sample of cells as tables, and moments of controls."""
    project.profiles_path(AGGREGATE).unlink(missing_ok=True)
    gathered.wells.write(project.profiles_path(_WELLS))
    gathered.sample.write(project.profiles_path(_SAMPLE))
    with replacing(project.profiles_path(_COUNTS)) as temporary:
        order = gathered.counts.sort_values([PLATE, WELL], kind="stable")
        order.to_csv(temporary, index=False)
    groups: list[Any] = []
    arrays = {}
    for layer, moments in gathered.controls.items():
        for group, (n, mean, triangle) in moments.kept.items():
            arrays[f"{len(groups)}/mean"] = mean
            arrays[f"{len(groups)}/scatter"] = triangle
            groups.append([layer, group, n])
    about = {
        "format": FORMAT,
        "version": VERSION,
        "settings": _settings(project),
        "sites": _site_names_digest(project),
        "origin": gathered.origin.to_text(),
        "failed_sites": gathered.failed_sites,
        "not_finite": gathered.not_finite,
        "unknown_sites": gathered.unknown_sites,
        "groups": groups,
    }
    with replacing(project.profiles_path(AGGREGATE)) as temporary, temporary.open("wb") as file:
        files = _files(project)
        np.savez(file, allow_pickle=False, about=np.array(json.dumps(about)), files=files, **arrays)


def read_aggregated(project: Project) -> tuple[Gathered | None, str]:
    """Read what :func:`write_aggregated` wrote, if it is what would be written now.

    Returns
    -------
    Gathered or None
    str
        Where it is None, why: nothing there, other settings, another index, or newer features.
    """
    path = project.profiles_path(AGGREGATE)
    if not path.exists():
        return None, "wells are not aggregated yet"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            about = json.loads(str(stored["about"]))
            if (about["format"], about["version"]) != (FORMAT, VERSION):
                return None, "the averages of wells are in another format"
            if about["settings"] != _settings(project):
                return None, "wells were aggregated with other settings"
            origin = Origin.from_text(about["origin"])
            counts = _read_counts(project)
            if about["sites"] != _site_names_digest(project) or not _same_wells(project, counts):
                return None, "the index changed after wells were aggregated"
            files = _files(project)
            # Features may have been moved away: averages are all that is needed then.
            if (files != stored["files"])[files[:, 0] >= 0].any():
                return None, "the features changed after wells were aggregated"
            return Gathered(
                wells=Profiles.read(project.profiles_path(_WELLS)),
                counts=counts,
                controls=_moments(origin, about["groups"], stored),
                sample=Profiles.read(project.profiles_path(_SAMPLE)),
                origin=origin,
                failed_sites=about["failed_sites"],
                not_finite=about["not_finite"],
                unknown_sites=about["unknown_sites"],
            ), ""
    except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, DataError) as error:
        return None, f"the averages of wells cannot be read ({error})"


def _site_names_digest(project: Project) -> str:
    """Hash of the names of all sites of the index."""
    return values_digest([[site.plate, site.well, site.site] for site in project.index.sites])


def _files(project: Project) -> np.ndarray:
    """Size and time of each well file of the index, (wells, 2) int64; -1 where there is none."""
    found = []
    for well in project.index.wells():
        try:
            file = project.well_path(well.plate, well.well).stat()
            found.append((file.st_size, file.st_mtime_ns))
        except FileNotFoundError:
            found.append((-1, -1))
    return np.array(found, np.int64)


def _settings(project: Project) -> dict[str, Any]:
    """Give what decides the averages beside features and index."""
    config, roles = project.config, project.index.roles
    return {
        "aggregate": config.analyze.aggregate,
        "min_cells": config.analyze.min_cells,
        "seed": config.dataset.seed,
        "crops": config.crops.model_dump(include={"size", "rescale"}),
        "batch": roles["batch"],
        "control": [roles.get("control"), project.index.control],
    }


def _moments(origin: Origin, groups: list[Any], stored: Any) -> dict[str, CellMoments]:
    """Put the moments of control cells together again."""
    found = {
        layer: CellMoments(list(origin.names[first:end]))
        for layer, (first, end) in origin.layers.items()
    }
    for position, (layer, group, n) in enumerate(groups):
        key = tuple((column, value) for column, value in group)
        mean, triangle = (stored[f"{position}/{name}"] for name in ("mean", "scatter"))
        found[layer].kept[key] = n, mean, triangle
    return found


def _read_counts(project: Project) -> pd.DataFrame:
    path = project.profiles_path(_COUNTS)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table[COUNT] = table[COUNT].astype(int)
    table[FLAG] = table[FLAG] == "True"
    return table


def _same_wells(project: Project, counts: pd.DataFrame) -> bool:
    """Whether the index knows the same wells, and the same of each."""
    now = project.index.well_table().sort_values([PLATE, WELL], kind="stable")
    then = counts.drop(columns=[COUNT, FLAG])
    return list(now) == list(then) and now.to_numpy().tolist() == then.to_numpy().tolist()
