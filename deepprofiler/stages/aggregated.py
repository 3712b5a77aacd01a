"""What ``analyze --steps aggregate`` leaves for the steps after it, and whether it still holds."""

from __future__ import annotations

import json
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from deepprofiler.errors import DataError
from deepprofiler.features import Origin
from deepprofiler.files import replacing, values_digest
from deepprofiler.metadata import COUNT, FLAG, PLATE, WELL
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.stages.wells import Gathered

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
        "sites": _sites(project),
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
            if about["sites"] != _sites(project) or not _same_wells(project, counts):
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


def _sites(project: Project) -> str:
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
