"""Settings of images: illumination, 8-bit copies, segmentation, and how crops are cut."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from deepprofiler.parameters import Choice, Decides, Parameters, setting

Percent = Annotated[float, Field(ge=0, le=100)]
Border = Literal["drop", "keep"]

_IMAGES = (Decides.COPIES, Decides.CROPS, Decides.WEIGHTS, Decides.FEATURES)
_CUTTING = (Decides.CROPS, Decides.WEIGHTS, Decides.FEATURES)


class Prepare(Parameters):
    """Illumination correction after Singh et al. (2014)."""

    illumination: bool = setting(True, *_IMAGES, text="correct the images in every later stage")
    down_scale: PositiveInt = setting(
        4, Decides.ILLUMINATION, text="by how much the mean image is reduced", unit="factor"
    )
    median_size: PositiveInt = setting(
        24,
        Decides.ILLUMINATION,
        text="diameter of the median filter's disk",
        unit="down-scaled pixels",
    )
    percentiles: tuple[Percent, Percent] = setting(
        (0.01, 99.99),
        Decides.ILLUMINATION,
        text="intensities that become grey levels 0 and 255 of 8-bit copies",
        unit="percent",
    )
    percentiles_of: Literal["plate", "image"] = setting(
        "plate", Decides.COPIES, text="one pair of intensities for a plate, or one for each image"
    )
    compress: bool = setting(
        False, Decides.CROPS, Decides.WEIGHTS, Decides.FEATURES, text="write corrected 8-bit copies"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Prepare:
        if self.percentiles[0] >= self.percentiles[1]:
            raise ValueError("percentiles must be [lower, upper] with lower below upper")
        return self


class Locate(Parameters):
    """Segmentation of nuclei."""

    segmenter: Choice = setting(
        Choice(name="otsu"), Decides.LOCATIONS, text="the segmenter that finds nuclei"
    )
    channel: str | None = setting(
        None,
        Decides.LOCATIONS,
        text="the nuclear channel; none: the first named DNA, Hoechst or DAPI, else the only one "
        "with such a word in its name",
    )
    min_diameter: PositiveFloat | None = setting(
        None, Decides.LOCATIONS, text="smallest nucleus; none: from the image", unit="pixels"
    )
    max_diameter: PositiveFloat | None = setting(
        None, Decides.LOCATIONS, text="largest nucleus; none: from the image", unit="pixels"
    )
    border: Border = setting(
        "drop", Decides.LOCATIONS, text="nuclei that touch the edge of the image"
    )


class CropCutting(Parameters):
    """Where crops lie and how they are cut."""

    mode: Literal["cells", "grid", "random"] = setting(
        "cells",
        Decides.CROPS,
        Decides.TRAINING,
        Decides.FEATURES,
        text="a crop for each cell, or views of the whole field: on a grid, or at random",
    )
    coverage: float = setting(
        1.0,
        Decides.CROPS,
        Decides.TRAINING,
        Decides.FEATURES,
        text="share of the area of the image to view; for grid and random",
        gt=0,
        le=1,
    )
    size: int = setting(128, *_CUTTING, text="side S of a crop", unit="pixels", ge=8)
    geometry: Literal["nearest", "original"] = setting(
        "nearest",
        *_CUTTING,
        text="whole pixels around the nearest one, or resampled as the original DeepProfiler does",
    )
    mask: bool = setting(
        False, *_CUTTING, text="blank neighbouring cells, by the label images of locate"
    )

    @model_validator(mode="after")
    def _mask_needs_cells(self) -> CropCutting:
        if self.mask and self.mode != "cells":
            raise ValueError(
                f"mask blanks the neighbours of a cell, and mode {self.mode} has no cells; set "
                "mask to false or mode to cells"
            )
        return self
