"""Find the nuclei of every site in the DNA channel, with the segmenter of the config."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from deepprofiler.commands import run_earlier
from deepprofiler.commands.prepare import is_needed as preparing_is_needed
from deepprofiler.errors import ConfigError, DataError, counted
from deepprofiler.imaging.imaging_settings import Locate
from deepprofiler.imaging.read import inspect, read_labels, write_labels
from deepprofiler.imaging.segment import centers, segment
from deepprofiler.parallel import ordered_map
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.index import Site
from deepprofiler.project.locations import write_locations
from deepprofiler.project.outcome import Failures, Outcome
from deepprofiler.project.sites import SiteReader, explain, require_whole_index
from deepprofiler.registry import SEGMENTERS, discover

_NUCLEAR = ("dna", "hoechst", "dapi")


def locate(project: Project, *, labels: bool = False) -> Outcome:
    """Write ``inputs/locations/<plate>/<well>-<site>-Nuclei.csv`` where it does not exist.

    Parameters
    ----------
    project : Project
    labels : bool
        Also write label images to ``outputs/labels``; ``crops.mask`` asks for them by itself.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        No channel is known to show nuclei, or the index is a part that ``split`` wrote.
    """
    require_whole_index(project, "locate")
    labels = labels or project.config.crops.mask
    channel = nuclear_channel(project)
    if preparing_is_needed(project):
        run_earlier(project, "prepare", "the illumination functions are missing or outdated")
    project.load_plugins(SEGMENTERS)
    segmenter = project.config.locate.segmenter
    SEGMENTERS.check(segmenter.name, segmenter.params)
    failures = Failures(project, "locate")
    kept = sum(project.locations_path(site).exists() for site in project.index.sites)
    sites = [
        site
        for site in project.index.sites
        if not project.locations_path(site).exists()
        or (labels and not project.labels_path(site).exists())
    ]
    unfinished = project.locate_unfinished_path
    if sites:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
    locate_site = _LocateSite(
        SiteReader(project), channel, project.config.locate, replace(project), labels
    )
    results = ordered_map(locate_site, sites, workers=min(project.workers, max(len(sites), 1)))
    counts = []
    label_images = 0
    for site, result in zip(sites, track(results, len(sites), "locate: sites"), strict=True):
        if isinstance(result, DataError):
            failures.add(site.plate, site.well, site.site, explain(site, result))
            continue
        counts += [] if result.cells is None else [result.cells]
        label_images += result.labels
    failures.write()
    unfinished.unlink(missing_ok=True)
    outcome = Outcome("locate", left_out=failures.counts(), then="export-sc (or train)")
    outcome.notes += channel_note(project)
    if counts:
        outcome.wrote.append(
            f"{sum(counts)} cells of {len(counts)} sites to inputs/locations "
            f"(median {np.median(counts):.0f} a site)"
        )
    if label_images:
        outcome.wrote.append(f"label images of {label_images} sites to outputs/labels")
    empty = counts.count(0)
    if empty:
        outcome.notes.append(
            f"{counted(empty, 'site has', 'sites have')} no cells: only a header in the file"
        )
    if kept:
        outcome.notes.append(f"kept the locations of {counted(kept, 'site', 'sites')}")
    return outcome


def is_needed(project: Project) -> bool:
    """Whether crops are of cells, and the project has none yet or ``locate`` was interrupted."""
    if project.config.crops.mode != "cells":
        return False
    return not project.has_locations() or project.locate_unfinished_path.exists()


def nuclear_channel(project: Project) -> int:
    """Position of the channel that shows nuclei.

    Raises
    ------
    ConfigError
        ``locate.channel`` is not a channel, or is not given and no name tells, or several do.
    """
    channels = project.index.channels
    name = project.config.locate.channel
    if name is not None:
        if name not in channels:
            raise ConfigError(f"locate.channel is {name}, the channels are {', '.join(channels)}")
        return channels.index(name)
    for wanted in _NUCLEAR:
        for position, channel in enumerate(channels):
            if channel.lower() == wanted:
                return position
    # OrigDNA, HOECHST 33342, w1_DAPI
    positions = [place for place, channel in enumerate(channels) if _names_nuclei(channel)]
    if len(positions) == 1:
        return positions[0]
    problem = (
        f"the channels {', '.join(channels[place] for place in positions)} all name DNA, Hoechst "
        "or DAPI"
        if positions
        else f"none of the channels {', '.join(channels)} is named DNA, Hoechst or DAPI"
    )
    raise ConfigError(f"{problem}; set locate.channel to the one that shows nuclei")


def channel_note(project: Project) -> list[str]:
    """Say which channel shows nuclei, where only a part of its name tells."""
    channel = project.index.channels[nuclear_channel(project)]
    if project.config.locate.channel is not None or channel.lower() in _NUCLEAR:
        return []
    return [f"nuclei are located in the channel `{channel}`; locate.channel names another"]


def _names_nuclei(channel: str) -> bool:
    """Tell whether a word of a channel's name is that of a stain of nuclei."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", channel)
    return any(word.lower() in _NUCLEAR for word in words)


@dataclass(frozen=True)
class _Written:
    """What was written for a site: locations of so many cells (None: kept), a label image."""

    cells: int | None
    labels: bool


@dataclass(frozen=True)
class _LocateSite:
    """Segments one site and writes its files, in a worker process."""

    reader: SiteReader
    channel: int
    settings: Locate
    project: Project
    write_labels: bool

    def __call__(self, site: Site) -> _Written | DataError:
        """Write what is missing for ``site``; return what that was or why it cannot be."""
        labels_path = self.project.labels_path(site)
        try:
            # Label images that exist, perhaps of another program, are the segmentation.
            if labels_path.exists():
                shape = inspect(self.reader.files(site)[self.channel].path).shape
                labels = read_labels(labels_path, shape)
            else:
                labels = self._labels(site)
        except DataError as error:
            return error
        new = self.write_labels and not labels_path.exists()
        if new:
            write_labels(labels_path, labels)
        locations_path = self.project.locations_path(site)
        if locations_path.exists():
            return _Written(None, new)
        x, y, area = centers(labels)
        write_locations(locations_path, x, y, area=area)
        return _Written(len(x), new)

    def _labels(self, site: Site) -> np.ndarray:
        """Label image (H, W) of a site's nuclei."""
        _load_segmenters(self.project.plugins_folder)
        settings = self.settings
        return segment(
            self.reader.image(site, self.channel)[:, :, 0],
            settings.segmenter.name,
            settings.segmenter.params,
            min_diameter=settings.min_diameter,
            max_diameter=settings.max_diameter,
            border=settings.border,
        )


@cache
def _load_segmenters(folder: Path) -> None:
    """Import segmenters, once in each process."""
    discover(folder, (SEGMENTERS,))
