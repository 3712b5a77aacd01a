"""What a stage tells, and the tables of what was left out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from deepprofiler.errors import DataError
from deepprofiler.project import Project
from deepprofiler.project.outcome import Failures, Outcome, read_failures


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_no_failures_no_table(project):
    failures = Failures(project, "profile")
    failures.write()
    assert not project.outputs.exists()
    assert failures.counts() == {}


def test_columns_and_counts(project):
    failures = Failures(project, "profile")
    failures.add("P1", "A01", "1", 'line 2: "x", y;\nthe second line µ')
    failures.add("P1", "A01", "2", "off the image", cell="5")
    failures.add("P1", "A01", "2", "off the image", cell="6")
    failures.add("P1", "", "", "no site can be read")
    failures.write()
    found = rows(project.failed_path("profile"))
    assert list(found[0]) == ["plate", "well", "site", "stage", "reason", "cell"]
    assert found[0]["reason"] == 'line 2: "x", y;\nthe second line µ'
    assert [row["cell"] for row in found] == ["", "5", "6", ""]
    assert {row["stage"] for row in found} == {"profile"}
    assert failures.counts() == {"sites": 1, "cells": 2, "wells": 1}
    assert read_failures(project.failed_path("profile"), "profile") == failures.rows


def test_a_stage_replaces_only_its_own_rows(project):
    for stage, site in (("train", "1"), ("profile", "2")):
        failures = Failures(project, stage)
        failures.add("P1", "A01", site, "broken")
        failures.write()
    path = project.failed_path("profile")
    assert path == project.failed_path("train")
    assert [(row["stage"], row["site"]) for row in rows(path)] == [("train", "1"), ("profile", "2")]
    Failures(project, "profile").write()
    assert [(row["stage"], row["site"]) for row in rows(path)] == [("train", "1")]
    Failures(project, "train").write()
    assert rows(path) == []
    assert path.read_text().strip() == "plate,well,site,stage,reason,cell"


def test_stages_before_the_experiment_keep_their_own(project):
    paths = {stage: project.failed_path(stage) for stage in ("prepare", "locate", "export-sc")}
    assert {path.name for path in paths.values()} == {
        "failed-prepare.csv",
        "failed-locate.csv",
        "failed-export-sc.csv",
    }
    assert {path.parent for path in paths.values()} == {project.outputs}


def test_strict_stops_at_the_first(tmp_path):
    failures = Failures(Project(tmp_path, strict=True), "prepare")
    with pytest.raises(DataError, match="P1/A01/2: index line 3: truncated"):
        failures.add("P1", "A01", "2", "index line 3: truncated")
    assert failures.rows == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "plate,well\nP1,A01\n", 'plate\n"open', "\0"])
def test_a_table_of_something_else_is_kept(project, text):
    path = project.failed_path("prepare")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    failures = Failures(project, "prepare")
    failures.add("P1", "A01", "1", "broken")
    with pytest.raises(DataError, match="not a table of failures; move it away"):
        failures.write()
    assert path.read_text() == text


def test_exit_code():
    assert Outcome("x").exit_code == 0
    assert Outcome("x", notes=["warning: odd"], wrote=["y"]).exit_code == 0
    assert Outcome("x", left_out={"sites": 0}).exit_code == 0
    assert Outcome("x", left_out={"sites": 0, "cells": 2}).exit_code == 1


def test_lines():
    outcome = Outcome(
        "locate",
        wrote=["9 cells to inputs/locations"],
        left_out={"sites": 2, "cells": 0},
        notes=["kept 1"],
        then="train",
    )
    assert outcome.lines() == [
        "locate: wrote 9 cells to inputs/locations",
        "locate: kept 1",
        "locate: left out 2 sites",
        "next: train",
    ]
    assert Outcome("train").lines() == ["train: wrote nothing new"]
