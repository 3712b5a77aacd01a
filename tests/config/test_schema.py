from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from deepprofiler.config import config_file
from deepprofiler.config.schema import Config
from deepprofiler.errors import ConfigError


def load(folder: Path, text: str | bytes, name: str = "config.yaml") -> Config:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return config_file.load(path)[0]


def refuse(folder: Path, text: str | bytes, name: str = "config.yaml") -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, name)
    return str(caught.value)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}", "train:\n  epochs: 10\n"])
def test_every_key_has_a_default(tmp_path, text):
    found = load(tmp_path, text)
    assert found == Config()
    assert found.crops.size == 128
    assert found.train.model.name == "resnet18"
    assert found.profile.layers == ("conv4a",)
    assert found.prepare.percentiles == (0.01, 99.99)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("trian: {}", "trian: unknown key; nearest is `train`"),
        ("dataset: {chanels: [A]}", "dataset.chanels: unknown key; nearest is `channels`"),
        (
            "dataset: {columns: {lable: A}}",
            "dataset.columns.lable: unknown key; nearest is `label`",
        ),
        ("dataset: {seed: 4294967296}", "dataset.seed: input should be less than or equal"),
        ("prepare: {downscale: 2}", "prepare.downscale: unknown key; nearest is `down_scale`"),
        ("locate: {chanel: A}", "locate.chanel: unknown key; nearest is `channel`"),
        ("crops: {sizes: 3}", "crops.sizes: unknown key; nearest is `size`"),
        ("train: {epoch: 3}", "train.epoch: unknown key; nearest is `epochs`"),
        (
            "train: {model: {name: a, parms: {}}}",
            "train.model.parms: unknown key; nearest is `params`",
        ),
        ("train: {augment: {flip: true}}", "train.augment.flip: unknown key; nearest is `flips`"),
        (
            "train: {validation: {value: [1]}}",
            "train.validation.value: unknown key; nearest is `values`",
        ),
        (
            "train: {labels: {includes: [a], exclude: [b]}}",
            "train.labels.includes: unknown key; nearest is `include`",
        ),
        ("profile: {layer: a}", "profile.layer: unknown key; nearest is `layers`"),
        ("analyze: {normalise: []}", "analyze.normalise: unknown key; nearest is `normalize`"),
        ("analyze: {zzz: []}", "analyze.zzz: unknown key; valid are aggregate"),
    ],
)
def test_unknown_keys_name_the_nearest(tmp_path, values, message):
    assert message in refuse(tmp_path, values)


def test_all_problems_in_one_message(tmp_path):
    message = refuse(
        tmp_path,
        "trian: {}\ncrops: {size: big, rescale: minmax}\n"
        "train: {epochs: 0, labels: {}}\nprepare: {percentiles: [5, 1]}\n",
    )
    assert message.startswith("config.yaml: 6 problems")
    for key in ("trian", "crops.size", "crops.rescale", "train.epochs", "train.labels"):
        assert f"  {key}: " in message
    assert "prepare: percentiles must be [lower, upper]" in message


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ("crops: {size: [1]}", "crops.size"),
        ("crops: {mask: 3.5}", "crops.mask"),
        ("train: {learning_rate: -1}", "train.learning_rate"),
        ("train: {validation: {fraction: 1}}", "train.validation.fraction"),
        ("train: 3", "train"),
        ("profile: {layers: []}", "profile.layers"),
        ("dataset: {image_size: [1]}", "dataset.image_size"),
        ("crops: {margin: large}", "crops.margin"),
        ("crops: {mode: tiles}", "crops.mode"),
        ("crops: {coverage: 0}", "crops.coverage"),
        ("crops: {coverage: 1.5}", "crops.coverage"),
        ("crops: {resize: 0}", "crops.resize"),
        ("crops: {mode: grid, mask: true}", "crops: mask blanks"),
    ],
)
def test_wrong_values_name_their_key(tmp_path, values, key):
    assert f"  {key}" in refuse(tmp_path, values)


