"""README and docs: what they show exists, runs, and is current."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from urllib.parse import unquote

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from base_project import BaseProject
from command import command

from deepprofiler import cli
from deepprofiler.columns import CELL, SITE
from deepprofiler.config import original
from deepprofiler.config.schema import Config
from deepprofiler.evaluation import Screen
from deepprofiler.parameters import Decides
from deepprofiler.profiling import Chain, Profiles, Standardize
from deepprofiler.project.well_file import WellFeatures, WellProvenance, write_well
from deepprofiler.registry import EVALUATIONS, KINDS, NORMALIZERS, SEGMENTERS, discover

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("experiments/*/*.md")])


def blocks(path: Path, language: str) -> list[str]:
    """Fenced blocks of a page in one language; "" for those without."""
    fenced = re.findall(r"^ *```(.*)\n((?:.*\n)*?) *```$", path.read_text(encoding="utf-8"), re.M)
    return [dedent(text) for name, text in fenced if name.strip() == language]


def commands(path: Path) -> Iterator[list[str]]:
    """Words after the program's name, of each command in a page's fenced blocks."""
    for language in ("", "bash", "sh"):
        for block in blocks(path, language):
            for line in block.splitlines():
                words = shlex.split(line, comments=True) if "deepprofiler" in line else []
                first = [word.rsplit("/", 1)[-1] for word in words[:3]]
                if first[:3] in (
                    ["python", "-m", "deepprofiler"],
                    ["python3", "-m", "deepprofiler"],
                ):
                    yield words[3:]
                elif first[:1] == ["deepprofiler"]:
                    yield words[1:]


def anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ +(.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["make_config", "make_original_keys", "make_source"])
def test_made_pages_are_current(name):
    maker = script(name)
    assert maker.PAGE.read_text(encoding="utf-8") == maker.text(), f"run python docs/{name}.py"


def test_every_key_has_a_line():
    """Every key of the schema has a line, and every line says what the key decides."""
    page = (DOCS / "config.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(.+?)` \| (.*) \| (.*) \| (.*) \| (.*) \|$", page, re.M)
    assert all(all(cells) for cells in rows)
    keys = {key for key, *_ in rows}
    for key, value in _leaves(Config().model_dump()):
        shown = {key, key.removesuffix(".name"), key.rsplit(".params", 1)[0]}
        assert keys & shown, f"docs/config.md lacks {key} (default {value})"
    decided = {output for *_, outputs in rows for output in outputs.split(", ")}
    assert decided <= {str(output) for output in Decides}


def test_every_output_that_a_key_decides_is_explained():
    assert set(script("make_config").DECIDES) == set(Decides)


def test_every_source_file_has_a_line():
    maker = script("make_source")
    page = maker.text()
    files = {path for room in ("deepprofiler", "plugins") for path in (ROOT / room).rglob("*.py")}
    shown = {(DOCS / target).resolve() for target in re.findall(r"\]\((\.\./.+?)\)", page)}
    assert shown == {path for path in files if path.name != "__init__.py"}
    assert re.findall(r"^\| .* \|  \|$", page, re.M) == [], "a module without a docstring"


def _leaves(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def test_every_key_of_the_original_is_mentioned():
    page = (DOCS / "original-keys.md").read_text(encoding="utf-8")
    assert [key for key in original.known_keys() if f"`{key}`" not in page] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = unquote(target).partition("#")
        other = (path.parent / name).resolve() if name else path
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_of_this_repository_exist(path):
    """Names in backticks that begin with a folder of this repository."""
    folders = "deepprofiler|docs|tests|experiments|benchmarks"
    text = path.read_text(encoding="utf-8")
    named = re.findall(rf"`((?:python )?(?:{folders})/[\w./-]+)`", text)
    named = [name.removeprefix("python ") for name in named]
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_exist(path):
    for words in commands(path):
        group = cli.cli.make_context("deepprofiler", list(words))
        name, sub, rest = cli.cli.resolve_command(group, [*group._protected_args, *group.args])
        assert sub is not None
        sub.make_context(name, rest, parent=group)


def test_commands_are_found():
    """The tests above would say nothing if the pages' commands were not recognised."""
    shown = {word for path in PAGES for words in commands(path) for word in words}
    assert set(cli.cli.commands) <= shown


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_make_targets_exist(path):
    makefile = (ROOT / "Makefile").read_text()
    for block in blocks(path, ""):
        for target in re.findall(r"^make ([\w-]+)", block, re.M):
            assert f"\n{target}:" in makefile


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_configs_are_valid(path):
    for block in blocks(path, "yaml"):
        Config.model_validate(yaml.safe_load(block))


