"""Small screens with known answers, from features of cells to scores, by the command."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
import yaml
from command import Answer, command
from made_features import MadeFeatures, write_cells

from deepprofiler.columns import COUNT, MEMBERS
from deepprofiler.evaluation import replicate_accuracy
from deepprofiler.profiling import Profiles
from deepprofiler.project import Project

PLATE, WELL, TREATMENT = "Metadata_Plate", "Metadata_Well", "Metadata_Treatment"
CELLS = 10


def screen(
    root: Path,
    wells: pd.DataFrame,
    features: np.ndarray,
    columns: dict | None = None,
    **settings: object,
) -> Project:
    """A project whose wells have ten equal cells each; features are (wells, D)."""
    index = root / "inputs" / "metadata" / "index.csv"
    index.parent.mkdir(parents=True)
    wells.assign(Metadata_Site="1", DNA="none.tif").to_csv(index, index=False)
    analyze_settings = {"min_cells": 3, "baselines": False, "report": False, "normalize": []}
    config = {
        "dataset": {"channels": ["DNA"], "columns": columns or {}},
        "crops": {"size": 64},
        "analyze": analyze_settings | settings,
    }
    path = root / "inputs" / "config" / "config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(config))
    project = Project(root, cores=1)
    size = features.shape[1]
    names = [f"f{i + 1}" for i in range(size)]
    for (plate, well), profile in zip(wells[[PLATE, WELL]].to_numpy(), features, strict=True):
        cells = np.tile(profile, (CELLS, 1))
        path, sites = project.well_path(plate, well), np.repeat("1", CELLS)
        write_cells(path, cells, names, {"conv4a": [0, size]}, sites=sites)
    return project


def analyze(project: Project, *, code: int = 0) -> Answer:
    answer = command(project.root, "--cores", "1", "analyze")
    assert answer.code == code, answer.text
    return answer


def table(project: Project, name: str) -> pd.DataFrame:
    return pd.read_csv(project.profiles_path(name), keep_default_na=False, na_values=[""])


def layout(**columns: list[str]) -> pd.DataFrame:
    """Wells A01, A02, … of plate P1, with columns of metadata."""
    n = len(next(iter(columns.values())))
    wells = {PLATE: ["P1"] * n, WELL: [f"A{i + 1:02}" for i in range(n)]}
    return pd.DataFrame(wells | {f"Metadata_{name}": values for name, values in columns.items()})


def controls(n: int, treated: int) -> pd.DataFrame:
    """Wells of negative controls, then those of two treatments in turn."""
    names = ["DMSO"] * n + ["T1", "T2"] * (treated // 2)
    return layout(Treatment=names, Control=["negative"] * n + [""] * treated)


def test_profiles_are_tables_that_others_read(tmp_path: Path) -> None:
    """No index, no place among features; filtered rows score like rows that are written again."""
    made = MadeFeatures(tmp_path, {"conv4a": 7}, plates=2).write()
    analyze(made.project)
    for name, size in (("wells", 7), ("wells-unnormalized", 7), ("treatments", 7), ("cells", 7)):
        path = made.project.profiles_path(f"{name}.parquet")
        columns = parquet.read_table(path).column_names
        assert len([column for column in columns if not column.startswith("Metadata_")]) == size
        assert pd.read_parquet(path).index.equals(pd.RangeIndex(len(pd.read_parquet(path))))
    frame = pd.read_parquet(made.project.profiles_path("wells.parquet")).iloc[::2]
    features = [column for column in frame if not column.startswith("Metadata_")]
    assert features == [f"tvn_{i}" for i in range(7)]
    frame.to_parquet(tmp_path / "half.parquet")
    anew = frame.reset_index(drop=True)
    anew.to_parquet(tmp_path / "anew.parquet", index=False)
    found = [
        replicate_accuracy(Profiles.from_frame(one), treatment=TREATMENT, controls=None).value
        for one in (frame, anew)
    ]
    assert found[0] == found[1]
    again = Profiles.read(tmp_path / "half.parquet")
    assert again.names == features
    average_precision = pytest.importorskip("copairs.map").average_precision
    pairs = {
        "pos_sameby": [TREATMENT],
        "pos_diffby": [],
        "neg_sameby": [],
        "neg_diffby": [TREATMENT],
    }
    tables = [
        average_precision(one.filter(like="Metadata_"), one[features].to_numpy(), **pairs)
        for one in (anew, pd.read_parquet(tmp_path / "anew.parquet"))
    ]
    pd.testing.assert_frame_equal(*tables)


def test_a_deviation_of_zero_among_controls(tmp_path: Path) -> None:
    """Its feature is left out by name, for no value can be divided by it."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4))
    features[:, 0] = np.repeat([0, 0.01, 1], [20, 4, 6])
    features[:, 3] = 2
    project = screen(tmp_path, controls(24, 6), features, normalize=["robust"])
    text = analyze(project).text
    left_out = table(project, "features-left-out.csv").set_index("feature")["reason"].to_dict()
    assert left_out == {
        "f1": "no median deviation (20 of 24 are 0) in plate P1",
        "f4": "no median deviation (all 2) in plate P1",
    }
    wells = Profiles.read(project.profiles_path("wells.parquet"))
    assert wells.names == ["f2", "f3"]
    assert np.abs(wells.features).max() < 20
    assert re.search(r"robust: largest absolute value .*; Plate P1, Well A", text)


