"""Keys of the original DeepProfiler whose values mean something else here, or several things.

Each function takes a key's value and all keys that were given (dotted paths), and gives new keys
with their values, and what to tell. A key that keeps its own path is refused later on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from deepprofiler.legacy_keys import (
    GENERATORS,
    HARMLESS,
    IMAGENET_RANGE,
    MODELS,
    NEWER_RESNETS,
    OTHER_MODEL,
    REFUSED,
    REPEATING,
)
from deepprofiler.legacy_weights import feature_layer

Given = Mapping[str, Any]
Result = tuple[dict[str, Any], str]

_NO_AUGMENTATION = {"flips": False, "turns": False, "rotations": False, "shift": 0}
_WARM_UP = 5


def _label_field(value: Any, given: Given) -> Result:
    target = _target(given)
    if target is None or target == value:
        return {"dataset.columns.label": value}, "is now `dataset.columns.label`"
    return {"dataset.columns.treatment": value}, (
        "is now `dataset.columns.treatment`, as another column is the target of training"
    )


def _targets(value: Any, given: Given) -> Result:
    target = _target(given)
    if target is None:
        return {}, "is ignored: it names no column"
    more = isinstance(value, list) and len(value) > 1
    note = "is now `dataset.columns.label`" + ("; only the first is learned" if more else "")
    return {"dataset.columns.label": target}, note


def _target(given: Given) -> Any:
    targets = given.get("train.partition.targets")
    if isinstance(targets, list):
        return targets[0] if targets else None
    return targets


def _control_value(value: Any, given: Given) -> Result:
    column = given.get("dataset.metadata.label_field", _target(given))
    changed = {"dataset.control": value}
    note = "is now `dataset.control`; `train.controls` is true, as the original learns them too"
    if column is None:
        return changed, note
    changed["dataset.columns.control"] = column
    return changed, f"{note}; `dataset.columns.control` is the label column"


def _image_size(value: Any, given: Given) -> Result:
    height, width = (given.get(f"dataset.images.{side}") for side in ("height", "width"))
    if height is None or width is None:
        return {}, "is ignored: the size is read from the files"
    return {"dataset.image_size": [height, width]}, "is now in `dataset.image_size`"


def _views(given: Given) -> bool:
    """Whether crops are views of whole fields, of a known size."""
    mode, view = (given.get(f"dataset.locations.{key}") for key in ("mode", "view_size"))
    return mode == "full_image" and bool(view)


def _mode(value: Any, given: Given) -> Result:
    if value == "single_cells":
        return {"crops.mode": "cells"}, "is now `crops.mode`: cells"
    if _views(given):
        return {"crops.mode": "grid"}, "is now `crops.mode`: grid, for training as well"
    return {"dataset.locations.mode": value}, (
        f"cannot be honoured: {REFUSED['dataset.locations.mode']}"
    )


def _view_size(value: Any, given: Given) -> Result:
    if _views(given):
        return {"crops.size": value}, "is now `crops.size`"
    return {}, "is ignored: it is for views of whole images only"


def _box_size(value: Any, given: Given) -> Result:
    if _views(given):
        return {"crops.resize": value}, "is now `crops.resize`, as views are resized to it"
    return {"crops.size": value}, "is now `crops.size`"


def _compression(value: Any, given: Given) -> Result:
    changed = {"prepare.illumination": value, "prepare.compress": value}
    if value:
        # Found from its files: each corrected image by itself, between these two ranks.
        changed |= {"prepare.percentiles": [0.05, 99.95], "prepare.percentiles_of": "image"}
    return changed, "is now `prepare.illumination` and `prepare.compress`"


def _split_field(value: Any, given: Given) -> Result:
    return {"dataset.columns.split": value, "train.validation.by": "column"}, (
        "is now `dataset.columns.split`, and `train.validation.by` is `column`"
    )


def _by_channel(given: Given) -> bool:
    """Whether each channel goes through a network for colour images."""
    return (
        bool(given.get("profile.use_pretrained_input_size"))
        or given.get("train.model.crop_generator") == REPEATING
    )


def _model(value: Any, given: Given) -> Result:
    name, note = value, ""
    blocks = given.get("train.model.params.conv_blocks")
    layer = str(given.get("profile.feature_layer"))
    if value == "resnet" and blocks in NEWER_RESNETS and feature_layer(layer) == layer:
        name = f"resnet{blocks}v2"
        note = f"; for weights of releases that used keras-resnet, name it `resnet{blocks}`"
    elif isinstance(value, str) and value in MODELS:
        default, form = MODELS[value]
        name = form.format(blocks or default)
    if not _by_channel(given):
        return {"train.model.name": name}, f"is now `train.model`: {name}{note}"
    known = isinstance(name, str) and IMAGENET_RANGE.fullmatch(name)
    scaled = {"train.model.params.params.imagenet_range": True} if known else {}
    return {
        "train.model.name": "repeat_channels",
        "train.model.params.backbone": name,
        **scaled,
    }, f"is now the backbone {name} of `train.model`: repeat_channels"


def _conv_blocks(value: Any, given: Given) -> Result:
    name = given.get("train.model.name")
    if isinstance(name, str) and name in MODELS:
        return {}, "is now part of the name in `train.model`"
    return _parameter("conv_blocks")(value, given)


def _parameter(key: str) -> Callable[[Any, Given], Result]:
    """Make the function for a parameter that only autoencoders have."""

    def handler(value: Any, given: Given) -> Result:
        if given.get("train.model.name") == "autoencoder":
            return {f"train.model.params.{key}": value}, f"is now `train.model.params.{key}`"
        return {}, f"is ignored: {OTHER_MODEL}"

    return handler


def _pretrained_size(value: Any, given: Given) -> Result:
    if value in HARMLESS["profile.use_pretrained_input_size"]:
        return {}, "is ignored: it is off"
    changed = {"crops.resize": value}
    note = "is now `crops.resize`, with `train.model`: repeat_channels"
    if given.get("profile.checkpoint") in _NO_FILE:
        changed["profile.checkpoint"] = "imagenet"
        note += " and `profile.checkpoint`: imagenet"
    return changed, note


def _initialization(value: Any, given: Given) -> Result:
    weights = "imagenet" if str(value).lower() == "imagenet" else "none"
    return {"train.weights": weights}, f"is now `train.weights`: {weights}"


def _pretrained(value: Any, given: Given) -> Result:
    if not value or value == "None":
        return {}, "is ignored: it names no file"
    weights = value if isinstance(value, str) else "imagenet"
    return {"train.weights": weights}, f"is now `train.weights`: {weights}"


def _generator(value: Any, given: Given) -> Result:
    name = GENERATORS.get(value, value) if isinstance(value, str) else value
    return {"train.generator.name": name}, f"is now `train.generator`: {name}"


def _alpha(value: Any, given: Given) -> Result:
    if given.get("train.model.crop_generator") == "mixup_crop_generator":
        return {"train.generator.params.alpha": value}, "is now `train.generator.params.alpha`"
    return {}, "is ignored: it is for mixup only"


def _online(new: str) -> Callable[[Any, Given], Result]:
    """Make the function for a parameter of labels that the network softens."""

    def handler(value: Any, given: Given) -> Result:
        name = given.get("train.model.crop_generator")
        if isinstance(name, str) and GENERATORS.get(name) == "online_labels":
            return {new: value}, f"is now `{new}`"
        return {}, "is ignored: it is for online labels only"

    return handler


def _augmentations(value: Any, given: Given) -> Result:
    if value:
        return {}, "is now `train.augment`: flips and turns, but no zoom, brightness or contrast"
    changed = {f"train.augment.{name}": off for name, off in _NO_AUGMENTATION.items()}
    return changed, "is now `train.augment`, all off"


def _schedule(value: Any, given: Given) -> Result:
    epochs: Any
    lr: Any
    if value == "cosine":
        epochs = given.get("train.model.epochs")
        long = isinstance(epochs, int) and epochs > _WARM_UP
        schedule: dict[str, Any] = {"name": "cosine", "warmup": _WARM_UP if long else 0}
        return {"train.schedule": schedule}, "is now `train.schedule`"
    table = value if isinstance(value, dict) else {}
    epochs, lr = table.get("epoch"), table.get("lr")
    lists = isinstance(epochs, list) and isinstance(lr, list)
    if not lists or len(epochs) != len(lr) or not all(isinstance(epoch, int) for epoch in epochs):
        return {"train.schedule": value}, "is now `train.schedule`"
    # Keras counts epochs from 0 there; the first one's rate is then the learning rate.
    rates = dict(zip(epochs, lr, strict=True))
    changed: dict[str, Any] = {}
    if 0 in rates:
        changed["train.learning_rate"] = rates.pop(0)
    if rates:
        changed["train.schedule"] = {
            "name": "step",
            "epochs": [epoch + 1 for epoch in sorted(rates)],
            "rates": [rates[epoch] for epoch in sorted(rates)],
        }
    return changed, "is now `train.schedule`: step, with epochs counted from 1"


def _comet(value: Any, given: Given) -> Result:
    if value is True:
        return {"train.trackers": ["comet"]}, "is now `train.trackers`: [comet]"
    return {}, "is ignored: nothing is tracked, unless `train.trackers` names comet"


_NO_FILE = (None, "", "None")


def _feature_layer(value: Any, given: Given) -> Result:
    layer = feature_layer(value) if isinstance(value, str) else value
    if layer == "avg_pool":
        layer = "pool5"
    return {"profile.layers": [layer]}, f"is now `profile.layers`: [{layer}]"


def _checkpoint(value: Any, given: Given) -> Result:
    if value not in _NO_FILE:
        return {"profile.checkpoint": value}, "is kept"
    if given.get("profile.use_pretrained_input_size"):
        return {}, "is ignored: it names no file, so the weights of ImageNet are used"
    return {}, "is ignored: it names no file, so the last epoch's weights are used"


#: Functions for the keys that are neither only renamed nor always ignored.
SPECIAL: dict[str, Callable[[Any, Given], Result]] = {
    "dataset.metadata.label_field": _label_field,
    "dataset.metadata.control_value": _control_value,
    "dataset.images.width": _image_size,
    "dataset.images.height": _image_size,
    "dataset.locations.mode": _mode,
    "dataset.locations.view_size": _view_size,
    "dataset.locations.box_size": _box_size,
    "prepare.compression.implement": _compression,
    "train.partition.targets": _targets,
    "train.partition.split_field": _split_field,
    "train.model.name": _model,
    "train.model.params.conv_blocks": _conv_blocks,
    "train.model.params.feature_dim": _parameter("feature_dim"),
    "train.model.params.online_lambda": _online("train.generator.params.blend"),
    "train.model.params.online_label_smoothing": _online("train.label_smoothing"),
    "train.model.crop_generator": _generator,
    "train.model.augmentations": _augmentations,
    "train.model.lr_schedule": _schedule,
    "train.model.initialization": _initialization,
    "train.model.pretrained": _pretrained,
    "train.pretrained": _pretrained,
    "train.sampling.alpha": _alpha,
    "train.comet_ml.track": _comet,
    "profile.feature_layer": _feature_layer,
    "profile.checkpoint": _checkpoint,
    "profile.use_pretrained_input_size": _pretrained_size,
}
#: Keys whose sections are one value.
WHOLE_VALUES = {"train.model.lr_schedule"}
