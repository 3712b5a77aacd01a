"""Classical features beside learned ones: tables of other programs, and cp-measure's."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from base_project import BaseProject
from made_features import write_cells
from skimage.measure import regionprops

from deepprofiler.commands.analyze import analyze
from deepprofiler.commands.check import check
from deepprofiler.errors import ConfigError, DataError
from deepprofiler.imaging.read import read_labels
from deepprofiler.profiling import Profiles
from deepprofiler.project import Project

NAMES = ["conv2a_0", "conv2a_1", "conv2a_2"]
SETTINGS = {"min_cells": 3, "baselines": False, "report": False, "normalize": ["standardize"]}


def profiled(root: Path, classical: str | None = None) -> BaseProject:
    """The base project with features of cells that have nothing to do with its images."""
    base = BaseProject(root)
    base.config["analyze"] = SETTINGS | {"classical": classical}
    base.config["prepare"] = {"illumination": False}
    base.write()
    rng = np.random.default_rng(0)
    for row in base.rows[::2]:
        plate, well = row["Metadata_Plate"], row["Metadata_Well"]
        path, layers = base.well_file(plate, well), {"conv2a": [0, 3]}
        write_cells(path, rng.normal(size=(6, 3)), NAMES, layers, sites=np.array(["1"] * 6))
    return base


def scores(project: Project) -> pd.DataFrame:
    table = pd.read_csv(project.profiles_path("scores.csv"))
    return table[table["metric"] == "replicate accuracy"].set_index("method")


def test_a_table_of_cellprofiler_is_one_more_baseline(tmp_path: Path) -> None:
    """Two cells a well; each treatment's first two features are its own."""
    base = profiled(tmp_path, "classical/cells.csv.gz")
    rng = np.random.default_rng(1)
    treatments = ["DMSO", "T1", "T2"]
    rows = []
    for row in base.rows:
        angle = treatments.index(row["Metadata_Treatment"]) * 2 * np.pi / 3
        rows.append(
            {
                "ImageNumber": len(rows) + 1,
                "Image_FileName_DNA": row["DNA"],
                "Image_Metadata_Plate": row["Metadata_Plate"],
                "Image_Metadata_Well": row["Metadata_Well"].replace("0", ""),
                "Nuclei_AreaShape_Area": 100 + 10 * np.cos(angle) + rng.normal(0, 0.1),
                "Nuclei_Texture_Contrast": np.sin(angle) + rng.normal(0, 0.01),
                "Nuclei_Broken": "nan" if row["Metadata_Well"] == "A02" else 1.0,
            }
        )
    rows[0]["Image_Metadata_Well"] = rows[1]["Image_Metadata_Well"] = "H12"
    path = tmp_path / "classical" / "cells.csv.gz"
    path.parent.mkdir()
    pd.DataFrame(rows).to_csv(path, index=False)
    project = Project(tmp_path, cores=1)
    text = "\n".join(analyze(project).lines())
    assert "; 11 wells are spelled otherwise there, such as A2 for A02, and joined by place" in text
    assert "left out 1 wells that are not in the index or have no cells: P1 H12" in text
    assert "left out 1 wells of the index that it does not have: P1 A01" in text
    assert "left out 1 features that are undefined in some well: Nuclei_Broken" in text
    left_out = pd.read_csv(project.profiles_path("classical-features-left-out.csv"))
    assert left_out.values.tolist() == [
        ["Nuclei_Broken", "undefined in 2 of 11 profiles", "undefined"]
    ]
    table = scores(project)
    assert "the learned profile" in table.index
    # Controls are not asked: four wells of each of two treatments.
    assert table.loc["classical features", ["value", "n"]].tolist() == [1.0, 8]


def test_check_says_what_of_a_table_of_cells_is_no_feature(tmp_path: Path) -> None:
    """And refuses cells that joining by ImageNumber alone has given to several wells."""
    profiled(tmp_path, "cells.csv")
    nuclei = pd.DataFrame(
        {
            "ImageNumber": 1,
            "ObjectNumber": [1, 2],
            "Nuclei_Location_Center_X": [5.0, 6.0],
            "Nuclei_Children_Cells_Count": 1,
            "Nuclei_AreaShape_Area": [70.0, 80.0],
        }
    )
    images = pd.DataFrame(
        {"ImageNumber": 1, "Metadata_Plate": ["P1", "P1"], "Metadata_Well": ["A01", "A02"]}
    )
    nuclei.merge(images).to_csv(tmp_path / "cells.csv", index=False)
    text = "\n".join(check(Project(tmp_path, cores=1)).lines())
    assert (
        "classical features: 1 in cells.csv, of 2 of 12 wells; 4 columns identify, place or count "
        "objects and are no features: `ImageNumber`, `ObjectNumber`, `Nuclei_Location_Center_X`, "
        "`Nuclei_Children_Cells_Count`"
    ) in text
    pd.concat([nuclei, nuclei]).merge(images).to_csv(tmp_path / "cells.csv", index=False)
    text = "\n".join(check(Project(tmp_path, cores=1)).lines())
    assert (
        "problem: analyze: classical features of cells.csv: rows 1 and 5 are the same obj" in text
    )
    assert "Join Nuclei.csv and Image.csv within each folder" in text


