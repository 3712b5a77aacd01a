"""Read everything, change nothing, and report what is wrong."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from deepprofiler.columns import PREFIX
from deepprofiler.commands.locate import channel_note
from deepprofiler.config.roles import similar_columns
from deepprofiler.errors import ConfigError, DataError, DeepProfilerError, counted, listing
from deepprofiler.files import file_digest
from deepprofiler.imaging.read import ImageFile, inspect, read_labels, read_site
from deepprofiler.parallel import ordered_map
from deepprofiler.progress import track
from deepprofiler.project import Project
from deepprofiler.project.index import Index, Site
from deepprofiler.project.outcome import Outcome
from deepprofiler.project.sites import explain, read_cells, read_uncorrected
from deepprofiler.project.splits import training_labels

# A minimum above half of the maximum is a pedestal: dividing by an illumination function would
# shape the pedestal and not the signal.
_PEDESTAL = 0.5
# Pixels of images of cells, in µm, from STED to a 2× lens; and the pitch of the coarsest cameras.
_SMALLEST_PIXEL = 0.01
_LARGEST_PIXEL = 4.0
_LARGEST_PITCH = 30.0


@dataclass(frozen=True)
class _Plane:
    """One channel of one site, or the reason why it cannot be used.

    ``digest`` is that of the pixels, and empty where they are all the same.
    """

    shape: tuple[int, int] = (0, 0)
    dtype: str = ""
    minimum: float = 0.0
    maximum: float = 0.0
    pixel_size: float | None = None
    digest: str = ""
    problem: str = ""


@dataclass
class _Findings:
    """Problems, warnings and facts, a line each."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


def check(project: Project) -> Outcome:
    """Read the config, the index, every image and every location file.

    Parameters
    ----------
    project : Project

    Returns
    -------
    Outcome
        One note for every problem, warning and fact; problems and warnings make the exit code 1.

    Raises
    ------
    ConfigError, DataError
        The config or the index itself cannot be used.
    """
    index = project.index
    findings = _Findings()
    workers = min(project.workers, len(index.sites))
    prepare = project.config.prepare
    read = partial(_planes, corrected=prepare.illumination or prepare.compress)
    results = ordered_map(read, index.sites, workers=workers)
    planes = list(track(results, len(index.sites), "check: sites"))
    _check_images(project, planes, findings)
    _check_locations(project, planes, findings)
    _check_label_images(project, planes, findings)
    _check_labels(project, findings)
    _check_analysis(project, findings)
    lines = [
        *(f"problem: {line}" for line in findings.problems),
        *(f"warning: {line}" for line in findings.warnings),
        *findings.facts,
    ]
    problems = counted(len(findings.problems), "problem", "problems")
    warnings = counted(len(findings.warnings), "warning", "warnings")
    return Outcome(
        "check",
        wrote=["nothing: it only reads"],
        notes=[*lines, f"{problems} and {warnings}"],
        problems=len(findings.problems) + len(findings.warnings),
        then="run",
    )


def _planes(site: Site, corrected: bool) -> list[_Plane]:
    """Read each file of a site by itself, so that every broken one is found."""
    members: dict[Path, list[ImageFile]] = defaultdict(list)
    for file in site.files:
        members[file.path].append(file)
    planes: dict[ImageFile, _Plane] = {}
    for path, files in members.items():
        try:
            image = read_uncorrected(files) if corrected else read_site(files)
            size = inspect(path).pixel_size
        except DataError as error:
            planes |= dict.fromkeys(files, _Plane(problem=explain(site, error)))
            continue
        for position, file in enumerate(files):
            pixels = image[:, :, position]
            low, high = float(pixels.min()), float(pixels.max())
            digest = hashlib.sha256(pixels.tobytes()).hexdigest() if low < high else ""
            planes[file] = _Plane(pixels.shape, str(pixels.dtype), low, high, size, digest)
    return [planes[file] for file in site.files]


def _check_images(project: Project, planes: list[list[_Plane]], findings: _Findings) -> None:
    index = project.index
    plates = len(index.plates)
    findings.facts.append(
        f"{len(index.sites)} sites in {len(index.wells())} wells on "
        f"{counted(plates, 'plate', 'plates')}, "
        f"channels {', '.join(index.channels)}"
    )
    findings.warnings += [f"{index.path.name} {line}" for line in index.repeats]
    findings.warnings += _copied_images(index, planes)
    for row in planes:
        # Once for each file: the channels of a stack share their problem.
        findings.problems += dict.fromkeys(plane.problem for plane in row if plane.problem)
    sizes = {}
    for plate, pairs in _by_plate(index, planes).items():
        sizes[plate] = _check_plate(project, plate, pairs, findings)
    stated = {plate: size for plate, size in sizes.items() if size is not None}
    if stated:
        by_plate = ", ".join(f"{plate} {size:.4g}" for plate, size in stated.items())
        findings.facts.append(f"pixel size in µm by plate, as the files say: {by_plate}")
        findings.warnings += [
            f"plate {plate}: {_pixel_doubt(size)}"
            for plate, size in stated.items()
            if not _SMALLEST_PIXEL <= size <= _LARGEST_PIXEL
        ]
        if max(stated.values()) > 1.01 * min(stated.values()):
            findings.warnings.append(
                f"pixel sizes differ between plates ({by_plate} µm): a crop of "
                f"{project.config.crops.size} pixels covers another area on each"
            )


