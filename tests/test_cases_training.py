"""What users run into when they train, through the commands."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import tifffile
from base_project import CHANNELS, BaseProject
from command import command

from deepprofiler.project import Project
from deepprofiler.stages.setup import setup


@pytest.fixture
def base(tmp_path) -> BaseProject:
    return BaseProject(tmp_path / "project")


def originals_config() -> dict:
    """A config as the original's example, with old names of keys and some left out."""
    return {
        "dataset": {
            "metadata": {"label_field": "Treatment", "control_value": "DMSO"},
            "images": {
                "channels": list(CHANNELS),
                "file_format": "tif",
                "bits": 16,
                "width": 256,
                "height": 256,
            },
            "locations": {"mode": "single_cells", "box_size": 64, "mask_objects": False},
        },
        "prepare": {
            "illumination_correction": {"down_scale_factor": 4, "median_filter_size": 24},
            "compression": {"implement": False, "scaling_factor": 1.0},
        },
        "train": {
            "partition": {
                "targets": ["Treatment"],
                "split_field": "Replicate",
                "training_values": ["A"],
                "validation_values": ["B"],
            },
            "model": {
                "name": "resnet",
                "crop_generator": "crop_generator",
                "epochs": 1,
                "steps": 2,
                "params": {"learning_rate": 0.001, "batch_size": 8, "conv_blocks": 18},
            },
            "sampling": {"factor": 1, "queue_size": 100, "workers": 1},
        },
        "profile": {"feature_layer": "conv3a", "checkpoint": "last"},
    }


def use(base: BaseProject, config: dict) -> None:
    folder = base.root / "inputs" / "config"
    for path in folder.iterdir():
        path.unlink()
    (folder / "config.json").write_text(json.dumps(config))


def test_trn_01_flat_crops_are_counted_and_harmless(base):
    base.config["train"]["steps"] = 10
    base.write()
    for name in CHANNELS:
        tifffile.imwrite(base.image("P1", "A02", "1", name), np.zeros((256, 256), np.uint16))
    tifffile.imwrite(base.image("P2", "B03", "2", "ER"), np.full((256, 256), 7, np.uint16))
    answer = command(base.root, "train")
    assert answer.code == 0, answer.text
    history = pd.read_csv(base.root / "outputs/results/logs/history.csv")
    assert np.isfinite(history["loss"]).all()
    # 10 of the 72 to 80 training cells are flat, and 80 are drawn.
    assert 0 < history["flat_crops"].sum() < 40
    assert "crops with a flat channel" in answer.text


def test_trn_03_the_originals_config_with_old_names_trains(base):
    base.write()
    use(base, originals_config())
    answer = command(base.root, "train")
    assert answer.code == 0, answer.text
    for key in ("train.sampling.queue_size", "train.partition.training_values"):
        assert sum(f"`{key}`" in line for line in answer.text.splitlines()) == 1
    history = pd.read_csv(base.root / "outputs/results/logs/history.csv")
    assert math.isfinite(history["val_macro_accuracy"].iloc[-1])
    answer = command(base.root, "profile")
    assert answer.code == 0, answer.text


def test_trn_03_every_problem_in_one_message(base):
    base.write()
    config = originals_config()
    config["trian"] = {"epochs": 3}
    config["train"]["model"]["epochs"] = "many"
    use(base, config)
    answer = command(base.root, "train")
    assert answer.code == 2
    assert "trian: unknown key; nearest is `train`" in answer.text
    assert "train.epochs" in answer.text
    assert "2 problem(s)" in answer.text


def test_the_config_that_setup_writes_works(base):
    base.write()
    for path in (base.root / "inputs" / "config").iterdir():
        path.unlink()
    setup(Project(base.root))
    answer = command(base.root, "check")
    assert answer.code == 0, answer.text
