"""The configuration: its sections, built of the classes of settings that the rooms declare.

A project's ``inputs/config/*.yaml`` (or ``.json``) holds the sections ``dataset``, ``prepare``,
``locate``, ``crops``, ``train``, ``profile`` and ``analyze``. Every key has a default, so that a
short file is enough. :mod:`deepprofiler.config.config_file` reads it.
"""

from __future__ import annotations

import yaml
from pydantic import PositiveInt

from deepprofiler.config.roles import NEGATIVE, Columns
from deepprofiler.evaluation.evaluation_settings import Scoring
from deepprofiler.imaging.imaging_settings import CropCutting, Locate, Prepare
from deepprofiler.learning.learning_settings import CropInput, Profile, Train
from deepprofiler.parameters import Decides, Parameters, setting
from deepprofiler.profiling.profiling_settings import Profiling
from deepprofiler.report.report_settings import Reporting


class Dataset(Parameters):
    """What the images are and what the index says of them."""

    channels: tuple[str, ...] = setting(
        (),
        Decides.ILLUMINATION,
        Decides.COPIES,
        Decides.CROPS,
        Decides.WEIGHTS,
        Decides.FEATURES,
        text="image columns of the index, in order; `[]`: all image columns",
    )
    columns: Columns = Columns()
    control: str = setting(
        NEGATIVE,
        Decides.PROFILES,
        text="value of the control column that marks negative controls; `negative` also stands for "
        "`negcon`, `Negative control` and similar names",
    )
    seed: int = setting(
        0,
        Decides.INPUTS,
        Decides.PROFILES,
        text="seed of all random numbers",
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
