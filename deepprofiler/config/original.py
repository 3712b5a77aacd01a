"""The original DeepProfiler's JSON configuration, recognised and translated.

The tables below name every key.
Each key met gives one note: what it is called now, or why it is ignored. A key that is in no table
stays where it is, so that the check of the configuration refuses it together with all other
problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from deepprofiler.config.original_layers import feature_layer
from deepprofiler.errors import ConfigError, nearest

#: Sections and keys that only the original has; those of the first group hold a section.
SECTIONS = (
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
KEYS = ("profile.feature_layer", "train.model.crop_generator")

#: How crops are scaled where neither a config nor a weight file of the original says it.
RULE_TAKEN = (
    "crops are scaled by `min-max`, as in the original since August 2024, and not by `legacy-0.3` "
    "(September 2021 to August 2024) or `standardize` (before that)"
)

#: Where the same thing stood in earlier versions.
EARLIER = {
    "dataset.metadata.control_id": "dataset.metadata.control_value",
    "prepare.metadata.label_field": "dataset.metadata.label_field",
    "prepare.metadata.control_id": "dataset.metadata.control_value",
    "prepare.images.channels": "dataset.images.channels",
    "prepare.images.channel_repeats": "dataset.images.channel_repeats",
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
    "train.model.params.epochs": "train.model.epochs",
    "train.model.params.steps": "train.model.steps",
    "train.model.conv_blocks": "train.model.params.conv_blocks",
    "train.model.feature_dim": "train.model.params.feature_dim",
    "train.model.latent_dim": "train.model.params.latent_dim",
}

#: Keys with the same meaning under another name.
RENAMED = {
    "dataset.images.channels": "dataset.channels",
    "dataset.images.bits": "dataset.bits",
    "dataset.locations.mask_objects": "crops.mask",
    "prepare.illumination_correction.down_scale_factor": "prepare.down_scale",
    "prepare.illumination_correction.median_filter_size": "prepare.median_size",
    "train.partition.training": "train.validation.training",
    "train.partition.validation": "train.validation.values",
    "train.model.epochs": "train.epochs",
    "train.model.steps": "train.steps",
    "train.model.optimizer": "train.optimizer",
    "train.model.params.optimizer": "train.optimizer",
    "train.model.params.learning_rate": "train.learning_rate",
    "train.model.params.batch_size": "train.batch_size",
    "train.model.params.label_smoothing": "train.label_smoothing",
    "train.validation.top_k": "train.top_k",
    "profile.batch_size": "profile.batch_size",
}

REPEATING = "repeat_channel_crop_generator"
#: What its crop generators are called here.
GENERATORS = {
    "crop_generator": "single",
    "sampled_crop_generator": "single",
    "mixup_crop_generator": "mixup",
    "online_labels_cropgen": "online_labels",
    "online_labels_crop_generator": "online_labels",
    "recurrent_crop_generator": "sequence",
    "crop_set_generator": "sequence",
    "autoencoder_crop_generator": "single",
    "full_image_crop_generator": "single",
    REPEATING: "single",
}
#: Its models: ``conv_blocks`` where a config has none, and the name with it.
MODELS = {
    "resnet": (18, "resnet{}"),
    "efficientnet": (0, "efficientnet_b{}"),
    "densenet": (121, "densenet{}"),
}
#: Depths that newer releases build with keras.applications, and that keras-resnet had before.
NEWER_RESNETS = (50, 101, 152)
#: Models of keras.applications, whose crops can be scaled as they were for ImageNet.
IMAGENET_RANGE = re.compile(r"efficientnet_b\d|densenet\d+|inception_resnet_v2|resnet\d+v2|vgg16")

_FOLDERS = "a project's folders are where --root says"
_DEVICE = "choose a device with --gpu"
_STORE = "crops are read from the exported single cells, which needs no queue"
_VALIDATION = "validation shows every held-out cell once after each epoch"
OTHER_MODEL = "the model has no such parameter"

#: Keys without an effect here, and why.
IGNORED = {
    "dataset.images.file_format": "the format is read from each file",
    "dataset.locations.area_coverage": "the newest releases do not look at it",
    "dataset.locations.locations_field": "locations may be of any object",
    "prepare.outlines": "`locate --labels` writes the label images that `crops.mask` needs",
    "train.model.metrics": "accuracy, per cell and per class, is always reported",
    "train.model.checkpoint_policy": "the last and the best epoch are kept",
    "train.model.params.latent_dim": OTHER_MODEL,
    "train.model.params.epsilon_std": OTHER_MODEL,
    "train.model.params.pooling": "features are averaged over each layer's whole output",
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
    "train.validation.batch_size": "it is `train.batch_size`",
    "train.validation.frame": _VALIDATION,
    "train.validation.sample_first_crops": _VALIDATION,
    "train.validation.save_features": "`profile` writes features",
    "train.dset.width": "image sizes are read from the files",
    "train.dset.height": "image sizes are read from the files",
    "train.gpus": _DEVICE,
    "profile.gpus": _DEVICE,
    "experiment_name": "choose it with --exp",
    "num_classes": "the labels are counted",
}
#: Whole sections without an effect here, and why.
IGNORED_SECTIONS = {
    "paths": _FOLDERS,
    "train.comet_ml": "Comet takes its settings from the environment (COMET_API_KEY …)",
}

#: What cannot be had, and would give other results if it were ignored.
REFUSED = {
    "dataset.locations.mode": "it is `single_cells`, or `full_image` with a `view_size`",
    "prepare.compression.scaling_factor": "only 1 is offered: images are not made smaller",
    "profile.pretrained": (
        "its weight file is looked for in another folder: put it into "
        "outputs/<experiment>/checkpoint, name it in `profile.checkpoint`, and remove this key"
    ),
    "dataset.images.channel_repeats": (
        "channels are repeated 3 times, with `train.model.crop_generator`: "
        "repeat_channel_crop_generator; set both so, or remove this key to learn from all channels "
        "together"
    ),
}
#: Values of these keys that ask for nothing else than what happens anyway.
HARMLESS = {
    "dataset.locations.mode": ("single_cells", "full_image"),
    "prepare.compression.scaling_factor": (1,),
    "profile.use_pretrained_input_size": (None, False, 0),
    "profile.pretrained": (None, False),
    "dataset.images.channel_repeats": (3,),
}


FlatConfig = Mapping[str, Any]
Result = tuple[dict[str, Any], str]

_NO_AUGMENTATION = {"flips": False, "turns": False, "rotations": False, "shift": 0}
_WARM_UP = 5


def _label_field(value: Any, config: FlatConfig) -> Result:
    target = _target(config)
    if target is None or target == value:
        return {"dataset.columns.label": value}, "is now `dataset.columns.label`"
    return {"dataset.columns.treatment": value}, (
        "is now `dataset.columns.treatment`, as another column is the target of training"
    )


def _targets(value: Any, config: FlatConfig) -> Result:
    target = _target(config)
    if target is None:
        return {}, "is ignored: it names no column"
    more = isinstance(value, list) and len(value) > 1
    note = "is now `dataset.columns.label`" + ("; only the first is learned" if more else "")
    return {"dataset.columns.label": target}, note


def _target(config: FlatConfig) -> Any:
    targets = config.get("train.partition.targets")
    if isinstance(targets, list):
        return targets[0] if targets else None
    return targets


def _control_value(value: Any, config: FlatConfig) -> Result:
    column = config.get("dataset.metadata.label_field", _target(config))
    changed = {"dataset.control": value}
    note = "is now `dataset.control`; `train.controls` is true, as the original learns them too"
    if column is None:
        return changed, note
    changed["dataset.columns.control"] = column
    return changed, f"{note}; `dataset.columns.control` is the label column"


def _image_size(value: Any, config: FlatConfig) -> Result:
    height, width = (config.get(f"dataset.images.{side}") for side in ("height", "width"))
    if height is None or width is None:
        return {}, "is ignored: the size is read from the files"
    return {"dataset.image_size": [height, width]}, "is now in `dataset.image_size`"


def _views(config: FlatConfig) -> bool:
    """Whether crops are views of whole fields, of a known size."""
    mode, view = (config.get(f"dataset.locations.{key}") for key in ("mode", "view_size"))
    return mode == "full_image" and bool(view)


def _mode(value: Any, config: FlatConfig) -> Result:
    if value == "single_cells":
        return {"crops.mode": "cells"}, "is now `crops.mode`: cells"
    if _views(config):
        return {"crops.mode": "grid"}, "is now `crops.mode`: grid, for training as well"
    return {"dataset.locations.mode": value}, (
        f"cannot be used: {REFUSED['dataset.locations.mode']}"
    )


def _view_size(value: Any, config: FlatConfig) -> Result:
    if _views(config):
        return {"crops.size": value}, "is now `crops.size`"
    return {}, "is ignored: it is for views of whole images only"


def _box_size(value: Any, config: FlatConfig) -> Result:
    if _views(config):
        return {"crops.resize": value}, "is now `crops.resize`, as views are resized to it"
    return {"crops.size": value}, "is now `crops.size`"


def _compression(value: Any, config: FlatConfig) -> Result:
    changed = {"prepare.illumination": value, "prepare.compress": value}
    if value:
        # Found from its files: each corrected image by itself, between these two ranks.
        changed |= {"prepare.percentiles": [0.05, 99.95], "prepare.percentiles_of": "image"}
    return changed, "is now `prepare.illumination` and `prepare.compress`"


def _split_field(value: Any, config: FlatConfig) -> Result:
    return {"dataset.columns.split": value, "train.validation.by": "column"}, (
        "is now `dataset.columns.split`, and `train.validation.by` is `column`"
    )


def _by_channel(config: FlatConfig) -> bool:
    """Whether each channel goes through a network for colour images."""
    return (
        bool(config.get("profile.use_pretrained_input_size"))
        or config.get("train.model.crop_generator") == REPEATING
    )


def _model(value: Any, config: FlatConfig) -> Result:
    name, note = value, ""
    blocks = config.get("train.model.params.conv_blocks")
    layer = str(config.get("profile.feature_layer"))
    if value == "resnet" and blocks in NEWER_RESNETS and feature_layer(layer) == layer:
        name = f"resnet{blocks}v2"
        note = f"; for weights of releases that used keras-resnet, name it `resnet{blocks}`"
    elif isinstance(value, str) and value in MODELS:
        default, form = MODELS[value]
        name = form.format(blocks or default)
    if not _by_channel(config):
        return {"train.model.name": name}, f"is now `train.model`: {name}{note}"
    is_imagenet_model = isinstance(name, str) and IMAGENET_RANGE.fullmatch(name)
    scaled = {"train.model.params.params.imagenet_range": True} if is_imagenet_model else {}
    return {
        "train.model.name": "repeat_channels",
        "train.model.params.backbone": name,
        **scaled,
    }, f"is now the backbone {name} of `train.model`: repeat_channels"


def _conv_blocks(value: Any, config: FlatConfig) -> Result:
    name = config.get("train.model.name")
    if isinstance(name, str) and name in MODELS:
        return {}, "is now part of the name in `train.model`"
    return _parameter("conv_blocks")(value, config)


def _parameter(key: str) -> Callable[[Any, FlatConfig], Result]:
    """Make the function for a parameter that only autoencoders have."""

    def handler(value: Any, config: FlatConfig) -> Result:
        if config.get("train.model.name") == "autoencoder":
            return {f"train.model.params.{key}": value}, f"is now `train.model.params.{key}`"
        return {}, f"is ignored: {OTHER_MODEL}"

    return handler


def _channel_repeats(value: Any, config: FlatConfig) -> Result:
    key = "dataset.images.channel_repeats"
    if value in HARMLESS[key] and _by_channel(config):
        return {}, "is now part of `train.model`: repeat_channels"
    return {key: value}, f"cannot be used: {REFUSED[key]}"


def _pretrained_size(value: Any, config: FlatConfig) -> Result:
    if value in HARMLESS["profile.use_pretrained_input_size"]:
        return {}, "is ignored: it is off"
    changed = {"crops.resize": value}
    note = "is now `crops.resize`, with `train.model`: repeat_channels"
    if config.get("profile.checkpoint") in _NO_FILE:
        changed["profile.checkpoint"] = "imagenet"
        note += " and `profile.checkpoint`: imagenet"
    return changed, note


def _initialization(value: Any, config: FlatConfig) -> Result:
    weights = "imagenet" if str(value).lower() == "imagenet" else "none"
    return {"train.weights": weights}, f"is now `train.weights`: {weights}"


def _pretrained(value: Any, config: FlatConfig) -> Result:
    if not value or value == "None":
        return {}, "is ignored: it names no file"
    weights = value if isinstance(value, str) else "imagenet"
    return {"train.weights": weights}, f"is now `train.weights`: {weights}"


def _generator(value: Any, config: FlatConfig) -> Result:
    name = GENERATORS.get(value, value) if isinstance(value, str) else value
    return {"train.generator.name": name}, f"is now `train.generator`: {name}"


def _alpha(value: Any, config: FlatConfig) -> Result:
    if config.get("train.model.crop_generator") == "mixup_crop_generator":
        return {"train.generator.params.alpha": value}, "is now `train.generator.params.alpha`"
    return {}, "is ignored: it is for mixup only"


def _online(new: str) -> Callable[[Any, FlatConfig], Result]:
    """Make the function for a parameter of labels that the network softens."""

    def handler(value: Any, config: FlatConfig) -> Result:
        name = config.get("train.model.crop_generator")
        if isinstance(name, str) and GENERATORS.get(name) == "online_labels":
            return {new: value}, f"is now `{new}`"
        return {}, "is ignored: it is for online labels only"

    return handler


def _augmentations(value: Any, config: FlatConfig) -> Result:
    if value:
        return {}, "is now `train.augment`: flips and turns, but no zoom, brightness or contrast"
    changed = {f"train.augment.{name}": off for name, off in _NO_AUGMENTATION.items()}
    return changed, "is now `train.augment`, all off"


def _schedule(value: Any, config: FlatConfig) -> Result:
    epochs: Any
    lr: Any
    if value == "cosine":
        epochs = config.get("train.model.epochs")
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


def _comet(value: Any, config: FlatConfig) -> Result:
    if value is True:
        return {"train.trackers": ["comet"]}, "is now `train.trackers`: [comet]"
    return {}, "is ignored: nothing is tracked, unless `train.trackers` names comet"


_NO_FILE = (None, "", "None")


def _feature_layer(value: Any, config: FlatConfig) -> Result:
    layer = feature_layer(value) if isinstance(value, str) else value
    if layer == "avg_pool":
        layer = "pool5"
    return {"profile.layers": [layer]}, f"is now `profile.layers`: [{layer}]"


def _checkpoint(value: Any, config: FlatConfig) -> Result:
    if value not in _NO_FILE:
        return {"profile.checkpoint": value}, "is kept"
    if config.get("profile.use_pretrained_input_size"):
        return {}, "is ignored: it names no file, so the weights of ImageNet are used"
    # Named, so that `profile` does not train by itself.
    return {"profile.checkpoint": "last"}, "is now `profile.checkpoint`: last, which `train` makes"


#: Functions for the keys that are neither only renamed nor always ignored.
SPECIAL: dict[str, Callable[[Any, FlatConfig], Result]] = {
    "dataset.metadata.label_field": _label_field,
    "dataset.metadata.control_value": _control_value,
    "dataset.images.width": _image_size,
    "dataset.images.height": _image_size,
    "dataset.images.channel_repeats": _channel_repeats,
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


Values = dict[str, Any]


def is_original(values: Mapping[str, Any]) -> bool:
    """Tell whether a configuration is of the original DeepProfiler."""
    return any(isinstance(_get(values, key), dict) for key in SECTIONS) or any(
        _get(values, key) is not None for key in KEYS
    )


def known_keys() -> list[str]:
    """Every key of the original that is translated, ignored or refused."""
    return sorted({*EARLIER, *RENAMED, *IGNORED, *REFUSED, *SPECIAL})


def explain(key: str, value: Any) -> list[str]:
    """Say what is wrong with a key that :func:`translate` left where it was.

    Parameters
    ----------
    key : str
        Dotted path.
    value : object
        What it holds, for a section a dictionary.

    Returns
    -------
    list of str
        One line for each key below it; empty where the original has nothing to do with it.
    """
    keys = known_keys()
    if key not in keys and not any(name.startswith(f"{key}.") for name in keys):
        return []
    leaves = _leaves(value, f"{key}.") if isinstance(value, dict) else [(key, value)]
    lines = []
    for path, wrong in leaves:
        close = nearest(path, keys)
        if path in REFUSED:
            lines.append(f"{path}: {REFUSED[path]}; found {wrong!r}")
        elif close:
            lines.append(f"{path}: unknown key{close}")
        else:
            lines.append(f"{path}: unknown key of the original's configuration; remove it")
    return lines


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
        value cannot be used, stay under their own path.
    notes : list of str
        One line for each key that was translated or ignored.

    Raises
    ------
    ConfigError
        Two names of one key have different values.
    """
    config: Values = {}
    places: dict[str, str] = {}
    translated: list[tuple[str, str]] = []
    rest: Values = {}
    keys = set(known_keys())
    for path, value in _leaves(values):
        key = EARLIER.get(path, path)
        if value == {} and path in SECTIONS:
            continue
        if key in keys or any(key.startswith(f"{name}.") for name in IGNORED_SECTIONS):
            # Which of two the original read depends on its version.
            if key not in IGNORED and config.get(key, value) != value:
                raise ConfigError(
                    f"`{places[key]}` is {config[key]!r} and `{path}` is {value!r}, but they are "
                    "one setting; remove one of the two"
                )
            config[key], places[key] = value, path
            translated.append((path, key))
        else:
            rest[path] = value
    # The original corrects no images unless it is told to, learns its controls as well, and moves
    # no crop aside.
    result: Values = {
        "prepare": {"illumination": False},
        "crops": {"geometry": "original"},
        "train": {"controls": True, "augment": {"shift": 0}},
    }
    notes = []
    for old, key in translated:
        changed, message = _translate_key(key, config[key], config)
        for path, new in changed.items():
            _set(result, path, new)
        notes.append(f"`{old}` {message}")
    if "prepare.compression.implement" not in config:
        notes.append("images are not corrected, as there is no `prepare.compression.implement`")
    if "crops.rescale" not in rest:
        notes.append(f"{RULE_TAKEN}: set `crops.rescale` to be sure")
    for path, value in rest.items():
        _set(result, path, value)
    return result, notes


def _translate_key(key: str, value: Any, config: Mapping[str, Any]) -> tuple[Values, str]:
    """New keys and values for one of the original's keys, and what happened to it."""
    if key in SPECIAL:
        return SPECIAL[key](value, config)
    if key in RENAMED:
        new = RENAMED[key]
        return {new: value}, "is kept" if new == key else f"is now `{new}`"
    if key in REFUSED:
        if value in HARMLESS[key]:
            return {}, "is ignored: it is always so"
        return {key: value}, f"cannot be used: {REFUSED[key]}"
    sections = [why for name, why in IGNORED_SECTIONS.items() if key.startswith(f"{name}.")]
    return {}, f"is ignored: {IGNORED.get(key) or sections[0]}"


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """All values with their dotted paths; lists, empty sections and schedules are values."""
    leaves = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value and path not in WHOLE_VALUES:
            leaves += _leaves(value, f"{path}.")
        else:
            leaves.append((path, value))
    return leaves


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