def test_whitened_controls(tmp_path: Path) -> None:
    """Their covariance is the identity, also where features are far from 0."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(206, 8)) @ rng.normal(size=(8, 8)) + 5
    sphering = {"name": "sphering", "params": {"method": "PCA", "shrinkage": 0, "fit_on": "wells"}}
    found = []
    for name, shift in (("a", 0), ("b", 1000)):
        wells = controls(200, 6)
        project = screen(tmp_path / name, wells, features + shift, normalize=[sphering])
        analyze(project)
        given = Profiles.read(project.profiles_path("wells.parquet")).features
        covariance = np.cov(given[:200], rowvar=False, bias=True)
        # The features in well files are in single precision.
        np.testing.assert_allclose(covariance, np.eye(8), atol=1e-6)
        found.append(given)
    # 1000 leaves four digits after the point.
    np.testing.assert_allclose(np.abs(found[0]), np.abs(found[1]), atol=0.02)


def test_fewer_controls_than_features(tmp_path: Path) -> None:
    """Refused without shrinkage; with it, finite profiles; one control well is too few."""
    features = np.random.default_rng(0).normal(size=(16, 50))
    plain = {"name": "tvn", "params": {"shrinkage": 0, "fit_on": "wells"}}
    project = screen(tmp_path / "plain", controls(10, 6), features, normalize=[plain])
    text = analyze(project, code=2).text
    assert "rank 9 of 50 features from 10 control wells; choose shrinkage" in text
    shrunk = {"name": "tvn", "params": {"fit_on": "wells"}}
    project = screen(tmp_path / "shrunk", controls(10, 6), features, normalize=[shrunk])
    assert "rank 9" in analyze(project).text
    wells = Profiles.read(project.profiles_path("wells.parquet"))
    assert np.isfinite(wells.features).all()
    for n in (0, 1):
        rows = [*range(n), *range(10, 16)]
        project = screen(tmp_path / str(n), controls(n, 6), features[rows], normalize=[shrunk])
        text = analyze(project, code=2).text
        assert f"tvn: the screen has {n} control wells and needs at least 2; add" in text


def test_blank_doses_are_a_group(tmp_path: Path) -> None:
    """A treatment with a blank dose keeps its wells, and counts add up."""
    names = np.repeat(["DMSO", "T1", "T2"], 4).tolist()
    wells = layout(
        Compound=names,
        Dose=[""] * 4 + ["1"] * 8,
        Control=["negative"] * 4 + [""] * 8,
    )
    project = screen(tmp_path, wells, np.random.default_rng(0).normal(size=(12, 3)))
    analyze(project)
    treatments = pd.read_parquet(project.profiles_path("treatments.parquet"))
    sizes = treatments.groupby("Metadata_Compound")[MEMBERS].sum().to_dict()
    assert len(treatments) == 3
    assert sizes == {"DMSO": 4, "T1": 4, "T2": 4}
    assert treatments[COUNT].sum() == 12 * CELLS


def test_what_is_not_finite_never_scores(tmp_path: Path) -> None:
    """A cell with a NaN is left out and counted; an all-zero profile is refused by name."""
    rng = np.random.default_rng(0)
    names = ["T1", "T2", "T3"] * 4
    features = rng.normal(size=(12, 5)) + 3 * rng.normal(size=(3, 5))[np.arange(12) % 3]
    broken = features.copy()
    broken[0, 2] = np.nan
    project = screen(tmp_path / "nan", layout(Treatment=names), broken)
    text = analyze(project, code=1).text
    assert f"left out {CELLS} cells with features that are not finite" in text
    assert "1 well without cells: only in counts.csv" in text
    rest = screen(tmp_path / "rest", layout(Treatment=names).iloc[1:], features[1:])
    analyze(rest)
    pd.testing.assert_frame_equal(table(project, "scores.csv"), table(rest, "scores.csv"))
    broken[0] = 0
    project = screen(tmp_path / "zero", layout(Treatment=names), broken)
    text = analyze(project).text
    assert "Plate P1, Well A01" in text
    assert "replicate accuracy" not in set(table(project, "scores.csv")["metric"])
    assert "mAP of replicates" not in set(table(project, "scores.csv")["metric"])


def test_no_allowed_partner(tmp_path: Path) -> None:
    """T2 has no replicate on another plate; a misspelt column; no well is left."""
    wells = layout(Treatment=["T1", "T1", "T2", "T2", "T3", "T3"])
    wells[PLATE] = ["P1", "P2", "P1", "P1", "P1", "P2"]
    angles = np.deg2rad([0, 1, 40, 41, 80, 81])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rule = [{"name": "replicate-accuracy", "params": {"exclude": ["plate"]}}]
    project = screen(tmp_path / "a", wells, features, evaluate=rule)
    text = analyze(project).text
    assert "2 of 6 profiles (1 of 3 treatments) have no allowed neighbour" in text
    assert "left out: T2" in text
    found = table(project, "scores.csv").set_index("metric").loc["replicate accuracy"]
    assert (found["n"], found["left_out"]) == (4, 2)
    misspelt = {"compound": "Metadata_Tretment"}
    project = screen(tmp_path / "b", wells, features, columns=misspelt, evaluate=rule)
    assert "Metadata_Treatment" in analyze(project, code=2).text
    project = screen(tmp_path / "c", wells.iloc[2:4], features[2:4], evaluate=rule)
    assert "replicate accuracy is undefined: of 2 profiles" in analyze(project).text
    assert len(table(project, "scores.csv")) == 0


def test_a_constant_output(tmp_path: Path) -> None:
    """Twelve identical profiles score as chance does, in any order, and a note says why."""
    found = []
    for name, order in (("a", slice(None)), ("b", slice(None, None, -1))):
        wells = layout(Treatment=(["T1", "T2", "T3"] * 4)[order])
        project = screen(tmp_path / name, wells, np.ones((12, 4)))
        assert "all similarities are equal" in analyze(project).text
        scores = table(project, "scores.csv")
        found.append(scores.drop(columns=["low_over_compounds", "high_over_compounds"]))
    pd.testing.assert_frame_equal(*found)
    accuracy = found[0][found[0]["metric"] == "replicate accuracy"].iloc[0]
    # Each has 3 replicates among 11 others.
    assert accuracy["value"] == pytest.approx(3 / 11)
    assert accuracy["chance"] == pytest.approx(3 / 11)


def test_negatives_are_named(tmp_path: Path) -> None:
    """Similarities: another compound 0.95, the replicate 0.90, four controls 0.10."""
    wells = layout(Treatment=["T1", "T1", "T2"] + ["DMSO"] * 4, Control=[""] * 3 + ["negative"] * 4)
    similarity = np.array([1, 0.90, 0.95, 0.10, 0.10, 0.10, 0.10])
    # T1's first well is the first axis; every other well has an axis of its own beside it.
    features = np.zeros((7, 7))
    features[:, 0] = similarity
    features[range(1, 7), range(1, 7)] = np.sqrt(1 - similarity[1:] ** 2)
    found = {}
    for negatives in ("controls", "others"):
        params = {"negatives": negatives, "permutations": 100}
        project = screen(
            tmp_path / negatives,
            wells,
            features,
            evaluate=[{"name": "replicate-map", "params": params}],
        )
        analyze(project)
        scores = table(project, "scores.csv").set_index("metric")
        found[negatives] = scores.loc["mAP of replicates"]
    assert found["controls"]["value"] == pytest.approx(1.0)
    # The second well of T1 has its replicate first: (0.5 + 1) / 2.
    assert found["others"]["value"] == pytest.approx(0.75)
    assert "negatives: negative controls; null:" in found["controls"]["null"]
    assert "negatives: profiles of other labels; null:" in found["others"]["null"]
