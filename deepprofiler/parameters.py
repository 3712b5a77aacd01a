"""Classes of settings: what every section of the configuration is made of.

Each room declares its settings once, in a subclass of :class:`Parameters`, with type, default,
unit, text and what the setting decides. The configuration is built of these classes, its reference
page is made of them, and whether an output is still current follows from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Decides(StrEnum):
    """What a setting decides: if it changes, this is no longer current."""

    ILLUMINATION = "illumination"
    """Illumination functions and percentiles."""
    COPIES = "copies"
    """8-bit copies of images."""
    LOCATIONS = "locations"
    """Where cells are; locations that exist are kept all the same."""
    CROPS = "crops"
    """Stored crops."""
    WEIGHTS = "weights"
    """What a network sees and how it is built: weights fit only where it is the same."""
    TRAINING = "training"
    """Which cells are learned from and how they are shown: the same from first to last epoch."""
    EPOCHS = "epochs"
    """How training goes on; may change from one epoch to the next."""
    FEATURES = "features"
    """Features of single cells."""
    PROFILES = "profiles"
    """Aggregated profiles, before normalization."""
    NORMALIZED = "normalized"
    """Normalized profiles."""
    SCORES = "scores"
    """Evaluations; always computed again."""
    REPORT = "report"
    """The report page; always drawn again."""
    INPUTS = "inputs"
    """Which inputs are read; their digests tell whether outputs are current."""
    NOTHING = "nothing"
    """Checks, speed and messages."""


class Parameters(BaseModel):
    """Base of every class of settings: unknown keys are refused, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class Choice(Parameters):
    """A plugin by its name, with the values of its parameters.

    Attributes
    ----------
    name : str
        A registered name.
    params : dict
        Parameter to value; all others keep their defaults.
    """

    name: str
    params: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return as_choice(value)


def as_choice(value: Any) -> Any:
    """Read a plain name as a section with that name."""
    return {"name": value} if isinstance(value, str) else value


def as_tuple(value: Any) -> Any:
    """Read a single name as a list with that name."""
    return (value,) if isinstance(value, str) else value


def setting(default: Any, *decides: Decides, text: str, unit: str = "", **constraints: Any) -> Any:
    """Declare one setting of a :class:`Parameters` class.

    Parameters
    ----------
    default : object
        ``...`` for a setting that must be given.
    *decides : Decides
        What is no longer current when the setting changes; at least one, perhaps ``NOTHING``.
    text : str
        One phrase for the reference page.
    unit : str
        Such as ``pixels``.
    **constraints
        Of :func:`pydantic.Field`, such as ``ge`` and ``le``.

    Returns
    -------
    pydantic.fields.FieldInfo
    """
    extra: dict[str, Any] = {"decides": [str(output) for output in decides], "unit": unit}
    return Field(default=default, description=text, json_schema_extra=extra, **constraints)


def deciding(parameters: Parameters, *outputs: Decides) -> dict[str, Any]:
    """Give the settings that decide an output.

    Parameters
    ----------
    parameters : Parameters
        A section, or the whole configuration.
    *outputs : Decides
        Settings that decide any of them are given.

    Returns
    -------
    dict
        Key path such as ``crops.size`` to a value that JSON can hold, in the order of declaration.
    """
    names = {str(output) for output in outputs}
    return {path: value for path, field, value in settings(parameters) if names & set(tags(field))}


def settings(parameters: Parameters, path: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:
    """Yield key path, declaration and JSON value of every setting, nested sections opened.

    A field that holds a section is opened unless it is tagged itself, as a whole.
    """
    for name, field in type(parameters).model_fields.items():
        value = getattr(parameters, name)
        key = f"{path}.{name}" if path else name
        if isinstance(value, Parameters) and not tags(field):
            yield from settings(value, key)
        else:
            yield key, field, parameters.model_dump(mode="json", include={name})[name]


def tags(field: FieldInfo) -> list[str]:
    """Return what a setting decides, as declared; empty where it is not declared."""
    extra = field.json_schema_extra
    listed = extra.get("decides", []) if isinstance(extra, dict) else []
    return [str(tag) for tag in listed] if isinstance(listed, list) else []
