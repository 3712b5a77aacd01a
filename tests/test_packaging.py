"""Plugins are ``deepprofiler.plugins`` from a wheel, an editable install and a bare checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from deepprofiler.errors import install_extra

ROOT = Path(__file__).resolve().parents[1]
SHOW = (
    "import deepprofiler, deepprofiler.plugins as p, importlib.util as u;"
    "print(deepprofiler.__file__); print(p.__file__);"
    "print(u.find_spec('deepprofiler.plugins.models.resnet').origin);"
    "print(u.find_spec('deepprofiler.plugins.crop_generators.single').origin)"
)


def run(*words: str | Path, path: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": path}
    answer = subprocess.run(
        [str(word) for word in words],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what is packed, so that building leaves nothing in the real checkout."""
    copy = tmp_path_factory.mktemp("checkout") / "source"
    copy.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("deepprofiler", "plugins"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_wheel(checkout, tmp_path):
    words = ["-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, checkout]
    run(sys.executable, *words, path="", cwd=tmp_path)
    (wheel,) = tmp_path.glob("deepprofiler_keras-*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(installed)
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*")}
    # Every module of every folder, the shipped plugins and what pages are made of.
    modules = {
        f"deepprofiler/{name}" if name.startswith("plugins/") else name
        for folder in ("deepprofiler", "plugins")
        for name in (p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*.py"))
    }
    assert modules <= names
    templates = {path.name for path in (checkout / "deepprofiler/report/templates").iterdir()}
    assert "report.html" in templates
    assert {f"deepprofiler/report/templates/{name}" for name in templates} <= names
    assert "deepprofiler/py.typed" in names
    assert not any(name.startswith(("plugins", "tests")) for name in names)
    places = run(sys.executable, "-c", SHOW, path=str(installed), cwd=tmp_path).split()
    assert all(Path(place).is_relative_to(installed / "deepprofiler") for place in places)
    text = run(sys.executable, "-m", "deepprofiler", "--help", path=str(installed), cwd=tmp_path)
    assert text.startswith("Usage: deepprofiler")


def test_bare_checkout(checkout, tmp_path):
    places = run(sys.executable, "-c", SHOW, path=str(checkout), cwd=tmp_path).split()
    assert Path(places[0]).is_relative_to(checkout / "deepprofiler")
    assert all(Path(place).is_relative_to(checkout / "plugins") for place in places[1:])


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["lenient", "strict", "compat"])
def test_editable(checkout, tmp_path, mode):
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment, path="", cwd=tmp_path)
    python = environment / "bin" / "python"
    # What the tests' own environment has, setuptools among it, stands in for a download.
    borrowed = sysconfig.get_path("purelib")
    words = ["--no-deps", "--no-build-isolation", "--config-settings", f"editable_mode={mode}"]
    run(python, "-m", "pip", "install", *words, "--editable", checkout, path=borrowed, cwd=tmp_path)
    places = run(python, "-c", SHOW, path="", cwd=tmp_path).split()
    assert not any("site-packages/deepprofiler/" in place for place in places) or mode == "strict"
    assert run(environment / "bin" / "deepprofiler", "--version", path=borrowed, cwd=tmp_path)


def test_the_remedy_for_a_missing_package_works_here():
    """From a checkout: the program is in no package index."""
    metadata = (ROOT / "setup.py").read_text()
    for extra in ("classical", "harmony", "umap", "anndata", "track"):
        assert f'"{extra}": [' in metadata
        assert install_extra(extra) == f'pip install -e "{ROOT}[{extra}]"'
