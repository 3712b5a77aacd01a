"""What the sections of the configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

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
