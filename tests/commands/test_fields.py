"""Whole-field views, resized and masked crops, through the commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from base_plugin import use_small_network
from base_project import CHANNELS, BaseProject
from command import Answer, command

from deepprofiler.columns import CELL, SITE
from deepprofiler.imaging.crop import cut
from deepprofiler.learning.cell_store import CellStore
from deepprofiler.project.well_file import WellFeatures, read_well

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> BaseProject:
    """The base project, uncorrected, with a network that takes a second."""
    base = BaseProject(tmp_path_factory.mktemp("base") / "project")
    base.config["prepare"] = {"illumination": False}
    return use_small_network(base).write()


@pytest.fixture
def base(template, tmp_path) -> BaseProject:
    """A copy of it that a test may change."""
    base = BaseProject(tmp_path / "project")
    shutil.copytree(template.root, base.root)
    base.config["prepare"] = {"illumination": False}
    return use_small_network(base)


@pytest.fixture
def field(base) -> BaseProject:
    """The same without any location file."""
    shutil.rmtree(base.root / "inputs/locations")
    return base


def run(base: BaseProject, *words: str, code: int = 0) -> Answer:
    base.write_config()
    answer = command(base.root, "--cores", "1", *words)
    assert "Traceback" not in answer.text
    assert answer.code == code, answer.text
    return answer


def store(base: BaseProject, plate: str = "P1") -> CellStore:
    return CellStore([base.root / f"outputs/single-cells/{plate}.h5"])


def well(base: BaseProject, name: str = "A01", experiment: str = "results") -> WellFeatures:
    return read_well(base.well_file("P1", name, experiment))


def image(base: BaseProject, name: str, site: str) -> np.ndarray:
    files = [base.image("P1", name, site, channel) for channel in CHANNELS]
    return np.stack([tifffile.imread(file) for file in files], axis=-1)


@pytest.mark.parametrize("mode", ["grid", "random"])
def test_views_go_through_every_stage(field, mode):
    field.config["crops"] = {"size": 64, "mode": mode, "coverage": 0.5}
    answer = run(field, "check")
    # 256 × 256 pixels have 16 views of 64 × 64, of which half; 24 sites.
    assert f"192 views of 64 × 64 pixels, {mode}" in answer.text
    assert "locat" not in answer.text
    answer = run(field, "export-sc")
    assert "192 views: 192 exported" in answer.text
    run(field, "train")
    answer = run(field, "profile")
    assert "192 cells of 12 wells" in answer.text
    assert not (field.root / "inputs/locations").exists()
    assert not (field.root / "outputs/labels").exists()
    found = well(field)
    assert found.features.shape == (16, 3)
    assert list(found.cells[CELL]) == [*range(8), *range(8)]
    assert list(found.cells[SITE]) == ["1"] * 8 + ["2"] * 8
    # The same views as those that were exported, cut from the same places.
    crops = store(field)
    mine = crops.table[crops.table["Metadata_Well"] == "A01"]
    np.testing.assert_array_equal(mine[["x", "y"]], found.cells[["x", "y"]])
    for row, view in mine.iterrows():
        left, top = (int(view[axis] - 32) for axis in ("x", "y"))
        pixels = image(field, "A01", view[SITE])[top : top + 64, left : left + 64]
        np.testing.assert_array_equal(crops.minimum[row], pixels.min((0, 1)))
        np.testing.assert_array_equal(crops.maximum[row], pixels.max((0, 1)))
    if mode == "grid":
        assert not (mine[["x", "y"]].to_numpy() % 64 - 32).any()
    places = {site: table[["x", "y"]].to_numpy().tolist() for site, table in mine.groupby(SITE)}
    assert places["1"] != places["2"], "each site draws its own"
    # Nothing to do, and more to do.
    assert "kept 12 wells" in run(field, "profile").text
    field.config["crops"]["coverage"] = 1.0
    assert "384 views: 384 exported" in run(field, "export-sc").text
    assert len(store(field)) == 192
    run(field, "profile")
    assert len(well(field).features) == 32


def test_views_are_analyzed(field):
    field.config["crops"] = {"size": 64, "mode": "grid"}
    answer = run(field, "run")
    assert "running locate" not in answer.text
    assert "no baseline of cell counts: crops are not of single cells" in answer.text
    scores = pd.read_csv(field.root / "outputs/results/profiles/scores.csv")
    assert set(scores["method"]) == {
        "the learned profile",
        "random weights",
        "shuffled labels",
        "without normalization",
        "standardize",
        "standardize + harmony",
    }
    counts = pd.read_csv(field.root / "outputs/results/profiles/counts.csv")
    assert (counts["Metadata_Cell_Count"] == 32).all()
    assert not (field.root / "inputs/locations").exists()


def test_places_do_not_depend_on_the_process(field):
    """Not on Python's hash of text, which differs from process to process."""
    field.config["crops"] = {"size": 64, "mode": "random"}
    field.write_config()
    code = (
        "import sys; from deepprofiler.project.paths import Project; "
        "from deepprofiler.project.sites import read_cells; "
        "project = Project(sys.argv[1]); "
        "print(*(read_cells(project, site, (256, 256), 64)[0].to_csv() "
        "for site in project.index.sites))"
    )
    texts = [
        subprocess.run(
            [sys.executable, "-c", code, field.root],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert len(texts[0].split()) == 24 * 17


def test_an_image_smaller_than_a_view(field):
    for name in CHANNELS:
        for plate in ("P1", "P2"):
            path = field.image(plate, "A02", "2", name)
            tifffile.imwrite(path, np.ones((50, 300), np.uint16))
    field.config["crops"] = {"size": 64, "mode": "grid"}
    says = "site 2 of well A02: the image is 50 × 300 pixels, smaller than a view of 64 × 64"
    answer = run(field, "export-sc", code=1)
    assert "352 views: 352 exported" in answer.text
    assert says in (field.root / "outputs/failed-export-sc.csv").read_text()
    assert says in run(field, "check", code=1).text
    run(field, "train", code=1)
    run(field, "profile", code=1)
    assert says in (field.root / "outputs/results/failed.csv").read_text()
    assert len(well(field, "A02").features) == 16


def test_views_cannot_be_masked(field):
    field.config["crops"] = {"size": 64, "mode": "random", "mask": True}
    for word in ("check", "export-sc", "profile"):
        assert "mode random has no cells; set mask to false" in run(field, word, code=2).text


def test_resized_crops(base):
    base.config["crops"] = {"size": 64, "resize": 24}
    base.config["profile"]["layers"] = ["relu", "pool"]
    run(base, "train")
    run(base, "profile")
    assert well(base).features.shape == (10, 6)
    # The stored crops are those of any other size of the network's input.
    answer = run(base, "export-sc")
    assert "kept 120 cells" in answer.text
    before = well(base).features
    base.config["crops"]["resize"] = 40
    assert "crops.resize: 24 in the checkpoint, 40 here" in run(base, "profile", code=2).text
    assert "kept 120 cells" in run(base, "export-sc").text
    # Of a convolution with steps of 4 and windows of 5: 5 × 5 places of 24 pixels, 9 × 9 of 40.
    base.config["profile"]["checkpoint"] = "random"
    run(base, "profile")
    assert not np.allclose(well(base).features, before)


def test_masked_crops(base):
    """Locate draws the nuclei; then training and profiling see each cell without the others."""
    base.config["profile"]["checkpoint"] = "random"
    run(base, "locate", "--labels")
    run(base, "--exp", "whole", "profile")
    base.config["crops"]["mask"] = True
    run(base, "export-sc")
    base.config["profile"]["checkpoint"] = "last"
    run(base, "train")
    run(base, "profile")
    base.config["profile"]["checkpoint"] = "random"
    run(base, "--exp", "masked", "profile")
    crops = store(base)
    changed = []
    for name in ("A01", "A02", "A03"):
        cells = well(base, name).cells
        mine = crops.table[crops.table["Metadata_Well"] == name]
        np.testing.assert_array_equal(mine[["x", "y"]], cells[["x", "y"]])
        for row, cell in mine.iterrows():
            labels = tifffile.imread(base.root / f"outputs/labels/P1/{name}-{cell[SITE]}.tif")
            center = cell[["x", "y"]].to_numpy(float)[None]
            window = cut(labels[:, :, None], center, 64)[0, :, :, 0]
            # Centres of the base project lie within their nuclei.
            own = labels[round(cell["y"]), round(cell["x"])]
            assert own > 0
            foreign = (window > 0) & (window != own)
            truth = cut(image(base, name, cell[SITE]), center, 64)[0] * ~foreign[:, :, None]
            low, high = truth.min((0, 1)), truth.max((0, 1))
            np.testing.assert_array_equal(crops.minimum[row], low)
            np.testing.assert_array_equal(crops.maximum[row], high)
            pixels = crops.gather(np.array([row]))[0][0]
            np.testing.assert_allclose(pixels, (truth - low) / (high - low) * 255, atol=0.51)
            changed.append(foreign.any())
    whole, masked = (
        np.concatenate([well(base, name, made).features for name in ("A01", "A02", "A03")])
        for made in ("whole", "masked")
    )
    assert 0 < sum(changed) < len(changed)
    np.testing.assert_array_equal((whole != masked).any(axis=1), changed)
