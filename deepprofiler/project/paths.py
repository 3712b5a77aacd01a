"""Where every input and output of a project lives.

This is the only file that joins paths. Plate, well, site and experiment names come from users, so
they pass through :func:`file_name` before they become part of a path.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from deepprofiler.errors import ConfigError, DataError
from deepprofiler.files import file_name
from deepprofiler.parallel import usable_cores

if TYPE_CHECKING:
    from deepprofiler.config.schema import Config
    from deepprofiler.project.index import Index, Site
    from deepprofiler.registry import Registry


LOG = logging.getLogger(__name__)
# Folders of outputs/ that no experiment and no set of crops may be called.
_TAKEN = ("illumination", "compressed", "labels")
# Folders that only experiments have, in which training, `profile` and `analyze` write.
_OF_EXPERIMENTS = ("checkpoint", "features", "baselines", "profiles")
DEFAULT_EXPERIMENT = "results"


@dataclass(frozen=True)
class Project:
    """A project directory and the names chosen on the command line.

    Parameters
    ----------
    root : Path
        The project directory.
    config_name : str, optional
        A file in ``inputs/config``; may be left out where there is just one.
    experiment : str
        Name of the folder in ``outputs`` for what one config produces.
    experiment_is_named : bool
        Whether the user chose that name: then nothing of it means that it may be mistyped. Any
        name but the default was chosen.
    single_cells : str
        Name of the folder in ``outputs`` for the exported crops.
    index_name : str
        A file in ``inputs/metadata``.
    cores : int
        Processes or threads to use; 0 means all cores that this process may use.
    strict : bool
        Stop at the first site or well that cannot be used, instead of finishing the rest.
    """

    root: Path
    config_name: str | None = None
    experiment: str = DEFAULT_EXPERIMENT
    single_cells: str = "single-cells"
    index_name: str = "index.csv"
    cores: int = 0
    strict: bool = False
    experiment_is_named: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if self.experiment != DEFAULT_EXPERIMENT:
            object.__setattr__(self, "experiment_is_named", True)
        for option, name in (("--exp", self.experiment), ("--single-cells", self.single_cells)):
            if not name.strip():
                raise ConfigError(f"{option} is blank; give it a name, or leave it out")
            if name.casefold() in _TAKEN:
                raise ConfigError(
                    f"{option} {name}: outputs/{name} is where another stage writes; choose "
                    "another name"
                )
        if self.experiment.casefold() == self.single_cells.casefold():
            raise ConfigError(
                f"--exp and --single-cells are both {self.experiment}; choose different names"
            )

    # -- inputs ---------------------------------------------------------------------------

    @property
    def config_folder(self) -> Path:
        """Folder of the config files."""
        return self.root / "inputs" / "config"

    @property
    def first_config_path(self) -> Path:
        """Where ``setup`` writes a config, if there is none."""
        return self.config_folder / "config.yaml"

    @property
    def config_path(self) -> Path:
        """The config file: the named one, or the only one."""
        if self.config_name is not None:
            return self.config_folder / self.config_name
        from deepprofiler.config import config_file

        self._require_root()
        return config_file.only_one(self.config_folder, self.root)

    @property
    def index_path(self) -> Path:
        """The table of sites."""
        return self.root / "inputs" / "metadata" / self.index_name

    @property
    def is_part(self) -> bool:
        """Whether the index is one of the parts that ``split`` writes."""
        return re.fullmatch(r"index-\d{3,}\.csv", self.index_name) is not None

    @property
    def images_folder(self) -> Path:
        """Folder that the index's relative paths start from."""
        return self.root / "inputs" / "images"

    @property
    def locations_folder(self) -> Path:
        """Folder of the cell locations."""
        return self.root / "inputs" / "locations"

    def named_path(self, name: str) -> Path:
        """A file that the config names, from the project's folder on, or by its whole path."""
        return self.root / name

    def name_of(self, path: Path) -> str:
        """Name a file as provenance does: from the project's folder on, else by its whole path."""
        try:
            return path.relative_to(self.root).as_posix()
        except ValueError:
            return str(path)

    @property
    def plugins_folder(self) -> Path:
        """Folder of the project's own plugins."""
        return self.root / "plugins"

    @property
    def plugin_folders(self) -> list[Path]:
        """Folders of the project's own plugins, one for each kind."""
        from deepprofiler.registry import KINDS

        return [self.plugins_folder / kind.folder for kind in KINDS]

    def load_plugins(self, *kinds: Registry) -> None:
        """Import the plugins of some kinds, and log which of the project's files are executed."""
        from deepprofiler.registry import discover

        for path in discover(self.plugins_folder, kinds):
            LOG.info("executing the project's own plugin %s", path)

    def locations_path(self, site: Site) -> Path:
        """Cell locations of one site."""
        name = file_name(f"{site.well}-{site.site}") + "-Nuclei.csv"
        return self.locations_folder / file_name(site.plate) / name

    # -- outputs before the experiment ------------------------------------------------------

    @property
    def outputs(self) -> Path:
        """Folder of everything that stages write, but for locations."""
        return self.root / "outputs"

    def illumination_path(self, plate: str) -> Path:
        """Illumination function and percentiles of one plate."""
        return self.outputs / "illumination" / f"{file_name(plate)}.h5"

    def quality_path(self, plate: str) -> Path:
        """Intensity and focus of one plate's sites."""
        return self.illumination_path(plate).with_suffix(".csv")

    def compressed_path(self, site: Site, position: int) -> Path:
        """8-bit corrected copy of one channel, named like its image, as the original did.

        A page of a stack, an image that lies elsewhere, and one that would share its copy with
        another (``a.tif`` and ``a.png``) are named by plate, well and site.
        """
        folder = self.outputs / "compressed" / "images"
        source, _, pages = site.sources[position]
        image = Path(source)
        inside = not image.is_absolute() and ".." not in image.parts
        if pages == 1 and inside and not site.shares_names:
            return folder / image.with_suffix(".png")
        name = file_name(f"{site.well}_s{site.site}_channel{position + 1}") + ".png"
        return folder / file_name(site.plate) / name

    @property
    def locate_unfinished_path(self) -> Path:
        """Exists while ``locate`` runs, and after it was interrupted."""
        return self.outputs / "locate-unfinished"

    def labels_path(self, site: Site) -> Path:
        """Label image of one site's nuclei."""
        name = file_name(f"{site.well}-{site.site}") + ".tif"
        return self.outputs / "labels" / file_name(site.plate) / name

    def store_path(self, plate: str) -> Path:
        """Crops of one plate; its table lies beside it with the ending ``.parquet``."""
        return self.outputs / file_name(self.single_cells) / f"{file_name(plate)}.h5"

    def failed_path(self, stage: str) -> Path:
        """Table of what ``stage`` had to leave out; parts of a split index keep their own."""
        part = "" if self.index_name == "index.csv" else f"-{Path(self.index_name).stem}"
        if stage in ("train", "profile", "analyze"):
            return self.experiment_folder / f"failed{part}.csv"
        return self.outputs / f"failed-{stage}{part}.csv"

    def failed_paths(self, stage: str) -> list[Path]:
        """That table, and those of the parts of this index."""
        path = self.failed_path(stage)
        return [path, *sorted(path.parent.glob(f"{path.stem}-index-[0-9]*.csv"))]

    # -- outputs of the experiment ----------------------------------------------------------

    @property
    def experiment_folder(self) -> Path:
        """Outputs of one config."""
        return self.outputs / file_name(self.experiment)

    def experiments(self) -> list[str]:
        """Folder names of the experiments of which there are weights, features or profiles."""
        paths = [path for name in _OF_EXPERIMENTS for path in self.outputs.glob(f"*/{name}/*")]
        return sorted({path.parts[-3] for path in paths if not path.name.startswith(".")})

    def has_experiment(self) -> bool:
        """Whether there are weights, features or profiles of this experiment."""
        return self.experiment_folder.name in self.experiments()

    @property
    def checkpoint_folder(self) -> Path:
        """Weights of the network."""
        return self.experiment_folder / "checkpoint"

    @property
    def experiment_config_path(self) -> Path:
        """The resolved config that made the experiment."""
        return self.experiment_folder / "config.yaml"

    @property
    def logs_folder(self) -> Path:
        """Training logs."""
        return self.experiment_folder / "logs"

    def checkpoint_path(self, name: str) -> Path:
        """The weights called ``last`` or ``best``, or a file in the checkpoint folder."""
        return self.checkpoint_folder / (f"{name}.h5" if name in ("last", "best") else name)

    def features_folder(self, baseline: str | None = None) -> Path:
        """Features of the trained network, or of a baseline."""
        folder = self.experiment_folder
        return (folder / "baselines" / baseline if baseline else folder) / "features"

    def well_path(self, plate: str, well: str, baseline: str | None = None) -> Path:
        """Features of one well's cells."""
        return self.features_folder(baseline) / file_name(plate) / f"{file_name(well)}.h5"

    @property
    def profiles_folder(self) -> Path:
        """Well and treatment profiles."""
        return self.experiment_folder / "profiles"

    def profiles_path(self, name: str) -> Path:
        """One table of profiles or scores."""
        return self.profiles_folder / name

    @property
    def report_folder(self) -> Path:
        """Figures of the report and their data."""
        return self.experiment_folder / "report"

    @property
    def report_path(self) -> Path:
        """The report page."""
        return self.report_folder / "index.html"

    @property
    def history_path(self) -> Path:
        """Figures of every epoch of training."""
        return self.logs_folder / "history.csv"

    # -- contents ----------------------------------------------------------------------------

    @cached_property
    def config(self) -> Config:
        """The checked configuration; translated keys of an original config are logged once."""
        from deepprofiler.config import config_file

        values, notes = config_file.load(self.config_path)
        for note in notes:
            LOG.info("%s: %s", self.config_path.name, note)
        return values

    @cached_property
    def index(self) -> Index:
        """The checked table of sites."""
        from deepprofiler.project.index import read_index
        from deepprofiler.project.locations import require_own_locations

        self._require_root()
        dataset = self.config.dataset
        index = read_index(
            self.index_path,
            self.images_folder,
            channels=dataset.channels,
            columns=dataset.columns.model_dump(),
            control=dataset.control,
        )
        require_own_locations(index, self.locations_path)
        if self.config.prepare.illumination or self.config.prepare.compress:
            self._refuse_own_outputs(index)
        for note in index.notes:
            LOG.info("%s: %s", self.index_path.name, note)
        return index

    def _refuse_own_outputs(self, index: Index) -> None:
        """Refuse images that ``prepare`` wrote: they are corrected, and would be divided again."""
        outputs = self.outputs.resolve()
        for site in index.sites:
            for channel, (source, _, _) in zip(site.channels, site.sources, strict=True):
                # Resolving every path of a large screen would take minutes.
                if self.outputs.name not in source:
                    continue
                if (self.images_folder / source).resolve().is_relative_to(outputs):
                    raise DataError(
                        f"{index.path.name} line {site.line}: channel {channel} names {source}, "
                        "which is an output of this project. Its illumination is corrected "
                        "already: name the original image, or set prepare.illumination and "
                        "prepare.compress to false"
                    )

    @property
    def workers(self) -> int:
        """Processes or threads to use, at least 1."""
        return self.cores if self.cores > 0 else usable_cores()

    def has_locations(self) -> bool:
        """Whether any site has a location file."""
        return any(self.locations_folder.glob("*/*-Nuclei.csv"))

    def _require_root(self) -> None:
        if not self.root.is_dir():
            raise DataError(
                f"{self.root} is not a directory; make a project there with "
                f"`deepprofiler --root {self.root} setup`"
            )
