"""Read a config file, and tell everything that is wrong with it in one message."""

from __future__ import annotations

import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from deepprofiler import legacy
from deepprofiler.config import Config
from deepprofiler.errors import ConfigError


def load(path: Path) -> tuple[Config, list[str]]:
    """Read a config file; one of the original DeepProfiler is translated.

    Parameters
    ----------
    path : Path
        A ``.yaml``, ``.yml`` or ``.json`` file.

    Returns
    -------
    config : Config
    notes : list of str
        One line for every key that was translated from the original's names or ignored.

    Raises
    ------
    ConfigError
        The file is missing, is not YAML or JSON, or holds keys or values that do not exist; all
        of them are named.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; make it, or name another with --config"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from None
    try:
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not valid {path.suffix[1:].upper()}: {error}") from None
    return parse({} if values is None else values, source=path.name)


def parse(values: Any, source: str) -> tuple[Config, list[str]]:
    """Check the values of a config; ``source`` names them in errors. See :func:`load`."""
    if not isinstance(values, dict):
        raise ConfigError(f"{source} holds a {type(values).__name__}; it must hold sections")
    notes: list[str] = []
    original = legacy.is_original(values)
    if original:
        values, notes = legacy.translate(values)
    try:
        return Config.model_validate(values), notes
    except ValidationError as error:
        lines = []
        for item in error.errors():
            key = ".".join(_location(item))
            lines += (original and legacy.explain(key, item["input"])) or [_explain(item)]
        listing = "\n".join(f"  {line}" for line in lines)
        raise ConfigError(f"{source}: {len(lines)} problem(s)\n{listing}") from None


def _explain(error: Any) -> str:
    """One line for one of pydantic's errors: key path, what was found, what to do."""
    location = _location(error)
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        valid = _valid_keys(location[:-1])
        nearest = get_close_matches(location[-1], valid, n=1, cutoff=0.5)
        advice = f"nearest is `{nearest[0]}`" if nearest else f"valid are {', '.join(valid)}"
        return f"{key}: unknown key; {advice}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}; found {error['input']!r}"


def _location(error: Any) -> list[str]:
    """Key path of one of pydantic's errors, without its marks for alternatives."""
    parts = [str(part) for part in error["loc"]]
    return [part for part in parts if not part.startswith(("literal[", "constr"))]


def _valid_keys(location: list[str]) -> list[str]:
    """Names of the keys of the section at ``location``."""
    model: type[BaseModel] = Config
    for part in location:
        field = model.model_fields.get(part)
        inner = field.annotation if field else None
        options = [inner, *getattr(inner, "__args__", ())]
        found = [item for item in options if isinstance(item, type) and issubclass(item, BaseModel)]
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)
