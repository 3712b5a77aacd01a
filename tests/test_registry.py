"""Plugins: where they are looked for, and the errors of those that cannot be used."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from base_project import BaseProject
from command import command

from deepprofiler import registry
from deepprofiler.errors import PluginError
from deepprofiler.registry import Registry, discover

ROOT = Path(__file__).resolve().parents[1]
# Before any test puts an empty registry in place of that of the shipped plugins.
discover(None)


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Registry:
    fresh = Registry("model", "models", arguments=("input_shape", "num_classes"))
    monkeypatch.setattr(registry, "MODELS", fresh)
    return fresh


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "models").mkdir()
    yield tmp_path
    discover(None)


def write(project: Path, text: str, name: str = "own.py") -> Path:
    path = project / "models" / name
    path.write_text("from deepprofiler.registry import MODELS\n" + dedent(text))
    return path


def test_bare_and_named_registration(models: Registry) -> None:
    @models.register
    def plain(input_shape, num_classes, *, filters=3):
        return input_shape, num_classes, filters

    @models.register("other")
    def function(input_shape, num_classes, *, depth):
        return depth

    assert models.names() == ["other", "plain"]
    assert models.build("plain", (8, 8, 2), 5) == ((8, 8, 2), 5, 3)
    assert models.build("plain", (8, 8, 2), 5, params={"filters": 7})[2] == 7
    assert plain((1,), 2) == ((1,), 2, 3), "the decorator gives the function back"
    with pytest.raises(PluginError, match="`other` needs a value for `depth`"):
        models.build("other", (8, 8, 2), 5)


def test_a_configuration_may_replace_a_shared_argument() -> None:
    registry = Registry("thing", "things", shared=("batch", "seed"))

    @registry.register("one")
    def one(*, batch: str | None, size: int = 2):
        return batch, size

    # It is not listed, since the core gives it; what a plugin does not declare is not passed.
    assert registry.parameters("one") == {"size": 2}
    assert registry.build("one", batch="week", seed=1) == ("week", 2)
    assert registry.build("one", params={"batch": None}, batch="week", seed=1) == (None, 2)
    with pytest.raises(PluginError, match=r"`one`: batch: .*found 3"):
        registry.build("one", params={"batch": 3}, batch="week")
    with pytest.raises(PluginError, match="no parameter `seed`; valid are size"):
        registry.build("one", params={"seed": 3}, batch="week")


def test_unknown_names_and_parameters(models: Registry) -> None:
    @models.register
    def resnet18(input_shape, num_classes, *, filters=3, depth=2): ...

    @models.register
    def efficientnet(input_shape, num_classes): ...

    with pytest.raises(PluginError) as error:
        models.build("resnet81", (8, 8, 2), 5)
    assert "nearest is `resnet18`; valid are efficientnet, resnet18" in str(error.value)
    with pytest.raises(PluginError, match="no parameter `filter`; nearest is `filters`; valid are"):
        models.build("resnet18", (8, 8, 2), 5, params={"filter": 3})
    with pytest.raises(PluginError, match="`efficientnet` has no parameter `x`; it has none"):
        models.check("efficientnet", {"x": 1})


def test_two_of_one_name(models: Registry) -> None:
    @models.register("same")
    def first(input_shape, num_classes): ...

    with pytest.raises(PluginError) as error:

        @models.register("same")
        def second(input_shape, num_classes): ...

    places = [word for word in str(error.value).split() if word.endswith("test_registry.py")]
    assert len(places) == 2
    lines = [
        int(part.rstrip(";")) for part in str(error.value).split() if part.rstrip(";").isdigit()
    ]
    assert lines[0] < lines[1]


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("(input_shape, num_classes, **kwargs)", r"takes `\*\*kwargs`"),
        ("(input_shape, num_classes, *extra)", r"takes `\*extra`"),
        ("(input_shape)", r"has the arguments \(input_shape\); they must be"),
        ("(input_shape, num_classes, filters=3)", "of its own come after the `\\*`"),
        ("(shape, classes)", r"they must be \(input_shape, num_classes, \*, …\)"),
    ],
)
def test_wrong_signatures(models: Registry, project: Path, signature: str, said: str) -> None:
    path = write(project, f"@MODELS.register\ndef own{signature}: ...\n")
    assert discover(project, (models,)) == []
    with pytest.raises(PluginError, match=said) as error:
        models.get("own")
    assert f"{path} line 2" in str(error.value)


def test_a_generator_must_have_its_methods() -> None:
    generators = Registry("crop generator", "crop_generators", arguments=(), methods=("draw",))

    class Empty:
        pass

    with pytest.raises(PluginError, match="crop generator `Empty` has no method `draw`"):
        generators.register(Empty)


def test_project_plugins_are_found_and_replaced(project: Path, tmp_path: Path) -> None:
    path = write(project, "@MODELS.register\ndef own(input_shape, num_classes): return 'first'\n")
    write(project, "raise ValueError", name="_draft.py")
    assert discover(project) == [path]
    assert registry.MODELS.build("own", (1,), 2) == "first"
    assert "resnet18" in registry.MODELS.names()

    other = tmp_path / "other"
    (other / "models").mkdir(parents=True)
    write(other, "@MODELS.register\ndef own(input_shape, num_classes): return 'second'\n")
    discover(other)
    assert registry.MODELS.build("own", (1,), 2) == "second"
    assert discover(tmp_path / "absent") == []
    assert "own" not in registry.MODELS.names()


def test_plugins_of_a_broken_file_are_not_used(project: Path) -> None:
    """What it registered before it failed, may lack the rest."""
    write(project, "@MODELS.register\ndef own(input_shape, num_classes): ...\nundefined\n")
    discover(project)
    assert "own" not in registry.MODELS.names()
    with pytest.raises(PluginError, match="there is no model `own`"):
        registry.MODELS.get("own")


def test_project_plugin_with_a_shipped_name(project: Path) -> None:
    path = write(project, "@MODELS.register\ndef resnet18(input_shape, num_classes): ...\n")
    discover(project)
    assert registry.MODELS.get("resnet34")
    with pytest.raises(PluginError) as error:
        registry.MODELS.get("resnet18")
    assert "two models are called `resnet18`" in str(error.value)
    assert str(path) in str(error.value)
    assert "resnet.py line" in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("\nx = 1\nundefined\n", 4, "NameError"),
        ("\n\nimport no_such_package\n", 4, "ModuleNotFoundError"),
        ("def broken(:\n", 2, "SyntaxError"),
        ("import json\njson.loads('nothing')\n", 3, "JSONDecodeError"),
    ],
)
def test_failed_imports_name_file_and_line(
    project: Path, caplog: pytest.LogCaptureFixture, text: str, line: int, reason: str
) -> None:
    path = write(project, text)
    with caplog.at_level(logging.WARNING, "deepprofiler"):
        assert discover(project) == []
    assert f"{path} line {line}: {reason}" in caplog.text
    assert registry.MODELS.get("resnet18"), "nothing names what is broken"
    with pytest.raises(PluginError) as error:
        registry.MODELS.get("own")
    assert f"not imported: {path} line {line}: {reason}" in str(error.value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("filters.size", "AttributeError: 'int' object has no"),
        ("input_shape[filters]", "IndexError"),
    ],
)
def test_failed_builds_name_file_and_line(project: Path, body: str, reason: str) -> None:
    head = "@MODELS.register\ndef own(input_shape, num_classes, *, filters=5):\n"
    path = write(project, f"{head}    return {body}\n")
    discover(project)
    with pytest.raises(PluginError, match=reason) as error:
        registry.MODELS.build("own", (8, 8, 2), 5, params={"filters": 9})
    assert str(error.value).startswith(f"{path} line 4: ")
    assert str(error.value).endswith("`own((8, 8, 2), 5, filters=9)` cannot be built")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages that only the test sees."""
    discover(None)
    folder = tmp_path / "site"
    folder.mkdir()
    for kind in (registry.MODELS, registry.CROP_GENERATORS):
        monkeypatch.setattr(kind, "_plugins", dict(kind._plugins))
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.startswith(("my_plugins", "broken")):
            del sys.modules[name]


