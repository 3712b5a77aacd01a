"""`analyze`: which profile a well has, which steps follow, and what is kept of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from base_project import BaseProject
from made_features import write_cells

from deepprofiler.commands.analyze import analyze
from deepprofiler.commands.analyze.aggregate import average_wells
from deepprofiler.errors import DataError, PluginError
from deepprofiler.profiling import Chain, Profiles
from deepprofiler.project import Project

SETTINGS = {"min_cells": 3, "baselines": False, "report": False}
NAMES = ["conv2a_0", "conv2a_1", "conv2a_2"]
SITES = np.repeat(["1", "2"], [7, 4])


def profiled(root: Path, **settings: object) -> dict[tuple[str, str], np.ndarray]:
    """The base project with 8 to 11 made-up cells in each well, but 2 in P1 A02; returns them."""
    base = BaseProject(root)
    base.config["analyze"] = SETTINGS | settings
    base.config["prepare"] = {"illumination": False}
    base.write()
    rng = np.random.default_rng(0)
    features = {}
    for row in base.rows[::2]:
        plate, well = row["Metadata_Plate"], row["Metadata_Well"]
        n = 2 if (plate, well) == ("P1", "A02") else int(rng.integers(8, 12))
        features[plate, well] = rng.lognormal(size=(n, 3)).astype(np.float32)
        path, layers = base.well_file(plate, well), {"conv2a": [0, 3]}
        write_cells(path, features[plate, well], NAMES, layers, sites=SITES[:n])
    return features


@pytest.mark.parametrize("statistic", ["mean", "median", "site-medians"])
def test_a_wells_profile_is_what_the_config_says(tmp_path: Path, statistic: str) -> None:
    features = profiled(tmp_path, aggregate=statistic)
    wells = average_wells(Project(tmp_path, cores=1)).wells
    for row, key in enumerate(
        wells.metadata[["Metadata_Plate", "Metadata_Well"]].itertuples(index=False, name=None)
    ):
        cells = features[key]
        sites = SITES[: len(cells)]
        expected = {
            "mean": cells.mean(axis=0),
            "median": np.median(cells, axis=0),
            "site-medians": np.mean(
                [np.median(cells[sites == site], axis=0) for site in np.unique(sites)], axis=0
            ),
        }
        np.testing.assert_allclose(wells.features[row], expected[statistic], rtol=1e-6)
    assert wells.values("Metadata_Cell_Count").sum() == sum(map(len, features.values()))


@pytest.mark.parametrize("weight", ["cells", "wells"])
def test_treatments_of_median_wells_are_medians(tmp_path: Path, weight: str) -> None:
    profiled(tmp_path, aggregate="median", normalize=[], weight=weight)
    project = Project(tmp_path, cores=1)
    analyze(project)
    wells = Profiles.read(project.profiles_path("wells-unnormalized.parquet"))
    wells = wells.subset(wells.values("Metadata_Cell_Count") >= SETTINGS["min_cells"])
    treatments = Profiles.read(project.profiles_path("treatments.parquet"))
    for row, name in enumerate(treatments.values("Metadata_Treatment")):
        own = wells.subset(wells.values("Metadata_Treatment") == name)
        times = own.values("Metadata_Cell_Count") if weight == "cells" else 1
        expected = np.median(np.repeat(own.features, times, axis=0), axis=0)
        np.testing.assert_allclose(treatments.features[row], expected, rtol=1e-12)


def test_what_treatments_weigh_needs_no_new_fit(tmp_path: Path) -> None:
    profiled(tmp_path, normalize=[])
    project = Project(tmp_path, cores=1)
    analyze(project)
    by_cells = Profiles.read(project.profiles_path("treatments.parquet")).features
    base = BaseProject(tmp_path)
    base.config["analyze"] = SETTINGS | {"normalize": [], "weight": "wells"}
    base.config["prepare"] = {"illumination": False}
    base.write()
    analyze(Project(tmp_path, cores=1), steps=["evaluate"])
    assert (by_cells != Profiles.read(project.profiles_path("treatments.parquet")).features).any()


def test_a_batch_without_controls_leaves_no_tvn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By default; who asks for TVN is refused."""
    for settings in ({}, {"normalize": ["standardize", "tvn"]}):
        base = BaseProject(tmp_path)
        profiled(tmp_path, **settings)
        for row in base.rows:
            if row["Metadata_Plate"] == "P2":
                row["Metadata_Control"] = ""
        base.write_index()
        project = Project(tmp_path, cores=1)
        if settings:
            with pytest.raises(DataError, match="batch 2 has 0 control cells and needs at least 2"):
                analyze(project)
            continue
        analyze(project)
        assert "TVN needs negative controls" in caplog.text
        assert "without them: batch `2`" in caplog.text
        steps = Chain.load(project.profiles_path("normalization.npz")).steps
        assert [step.name for step in steps] == ["standardize"]


