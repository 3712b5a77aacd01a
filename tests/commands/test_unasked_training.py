"""Which commands train by themselves: only the first experiment of all, without any name given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from base_plugin import use_small_network
from base_project import BaseProject
from command import Answer, command


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("unasked") / "project"
    base = BaseProject(root, (96, 96), plates=("P1",), sites=("1",))
    base.config["prepare"] = {"illumination": False}
    return use_small_network(base).write().root


@pytest.fixture
def base(written, tmp_path) -> BaseProject:
    root = Path(shutil.copytree(written, tmp_path / "project"))
    base = BaseProject(root, (96, 96), plates=("P1",), sites=("1",))
    base.config["prepare"] = {"illumination": False}
    return use_small_network(base)


def refused(base: BaseProject, *words: str) -> str:
    """The message of a command that stops before it writes anything."""
    before = sorted(base.root.rglob("*"))
    answer = command(base.root, *words)
    assert answer.code == 2, answer.text
    assert "training on" not in answer.text
    assert sorted(base.root.rglob("*")) == before
    return answer.text


def begun(answer: Answer) -> bool:
    return answer.code == 0 and "epoch 1 of" in answer.text


def test_the_first_experiment_is_trained(base):
    answer = command(base.root, "profile")
    assert begun(answer), answer.text
    assert "experiment results has no weights: running train first" in answer.text


def test_a_typo_in_the_name(base):
    assert command(base.root, "--exp", "small", "train").code == 0
    for stage in ("profile", "analyze"):
        text = refused(base, "--exp", "smal", stage)
        assert "choose an experiment that exists with --exp: small; nearest is `small`" in text
    assert "smal/checkpoint/last.h5 does not exist: experiment smal is not trained" in refused(
        base, "--exp", "smal", "profile"
    )
    # `--exp` forgotten.
    for stage in ("profile", "analyze"):
        assert "with --exp: small" in refused(base, stage)
    assert command(base.root, "--exp", "small", "profile").code == 0
    # What is asked for is done.
    assert begun(command(base.root, "train"))


@pytest.mark.parametrize("name", ["first", "results"])
def test_a_name_where_there_is_nothing(base, name):
    text = refused(base, "--exp", name, "profile")
    assert "run `train` to train it" in text
    assert "no other experiment exists" in text
    assert "run `profile` to make them" in refused(base, "--exp", name, "analyze")


def test_weights_that_are_not_named(base):
    """A weight file lies there, but no key names it."""
    folder = base.root / "outputs/results/checkpoint"
    folder.mkdir(parents=True)
    (folder / "checkpoint_0020.hdf5").write_bytes(b"")
    text = refused(base, "profile")
    assert (
        "name other weights in profile.checkpoint: random, imagenet, checkpoint_0020.hdf5" in text
    )


def test_weights_that_are_named_and_not_there(base):
    base.config["profile"]["checkpoint"] = "best"
    base.write_config()
    assert "checkpoint/best.h5 does not exist" in refused(base, "profile")


@pytest.mark.parametrize("value", ["None", None, ""])
def test_a_config_of_the_original_that_names_none(base, value):
    folder = base.root / "inputs/config"
    (folder / "config.yaml").unlink()
    config = {
        "dataset": {
            "metadata": {"label_field": "Treatment"},
            "images": {"channels": base.config["dataset"]["channels"]},
            "locations": {"mode": "single_cells", "box_size": 64},
        },
        "train": {"model": {"name": "small"}},
        "profile": {"feature_layer": "relu", "checkpoint": value},
    }
    (folder / "config.json").write_text(json.dumps(config))
    text = refused(base, "profile")
    assert "`profile.checkpoint` is now `profile.checkpoint`: last, which `train` makes" in text
    assert "run `train` to train it" in text


def test_random_weights_under_a_new_name(base):
    base.config["profile"]["checkpoint"] = "random"
    base.write_config()
    assert command(base.root, "--exp", "untrained", "profile").code == 0
    assert "with --exp: untrained" in refused(base, "--exp", "untraind", "analyze")


@pytest.mark.parametrize("stage", ["profile", "run"])
def test_a_weight_file_of_the_originals_training(base, stage):
    """Named before hours of other commands, with what to do."""
    base.config["profile"]["checkpoint"] = "checkpoint_0020.hdf5"
    base.write_config()
    text = refused(base, stage)
    assert "checkpoint/checkpoint_0020.hdf5 does not exist" in text
    assert "its weights of epoch 20" in text
    assert "to use what `train` trains here, set profile.checkpoint to last" in text
