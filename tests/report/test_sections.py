"""The page made of plain values, without a project."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deepprofiler.columns import CELL, COUNT, FLAG, PLATE, SITE, WELL
from deepprofiler.evaluation.evaluations import choose
from deepprofiler.evaluation.neighbours import neighbours_table
from deepprofiler.evaluation.scores import score, shuffled_scores
from deepprofiler.evaluation.screen import Screen
from deepprofiler.parameters import Choice
from deepprofiler.profiling import Chain, Profiles
from deepprofiler.report.report_inputs import CellPictures, PlateIllumination, ReportInputs
from deepprofiler.report.sections import example_cells, write_page

ROLES = {
    "treatment": "Metadata_Treatment",
    "compound": "Metadata_Treatment",
    "mechanism": "Metadata_Mechanism",
    "batch": PLATE,
    "control": "Metadata_Control",
}
TREATMENTS = ["a1", "a2", "b1", "b2", "DMSO"]


def wells_of(plates: int = 2) -> Profiles:
    """Two mechanisms of two compounds each, and negative controls, in one well a plate each."""
    rng = np.random.default_rng(0)
    rows, features = [], []
    for plate in range(plates):
        for place, treatment in enumerate(TREATMENTS):
            control = treatment == "DMSO"
            rows.append(
                {
                    PLATE: f"P{plate + 1}",
                    WELL: f"A{place + 1:02}",
                    "Metadata_Treatment": treatment,
                    "Metadata_Mechanism": "" if control else treatment[0],
                    "Metadata_Control": "negative" if control else "",
                    COUNT: 20 if place else 3,
                    FLAG: False,
                }
            )
            centre = {"a": [5.0, 0, 0], "b": [0, 5.0, 0], "D": [0, 0, 0.1]}[treatment[0]]
            features.append(np.array(centre) + rng.normal(0, 0.1, 3))
    return Profiles(pd.DataFrame(rows), np.array(features, np.float32), ["x", "y", "z"])


def cells_of(wells: Profiles, count: int = 3) -> Profiles:
    """The same features for some cells of each well."""
    rows = np.repeat(np.arange(len(wells)), count)
    table = wells.metadata.iloc[rows].drop(columns=[COUNT, FLAG]).reset_index(drop=True)
    table[SITE], table[CELL] = "1", np.tile(np.arange(count), len(wells))
    return Profiles(table, wells.features[rows], wells.names)


@pytest.fixture(scope="module")
def inputs() -> ReportInputs:
    wells = wells_of()
    screen = Screen(wells, ROLES)
    evaluations = choose([Choice(name="nsc"), Choice(name="batch-silhouette")])
    own = score(screen, evaluations, name="the learned profile", description="a network")
    sample = cells_of(wells)
    examples = np.concatenate(example_cells(sample, screen))
    quality = wells.metadata[[PLATE, WELL]].assign(Intensity_DNA=100.0, Focus_DNA=-2.0)
    return ReportInputs(
        title="A screen",
        experiment="results",
        plates=["P1", "P2", "P3"],
        channels=["DNA"],
        sites=20,
        min_cells=10,
        seed=0,
        embedding="tsne",
        counts=wells.metadata.assign(**{FLAG: wells.values(COUNT) < 10}),
        screen=screen,
        chain=Chain([]).fit(wells),
        sample=sample,
        features=3,
        methods=[own, shuffled_scores(screen, evaluations)],
        normalizations={"none": own},
        neighbours=neighbours_table(screen),
        failed_sites=1,
        failures=pd.DataFrame(
            [["P1", "A01", "2", "profile", "truncated", ""]],
            columns=["plate", "well", "site", "stage", "reason", "cell"],
        ),
        quality=quality,
        illumination={"P1": PlateIllumination(np.full((4, 4, 1), 1.5), np.array([[10, 200]]))},
        history=pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0], "learning_rate": [1, 1]}),
        cell_pictures=CellPictures(
            np.zeros((len(sample), 8, 8, 3), np.uint8),
            {int(row): np.full((8, 8, 3), 9, np.uint8) for row in examples},
        ),
        provenance={"seed": "0"},
        config="seed: 0",
    )


@pytest.fixture(scope="module")
def folder(inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_page(inputs, folder)
    return folder


def page_of(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def script_data(page: str, name: str) -> dict:
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', page)[1])


def test_every_part_of_the_inputs_is_on_the_page(folder: Path) -> None:
    page = page_of(folder)
    assert re.findall(r"<h2>(.*?)</h2>", page) == [
        "Comparison with baselines",
        "Measures",
        "Map of the screen",
        "Similarity of treatments",
        "Nearest neighbours",
        "Plates",
        "The screen",
        "Cells by treatment",
        "Training",
        "What was left out",
        "Provenance",
    ]
    assert "4 of 4 treatments have the same mechanism as their nearest neighbour" in page
    for text in ("20 sites in 10 wells on 3 plates.", "truncated", "2 plates are not shown"):
        assert text in page
    assert {path.stem for path in folder.glob("*.csv")} == {
        *("map-wells", "map-treatments", "map-cells", "similarity", "confusion-nsc"),
        *("cell-counts", "intensity-1", "focus-1", "illumination", "montage-1", "training"),
    }


def test_wells_with_few_cells_are_flagged(folder: Path) -> None:
    wells = script_data(page_of(folder), "well-data")
    assert [name["name"] for name in wells["quantities"]] == [
        "cells",
        "Intensity of DNA",
        "Focus of DNA",
    ]
    flags = dict(zip(zip(wells["row"], wells["column"], strict=True), wells["flags"], strict=True))
    assert {place for place, flag in flags.items() if flag} == {(0, 0)}
    assert flags[0, 0] == "fewer than 10 cells"
    assert "2 of 10 wells are flagged" in page_of(folder)


def test_figures_have_the_data_of_the_inputs(inputs: ReportInputs, folder: Path) -> None:
    history = pd.read_csv(folder / "training.csv")
    pd.testing.assert_frame_equal(history, inputs.history)
    montage = pd.read_csv(folder / "montage-1.csv")
    # Negative controls come first, then the treatments by name; six cells of each.
    assert montage["Metadata_Treatment"].tolist() == list(np.repeat(["DMSO", *TREATMENTS[:4]], 6))
    illumination = pd.read_csv(folder / "illumination.csv")
    assert illumination.iloc[0].tolist() == ["P1", "DNA", 1.5, 10, 200]


def test_neighbours_are_the_rows_of_the_table(inputs: ReportInputs, folder: Path) -> None:
    rows = re.findall(
        r'<th scope="row"><span class="name" title="(.*?)">.*?<li class="(.*?)">'
        r'<span class="name" title="(.*?)">',
        page_of(folder),
        re.S,
    )
    nearest = inputs.neighbours[inputs.neighbours["rank"] == 1]
    assert rows == [
        (treatment, "same", neighbour)
        for treatment, neighbour in zip(nearest["treatment"], nearest["neighbour"], strict=True)
    ]


def test_a_page_of_what_is_necessary(inputs: ReportInputs, tmp_path: Path) -> None:
    least = replace(
        inputs,
        neighbours=None,
        failures=None,
        quality=None,
        illumination={},
        history=None,
        cell_pictures=None,
        no_cell_pictures="No cells are shown: no crops.",
    )
    write_page(least, tmp_path)
    page = page_of(tmp_path)
    assert "No cells are shown: no crops." in page
    assert "No sites or wells failed." in page
    assert "Nearest neighbours" not in page
    assert not list(tmp_path.glob("montage*"))