def test_the_fitted_steps_are_kept_beside_the_profiles(tmp_path: Path) -> None:
    steps = ["cell-count", {"name": "robust", "params": {"per": "screen"}}, "tvn"]
    profiled(tmp_path, normalize=steps)
    project = Project(tmp_path, cores=1)
    analyze(project)
    raw = Profiles.read(project.profiles_path("wells-unnormalized.parquet"))
    wells = Profiles.read(project.profiles_path("wells.parquet"))
    chain = Chain.load(project.profiles_path("normalization.npz"))
    assert len(wells) == 12
    np.testing.assert_allclose(chain.transform(raw).features, wells.features, rtol=1e-12)
    # The well with two cells took no part.
    assert [(step.name, step.fitted_.n) for step in chain.steps] == [
        ("cell-count", 4),
        ("robust", {"": 11}),
        ("tvn", 4),
    ]
    new = raw.with_column("Metadata_Plate", "P9")
    np.testing.assert_allclose(chain.transform(new).features, wells.features, rtol=1e-12)


def test_a_small_well_has_no_rank_among_the_others(tmp_path: Path) -> None:
    profiled(tmp_path, normalize=["rank-normal"])
    project = Project(tmp_path, cores=1)
    text = "\n".join(analyze(project).lines())
    assert "1 well not normalized" in text
    assert "a normalizer applies only to the wells of its fit" in text
    assert len(Profiles.read(project.profiles_path("wells.parquet"))) == 11
    assert len(Profiles.read(project.profiles_path("wells-unnormalized.parquet"))) == 12


def test_every_step_can_be_named(tmp_path: Path) -> None:
    pytest.importorskip("harmonypy", reason="needs the extra harmony")
    profiled(tmp_path, normalize=["well-position", "standardize", "harmony", "sphering"])
    project = Project(tmp_path, cores=1)
    analyze(project)
    assert [step.name for step in Chain.load(project.profiles_path("normalization.npz")).steps] == [
        "well-position",
        "standardize",
        "harmony",
        "sphering",
    ]
    assert np.isfinite(Profiles.read(project.profiles_path("wells.parquet")).features).all()


def test_a_step_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    profiled(tmp_path, normalize=["rank-int"])
    with pytest.raises(PluginError, match="no normalizer `rank-int`; nearest is `rank-normal"):
        analyze(Project(tmp_path, cores=1))


def test_the_report_maps_cells_that_a_wells_count_corrects(tmp_path: Path) -> None:
    profiled(tmp_path, normalize=["standardize", "cell-count"], report=True)
    project = Project(tmp_path, cores=1)
    analyze(project)
    assert project.report_path.exists()


def test_rounding_of_the_networks_numbers_is_left_out(tmp_path: Path) -> None:
    """conv2a_1 is 1 in single precision, but for rounding; wells and files hold doubles of it."""
    features = profiled(tmp_path, normalize=["standardize"])
    base, rng = BaseProject(tmp_path), np.random.default_rng(1)
    for (plate, well), cells in features.items():
        cells[:, 1] = 1 + rng.integers(-2, 3, len(cells)) * np.finfo("float32").eps
        path, layers = base.well_file(plate, well), {"conv2a": [0, 3]}
        write_cells(path, cells, NAMES, layers, sites=SITES[: len(cells)])
    project = Project(tmp_path, cores=1)
    for steps in (["aggregate", "normalize"], ["normalize"]):
        analyze(project, steps=steps)
        left_out = project.profiles_path("features-left-out.csv").read_text().splitlines()
        assert left_out[1].startswith("conv2a_1,no spread (all 1) in the screen")
        wells = Profiles.read(project.profiles_path("wells.parquet"))
        assert wells.names == ["conv2a_0", "conv2a_2"]