def _pixel_doubt(size: float) -> str:
    """Say why a pixel size in µm is not that of images of cells, and the likely cause."""
    text = f"a pixel of {size:.4g} µm, as the files say, is implausible for images of cells"
    if size < _SMALLEST_PIXEL:
        return f"{text}: probably another unit, such as mm in place of µm"
    if size < _LARGEST_PITCH:
        return f"{text}: probably that of the camera, not divided by the magnification"
    return f"{text}: probably another unit, or the resolution of a screen or printer"


def _copied_images(index: Index, planes: list[list[_Plane]]) -> list[str]:
    """Name the pairs of sites that have the same pixels in different files."""
    first_with: dict[str, tuple[Site, ImageFile]] = {}
    pairs: dict[tuple[Site, Site], list[str]] = defaultdict(list)
    for site, row in zip(index.sites, planes, strict=True):
        for file, plane in zip(site.files, row, strict=True):
            if plane.digest:
                other, original = first_with.setdefault(plane.digest, (site, file))
                if other is not site and original != file:
                    pairs[other, site].append(f"{original.path} and {file.path}")
    lines = []
    for (first, second), files in pairs.items():
        others = counted(len(files) - 1, "more pair", "more pairs")
        more = f" (and {others} of files)" if files[1:] else ""
        lines.append(
            f"{index.path.name} lines {first.line} ({first.name}) and {second.line} "
            f"({second.name}): {files[0]} hold the same pixels{more}; one of them is probably a "
            "copy"
        )
    return lines


def _by_plate(
    index: Index, planes: list[list[_Plane]]
) -> dict[str, list[tuple[Site, list[_Plane]]]]:
    grouped: dict[str, list[tuple[Site, list[_Plane]]]] = defaultdict(list)
    for site, row in zip(index.sites, planes, strict=True):
        grouped[site.plate].append((site, row))
    return grouped


def _check_plate(
    project: Project, plate: str, pairs: list[tuple[Site, list[_Plane]]], findings: _Findings
) -> float | None:
    """Check one plate; return its pixel size in µm where all files agree."""
    dataset = project.config.dataset
    first_of_size: dict[tuple[int, int], str] = {}
    for site, row in pairs:
        for file, plane in zip(site.files, row, strict=True):
            if not plane.problem:
                first_of_size.setdefault(plane.shape, str(file.path))
    if len(first_of_size) > 1:
        shapes = "; ".join(f"{h} × {w}: {path}" for (h, w), path in first_of_size.items())
        findings.problems.append(f"plate {plate} mixes image sizes ({shapes})")
    expected = dataset.image_size
    for height, width in first_of_size:
        if expected is not None and (height, width) != expected:
            findings.warnings.append(
                f"plate {plate}: images are {height} × {width} pixels, the config says "
                f"{expected[0]} × {expected[1]}; the size of the file is used"
            )
    for position, channel in enumerate(project.index.channels):
        readable = [row[position] for _, row in pairs if not row[position].problem]
        if readable:
            _check_channel(f"plate {plate}, channel {channel}", readable, dataset.bits, findings)
    sizes = {plane.pixel_size for _, row in pairs for plane in row if not plane.problem}
    return next(iter(sizes)) if len(sizes) == 1 else None


def _check_channel(place: str, planes: list[_Plane], bits: int | None, findings: _Findings) -> None:
    """Warn of a pedestal, negative values, mixed types and a wrong bit depth."""
    low = min(plane.minimum for plane in planes)
    high = max(plane.maximum for plane in planes)
    types = sorted({plane.dtype for plane in planes})
    if len(types) > 1:
        findings.warnings.append(f"{place}: mixes {' and '.join(types)} files")
    if low < 0:
        findings.warnings.append(
            f"{place}: negative values (least {low:g}); illumination correction divides and "
            "expects a background near 0: subtract the offset of the camera's signed files"
        )
    elif high > 0 and low > _PEDESTAL * high:
        findings.warnings.append(
            f"{place}: the minimum {low:g} is {low / high:.0%} of the maximum {high:g}, a "
            "pedestal that illumination correction would shape: subtract it"
        )
    if bits is not None and high >= 2**bits:
        findings.warnings.append(
            f"{place}: the maximum {high:g} does not fit the {bits} bits of the config"
        )
    constant = sum(plane.minimum == plane.maximum for plane in planes)
    if constant:
        findings.warnings.append(
            f"{place}: {counted(constant, 'image has', 'images have')} one value everywhere"
        )


