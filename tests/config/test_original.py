from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from deepprofiler.config import config_file, original
from deepprofiler.config.schema import Config
from deepprofiler.errors import ConfigError
from deepprofiler.project.index import read_index
from deepprofiler.registry import MODELS, discover

# The layout that the original's handbook and tests describe, with this test's own values.
ORIGINAL: dict[str, Any] = {
    "dataset": {
        "metadata": {"label_field": "Treatment", "control_value": "DMSO"},
        "images": {
            "channels": ["DNA", "ER"],
            "file_format": "tif",
            "bits": 16,
            "width": 696,
            "height": 520,
        },
        "locations": {
            "mode": "single_cells",
            "box_size": 96,
            "view_size": 300,
            "area_coverage": 0.75,
            "mask_objects": False,
        },
    },
    "prepare": {
        "illumination_correction": {"down_scale_factor": 2, "median_filter_size": 12},
        "compression": {"implement": True, "scaling_factor": 1.0},
    },
    "train": {
        "partition": {
            "targets": ["Treatment"],
            "split_field": "Split",
            "training": [0],
            "validation": [1],
        },
        "model": {
            "name": "resnet",
            "crop_generator": "sampled_crop_generator",
            "augmentations": True,
            "metrics": ["accuracy", "top_k"],
            "epochs": 7,
            "steps": 11,
            "initialization": "random",
            "checkpoint_policy": "best",
            "lr_schedule": "cosine",
            "params": {
                "learning_rate": 0.005,
                "batch_size": 48,
                "conv_blocks": 50,
                "label_smoothing": 0.1,
                "feature_dim": 256,
                "latent_dim": 100,
                "epsilon_std": 1.0,
                "pooling": "avg",
                "online_label_smoothing": 0.1,
                "online_lambda": 0.01,
            },
        },
        "sampling": {"factor": 0.5, "cache_size": 100, "workers": 2, "alpha": 0.2},
        "validation": {
            "frequency": 1,
            "top_k": 5,
            "batch_size": 32,
            "frame": "val",
            "sample_first_crops": True,
        },
        "comet_ml": {"track": False, "api_key": "", "project_name": "x"},
    },
    "profile": {
        "feature_layer": "res4a_relu",
        "checkpoint": "checkpoint_0007.hdf5",
        "use_pretrained_input_size": False,
        "batch_size": 64,
        "gpus": "0",
    },
    "paths": {"index": "/inputs/metadata/index.csv"},
}

