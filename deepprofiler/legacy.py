"""The original DeepProfiler's JSON configuration, recognised and translated.

The tables below name every key of versions 0.1 to 0.5.1 as its handbook, its tests and its
examples have them. Each key met gives one note: what it is called now, or why it is ignored. A key
that is in no table stays where it is, so that the check of the configuration refuses it together
with all other problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Values = dict[str, Any]

#: Sections and keys that only the original has; those of the first group hold a section.
_SECTIONS = (
    "dataset.metadata",
    "dataset.images",
    "dataset.locations",
    "prepare.illumination_correction",
    "prepare.compression",
    "prepare.images",
    "prepare.metadata",
    "train.partition",
    "train.dset",
    "train.sampling",
    "train.queueing",
    "train.comet_ml",
    "paths",
)
_KEYS = ("profile.feature_layer", "train.model.crop_generator", "train.model.params.conv_blocks")

#: Where the same thing stood in earlier versions.
_EARLIER = {
    "dataset.metadata.control_id": "dataset.metadata.control_value",
    "prepare.metadata.label_field": "dataset.metadata.label_field",
    "prepare.metadata.control_id": "dataset.metadata.control_value",
    "prepare.images.channels": "dataset.images.channels",
    "prepare.images.file_format": "dataset.images.file_format",
    "prepare.images.bits": "dataset.images.bits",
    "prepare.images.width": "dataset.images.width",
    "prepare.images.height": "dataset.images.height",
    "train.dset.targets": "train.partition.targets",
    "train.dset.split_field": "train.partition.split_field",
    "train.dset.training_values": "train.partition.training",
    "train.dset.validation_values": "train.partition.validation",
    "train.dset.mask_objects": "dataset.locations.mask_objects",
    "train.partition.training_values": "train.partition.training",
    "train.partition.validation_values": "train.partition.validation",
    "train.sampling.box_size": "dataset.locations.box_size",
    "train.sampling.mask_objects": "dataset.locations.mask_objects",
    "train.sampling.queue_size": "train.sampling.cache_size",
    "train.queueing.queue_size": "train.sampling.cache_size",
    "train.queueing.loading_workers": "train.sampling.workers",
}

#: Keys with the same meaning under another name.
_RENAMED = {
    "dataset.images.channels": "dataset.channels",
    "dataset.images.bits": "dataset.bits",
    "dataset.locations.box_size": "crops.size",
    "dataset.locations.mask_objects": "crops.mask",
    "prepare.illumination_correction.down_scale_factor": "prepare.down_scale",
    "prepare.illumination_correction.median_filter_size": "prepare.median_size",
    "train.partition.split_field": "dataset.columns.split",
    "train.partition.validation": "train.validation.values",
    "train.model.epochs": "train.epochs",
    "train.model.steps": "train.steps",
    "train.model.optimizer": "train.optimizer",
    "train.model.params.optimizer": "train.optimizer",
    "train.model.params.learning_rate": "train.learning_rate",
    "train.model.params.batch_size": "train.batch_size",
    "train.model.params.label_smoothing": "train.label_smoothing",
    "profile.batch_size": "profile.batch_size",
}

_FOLDERS = "a project's folders are where --root says"
_DEVICE = "choose a device with --gpu"
_STORE = "crops are read from the exported single cells, which needs no queue"
_WHOLE = "it is for whole images only"
_VALIDATION = "validation shows every held-out cell once after each epoch"
_OTHER_MODEL = "the model has no such parameter"

#: Keys without an effect here, and why.
_IGNORED = {
    "dataset.images.file_format": "the format is read from each file",
    "dataset.locations.view_size": _WHOLE,
    "dataset.locations.area_coverage": _WHOLE,
    "dataset.locations.locations_field": "locations may be of any object",
    "prepare.outlines": "`locate --labels` writes the label images that `crops.mask` needs",
    "train.partition.training": "every site is trained on whose split value is not held out; "
    "leave the split blank where a site belongs to neither",
    "train.model.metrics": "accuracy, per cell and per class, is always reported",
    "train.model.checkpoint_policy": "the last and the best epoch are kept",
    "train.model.params.feature_dim": _OTHER_MODEL,
    "train.model.params.latent_dim": _OTHER_MODEL,
    "train.model.params.epsilon_std": _OTHER_MODEL,
    "train.model.params.pooling": "features are averaged over each layer's whole output",
    "train.model.params.online_label_smoothing": "give it in train.generator.params",
    "train.model.params.online_lambda": "give it in train.generator.params",
    "train.sampling.factor": "every cell is exported; `crops.cells_per_well` limits them",
    "train.sampling.cache_size": _STORE,
    "train.sampling.workers": "choose the number of processes with --cores",
    "train.sampling.images": _STORE,
    "train.sampling.locations": _STORE,
    "train.sampling.locations_field": "locations may be of any object",
    "train.sampling.field": "cells are drawn evenly over the labels",
    "train.queueing.min_size": _STORE,
    "train.queueing.fifo_queue_size": _STORE,
    "train.queueing.random_queue_size": _STORE,
    "train.queueing.cropping_workers": _STORE,
    "train.queueing.augmentation_workers": _STORE,
    "train.validation.frequency": _VALIDATION,
    "train.validation.top_k": "accuracy is of the first choice",
    "train.validation.batch_size": "it is `train.batch_size`",
    "train.validation.frame": _VALIDATION,
    "train.validation.sample_first_crops": _VALIDATION,
    "train.validation.save_features": "`profile` writes features",
    "train.dset.width": "image sizes are read from the files",
    "train.dset.height": "image sizes are read from the files",
    "train.pretrained": "training begins with random weights",
    "train.gpus": _DEVICE,
    "profile.gpus": _DEVICE,
    "experiment_name": "choose it with --exp",
}
#: Whole sections without an effect here, and why.
_IGNORED_SECTIONS = {
    "paths": _FOLDERS,
    "train.comet_ml": "no data leave this machine; logs are CSV and TensorBoard files",
}

#: What cannot be had, and would give other results if it were ignored; see :func:`refusal`.
_REFUSED = {
    "dataset.locations.mode": "only `single_cells` is offered, not profiling of whole images",
    "prepare.compression.scaling_factor": "only 1 is offered: images are not made smaller",
    "profile.use_pretrained_input_size": "networks trained on ImageNet are not offered",
}
_HARMLESS = {
    "dataset.locations.mode": ("single_cells",),
    "prepare.compression.scaling_factor": (1,),
    "profile.use_pretrained_input_size": (None, False, 0),
}

_GENERATORS = {
    "crop_generator": "single",
    "sampled_crop_generator": "single",
    "mixup_crop_generator": "mixup",
    "online_labels_cropgen": "online_labels",
    "online_labels_crop_generator": "online_labels",
    "recurrent_crop_generator": "sequence",
    "crop_set_generator": "sequence",
    "autoencoder_crop_generator": "single",
    "repeat_channel_crop_generator": "single",
    "individual_channel_cropgen": "single",
}
_NO_AUGMENTATION = {"flips": False, "turns": False, "rotations": False, "shift": 0}

_Handler = Callable[[Mapping[str, Any]], tuple[Values, str] | None]


def is_original(values: Mapping[str, Any]) -> bool:
    """Tell whether a configuration is of the original DeepProfiler."""
    return any(isinstance(_get(values, key), dict) for key in _SECTIONS) or any(
        _get(values, key) is not None for key in _KEYS
    )


def known_keys() -> list[str]:
    """Every key of the original that is translated, ignored or refused."""
    return sorted({*_EARLIER, *_RENAMED, *_IGNORED, *_REFUSED, *_SPECIAL})


def refusal(key: str) -> str | None:
    """Why a key of the original cannot be translated; None for any other key."""
    return _REFUSED.get(key)


def translate(values: Mapping[str, Any]) -> tuple[Values, list[str]]:
    """Translate a configuration of the original DeepProfiler.

    Parameters
    ----------
    values : mapping
        The JSON file's contents.

    Returns
    -------
    values : dict
        The same with this program's keys, unchecked. Keys that are in no table, and those whose
        value cannot be honoured, stay under their own path.
    notes : list of str
        One line for each key that was translated or ignored.
    """
    given: Values = {}
    names: dict[str, str] = {}
    rest: Values = {}
    known = set(known_keys())
    for path, value in _leaves(values):
        key = _EARLIER.get(path, path)
        if key in known or any(key.startswith(f"{name}.") for name in _IGNORED_SECTIONS):
            given[key] = value
            names[key] = path
        else:
            rest[path] = value
    # The original neither corrects images nor blanks neighbours unless it is told to.
    result: Values = {"prepare": {"illumination": False}}
    notes = []
    for key, value in given.items():
        changed, message = _translate_key(key, value, given)
        for path, new in changed.items():
            _set(result, path, new)
        notes.append(f"`{names[key]}` {message}")
    if "prepare.compression.implement" not in given:
        notes.append("images are not corrected, as there is no `prepare.compression.implement`")
    for path, value in rest.items():
        _set(result, path, value)
    return result, notes


def _translate_key(key: str, value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    """New keys and values for one of the original's keys, and what happened to it."""
    if key in _SPECIAL:
        return _SPECIAL[key](value, given)
    if key in _RENAMED:
        return {_RENAMED[key]: value}, f"is now `{_RENAMED[key]}`"
    if key in _REFUSED:
        if value in _HARMLESS[key]:
            return {}, "is ignored: it is always so"
        return {key: value}, f"cannot be honoured: {_REFUSED[key]}"
    sections = [why for name, why in _IGNORED_SECTIONS.items() if key.startswith(f"{name}.")]
    return {}, f"is ignored: {_IGNORED.get(key) or sections[0]}"