def test_exit_codes(tmp_path):
    """Those of docs/files.md."""
    BaseProject(tmp_path / "good").write()
    assert command(tmp_path / "good", "check").code == 0
    bad = BaseProject(tmp_path / "bad").write()
    (bad.images / bad.rows[0]["DNA"]).unlink()
    assert command(tmp_path / "bad", "check").code == 1
    assert command(tmp_path / "none", "check").code == 2


def save_plugins_of_the_page(folder: Path) -> None:
    """Save the Python of docs/plugins.md where the page says."""
    page = DOCS / "plugins.md"
    sources = blocks(page, "python")
    places = re.findall(r"`project/(plugins/\w+/\w+\.py)`", page.read_text())
    assert [Path(place).parent.name for place in places] == [kind.folder for kind in KINDS]
    for source, place in zip(sources, places, strict=True):
        assert len(source.splitlines()) < 45
        path = folder / place
        path.parent.mkdir(parents=True)
        path.write_text(source, encoding="utf-8")


@pytest.mark.pipeline
def test_plugins_of_the_page_train(tmp_path):
    """The model and the crop generator of docs/plugins.md train and give features."""
    project = BaseProject(tmp_path)
    for block in blocks(DOCS / "plugins.md", "yaml"):
        if "small" in block or "generator: wells" in block:
            for section, values in yaml.safe_load(block).items():
                project.config[section] |= values
    project.write()
    save_plugins_of_the_page(tmp_path)
    try:
        answer = command(tmp_path, "train")
        assert answer.code == 0, answer.text
        answer = command(tmp_path, "profile")
        assert answer.code == 0, answer.text
        with h5py.File(project.well_file()) as file:
            assert file["X"].shape == (10, 72)
    finally:
        discover(None)


@pytest.mark.pipeline
def test_other_plugins_of_the_page(tmp_path):
    """The segmenter, the normalizer and the evaluation of docs/plugins.md."""
    save_plugins_of_the_page(tmp_path)
    kinds = (SEGMENTERS, NORMALIZERS, EVALUATIONS)
    try:
        assert len(discover(tmp_path / "plugins", kinds)) == 3
        image = np.zeros((8, 8))
        image[1:3, 1:3] = image[5:7, 4:8] = 900
        labels = SEGMENTERS.build("threshold", image, params={"level": 800}, border="drop")
        assert np.bincount(labels.ravel()).tolist() == [52, 4, 8]

        values = np.array([[0.0, 1], [1, 20], [9, 1], [10, -20]])
        table = pd.DataFrame({"Metadata_Treatment": ["a", "a", "b", "b"]})
        wells = Profiles(table, values, ["f", "g"])
        chain = Chain([NORMALIZERS.build("clip", params={"limit": 9.5})]).fit(wells)
        clipped = np.clip(values, -9.5, 9.5)
        np.testing.assert_array_equal(chain.transform(wells).features, clipped)
        chain.save(tmp_path / "chain.npz")
        again = Chain.load(tmp_path / "chain.npz").transform(wells).features
        np.testing.assert_array_equal(again, clipped)

        screen = Screen(wells.with_features(values[:, :1], ["f"]), {"treatment": table.columns[0]})
        (measure,) = EVALUATIONS.build("separation").measures(screen)
        assert measure.value == pytest.approx(81 / (1 / 2))
    finally:
        discover(None)


