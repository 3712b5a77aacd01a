"""Find and read a config file, and report everything that is wrong with it in one message.

A file of its own beside the schema: it reads files, translates the original's, and puts
pydantic's errors into words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from deepprofiler.config import original, repeated_keys
from deepprofiler.config.schema import Config
from deepprofiler.errors import ConfigError, counted, nearest


def only_one(folder: Path, root: Path) -> Path:
    """Find the one config file in a folder.

    Parameters
    ----------
    folder : Path
    root : Path
        Of the project, for the message.

    Raises
    ------
    ConfigError
        There is none, or there are several to choose from.
    """
    paths = sorted(
        path
        for path in folder.glob("*")
        if path.suffix in (".yaml", ".yml", ".json") and not path.name.startswith(".")
    )
    if len(paths) == 1:
        return paths[0]
    if not paths:
        raise ConfigError(
            f"{folder} holds no .yaml or .json file; `deepprofiler --root {root} setup` writes one"
        )
    names = ", ".join(path.name for path in paths)
    raise ConfigError(f"{folder} holds {names}; choose one with --config NAME")


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
        The file is missing, is not YAML or JSON, gives a key twice, or holds keys or values that
        do not exist; all of them are named.
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
        if path.suffix == ".json":
            values = json.loads(text)
            repeated = list(repeated_keys.in_json(text))
        else:
            values = yaml.safe_load(text)
            repeated = list(repeated_keys.in_yaml(text))
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not valid {path.suffix[1:].upper()}: {error}") from None
    if repeated:
        listing = "\n".join(
            f"  {key.path} stands in line {key.first} and again in line {key.again}"
            for key in repeated
        )
        raise ConfigError(f"{path.name} gives a key twice; remove one of the two:\n{listing}")
    return parse({} if values is None else values, source=path.name)


def parse(values: Any, source: str) -> tuple[Config, list[str]]:
    """Check the values of a config; ``source`` names them in errors. See :func:`load`."""
    if not isinstance(values, dict):
        raise ConfigError(f"{source} holds a {type(values).__name__}; it must hold sections")
    notes: list[str] = []
    is_original = original.is_original(values)
    if is_original:
        try:
            values, notes = original.translate(values)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None
    try:
        return Config.model_validate(values), notes
    except ValidationError as error:
        lines: list[str] = []
        for item in error.errors():
            key = ".".join(_location(item))
            unknown = is_original and item["type"] == "extra_forbidden"
            lines += (unknown and original.explain(key, item["input"])) or [_explain(item)]
        listing = "\n".join(f"  {line}" for line in lines)
        problems = counted(len(lines), "problem", "problems")
        raise ConfigError(f"{source}: {problems}\n{listing}") from None


def _explain(error: Any) -> str:
    """One line for one of pydantic's errors: key path, what was found, what to do."""
    *_, last = location = _location(error)
    key = ".".join(location)
    if error["type"] == "extra_forbidden":
        valid = _walk(error["loc"][:-1])[1]
        advice = nearest(last, valid) or f"; valid are {', '.join(valid)}"
        return f"{key}: unknown key{advice}"
    if error["type"] == "union_tag_not_found":
        return f"{key}: it needs a `name`; found {error['input']!r}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[0].lower()}{message[1:]}; found {error['input']!r}"


def _location(error: Any) -> list[str]:
    """Key path of one of pydantic's errors, without its marks for alternatives."""
    return _walk(error["loc"])[0]


def _walk(location: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Follow one of pydantic's locations: its key path, and the keys of the section there."""
    path: list[str] = []
    models: list[type[BaseModel]] = [Config]
    for part in map(str, location):
        chosen = [model for model in models if _tag(model) == part]
        if len(models) > 1 and chosen:
            models = chosen
        elif not part.startswith(("literal[", "constr")):
            path.append(part)
            field = models[0].model_fields.get(part) if models else None
            inner = field.annotation if field else None
            options = [inner, *getattr(inner, "__args__", ())]
            models = [
                one for one in options if isinstance(one, type) and issubclass(one, BaseModel)
            ]
    return path, list(models[0].model_fields) if models else []


def _tag(model: type[BaseModel]) -> Any:
    """Name by which a section is chosen among alternatives."""
    return model.model_fields["name"].default if "name" in model.model_fields else None