def test_a_package_of_plugins_trains(packages: Path, tmp_path: Path) -> None:
    """The package of docs/plugins.md, built and installed by pip."""
    page = (ROOT / "docs" / "plugins.md").read_text()
    source = tmp_path / "source"
    (source / "my_plugins").mkdir(parents=True)
    (source / "my_plugins" / "__init__.py").touch()
    (project_file,) = re.findall(r"^```toml\n(.*?)^```$", page, re.M | re.S)
    (source / "pyproject.toml").write_text(project_file)
    codes = re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S)
    names = ("small", "wells", "bright", "clip", "separation")
    for name, code in zip(names, codes, strict=True):
        (source / "my_plugins" / f"{name}.py").write_text(code)
    words = ["install", "--no-deps", "--no-build-isolation", "--target", packages, source]
    answer = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    base = BaseProject(tmp_path / "project")
    base.config["train"] |= {
        "model": {"name": "small", "params": {"filters": 4}},
        "generator": "wells",
    }
    base.config["profile"]["layers"] = ["conv3"]
    base.write()
    assert "conv3\t12" in command(base.root, "layers").text.splitlines()
    assert command(base.root, "profile").code == 0
    assert base.well_file().exists()
    assert sys.modules["my_plugins.small"].__file__ == str(packages / "my_plugins" / "small.py")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import json\njson.loads('nothing')\n", "line 3: JSONDecodeError"),
        ("def broken(:\n", "line 2: SyntaxError"),
        (
            "@MODELS.register\ndef mine(input_shape, num_classes): ...\nundefined\n",
            "line 4: NameError",
        ),
        (
            "@MODELS.register\ndef mine(input_shape, num_classes): ...\n"
            "@MODELS.register\ndef mine(input_shape, num_classes): ...\n",
            "line 4; rename one",
        ),
        (
            "@MODELS.register\ndef resnet18(input_shape, num_classes): ...\n",
            "line 2; rename one",
        ),
        (
            "@MODELS.register\ndef mine(shape, classes): ...\n",
            "line 2: model `mine` has the arguments (shape, classes)",
        ),
    ],
)
def test_broken_packages_name_file_and_line(packages: Path, code: str, said: str) -> None:
    """A package as an installer leaves it: the modules, and a folder of metadata beside them."""
    path = packages / "broken" / "models.py"
    path.parent.mkdir()
    (packages / "broken" / "__init__.py").touch()
    path.write_text(f"from deepprofiler.registry import MODELS\n{code}")
    about = packages / "broken-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[deepprofiler.plugins]\nmodels = broken.models\n")
    # The second time too, though a part of it was registered before.
    for _ in range(2):
        discover(None)
        with pytest.raises(PluginError) as error:
            registry.MODELS.get("resnet18" if "resnet18" in code else "mine")
        assert f"{path} {said}" in str(error.value)
        assert registry.MODELS.get("resnet34")


