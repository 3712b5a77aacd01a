"""A project's own plugin files: helpers beside them, and files that cannot be imported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from base_project import BaseProject
from command import command

from deepprofiler.registry import MODELS, discover

_MODEL = """\
import keras

from deepprofiler.learning.network import Network
from deepprofiler.registry import MODELS

{imports}


@MODELS.register
def own(input_shape, num_classes):
    crops = keras.Input(input_shape, name="crops")
    x = {block}(crops)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    logits = keras.layers.Dense(num_classes, name="logits")(pooled)
    return Network(keras.Model(crops, logits), keras.Model(crops, pooled))
"""
_BLOCK = """\
import keras


def block(x):
    return keras.layers.Conv2D({filters}, 3, name="conv")(x)
"""


@pytest.fixture(autouse=True)
def shipped() -> Iterator[None]:
    yield
    discover(None)


def put(folder: Path, imports: str, block: str, filters: int) -> Path:
    """Write a plugin and the helper that it imports; return the project's plugins folder."""
    models = folder / "plugins" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (models / "own.py").write_text(_MODEL.format(imports=imports, block=block))
    (models / "_blocks.py").write_text(_BLOCK.format(filters=filters))
    return folder / "plugins"


@pytest.mark.parametrize(
    ("imports", "block"),
    [("from ._blocks import block", "block"), ("from . import _blocks", "_blocks.block")],
)
def test_helpers_beside_a_plugin_are_imported(tmp_path: Path, imports: str, block: str) -> None:
    """Each project has its own, though both files have the same name."""
    for name, filters in (("one", 3), ("two", 5)):
        plugins = put(tmp_path / name, imports, block, filters)
        assert discover(plugins, (MODELS,)) == [plugins / "models" / "own.py"]
        network = MODELS.build("own", (8, 8, 2), 4)
        assert network.layers() == [("conv", filters), ("pool", filters)]


def test_a_broken_helper_is_named_with_its_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = put(tmp_path, "from ._blocks import block", "block", 3)
    helper = plugins / "models" / "_blocks.py"
    helper.write_text("import keras\n\nundefined\n")
    assert discover(plugins, (MODELS,)) == []
    assert f"{helper} line 3: NameError" in caplog.text


@pytest.fixture
def base(tmp_path: Path) -> BaseProject:
    project = BaseProject(tmp_path / "project")
    project.config["profile"]["layers"] = ["pool"]
    project.config["train"]["model"] = "own"
    project.write()
    put(project.root, "from ._blocks import block", "block", 3)
    (project.root / "plugins" / "models" / "broken.py").write_text("import no_such_package\n")
    return project


def test_a_broken_plugin_that_nothing_names_is_a_warning(base: BaseProject) -> None:
    answer = command(base.root, "layers")
    assert answer.code == 0, answer.text
    assert "pool\t3" in answer.text.splitlines()
    assert "broken.py line 1: ModuleNotFoundError" in answer.text


def test_a_missing_plugin_lists_those_that_are_broken(base: BaseProject) -> None:
    base.config["train"]["model"] = "theirs"
    base.write_config()
    answer = command(base.root, "layers")
    assert answer.code == 2
    assert "there is no model `theirs`" in answer.text
    broken = base.root / "plugins" / "models" / "broken.py"
    assert f"not imported: {broken} line 1: ModuleNotFoundError" in answer.text