@pytest.fixture
def finished(tmp_path, monkeypatch) -> Path:
    """A folder with the files that the pages' Python reads."""
    rng = np.random.default_rng(0)
    names = [f"conv4a_{number}" for number in range(4)]
    table = pd.DataFrame(
        {
            "Metadata_Plate": "P1",
            "Metadata_Well": [f"{row}{n:02d}" for row in "ABC" for n in range(1, 9)],
            "Metadata_Treatment": ["DMSO"] * 8 + ["T1", "T2"] * 8,
            "Metadata_Control": ["negative"] * 8 + [""] * 16,
            "Metadata_Batch": ["1", "2"] * 12,
            "Metadata_Few_Cells": False,
        }
    )
    profiles = Profiles(table, rng.normal(size=(24, 4)), names)
    results = tmp_path / "project" / "outputs" / "results"
    for name in ("wells", "wells-unnormalized"):
        profiles.write(results / "profiles" / f"{name}.parquet")
    profiles.write(tmp_path / "my-wells.csv")
    Chain([Standardize()]).fit(profiles).save(results / "profiles" / "normalization.npz")
    profiles.write(tmp_path / "new-wells.parquet")
    path = results / "features" / "P1" / "A01.h5"
    path.parent.mkdir(parents=True)
    cells = pd.DataFrame({SITE: ["1", "1"], CELL: [0, 1], "x": [4.0, 5], "y": [6.0, 7]})
    layers = {"conv4a": [0, 4]}
    origin = WellProvenance("P1", "A01", tuple(names), layers, ("DNA",), 64, "", "last", "")
    write_well(path, WellFeatures(np.zeros((2, 4), np.float32), cells, origin))
    inputs = tmp_path / "project" / "inputs"
    for name, text in (
        ("config/config.yaml", "{}\n"),
        ("metadata/index.csv", "Plate,Well,Site,DNA\nP1,A01,1,a.tif\n"),
    ):
        (inputs / name).parent.mkdir(parents=True)
        (inputs / name).write_text(text)
    run = tmp_path / "cellprofiler" / "P1"
    run.mkdir(parents=True)
    (run / "Nuclei.csv").write_text(
        "ImageNumber,ObjectNumber,AreaShape_Center_X,AreaShape_Center_Y\n1,1,20.5,30\n1,2,40,50\n"
    )
    (run / "Image.csv").write_text(
        "ImageNumber,Metadata_Plate,Metadata_Well,Metadata_Site\n1,P1,A01,1\n2,P1,A01,2\n"
    )
    (tmp_path / "load_data.csv").write_text(
        "Metadata_Plate,Metadata_Well,Metadata_Site,FileName_OrigDNA,PathName_OrigDNA\n"
        "P1,A01,1,a.tif,/images/P1\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


# pycytominer sets an option that pandas 3 calls deprecated.
@pytest.mark.filterwarnings("ignore:The 'mode.copy_on_write' option is deprecated")
@pytest.mark.parametrize("page", ["how-to.md", "files.md", "tutorial.md"])
def test_python_of_the_pages_runs(finished, page):
    names: dict = {"__name__": "docs"}
    for block in blocks(DOCS / page, "python"):
        # .h5ad needs anndata, which scanpy brings.
        needs = {"pycytominer": "pycytominer", "copairs": "copairs", ".h5ad": "scanpy"}
        packages = {package for word, package in needs.items() if word in block}
        if any(importlib.util.find_spec(package) is None for package in packages):
            continue
        exec(compile(block, page, "exec"), names)
    if page == "how-to.md":
        located = finished / "project" / "inputs" / "locations" / "P1"
        lines = [len((located / f"A01-{site}-Nuclei.csv").read_text().split()) for site in "12"]
        assert lines == [3, 1]
        assert len(pd.read_parquet(finished / "project" / "classical.parquet")) == 2
        index = (finished / "project" / "inputs" / "metadata" / "index.csv").read_text()
        assert index.splitlines()[0] == "Metadata_Plate,Metadata_Well,Metadata_Site,OrigDNA"
        assert index.splitlines()[1] == "P1,A01,1,/images/P1/a.tif"
        assert names["matrix"].shape == (2, 4)
        assert list(names["site"]) == ["1", "1"]
        assert np.load(finished / "npz/P1/A01/1.npz")["features"].shape == (2, 4)
        done = Profiles.read(finished / "my-wells-tvn.parquet")
        assert done.names == ["tvn_0", "tvn_1", "tvn_2", "tvn_3"]
        assert len(Profiles.read(finished / "new-wells-normalized.parquet")) == 24
        assert names["result"].value == 1
        assert (finished / "confusion.png").stat().st_size > 1000
