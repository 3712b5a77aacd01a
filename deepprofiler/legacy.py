"""The original DeepProfiler's JSON configuration, recognised and translated.

The tables here and in :mod:`deepprofiler.legacy_keys` name every key. Each key met gives one note:
what it is called now, or why it is ignored. A key that is in no table stays where it is, so that
the check of the configuration refuses it together with all other problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from deepprofiler.legacy_keys import (
    EARLIER,
    HARMLESS,
    IGNORED,
    IGNORED_SECTIONS,
    KEYS,
    OTHER_MODEL,
    REFUSED,
    RENAMED,
    SECTIONS,
)

Values = dict[str, Any]

_GENERATORS = {
    "crop_generator": "single",
    "sampled_crop_generator": "single",
    "mixup_crop_generator": "mixup",
    "online_labels_cropgen": "online_labels",
    "online_labels_crop_generator": "online_labels",
    "recurrent_crop_generator": "sequence",
    "crop_set_generator": "sequence",
    "autoencoder_crop_generator": "single",
}
_NO_AUGMENTATION = {"flips": False, "turns": False, "rotations": False, "shift": 0}


def is_original(values: Mapping[str, Any]) -> bool:
    """Tell whether a configuration is of the original DeepProfiler."""
    return any(isinstance(_get(values, key), dict) for key in SECTIONS) or any(
        _get(values, key) is not None for key in KEYS
    )


def known_keys() -> list[str]:
    """Every key of the original that is translated, ignored or refused."""
    return sorted({*EARLIER, *RENAMED, *IGNORED, *REFUSED, *_SPECIAL})


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
    known = known_keys()
    if key not in known and not any(name.startswith(f"{key}.") for name in known):
        return []
    leaves = _leaves(value, f"{key}.") if isinstance(value, dict) else [(key, value)]
    lines = []
    for path, found in leaves:
        close = get_close_matches(path, known, n=1, cutoff=0.6)
        if path in REFUSED:
            lines.append(f"{path}: {REFUSED[path]}; found {found!r}")
        elif close:
            lines.append(f"{path}: unknown key; nearest is `{close[0]}`")
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
        value cannot be honoured, stay under their own path.
    notes : list of str
        One line for each key that was translated or ignored.
    """
    given: Values = {}
    met: list[tuple[str, str]] = []
    rest: Values = {}
    known = set(known_keys())
    for path, value in _leaves(values):
        key = EARLIER.get(path, path)
        if value == {} and path in SECTIONS:
            continue
        if key in known or any(key.startswith(f"{name}.") for name in IGNORED_SECTIONS):
            given[key] = value
            met.append((path, key))
        else:
            rest[path] = value
    # The original corrects no images unless it is told to, and learns its controls as well.
    result: Values = {"prepare": {"illumination": False}, "train": {"controls": True}}
    notes = []
    for old, key in met:
        changed, message = _translate_key(key, given[key], given)
        for path, new in changed.items():
            _set(result, path, new)
        notes.append(f"`{old}` {message}")
    if "prepare.compression.implement" not in given:
        notes.append("images are not corrected, as there is no `prepare.compression.implement`")
    for path, value in rest.items():
        _set(result, path, value)
    return result, notes


def _translate_key(key: str, value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    """New keys and values for one of the original's keys, and what happened to it."""
    if key in _SPECIAL:
        return _SPECIAL[key](value, given)
    if key in RENAMED:
        new = RENAMED[key]
        return {new: value}, "is kept" if new == key else f"is now `{new}`"
    if key in REFUSED:
        if value in HARMLESS[key]:
            return {}, "is ignored: it is always so"
        return {key: value}, f"cannot be honoured: {REFUSED[key]}"
    sections = [why for name, why in IGNORED_SECTIONS.items() if key.startswith(f"{name}.")]
    return {}, f"is ignored: {IGNORED.get(key) or sections[0]}"


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
    changed = {"dataset.control": value}
    note = "is now `dataset.control`; `train.controls` is true, as the original learns them too"
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
    changed = {"prepare.illumination": value, "prepare.compress": value}
    if value:
        # Found from its files: each corrected image by itself, between these two ranks.
        changed |= {"prepare.percentiles": [0.05, 99.95], "prepare.percentiles_of": "image"}
    return changed, "is now `prepare.illumination` and `prepare.compress`"


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
    return {}, f"is ignored: {OTHER_MODEL}"


def _generator(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    name = _GENERATORS.get(value, value) if isinstance(value, str) else value
    return {"train.generator.name": name}, f"is now `train.generator`: {name}"


def _alpha(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    if given.get("train.model.crop_generator") == "mixup_crop_generator":
        return {"train.generator.params.alpha": value}, "is now `train.generator.params.alpha`"
    return {}, "is ignored: it is for mixup only"


def _augmentations(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    if value:
        return {}, "is now `train.augment`: flips, turns, shifts, but no brightness or contrast"
    changed = {f"train.augment.{name}": off for name, off in _NO_AUGMENTATION.items()}
    return changed, "is now `train.augment`, all off"


def _schedule(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    if value == "cosine":
        return {"train.schedule": "cosine"}, "is now `train.schedule`"
    return {}, "is ignored: steps are not offered, the rate stays at `train.learning_rate`"


def _feature_layer(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    layer = value
    if isinstance(value, str):
        layer = re.sub(r"res([2-5][a-z][0-9]*)_relu", r"conv\1", value)
    return {"profile.layers": [layer]}, f"is now `profile.layers`: [{layer}]"


def _checkpoint(value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    if value in (None, "", "None"):
        return {}, "is ignored: it names no file, so the last epoch's weights are used"
    return {"profile.checkpoint": value}, "is kept"


_Handler = Callable[[Any, Mapping[str, Any]], tuple[Values, str]]
_SPECIAL: dict[str, _Handler] = {
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
    "train.sampling.alpha": _alpha,
    "profile.feature_layer": _feature_layer,
    "profile.checkpoint": _checkpoint,
}
_WHOLE_VALUES = {"train.model.lr_schedule"}


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
