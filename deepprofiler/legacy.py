"""The original DeepProfiler's JSON configuration, recognised and translated.

The tables in :mod:`deepprofiler.legacy_keys` and :mod:`deepprofiler.legacy_values` name every key.
Each key met gives one note: what it is called now, or why it is ignored. A key that is in no table
stays where it is, so that the check of the configuration refuses it together with all other
problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepprofiler.errors import nearest
from deepprofiler.legacy_keys import (
    EARLIER,
    HARMLESS,
    IGNORED,
    IGNORED_SECTIONS,
    KEYS,
    REFUSED,
    RENAMED,
    RULE_TAKEN,
    SECTIONS,
)
from deepprofiler.legacy_values import SPECIAL, WHOLE_VALUES

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
    known = known_keys()
    if key not in known and not any(name.startswith(f"{key}.") for name in known):
        return []
    leaves = _leaves(value, f"{key}.") if isinstance(value, dict) else [(key, value)]
    lines = []
    for path, found in leaves:
        close = nearest(path, known)
        if path in REFUSED:
            lines.append(f"{path}: {REFUSED[path]}; found {found!r}")
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
    # The original corrects no images unless it is told to, learns its controls as well, and moves
    # no crop aside.
    result: Values = {
        "prepare": {"illumination": False},
        "crops": {"geometry": "original"},
        "train": {"controls": True, "augment": {"shift": 0}},
    }
    notes = []
    for old, key in met:
        changed, message = _translate_key(key, given[key], given)
        for path, new in changed.items():
            _set(result, path, new)
        notes.append(f"`{old}` {message}")
    if "prepare.compression.implement" not in given:
        notes.append("images are not corrected, as there is no `prepare.compression.implement`")
    if "crops.rescale" not in rest:
        notes.append(f"{RULE_TAKEN}: set `crops.rescale` to be sure")
    for path, value in rest.items():
        _set(result, path, value)
    return result, notes


def _translate_key(key: str, value: Any, given: Mapping[str, Any]) -> tuple[Values, str]:
    """New keys and values for one of the original's keys, and what happened to it."""
    if key in SPECIAL:
        return SPECIAL[key](value, given)
    if key in RENAMED:
        new = RENAMED[key]
        return {new: value}, "is kept" if new == key else f"is now `{new}`"
    if key in REFUSED:
        if value in HARMLESS[key]:
            return {}, "is ignored: it is always so"
        return {key: value}, f"cannot be honoured: {REFUSED[key]}"
    sections = [why for name, why in IGNORED_SECTIONS.items() if key.startswith(f"{name}.")]
    return {}, f"is ignored: {IGNORED.get(key) or sections[0]}"


def _leaves(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """All values with their dotted paths; lists, empty sections and schedules are values."""
    found = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value and path not in WHOLE_VALUES:
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