def test_the_same_features_score_the_same(tmp_path: Path) -> None:
    profiled(tmp_path)
    project = Project(tmp_path, cores=1)
    analyze(project)
    ours = Profiles.read(project.profiles_path("wells-unnormalized.parquet"))
    ours.subset(np.arange(len(ours))[::-1]).write(tmp_path / "theirs.parquet")
    base = BaseProject(tmp_path)
    base.config["analyze"] = SETTINGS | {"classical": "theirs.parquet"}
    base.write_config()
    project = Project(tmp_path, cores=1)
    analyze(project)
    table = scores(project).drop(columns="metric")
    pd.testing.assert_series_equal(
        table.loc["classical features"], table.loc["the learned profile"], check_names=False
    )


def test_cp_measure_averages_the_nuclei_of_each_well(tmp_path: Path) -> None:
    pytest.importorskip("cp_measure", reason="cp-measure is not installed (extra `classical`)")
    base = profiled(tmp_path, "cp-measure")
    base.image("P2", "B03", "2", "ER").write_bytes(b"broken")
    project = Project(tmp_path, cores=1)
    outcome = analyze(project)
    assert outcome.left_out["sites from the classical features"] == 1
    assert "P2,B03,2,analyze" in project.failed_path("analyze").read_text()
    wells = Profiles.read(project.profiles_path("classical.parquet"))
    assert len(wells) == 12
    area = wells.names.index("Nuclei_AreaShape_Area")
    for row in range(3):
        well, sites = wells.values("Metadata_Well")[row], project.index.wells()[row].sites
        assert (wells.values("Metadata_Plate")[row], well) == (sites[0].plate, sites[0].well)
        regions = [r for site in sites for r in regionprops(read_labels(project.labels_path(site)))]
        assert wells.values("Metadata_Cell_Count")[row] == len(regions) > 0
        assert wells.features[row, area] == pytest.approx(np.mean([r.area for r in regions]))
    assert np.isfinite(scores(project).loc["classical features", "value"])
    analyze(project, steps=["report"])
    page = project.report_path.read_text()
    listed = page[page.index("<h3>Failures</h3>") : page.index('id="provenance"')]
    assert [listed.count(text) for text in (">B03<", ">analyze<", "No site")] == [1, 1, 0]

    # Only the well with the broken image is measured again.
    files = sorted((tmp_path / "outputs/results/baselines/classical/features").rglob("*.h5"))
    before = {file: file.stat().st_mtime_ns for file in files}
    analyze(Project(tmp_path, cores=1))
    changed = [file for file in files if file.stat().st_mtime_ns != before[file]]
    assert len(files) == 12
    assert [(file.parent.name, file.stem) for file in changed] == [("P2", "B03")]

    # Once all images can be read, only changed contents matter, not the times of files.
    image = base.image("P2", "B03", "2", "ER")
    shutil.copyfile(base.image("P2", "B03", "1", "ER"), image)
    analyze(Project(tmp_path, cores=1))
    for path in (image, project.labels_path(project.index.sites[0])):
        os.utime(path, ns=(0, 0))
    before = {file: file.stat().st_mtime_ns for file in files}
    analyze(Project(tmp_path, cores=1))
    assert [file for file in files if file.stat().st_mtime_ns != before[file]] == []
    shutil.copyfile(base.image("P1", "A02", "1", "DNA"), base.image("P1", "A02", "2", "DNA"))
    analyze(Project(tmp_path, cores=1))
    changed = [file for file in files if file.stat().st_mtime_ns != before[file]]
    assert [(file.parent.name, file.stem) for file in changed] == [("P1", "A02")]


def test_a_table_that_cannot_be_used_stops_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = profiled(tmp_path, "nothing.csv")
    with pytest.raises(ConfigError, match=r"analyze\.classical names nothing\.csv"):
        analyze(Project(tmp_path, cores=1))
    (tmp_path / "nothing.csv").write_text("Metadata_Plate,Metadata_Well,f\nP9,A01,1\n")
    with pytest.raises(DataError, match=r"nothing\.csv: none .* it has P9 A01, we have P1 A01"):
        analyze(Project(tmp_path, cores=1))
    text = "\n".join(check(Project(tmp_path, cores=1)).lines())
    assert "nothing.csv: none of its 1 rows is one of ours" in text
    (tmp_path / "nothing.csv").write_text("Metadata_Plate,Metadata_Well,f\nP1,A01,1\n")
    text = "\n".join(check(Project(tmp_path, cores=1)).lines())
    assert "classical features: 1 in nothing.csv, of 1 of 12 wells" in text
    (tmp_path / "nothing.csv").write_text("Metadata_Plate,f\nP1,1\n")
    with pytest.raises(DataError, match="no column Metadata_Well"):
        analyze(Project(tmp_path, cores=1))
    base.config["analyze"]["classical"] = "cp-measure"
    base.write_config()
    monkeypatch.setitem(sys.modules, "cp_measure", None)
    monkeypatch.setitem(sys.modules, "cp_measure.featurizer", None)
    with pytest.raises(ConfigError, match="pip install"):
        analyze(Project(tmp_path, cores=1))