# Key of the original: (old value, key of ours, value there), each alone in a small config.
EVERY_KEY = [
    ("dataset.metadata.label_field", "Class", "dataset.columns.label", "Class"),
    ("dataset.metadata.control_value", "DMSO", "dataset.control", "DMSO"),
    ("dataset.metadata.control_id", 17, "dataset.control", "17"),
    ("dataset.images.channels", ["A", "B"], "dataset.channels", ("A", "B")),
    ("dataset.images.bits", 12, "dataset.bits", 12),
    ("dataset.locations.box_size", 96, "crops.size", 96),
    ("dataset.locations.mask_objects", True, "crops.mask", True),
    ("prepare.images.channels", ["A"], "dataset.channels", ("A",)),
    ("prepare.illumination_correction.down_scale_factor", 2.0, "prepare.down_scale", 2),
    ("prepare.illumination_correction.median_filter_size", 12, "prepare.median_size", 12),
    ("prepare.compression.implement", True, "prepare.illumination", True),
    ("prepare.compression.implement", True, "prepare.compress", True),
    ("prepare.compression.implement", False, "prepare.illumination", False),
    ("train.partition.targets", ["A", "B"], "dataset.columns.label", "A"),
    ("train.partition.split_field", "Plate", "dataset.columns.split", "Plate"),
    ("train.partition.split_field", "Plate", "train.validation.by", "column"),
    ("train.partition.validation", ["p1", 2], "train.validation.values", ("p1", "2")),
    ("train.partition.training", [0, "a"], "train.validation.training", ("0", "a")),
    ("train.partition.training_values", [0], "train.validation.training", ("0",)),
    ("train.dset.training_values", [0], "train.validation.training", ("0",)),
    ("train.dset.targets", ["A"], "dataset.columns.label", "A"),
    ("train.dset.split_field", "S", "dataset.columns.split", "S"),
    ("train.dset.validation_values", [1], "train.validation.values", ("1",)),
    ("train.dset.mask_objects", True, "crops.mask", True),
    ("train.sampling.box_size", 64, "crops.size", 64),
    ("train.model.epochs", 3, "train.epochs", 3),
    ("train.model.steps", 5, "train.steps", 5),
    ("train.model.params.epochs", 3, "train.epochs", 3),
    ("train.model.params.learning_rate", 0.1, "train.learning_rate", 0.1),
    ("train.model.params.batch_size", 9, "train.batch_size", 9),
    ("train.model.params.label_smoothing", 0.2, "train.label_smoothing", 0.2),
    ("train.model.params.optimizer", "adam", "train.optimizer.name", "adam"),
    ("train.model.crop_generator", "crop_generator", "train.generator.name", "single"),
    ("train.model.crop_generator", "mixup_crop_generator", "train.generator.name", "mixup"),
    (
        "train.model.crop_generator",
        "online_labels_cropgen",
        "train.generator.name",
        "online_labels",
    ),
    ("train.model.crop_generator", "my_own", "train.generator.name", "my_own"),
    ("train.model.augmentations", True, "train.augment.flips", True),
    ("train.model.augmentations", False, "train.augment.turns", False),
    ("train.model.augmentations", False, "train.augment.shift", 0),
    ("train.model.lr_schedule", "cosine", "train.schedule.name", "cosine"),
    # Keras counts epochs from 0 there.
    ("train.model.lr_schedule", {"epoch": [2], "lr": [0.1]}, "train.schedule.epochs", (3,)),
    ("train.model.lr_schedule", {"epoch": [2], "lr": [0.1]}, "train.schedule.rates", (0.1,)),
    (
        "train.model.lr_schedule",
        {"epoch": [0, 2], "lr": [0.3, 0.1]},
        "train.learning_rate",
        0.3,
    ),
    ("train.model.initialization", "ImageNet", "train.weights", "imagenet"),
    ("train.model.initialization", "random", "train.weights", "none"),
    ("train.model.pretrained", "weights.h5", "train.weights", "weights.h5"),
    ("train.pretrained", True, "train.weights", "imagenet"),
    ("train.pretrained", None, "train.weights", "none"),
    ("train.validation.top_k", 3, "train.top_k", 3),
    ("train.comet_ml.track", True, "train.trackers", ("comet",)),
    ("train.comet_ml.track", False, "train.trackers", ()),
    ("dataset.locations.mode", "single_cells", "crops.mode", "cells"),
    ("dataset.locations.view_size", 300, "crops.size", 128),
    ("train.model.params.online_lambda", 0.5, "train.generator.params", {}),
    ("train.model.params.online_label_smoothing", 0.5, "train.label_smoothing", 0),
    ("train.model.params.feature_dim", 256, "train.model.params", {}),
    ("train.model.params.conv_blocks", 4, "train.model.params", {}),
    ("profile.use_pretrained_input_size", 224, "crops.resize", 224),
    ("profile.use_pretrained_input_size", 224, "profile.checkpoint", "imagenet"),
    ("profile.use_pretrained_input_size", False, "crops.resize", None),
    ("profile.pretrained", False, "profile.checkpoint", "last"),
    ("train.pretrained", False, "train.weights", "none"),
    ("train.model.pretrained", False, "train.weights", "none"),
    ("profile.feature_layer", "avg_pool", "profile.layers", ("pool5",)),
    ("profile.feature_layer", "res4a_relu", "profile.layers", ("conv4a",)),
    ("profile.feature_layer", "block6a_activation", "profile.layers", ("block6a_activation",)),
    ("profile.checkpoint", "a.hdf5", "profile.checkpoint", "a.hdf5"),
    ("profile.checkpoint", "None", "profile.checkpoint", "last"),
    ("profile.batch_size", 7, "profile.batch_size", 7),
]


def at(values: Any, path: str) -> Any:
    for name in path.split("."):
        values = values[name] if isinstance(values, dict) else getattr(values, name)
    return values


def put(values: dict[str, Any], path: str, value: Any) -> None:
    *sections, name = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[name] = value


@pytest.mark.parametrize(("old", "value", "new", "expected"), EVERY_KEY)
def test_every_key(old, value, new, expected):
    values: dict[str, Any] = {"paths": {}}
    put(values, old, value)
    found, notes = config_file.parse(values, "config.json")
    assert at(found, new) == expected
    assert sum(note.startswith(f"`{old}` ") for note in notes) == 1