def test_a_package_without_its_module(packages: Path) -> None:
    about = packages / "broken-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[deepprofiler.plugins]\nmodels = broken.models\n")
    discover(None)
    # Nobody knows of which kind its plugins would have been.
    for kind in registry.KINDS:
        with pytest.raises(PluginError, match=r"broken\.models: ModuleNotFoundError: No module"):
            kind.get("mine")


def run_python(code: str, folder: Path) -> str:
    """Run code in a fresh interpreter that only sees the packages in a folder first."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_package_is_light() -> None:
    code = (
        "import deepprofiler, deepprofiler.registry, deepprofiler.learning.cell_store;"
        "print([m for m in ('tensorflow', 'keras', 'torch') if m in sys.modules])"
    )
    assert run_python(code, ROOT) == "[]"


def test_plugins_are_importable_from_a_bare_checkout() -> None:
    code = "import deepprofiler.plugins as p; from deepprofiler.plugins.models import __path__ as q"
    found = run_python(f"{code}; print(p.__file__, list(q)[0])", ROOT)
    assert found == f"{ROOT / 'plugins' / '__init__.py'} {ROOT / 'plugins' / 'models'}"


def test_plugins_are_importable_from_an_installed_layout(tmp_path: Path) -> None:
    package = tmp_path / "deepprofiler"
    (package / "plugins" / "models").mkdir(parents=True)
    (package / "__init__.py").write_text((ROOT / "deepprofiler" / "__init__.py").read_text())
    (package / "plugins" / "__init__.py").write_text("")
    (package / "plugins" / "models" / "thing.py").write_text("x = 5")
    # A folder of the same name beside the installed package is somebody else's.
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "__init__.py").write_text("raise RuntimeError")
    code = "from deepprofiler.plugins.models.thing import x; print(x)"
    assert run_python(code, tmp_path) == "5"