# -- keys that need more than another name ---------------------------------------------------


def _label_field(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    target = _target(given)
    if target is None or target == value:
        return {"dataset.columns.label": value}, "is now `dataset.columns.label`"
    return {"dataset.columns.treatment": value}, (
        "is now `dataset.columns.treatment`, as another column is the target of training"
    )


def _targets(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    target = _target(given)
    if target is None:
        return {}, "is ignored: it names no column"
    more = isinstance(value, list) and len(value) > 1
    note = "is now `dataset.columns.label`" + ("; only the first is learned" if more else "")
    return {"dataset.columns.label": target}, note


def _target(given: Mapping[str, Any]) -> Any:
    targets = given.get("train.partition.targets")
    if isinstance(targets, list):
        return targets[0] if targets else None
    return targets


def _control_value(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    column = given.get("dataset.metadata.label_field", _target(given))
    changed = {"dataset.control": value, "train.controls": True}
    note = "is now `dataset.control`; controls are a class of the training, as in the original"
    if column is None:
        return changed, note
    changed["dataset.columns.control"] = column
    return changed, f"{note}; `dataset.columns.control` is the label column"


def _image_size(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    height, width = (given.get(f"dataset.images.{side}") for side in ("height", "width"))
    if height is None or width is None:
        return {}, "is ignored: the size is read from the files"
    return {"dataset.image_size": [height, width]}, "is now in `dataset.image_size`"


def _compression(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    return {"prepare.illumination": value, "prepare.compress": value}, (
        "is now `prepare.illumination` and `prepare.compress`"
    )


def _split_field(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    return {"dataset.columns.split": value, "train.validation.by": "column"}, (
        "is now `dataset.columns.split`, and `train.validation.by` is `column`"
    )


def _model(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    blocks = given.get("train.model.params.conv_blocks")
    name = value
    if value == "resnet":
        name = f"resnet{blocks or 18}"
    elif value == "efficientnet":
        name = f"efficientnet_b{blocks or 0}"
    return {"train.model.name": name}, f"is now `train.model`: {name}"


def _conv_blocks(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    if given.get("train.model.name") in ("resnet", "efficientnet"):
        return {}, "is now part of the name in `train.model`"
    return {}, f"is ignored: {_OTHER_MODEL}"


def _generator(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    name = _GENERATORS.get(value, value) if isinstance(value, str) else value
    return {"train.generator.name": name}, f"is now `train.generator`: {name}"


def _alpha(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    if given.get("train.model.crop_generator") == "mixup_crop_generator":
        return {"train.generator.params.alpha": value}, "is now `train.generator.params.alpha`"
    return {}, "is ignored: it is for mixup only"


def _augmentations(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    if value:
        return {}, (
            "is now `train.augment`: flips, turns and shifts; brightness and contrast are not "
            "changed"
        )
    changed = {f"train.augment.{name}": off for name, off in _NO_AUGMENTATION.items()}
    return changed, "is now `train.augment`, all off"


def _schedule(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    if value == "cosine":
        return {"train.schedule": "cosine"}, "is now `train.schedule`"
    return {}, "is ignored: steps are not offered, the rate stays at `train.learning_rate`"


def _initialization(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    return {}, "is ignored: training begins with random weights"


def _feature_layer(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    layer = value
    if isinstance(value, str):
        layer = re.sub(r"res([2-5][a-z][0-9]*)_relu", r"conv\1", value)
    return {"profile.layers": [layer]}, f"is now `profile.layers`: [{layer}]"


def _checkpoint(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    if value in (None, "", "None"):
        return {}, "is ignored: it names no file, so the last epoch's weights are used"
    return {"profile.checkpoint": value}, "is `profile.checkpoint` as before"


_SPECIAL: dict[str, Callable[[Any, Mapping[str, Any]], tuple[Values, str]]] = {
    "dataset.metadata.label_field": _label_field,
    "dataset.metadata.control_value": _control_value,
    "dataset.images.width": _image_size,
    "dataset.images.height": _image_size,
    "prepare.compression.implement": _compression,
    "train.partition.targets": _targets,
    "train.partition.split_field": _split_field,
    "train.model.name": _model,
    "train.model.params.conv_blocks": _conv_blocks,
    "train.model.crop_generator": _generator,
    "train.model.augmentations": _augmentations,
    "train.model.lr_schedule": _schedule,
    "train.model.initialization": _initialization,
    "train.sampling.alpha": _alpha,
    "profile.feature_layer": _feature_layer,
    "profile.checkpoint": _checkpoint,
}
_WHOLE_VALUES = {"train.model.lr_schedule"}


# -- nested dictionaries by dotted path -----------------------------------------------------


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """All values with their dotted paths; lists, empty sections and schedules are values."""
    found = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value and path not in _WHOLE_VALUES:
            found += _leaves(value, f"{path}.")
        else:
            found.append((path, value))
    return found


def _get(values: Any, path: str) -> Any:
    for name in path.split("."):
        if not isinstance(values, dict) or name not in values:
            return None
        values = values[name]
    return values


def _set(values: Values, path: str, value: Any) -> None:
    *sections, name = path.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            inner = values[section] = {}
        values = inner
    values[name] = value