def test_known_keys_are_all_in_a_table():
    tested = {old for old, *_ in EVERY_KEY}
    renamed = {key for key in original.known_keys() if not explained(key)}
    assert renamed - tested - set(leaves(ORIGINAL)) - EARLIER_ELSEWHERE == set()


# Earlier places of keys that are tested where they stand now, and keys with a test of their own.
EARLIER_ELSEWHERE = {
    "dataset.images.channel_repeats",
    "prepare.images.bits",
    "prepare.images.channel_repeats",
    "prepare.images.width",
    "prepare.images.height",
    "prepare.metadata.label_field",
    "prepare.metadata.control_id",
    "train.model.conv_blocks",
    "train.model.optimizer",
    "train.model.params.steps",
    "train.partition.validation_values",
    "train.sampling.mask_objects",
}


def explained(key: str) -> bool:
    _, notes = original.translate({"paths": {}} | nest(key, "anything"))
    return any(note.startswith(f"`{key}` is ignored: ") for note in notes)


def nest(key: str, value: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    put(values, key, value)
    return values


def leaves(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        inner = leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else []
        found += inner or [f"{prefix}{name}"]
    return found


def test_whole_original():
    found, notes = config_file.parse(copy.deepcopy(ORIGINAL), "config.json")
    assert found.dataset.channels == ("DNA", "ER")
    assert found.dataset.image_size == (520, 696)
    assert found.dataset.columns.control == "Treatment"
    # The layer is one of keras-resnet, which earlier releases used.
    assert found.train.model.name == "resnet50"
    assert found.train.model.params == {}
    assert found.train.generator.name == "single"
    assert found.train.generator.params == {}
    assert found.train.controls is True
    assert found.train.schedule.model_dump() == {"name": "cosine", "warmup": 5}
    assert found.train.augment.shift == 0
    assert found.crops.rescale == "min-max"
    assert found.crops.geometry == "original"
    assert found.profile.layers == ("conv4a",)
    *notes, rule = notes
    assert rule.startswith("crops are scaled by `min-max`, as in the original since August 2024")
    assert "`legacy-0.3`" in rule
    assert "`standardize`" in rule
    named = [note.split("`")[1] for note in notes]
    assert sorted(named) == sorted(leaves(ORIGINAL))
    assert all("\n" not in note for note in notes)


@pytest.mark.parametrize(
    ("name", "blocks", "expected"),
    [
        ("resnet", 18, "resnet18"),
        ("resnet", 50, "resnet50v2"),
        ("resnet", 101, "resnet101v2"),
        ("resnet101", 101, "resnet101"),
        ("densenet", 121, "densenet121"),
        ("inception_resnet_v2", None, "inception_resnet_v2"),
        ("efficientnet", 0, "efficientnet_b0"),
        ("efficientnet", 3, "efficientnet_b3"),
        ("cnn", 3, "cnn"),
    ],
)
def test_models(name, blocks, expected):
    model = {"name": name, "crop_generator": "crop_generator", "params": {"conv_blocks": blocks}}
    values = {"train": {"model": model}}
    found, _ = config_file.parse(values, "config.json")
    assert found.train.model.name == expected
    assert found.train.model.params == {}


def test_autoencoders_keep_their_parameters():
    params = {"conv_blocks": 3, "feature_dim": 64, "latent_dim": 10}
    model = {"name": "autoencoder", "params": params}
    values: dict[str, Any] = {"train": {"model": model | {"crop_generator": "crop_generator"}}}
    found, notes = config_file.parse(values, "config.json")
    assert found.train.model.params == {"conv_blocks": 3, "feature_dim": 64}
    assert sum("`train.model.params.latent_dim` is ignored" in note for note in notes) == 1


def test_online_labels():
    values = copy.deepcopy(ORIGINAL)
    values["train"]["model"]["crop_generator"] = "online_labels_cropgen"
    values["train"]["model"]["params"] |= {"online_lambda": 0.02, "online_label_smoothing": 0.2}
    del values["train"]["model"]["params"]["label_smoothing"]
    found, _ = config_file.parse(values, "config.json")
    assert found.train.generator.params == {"blend": 0.02}
    assert found.train.label_smoothing == 0.2


def test_views_of_whole_fields():
    values = copy.deepcopy(ORIGINAL)
    values["dataset"]["locations"] |= {"mode": "full_image", "view_size": 300, "box_size": 96}
    crops = config_file.parse(values, "config.json")[0].crops
    assert (crops.mode, crops.size, crops.resize) == ("grid", 300, 96)


@pytest.mark.parametrize("checkpoint", ["None", "mine.hdf5"])
def test_each_channel_through_a_network_for_colours(checkpoint):
    values = copy.deepcopy(ORIGINAL)
    values["train"]["model"]["crop_generator"] = "repeat_channel_crop_generator"
    values["profile"] = {
        "feature_layer": "avg_pool",
        "checkpoint": checkpoint,
        "use_pretrained_input_size": 224,
    }
    found, _ = config_file.parse(values, "config.json")
    assert found.train.generator.name == "single"
    assert found.train.model.name == "repeat_channels"
    assert found.train.model.params == {
        "backbone": "resnet50v2",
        "params": {"imagenet_range": True},
    }
    assert (found.crops.size, found.crops.resize) == (96, 224)
    assert found.profile.layers == ("pool5",)
    assert found.profile.checkpoint == {"None": "imagenet"}.get(checkpoint, checkpoint)


@pytest.mark.parametrize("place", ["dataset", "prepare"])
def test_repeated_channels(place):
    values = copy.deepcopy(ORIGINAL)
    values["train"]["model"]["crop_generator"] = "repeat_channel_crop_generator"
    values[place].setdefault("images", {})["channel_repeats"] = 3
    found, notes = config_file.parse(values, "config.json")
    assert found.train.model.name == "repeat_channels"
    note = f"`{place}.images.channel_repeats` is now part of `train.model`: repeat_channels"
    assert note in notes


def test_two_names_of_one_key():
    values = copy.deepcopy(ORIGINAL)
    values["train"]["sampling"]["box_size"] = 64
    with pytest.raises(ConfigError) as caught:
        config_file.parse(values, "config.json")
    message = str(caught.value)
    assert message.startswith("config.json: ")
    assert "`dataset.locations.box_size` is 96" in message
    assert "`train.sampling.box_size` is 64" in message
    values["train"]["sampling"]["box_size"] = 96
    assert config_file.parse(values, "config.json")[0].crops.size == 96
    # Of what is ignored both may be there.
    values["train"]["queueing"] = {"queue_size": 7}
    config_file.parse(values, "config.json")


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("name", "blocks", "backbone", "known"),
    [
        ("resnet", 18, "resnet18", False),
        ("resnet", 50, "resnet50v2", True),
        ("resnet101", 0, "resnet101", False),
        ("efficientnet", 3, "efficientnet_b3", True),
        ("densenet", None, "densenet121", True),
        ("inception_resnet_v2", None, "inception_resnet_v2", True),
        ("vgg16", None, "vgg16", True),
        ("vgg11", None, "vgg11", False),
    ],
)
def test_only_models_of_keras_applications_know_the_range_of_imagenet(
    name, blocks, backbone, known
):
    """What the config becomes is just what the model takes."""
    values = copy.deepcopy(ORIGINAL)
    values["train"]["model"] |= {"name": name, "crop_generator": "repeat_channel_crop_generator"}
    values["train"]["model"]["params"].pop("conv_blocks", None)
    if blocks is not None:
        values["train"]["model"]["params"]["conv_blocks"] = blocks
    values["profile"] = {"feature_layer": "avg_pool", "checkpoint": "mine.hdf5"}
    found, _ = config_file.parse(values, "config.json")
    params = found.train.model.params
    assert params["backbone"] == backbone
    assert ("params" in params) is known
    discover(None)
    MODELS.check(backbone, params.get("params", {}))
    assert known is ("imagenet_range" in MODELS.parameters(backbone))


def test_target_beside_the_label_field():
    values = copy.deepcopy(ORIGINAL)
    values["train"]["partition"]["targets"] = ["Gene", "Allele"]
    found, notes = config_file.parse(values, "config.json")
    assert found.dataset.columns.label == "Gene"
    assert found.dataset.columns.treatment == "Treatment"
    assert found.dataset.columns.control == "Treatment"
    assert any("only the first is learned" in note for note in notes)


def test_mixup_parameter():
    values = copy.deepcopy(ORIGINAL)
    values["train"]["model"]["crop_generator"] = "mixup_crop_generator"
    found, _ = config_file.parse(values, "config.json")
    assert found.train.generator.params == {"alpha": 0.2}


def test_without_compression_nothing_is_corrected():
    values = copy.deepcopy(ORIGINAL)
    del values["prepare"]["compression"]
    found, notes = config_file.parse(values, "config.json")
    assert not found.prepare.illumination
    assert not found.prepare.compress
    assert any("not corrected" in note for note in notes)


def test_own_keys_beside_the_original_win():
    values = copy.deepcopy(ORIGINAL)
    values["crops"] = {"rescale": "legacy-0.3", "size": 64}
    found, _ = config_file.parse(values, "config.json")
    assert found.crops.rescale == "legacy-0.3"
    assert found.crops.size == 64


def test_old_names_and_unknown_keys_in_one_message():
    values = copy.deepcopy(ORIGINAL)
    sampling = values["train"]["sampling"]
    sampling["queue_size"] = sampling.pop("cache_size")
    partition = values["train"]["partition"]
    partition["training_values"] = partition.pop("training")
    partition["validation_values"] = partition.pop("validation")
    del values["train"]["model"]["params"]["label_smoothing"]
    found, notes = config_file.parse(copy.deepcopy(values), "config.json")
    assert found.train.label_smoothing == 0
    assert found.train.validation.values == ("1",)
    for name in ("train.sampling.queue_size", "train.partition.training_values"):
        assert sum(note.startswith(f"`{name}` ") for note in notes) == 1
    values["trian"] = {"epochs": 3, "model": {}}
    values["dataset"]["metadata"]["lable_field"] = "x"
    values["train"]["model"]["epochs"] = "many"
    with pytest.raises(ConfigError) as caught:
        config_file.parse(values, "config.json")
    message = str(caught.value)
    assert message.startswith("config.json: 3 problems")
    assert "trian: unknown key; nearest is `train`" in message
    assert "dataset.metadata.lable_field: unknown key; nearest is" in message
    assert "`dataset.metadata.label_field`" in message
    assert "train.epochs: " in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset.locations.mode", "whole"),
        ("prepare.compression.scaling_factor", 0.5),
        ("profile.pretrained", True),
        # Without the crop generator that repeats them, and another number of times.
        ("dataset.images.channel_repeats", 3),
        ("dataset.images.channel_repeats", 2),
    ],
)
def test_what_would_give_other_results_is_refused(key, value):
    values = copy.deepcopy(ORIGINAL)
    put(values, key, value)
    with pytest.raises(ConfigError, match=f"1 problem.*\n  {key}: .*; found {value!r}"):
        config_file.parse(values, "config.json")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.model.lr_schedule", {"epoch": [1, 2], "lr": [0.1]}, "train.schedule: it needs a"),
        ("train.model.lr_schedule", {"epoch": 1, "lr": 0.1}, "train.schedule: it needs a `name`"),
        ("train.model.name", ["resnet"], r"train.model.name: .*string; found \['resnet'\]"),
    ],
)
def test_values_of_another_kind_are_refused(key, value, said):
    values = copy.deepcopy(ORIGINAL)
    put(values, key, value)
    with pytest.raises(ConfigError, match=f"1 problem.*\n  {said}"):
        config_file.parse(values, "config.json")


def test_own_configs_are_not_taken_for_the_originals():
    assert not original.is_original({})
    assert not original.is_original(Config().model_dump())
    assert not original.is_original({"dataset": {"images": 3}, "train": None, "profile": []})
    own = {"train": {"model": {"name": "autoencoder", "params": {"conv_blocks": 3}}}}
    assert not original.is_original(own)
    assert original.is_original(ORIGINAL)


def test_the_originals_own_files(shared_data):
    folder = shared_data / "original_deepprofiler" / "inputs"
    for name, compress in (("prep.json", True), ("effnet.json", False)):
        path = folder / "config" / name
        found, notes = config_file.load(path)
        # And one of the rule that scales crops.
        assert len(notes) == len(leaves(json.loads(path.read_text()))) + 1
        assert found.prepare.compress is found.prepare.illumination is compress
        assert found.train.model.name == "efficientnet_b0"
        index = read_index(
            folder / "metadata" / "index.csv",
            folder / "images",
            channels=found.channels,
            columns=found.dataset.columns.model_dump(),
            control=found.dataset.control,
        )
        assert index.roles["label"] == index.roles["control"] == "Metadata_Treatment"
        assert index.negative.any()
        assert not index.negative.all()