def _check_locations(project: Project, planes: list[list[_Plane]], findings: _Findings) -> None:
    crops = project.config.crops
    if crops.mode == "cells" and not project.has_locations():
        findings.facts.append("no locations yet; `locate` and `train` write them")
        try:
            findings.facts += channel_note(project)
        except ConfigError as error:
            findings.warnings.append(f"locate: {error}")
        return
    cells = empty = 0
    first_with: dict[bytes, Site] = {}
    for site, row in zip(project.index.sites, planes, strict=True):
        shape = next((plane.shape for plane in row if not plane.problem), None)
        if shape is None:
            continue
        try:
            table, dropped = read_cells(project, site, shape, crops.size)
        except DataError as error:
            findings.problems.append(str(error))
            continue
        cells += len(table)
        empty += len(table) + len(dropped) == 0
        findings.problems += [reason for _, reason in dropped]
        if crops.mode == "cells" and len(table) > 1:
            other = first_with.setdefault(table[["x", "y"]].to_numpy(float).tobytes(), site)
            if other is not site:
                findings.warnings.append(_same_cells(project, other, site, len(table)))
    if crops.mode == "cells":
        findings.facts.append(
            f"{cells} cells located, {counted(empty, 'site', 'sites')} without any"
        )
    else:
        findings.facts.append(f"{cells} views of {crops.size} × {crops.size} pixels, {crops.mode}")


def _check_label_images(project: Project, planes: list[list[_Plane]], findings: _Findings) -> None:
    """Name label images that are none, that are empty, or the same for two sites."""
    first_with: dict[str, Site] = {}
    for site, row in zip(project.index.sites, planes, strict=True):
        path = project.labels_path(site)
        digest = file_digest(path)
        if digest is None:
            continue
        shape = next((plane.shape for plane in row if not plane.problem), None)
        try:
            has_objects = read_labels(path, shape).any()
        except DataError as error:
            findings.problems.append(f"{site.name}: {error}")
            continue
        other = first_with.setdefault(digest, site)
        if not has_objects:
            findings.warnings += _empty_labels(site, path)
        elif other is not site:
            findings.warnings.append(
                f"{site.index} lines {other.line} ({other.name}) and {site.line} "
                f"({site.name}): their label images, {project.labels_path(other)} and {path}, "
                "are the same; remove the wrong one"
            )


def _empty_labels(site: Site, path: Path) -> list[str]:
    """Warn of a label image without objects, unless `locate` has seen none."""
    if inspect(path).written_as == "labels":
        return []
    return [f"{site.name}: {path} has no objects, all its pixels are 0; save it again if it should"]


def _same_cells(project: Project, first: Site, second: Site, cells: int) -> str:
    """Say that two sites have the same locations."""
    return (
        f"{first.index} lines {first.line} ({first.name}) and {second.line} ({second.name}): all "
        f"{cells} cells have the same locations, in {project.locations_path(first)} and "
        f"{project.locations_path(second)}; remove the wrong file, and `locate` writes it again"
    )


def _check_labels(project: Project, findings: _Findings) -> None:
    index = project.index
    roles = ", ".join(f"{role} = {column}" for role, column in index.roles.items())
    findings.facts.append(f"roles of columns: {roles or 'none'}")
    findings.facts += [
        f"the role {role} is played by {index.roles.get(role, 'no column')}, and "
        f"{listing(columns)} may be meant: set dataset.columns.{role} if so"
        for role, columns in similar_columns(
            index.roles, project.config.dataset.columns, [*map(str, index.table)], PREFIX
        ).items()
    ]
    findings.problems += [*index.well_conflicts(), *index.batch_conflicts()]
    findings.warnings += [*index.control_doubts(), *index.mechanism_doubts()]
    if not index.has("label"):
        findings.facts.append("no label column: `profile` works, `train` does not")
        return
    train = project.config.train
    try:
        training = training_labels(index, controls=train.controls, labels=train.labels)
    except DeepProfilerError as error:
        findings.warnings.append(f"train: {error}")
        return
    sites = Counter(training.codes.tolist())
    counts = np.array([sites[code] for code in range(len(training.classes))])
    findings.facts.append(
        f"{len(training.classes)} classes to train on, {counts.min()} to {counts.max()} sites each"
        + _listing(training.left_out.items())
    )


def _check_analysis(project: Project, findings: _Findings) -> None:
    """Check that ``analyze`` can do what the config says."""
    # Loads TensorFlow, which the processes that read images do not need.
    from deepprofiler.commands.analyze.requirements import require_analysis

    try:
        findings.facts += require_analysis(project, report=project.config.analyze.report)
    except DeepProfilerError as error:
        findings.problems.append(f"analyze: {error}")


def _listing(counts: Iterable[tuple[str, int]]) -> str:
    text = ", ".join(f"{counted(n, 'site', 'sites')} ({reason})" for reason, n in counts if n)
    return f"; not trained on: {text}" if text else ""