def test_files_that_are_no_config(tmp_path):
    assert "line 2" in refuse(tmp_path, "train:\n\t epochs: 3\n")
    assert "not valid JSON" in refuse(tmp_path, "{,}", "config.json")
    assert "holds a list" in refuse(tmp_path, "- a\n- b\n")
    assert "holds a str" in refuse(tmp_path, "hello")
    assert "cannot be read as text" in refuse(tmp_path, b"train: \xff\xfe")
    with pytest.raises(ConfigError, match=r"none\.yaml does not exist"):
        config_file.load(tmp_path / "none.yaml")


def test_byte_order_mark_and_json(tmp_path):
    assert load(tmp_path, "\ufefftrain: {epochs: 3}").train.epochs == 3
    assert load(tmp_path, '\ufeff{"train": {"epochs": 3}}', "config.json").train.epochs == 3


def test_numbers_where_text_is_meant(tmp_path):
    text = "dataset: {channels: [1, 2], control: 17}\ntrain: {validation: {values: [1, 2]}}\n"
    found = load(tmp_path, text)
    assert found.dataset.channels == ("1", "2")
    assert found.dataset.control == "17"
    assert found.train.validation.values == ("1", "2")


def test_short_forms(tmp_path):
    found = load(
        tmp_path,
        "train: {model: resnet18, generator: single, optimizer: adam}\n"
        "profile: {layers: conv4a}\nanalyze: {normalize: [standardize]}\n",
    )
    assert found.train.optimizer.name == "adam"
    assert found.profile.layers == ("conv4a",)
    assert [step.name for step in found.analyze.normalize] == ["standardize"]


def test_schedules(tmp_path):
    def schedule(text: str):
        found = load(tmp_path, f"train: {{schedule: {text}}}\n")
        assert load(tmp_path, found.to_yaml()) == found
        return found.train.schedule.model_dump()

    assert load(tmp_path, "").train.schedule.name == "constant"
    assert schedule("cosine") == {"name": "cosine", "warmup": 0}
    assert schedule("{name: cosine, warmup: 1.5}") == {"name": "cosine", "warmup": 1.5}
    assert schedule("plateau") == {"name": "plateau", "patience": 3, "factor": 0.5}
    found = schedule("{name: step, epochs: [1, 9], rates: [0.1, 0.2]}")
    assert (found["epochs"], found["rates"]) == ((1, 9), (0.1, 0.2))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("steps", "train.schedule: input tag 'steps' .* 'constant', 'cosine', 'step', 'plateau'"),
        ("step", "train.schedule.epochs: field required"),
        ("{name: plateau, patient: 1}", "train.schedule.patient: unknown key; .* `patience`"),
        ("{name: step, epochs: [1], factors: 2}", "schedule.factors: unknown key; .* `factor`"),
        ("{name: step, epochs: [2, 1]}", "train.schedule: epochs must ascend"),
        ("{name: step, epochs: [1, 2], rates: [1]}", "train.schedule: 2 epochs need as many rates"),
        ("{warmup: 2}", "train.schedule: it needs a `name`"),
    ],
)
def test_schedules_that_do_not_exist(tmp_path, schedule, message):
    found = refuse(tmp_path, f"train: {{schedule: {schedule}}}")
    assert re.search(message, found)
    assert "1 problem" in found


def test_written_config_is_read_the_same(tmp_path):
    first = load(
        tmp_path,
        "dataset: {channels: [DNA, ER], columns: {label: Gene}, image_size: [520, 696]}\n"
        "train: {labels: {exclude: [a]}, model: {name: x, params: {depth: 3}}}\n",
    )
    assert load(tmp_path, first.to_yaml()) == first
    assert yaml.safe_load(first.to_yaml())["dataset"]["channels"] == ["DNA", "ER"]


def test_values_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().train.epochs = 3  # type: ignore[misc]
