"""The configuration: its sections, built of the classes of settings that the rooms declare.

A project's ``inputs/config/*.yaml`` (or ``.json``) holds the sections ``dataset``, ``prepare``,
``locate``, ``crops``, ``train``, ``profile`` and ``analyze``. Every key has a default, so that a
short file is enough. :mod:`deepprofiler.config.config_file` reads it.
"""

from __future__ import annotations

import yaml
from pydantic import PositiveInt

from deepprofiler.evaluation.evaluation_settings import Scoring
from deepprofiler.imaging.imaging_settings import CropCutting, Locate, Prepare
from deepprofiler.learning.learning_settings import CropInput, Profile, Train
from deepprofiler.parameters import Decides, Parameters, setting
from deepprofiler.profiling.profiling_settings import Profiling
from deepprofiler.report.report_settings import Reporting


def _role(text: str, *decides: Decides) -> str | None:
    """Declare the column that plays a role; without it the column of the role's own name does."""
    column: str | None = setting(None, *(decides or (Decides.SCORES,)), text=text)
    return column


class Columns(Parameters):
    """Which column of the index plays which role, with or without ``Metadata_``.

    A role without a key is played by the column of its own name, such as ``Metadata_Batch``.
    """

    label: str | None = _role(
        "what is learned; none: `Metadata_Label`, else the treatment", Decides.INPUTS
    )
    treatment: str | None = _role(
        "what wells are averaged to; none: `Metadata_Treatment`, else compound and dose joined, "
        "else the label, else the compound"
    )
    compound: str | None = _role(
        "neighbours of the same compound do not count in NSC; none: `Metadata_Compound`"
    )
    dose: str | None = _role("joined with the compound to a treatment; none: `Metadata_Dose`")
    mechanism: str | None = _role("what NSC and NSCB ask for; none: `Metadata_Mechanism`")
    gene: str | None = _role("what gene accuracy asks for; none: `Metadata_Gene`")
    batch: str | None = _role(
        "plates made and imaged together; none: `Metadata_Batch`, else the plate",
        Decides.INPUTS,
    )
    replicate: str | None = _role(
        "for `train.validation.by: replicate`; none: `Metadata_Replicate`", Decides.INPUTS
    )
    control: str | None = _role(
        "tells controls, see `dataset.control`; none: `Metadata_Control`", Decides.INPUTS
    )
    split: str | None = _role(
        "0 for training, 1 for validation; none: `Metadata_Split`", Decides.INPUTS
    )


class Dataset(Parameters):
    """What the images are and what the index says of them."""

    channels: tuple[str, ...] = setting(
        (),
        Decides.ILLUMINATION,
        Decides.COPIES,
        Decides.CROPS,
        Decides.WEIGHTS,
        Decides.FEATURES,
        text="columns of the index, in this order; none: every image column",
    )
    columns: Columns = Columns()
    control: str = setting(
        "negative",
        Decides.PROFILES,
        text="value of the control column that means negative control",
    )
    seed: int = setting(
        0,
        Decides.INPUTS,
        Decides.PROFILES,
        text="the one seed of everything random",
        ge=0,
        le=2**32 - 1,
    )
    image_size: tuple[PositiveInt, PositiveInt] | None = setting(
        None,
        Decides.NOTHING,
        text="height and width that `check` expects",
        unit="pixels",
    )
    bits: PositiveInt | None = setting(None, Decides.NOTHING, text="bit depth that `check` expects")


class Crops(CropInput, CropCutting):
    """Fixed-size views of single cells, or of whole fields."""

    @property
    def input_size(self) -> int:
        """Side of the network's input in pixels."""
        return self.resize or self.size


class Analyze(Reporting, Scoring, Profiling):
    """From single cells to evaluated treatments."""


class Config(Parameters):
    """The whole configuration."""

    dataset: Dataset = Dataset()
    prepare: Prepare = Prepare()
    locate: Locate = Locate()
    crops: Crops = Crops()
    train: Train = Train()
    profile: Profile = Profile()
    analyze: Analyze = Analyze()

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in order; empty where the index decides."""
        return self.dataset.channels

    def to_yaml(self) -> str:
        """Every key with its value, as the text of a config file."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
