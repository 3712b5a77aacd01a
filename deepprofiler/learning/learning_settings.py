"""``train.schedule`` of the configuration: how the learning rate changes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from deepprofiler.parameters import Fraction, Section, as_named


class Constant(Section):
    """The same learning rate throughout."""

    name: Literal["constant"] = "constant"


class Cosine(Section):
    """A learning rate that rises in equal steps, then falls to 0 over all other epochs."""

    name: Literal["cosine"] = "cosine"
    warmup: float = Field(default=0.0, ge=0, description="of cosine: epochs of the rise")


class Steps(Section):
    """Another learning rate from given epochs on."""

    name: Literal["step"] = "step"
    epochs: tuple[PositiveInt, ...] = Field(
        min_length=1, description="of step: epochs that begin with another rate, ascending, from 1"
    )
    factor: Fraction = Field(default=0.1, description="of step: multiplies the rate at each")
    rates: tuple[PositiveFloat, ...] | None = Field(
        default=None, description="of step: the rate from each on, in place of `factor`"
    )

    @model_validator(mode="after")
    def _one_rate_an_epoch(self) -> Steps:
        if list(self.epochs) != sorted(set(self.epochs)):
            raise ValueError("epochs must ascend")
        if self.rates is not None and len(self.rates) != len(self.epochs):
            raise ValueError(f"{len(self.epochs)} epochs need as many rates")
        return self


class Plateau(Section):
    """A lower learning rate whenever the validation loss has not improved for some epochs."""

    name: Literal["plateau"] = "plateau"
    patience: PositiveInt = Field(default=3, description="of plateau: epochs to wait")
    factor: Fraction = Field(default=0.5, description="of plateau: multiplies the rate")


Schedule = Annotated[
    Annotated[Constant | Cosine | Steps | Plateau, Field(discriminator="name")],
    BeforeValidator(as_named),
]
