"""The page of an experiment: its parts, its figures, and its tables."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_features import MadeFeatures

from deepprofiler.commands.analyze import analyze
from deepprofiler.errors import ConfigError
from deepprofiler.profiling import Profiles


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeFeatures:
    root = tmp_path_factory.mktemp("report")
    settings = {"report": True, "evaluate": ["nsc", "replicate-accuracy", "batch-silhouette"]}
    made = MadeFeatures(root, {"conv2a": 4, "conv4a": 6}, plates=2, settings=settings).write()
    analyze(made.project)
    return made


@pytest.fixture(scope="module")
def page(made: MadeFeatures) -> str:
    return made.project.report_path.read_text(encoding="utf-8")


def data(page: str, name: str) -> dict:
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', page)[1])


def test_parts_of_the_page(page: str) -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Comparison with baselines",
        "Measures",
        "Normalization",
        "Layers",
        "Map of the screen",
        "Similarity of treatments",
        "Nearest neighbours",
        "Plates",
        "The screen",
        "Cells by treatment",
        "What was left out",
        "Provenance",
    ]
    for value in ("resnet18", "seed", "digest of the weights", "standardize + tvn", "index.csv"):
        assert value in page


def test_each_figure_is_also_png_svg_and_csv(made: MadeFeatures) -> None:
    files = {path.name for path in made.project.report_folder.iterdir()}
    names = {name.rsplit(".", 1)[0] for name in files} - {"index"}
    expected = {"cell-counts", "layers", "map-wells", "map-treatments", "map-cells", "similarity"}
    assert expected <= names
    assert files == {f"{name}.{end}" for name in names for end in ("png", "svg", "csv")} | {
        "index.html"
    }
    drawn = pd.read_csv(made.project.report_folder / "layers.csv")
    written = pd.read_csv(made.project.profiles_path("layers.csv"))
    pd.testing.assert_frame_equal(drawn, written)


def test_neighbours_are_those_of_the_table(made: MadeFeatures, page: str) -> None:
    table = pd.read_csv(made.project.profiles_path("neighbours.csv"))
    nearest = table[table["rank"] == 1]
    rows = re.findall(
        r'<tr><th scope="row"><span class="name" title="(.*?)">.*?<li class="(.*?)">'
        r'<span class="name" title="(.*?)">',
        page,
        re.S,
    )
    assert [(query, other) for query, _, other in rows] == list(
        zip(nearest["treatment"], nearest["neighbour"], strict=True)
    )
    same = nearest["group"] == nearest["neighbour_group"]
    assert [mark == "same" for _, mark, _ in rows] == same.tolist()


def test_similarities_are_cosines_of_the_treatments(made: MadeFeatures, page: str) -> None:
    similarities = data(page, "similarity-data")
    profiles = Profiles.read(made.project.profiles_path("treatments.parquet"))
    names = profiles.values("Metadata_Treatment").tolist()
    rows = [names.index(name) for name in similarities["names"]]
    values = profiles.features[rows]
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    matrix = np.reshape(similarities["matrix"], (12, 12)) / 100
    assert matrix == pytest.approx(unit @ unit.T, abs=0.0051)
    assert similarities["groups"] == profiles.values("Metadata_Mechanism")[rows].tolist()


def test_too_many_treatments_for_the_heat_map(
    made: MadeFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepprofiler.report.explore.LARGEST_MATRIX", 11)
    analyze(made.project, steps=["report"])
    page = made.project.report_path.read_text()
    assert 'id="similarity-canvas"' not in page
    assert "No heat map is drawn for more than 11 treatments; there are 12." in page


def test_too_many_wells_for_a_map(made: MadeFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepprofiler.report.explore._MOST_POINTS", 20)
    analyze(made.project, steps=["report"])
    page = made.project.report_path.read_text()
    maps = {points["name"]: points for points in data(page, "map-data")}
    assert "20 of 32 wells, sampled at random" in maps["wells"]["caption"]
    table = pd.read_csv(made.project.report_path.parent / "map-wells.csv")
    assert len(table) == 20
    assert not table.duplicated(["Metadata_Plate", "Metadata_Well"]).any()
    assert ": 13 treatments." in maps["treatments"]["caption"]


def test_wells_without_quality_say_so(page: str) -> None:
    wells = data(page, "well-data")
    assert [quantity["name"] for quantity in wells["quantities"]] == ["cells"]
    assert "prepare has not measured" in wells["caption"]


def test_umap_that_is_not_installed(tmp_path: Path) -> None:
    if find_spec("umap"):
        pytest.skip("it is installed")
    settings = {"report": True, "evaluate": ["nsc"], "embedding": "umap"}
    made = MadeFeatures(tmp_path, {"conv4a": 6}, settings=settings).write()
    with pytest.raises(ConfigError, match=r'pip install -e ".*\[umap\]"'):
        analyze(made.project)
