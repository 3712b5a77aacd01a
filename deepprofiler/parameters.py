"""Parameters that a config gives to a function or a class, checked before it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deepprofiler.errors import ConfigError, nearest

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """What all sections share: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


def as_named(value: Any) -> Any:
    """Read a plain name as a section with that name."""
    return {"name": value} if isinstance(value, str) else value


class Named(Section):
    """A plugin or a step by its name, with its parameters."""

    name: str
    params: dict[str, Any] = {}

    _plain_name = model_validator(mode="before")(as_named)


def as_tuple(value: Any) -> Any:
    """Take one name for a list of one."""
    return (value,) if isinstance(value, str) else value


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Keyword-only parameters of a function or a class, and their defaults."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }


def checked(function: Callable[..., Any], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return parameters with the types that a function or a class declares.

    Parameters
    ----------
    function : callable
        Its keyword-only parameters have annotations.
    given : mapping
        Names to values, as read from YAML.
    what : str
        What the user knows it by, for messages.

    Raises
    ------
    ConfigError
        There is no such parameter, or a value is of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    known = defaults(function)
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function)
    found = {}
    for name, value in given.items():
        if name not in known:
            has = f"it has: {', '.join(known)}" if known else "it has none"
            raise ConfigError(f"{what} has no parameter {name}{nearest(name, known)}; {has}")
        try:
            found[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            wrong = dict.fromkeys(one["msg"].lower() for one in error.errors())
            raise ConfigError(f"{what}: {name}: {' or '.join(wrong)}; found {value!r}") from None
    return found
