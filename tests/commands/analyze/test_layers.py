"""Several layers in one pass, and how well each matches: the paper's Figure 7."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from base_project import BaseProject
from command import command
from made_features import MadeFeatures
from scipy.stats import binomtest

from deepprofiler.commands.analyze import analyze
from deepprofiler.errors import DataError
from deepprofiler.profiling import Profiles
from deepprofiler.project import Project
from deepprofiler.project.well_file import read_well

LAYERS = {"conv2a": 4, "conv4a": 6, "pool5": 5}
TVN, STANDARDIZED, NONE = "standardize + tvn", "standardize", "none"
ACCURACIES = ["nsc", "nscb", "replicate-accuracy", "k-nn"]


def made(root: Path, **settings: object) -> MadeFeatures:
    strength = {"conv2a": 0.2, "conv4a": 1.0, "pool5": 0.5}
    return MadeFeatures(root, LAYERS, strength, settings=settings).write()


def table(project: Project, name: str = "layers.csv") -> pd.DataFrame:
    return pd.read_csv(project.profiles_path(name), keep_default_na=False, na_values=[""])


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory: pytest.TempPathFactory) -> MadeFeatures:
    found = made(tmp_path_factory.mktemp("layers"))
    analyze(found.project)
    return found


def test_every_accuracy_of_every_layer_with_and_without_tvn(analyzed: MadeFeatures) -> None:
    layers = table(analyzed.project)
    assert list(layers) == ["layer", "normalization", "metric", "value", "n", "low", "high"]
    metrics = ["NSC", "NSCB", "replicate accuracy", "5-NN"]
    expected = [
        (layer, normalization, metric)
        for layer in LAYERS
        for normalization in (TVN, STANDARDIZED, NONE)
        for metric in metrics
    ]
    found = list(layers[["layer", "normalization", "metric"]].itertuples(index=False, name=None))
    assert sorted(found) == sorted(expected)
    assert list(dict.fromkeys(layers["layer"])) == list(LAYERS)
    for row in layers[layers["metric"] == "NSC"].itertuples():
        right = round(row.value * row.n)
        interval = binomtest(right, row.n).proportion_ci(method="exact")
        assert (row.low, row.high) == pytest.approx((interval.low, interval.high), abs=1e-6)


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_among_others_scores_as_alone(
    analyzed: MadeFeatures, tmp_path: Path, layer: str
) -> None:
    alone = made(tmp_path, evaluate=ACCURACIES)
    alone.write_features([layer])
    analyze(alone.project)
    assert not alone.project.profiles_path("layers.csv").exists()
    scores = table(alone.project, "scores.csv").set_index(["method", "metric"])["value"]
    layers = table(analyzed.project)
    mine = layers[layers["layer"] == layer].set_index(["normalization", "metric"])["value"]
    for metric in ("NSC", "NSCB", "replicate accuracy", "5-NN"):
        assert mine[TVN, metric] == scores["the learned profile", metric]
        assert mine[NONE, metric] == scores["without normalization", metric]
    assert mine[STANDARDIZED].notna().all()


def test_profiles_are_of_one_layer(analyzed: MadeFeatures, tmp_path: Path) -> None:
    """That of the paper, unless another is named; before normalization they have all columns."""
    project = analyzed.project
    raw = Profiles.read(project.profiles_path("wells-unnormalized.parquet"))
    assert len(raw.names) == sum(LAYERS.values())
    assert len(Profiles.read(project.profiles_path("wells.parquet")).names) == LAYERS["conv4a"]
    layers = table(project).set_index(["layer", "normalization", "metric"])["value"]
    scores = table(project, "scores.csv").set_index(["method", "metric"])["value"]
    assert scores["the learned profile", "NSC"] == layers["conv4a", TVN, "NSC"]

    other = made(tmp_path, layer="pool5", evaluate=ACCURACIES)
    analyze(other.project)
    assert len(Profiles.read(other.project.profiles_path("wells.parquet")).names) == LAYERS["pool5"]
    scores = table(other.project, "scores.csv").set_index(["method", "metric"])["value"]
    assert scores["the learned profile", "NSC"] == layers["pool5", TVN, "NSC"]
    pd.testing.assert_frame_equal(table(other.project), table(project))

    other.write_features(["pool5", "conv2a"])
    other.write_config(layer=None, evaluate=["nsc"])
    analyze(other.project)
    assert len(Profiles.read(other.project.profiles_path("wells.parquet")).names) == LAYERS["pool5"]
    other.write_config(layer="conv9")
    with pytest.raises(DataError, match="no features of the layer conv9, only of pool5, conv2a"):
        analyze(other.project)


def test_the_tvn_of_the_config_is_left_out_by_name(tmp_path: Path) -> None:
    steps = ["standardize", "tvn-efaar"]
    found = made(tmp_path, normalize=steps, evaluate=["nsc", "replicate-map"])
    analyze(found.project)
    layers = table(found.project)
    assert set(layers["normalization"]) == {"standardize + tvn-efaar", STANDARDIZED, NONE}
    # Average precision is no accuracy.
    assert set(layers["metric"]) == {"NSC"}


def test_a_layer_that_cannot_be_normalized_is_named(tmp_path: Path) -> None:
    plain = {"name": "tvn", "params": {"shrinkage": 0, "fit_on": "wells", "batch": None}}
    settings = {"evaluate": ["nsc"], "normalize": ["standardize", plain]}
    # 16 control wells are enough for 6 features, and not for 80.
    found = MadeFeatures(tmp_path, {"conv4a": 6, "wide": 80}, settings=settings).write()
    text = "\n".join(analyze(found.project).lines())
    assert "layers.csv lacks wide with standardize + tvn" in text
    layers = table(found.project)
    assert set(layers.loc[layers["layer"] == "wide", "normalization"]) == {STANDARDIZED, NONE}


def test_profile_and_analyze_make_all_layers(tmp_path: Path) -> None:
    base = BaseProject(tmp_path)
    base.config["crops"] = {"size": 32}
    base.config["prepare"] = {"illumination": False}
    base.config["profile"] = {
        "layers": ["conv2a", "conv3a", "conv4a", "pool5"],
        "checkpoint": "random",
        "batch_size": 60,
    }
    base.config["analyze"] = {"min_cells": 1, "report": False, "baselines": False}
    answer = command(base.write().root, "--cores", "1", "analyze")
    assert answer.code == 0, answer.text
    well = read_well(base.well_file())
    ends = {"conv2a": [0, 64], "conv3a": [64, 192], "conv4a": [192, 448], "pool5": [448, 960]}
    assert well.provenance.layers == ends
    assert well.features.shape == (10, 960)
    np.testing.assert_array_equal(np.isfinite(well.features), True)
    layers = table(Project(tmp_path))
    assert set(layers["layer"]) == set(ends)
    assert set(layers["metric"]) == {"replicate accuracy"}
