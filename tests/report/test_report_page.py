"""The report of an experiment: what stands in it, its figures, and what the plates look like."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from base_project import CHANNELS, BaseProject
from made_features import MadeFeatures
from scipy.ndimage import gaussian_filter

from deepprofiler.commands.analyze import analyze
from deepprofiler.commands.analyze.aggregate import gather
from deepprofiler.commands.analyze.evaluate import PLAIN, corrections
from deepprofiler.commands.analyze.normalize import normalize
from deepprofiler.commands.prepare import prepare
from deepprofiler.errors import ConfigError
from deepprofiler.evaluation.scores import Scores, score
from deepprofiler.evaluation.screen import Screen
from deepprofiler.profiling import Profiles
from deepprofiler.project import Project
from deepprofiler.project.outcome import Outcome
from deepprofiler.project.site_quality import well_quality
from deepprofiler.report.report_tables import lower_is_better, measures

TVN, STANDARDIZED = "standardize + tvn", "standardize"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeFeatures:
    root = tmp_path_factory.mktemp("report")
    settings = {"report": True, "evaluate": ["nsc", "replicate-accuracy", "batch-silhouette"]}
    found = MadeFeatures(root, {"conv2a": 4, "conv4a": 6}, plates=2, settings=settings).write()
    analyze(found.project)
    return found


@pytest.fixture(scope="module")
def page(made: MadeFeatures) -> str:
    return made.project.report_path.read_text(encoding="utf-8")


def data(page: str, name: str) -> dict:
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', page)[1])


def test_parts_of_the_page(page: str) -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Against baselines",
        "Matching",
        "Corrections",
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
    for known in ("resnet18", "seed", "digest of the weights", "standardize + tvn", "index.csv"):
        assert known in page


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
    found = data(page, "similarities")
    profiles = Profiles.read(made.project.profiles_path("treatments.parquet"))
    names = profiles.values("Metadata_Treatment").tolist()
    rows = [names.index(name) for name in found["names"]]
    values = profiles.features[rows]
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    matrix = np.reshape(found["matrix"], (12, 12)) / 100
    assert matrix == pytest.approx(unit @ unit.T, abs=0.0051)
    assert found["groups"] == profiles.values("Metadata_Mechanism")[rows].tolist()


def test_too_many_treatments_for_the_heat_map(
    made: MadeFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepprofiler.report.explore._LARGEST_MATRIX", 11)
    analyze(made.project, steps=["report"])
    page = made.project.report_path.read_text()
    assert "similarity-canvas" not in page[: page.index("<script")]
    assert "There is no heat map of similarities: 12 treatments are more than 11." in page


def test_too_many_wells_for_a_map(made: MadeFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepprofiler.report.explore._MOST_POINTS", 20)
    analyze(made.project, steps=["report"])
    views = {view["name"]: view for view in data(made.project.report_path.read_text(), "views")}
    assert "of 20 wells of 32, drawn at random" in views["wells"]["about"]
    table = pd.read_csv(made.project.report_path.parent / "map-wells.csv")
    assert len(table) == 20
    assert not table.duplicated(["Metadata_Plate", "Metadata_Well"]).any()
    assert "of 13 treatments." in views["treatments"]["about"]


def test_wells_without_quality_say_so(page: str) -> None:
    found = data(page, "wells")
    assert [quantity["name"] for quantity in found["quantities"]] == ["cells"]
    assert "prepare measures them" in found["about"]


def test_corrections_beside_the_chosen_one(tmp_path: Path) -> None:
    settings = {"baselines": True, "evaluate": ["nsc", "batch-silhouette"]}
    project = MadeFeatures(tmp_path, {"conv4a": 6}, plates=3, settings=settings).write().project
    gathered = gather(project).of_layer("conv4a")
    done = normalize(project, gathered)
    chosen = score(project, done.wells, name="the learned profile", about="")
    found = corrections(project, gathered, done, chosen, Outcome("analyze"))
    expected = [PLAIN, STANDARDIZED, TVN]
    expected += ["standardize + harmony"] if find_spec("harmonypy") else []
    assert list(found) == expected
    assert found[TVN] is chosen
    # Scored again with the config's steps in place of the default, each gives the same.
    for steps, name in (([], PLAIN), (["standardize"], STANDARDIZED)):
        other = MadeFeatures(tmp_path, {}, settings=settings | {"normalize": steps})
        other.write_config()
        again = score(other.project, normalize(other.project, gathered).wells, name="x", about="")
        assert again.results["NSC"].value == found[name].results["NSC"].value
        assert again.measures["silhouette by plate"].value == pytest.approx(
            found[name].measures["silhouette by plate"].value
        )
    table = measures("Corrections", found, lower_is_better(Screen.of(project, done.wells)))
    rows = table.rows.set_index("measure")
    assert rows.index.tolist() == ["NSC", "silhouette by plate ↓"]
    values = [one.measures["silhouette by plate"].value for one in found.values()]
    assert table.bold[1, 1:].tolist() == [value == min(values) for value in values]
    accuracies = [one.results["NSC"].value for one in found.values()]
    assert table.bold[0, 1:].tolist() == [value == max(accuracies) for value in accuracies]


def test_other_steps_stand_beside_the_known_ones(tmp_path: Path) -> None:
    settings = {"baselines": True, "evaluate": ["nsc"], "normalize": ["robust"]}
    project = MadeFeatures(tmp_path, {"conv4a": 6}, settings=settings).write().project
    gathered = gather(project).of_layer("conv4a")
    done = normalize(project, gathered)
    chosen = Scores("the learned profile", "")
    found = corrections(project, gathered, done, chosen, Outcome("analyze"))
    assert list(found)[-1] == "robust"
    assert found["robust"] is chosen


def test_umap_that_is_not_installed(tmp_path: Path) -> None:
    if find_spec("umap"):
        pytest.skip("it is installed")
    settings = {"report": True, "evaluate": ["nsc"], "embedding": "umap"}
    made = MadeFeatures(tmp_path, {"conv4a": 6}, settings=settings).write()
    with pytest.raises(ConfigError, match=r'pip install "deepprofiler-keras\[umap\]"'):
        analyze(made.project)


def test_intensity_and_focus_of_sites(tmp_path: Path) -> None:
    base = BaseProject(tmp_path).write()
    for site in base.sites:
        path = base.image(well="A02", site=site, channel="ER")
        blurred = gaussian_filter(tifffile.imread(path).astype(float), 12)
        tifffile.imwrite(path, blurred.astype(np.uint16))
    project = Project(tmp_path, cores=1)
    prepare(project)
    wells = well_quality(project).set_index(["Metadata_Plate", "Metadata_Well"])
    assert len(wells) == 12
    for plate, well in (("P1", "A01"), ("P2", "B03")):
        for channel in CHANNELS:
            images = [tifffile.imread(base.image(plate, well, site, channel)) for site in "12"]
            expected = np.mean([image.mean() for image in images])
            assert wells.loc[(plate, well), f"Intensity_{channel}"] == pytest.approx(expected)
    assert wells["Focus_ER"].idxmin() == ("P1", "A02")
    assert wells["Focus_DNA"].idxmin() != ("P1", "A02")
    # A plate without its table is measured again.
    project.quality_path("P1").unlink()
    assert len(well_quality(project)) == 6
    prepare(project)
    assert len(well_quality(project)) == 12
