"""What a command did: what it wrote, what it left out and why, and what comes next."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.project import Project

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A site, cell or well that a command could not use.

    Attributes
    ----------
    plate, well, site : str
        ``site`` is empty where the whole well failed.
    stage : str
    reason : str
        What was found, where, and what to do.
    cell : str
        The cell's line in its location file, where a single cell was left out.
    """

    plate: str
    well: str
    site: str
    stage: str
    reason: str
    cell: str = ""


class Failures:
    """The failures of one run of a command, and their table on disk.

    Parameters
    ----------
    project : Project
    stage : str
    """

    def __init__(self, project: Project, stage: str):
        self._path = project.failed_path(stage)
        self._strict = project.strict
        self.stage = stage
        self.rows: list[Failure] = []

    def add(self, plate: str, well: str, site: str, reason: str, cell: str = "") -> None:
        """Log one failure; with ``--strict`` raise it."""
        place = "/".join(part for part in (plate, well, site) if part)
        if self._strict:
            raise DataError(f"{place}: {reason}")
        self.rows.append(Failure(plate, well, site, self.stage, reason, cell))
        LOG.warning("left out %s: %s", place, reason)

    def write(self) -> None:
        """Replace the rows of this command in the table by those of this run."""
        others = [row for row in read_failures(self._path, None) if row.stage != self.stage]
        if not (others or self.rows or self._path.exists()):
            return
        with (
            replacing(self._path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, [item.name for item in fields(Failure)])
            writer.writeheader()
            writer.writerows(asdict(row) for row in [*others, *self.rows])

    def counts(self) -> dict[str, int]:
        """How many sites, wells and single cells were left out."""
        kinds = Counter(
            "cells" if row.cell else "sites" if row.site else "wells" for row in self.rows
        )
        return dict(kinds)


def read_failures(path: Path, stage: str | None) -> list[Failure]:
    """Read the failures of one command, or of all; none where there is no table."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if reader.fieldnames != [item.name for item in fields(Failure)]:
                raise ValueError("other columns")
            rows = [Failure(**row) for row in reader]
    except (TypeError, ValueError, csv.Error):
        raise DataError(f"{path} is not a table of failures; move it away") from None
    return [row for row in rows if stage is None or row.stage == stage]


@dataclass
class Outcome:
    """What a command reports at its end.

    Attributes
    ----------
    command : str
    wrote : list of str
        One line for each kind of output.
    left_out : dict
        What this command could not use, such as ``sites``, with its count.
    left_out_by : dict
        Command that this one ran first, to what that could not use.
    notes : list of str
        What was left out by design, or is worth knowing.
    then : str
        The command to run next.
    wrote_by : dict
        Command that this one consists of, to a line for each kind of output.
    problems : int
        Problems of inputs that a command reports without using them.
    """

    command: str
    wrote: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    left_out_by: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    then: str = ""
    wrote_by: dict[str, list[str]] = field(default_factory=dict)
    problems: int = 0

    @property
    def exit_code(self) -> int:
        """0 where everything was used, 1 where something was left out or has a problem."""
        counts = [self.left_out, *self.left_out_by.values()]
        return 1 if self.problems or any(any(losses.values()) for losses in counts) else 0

    def add(self, other: Outcome) -> None:
        """Take over what a command that was run first reports of losses."""
        if any(other.left_out.values()):
            self.left_out_by[other.command] = dict(other.left_out)
        self.left_out_by |= other.left_out_by

    def summary(self) -> list[str]:
        """What was written, noted and left out, a line each."""
        name = self.command
        if self.wrote_by:
            lines = [
                f"{part} wrote {line}" for part, rows in self.wrote_by.items() for line in rows
            ]
        else:
            lines = [f"wrote {line}" for line in self.wrote or ["nothing new"]]
        lines = [f"{name}: {line}" for line in lines]
        lines += [f"{name}: {note}" for note in self.notes]
        lines += [f"{name}: left out {n} {what}" for what, n in self.left_out.items() if n]
        for command, losses in self.left_out_by.items():
            lines += [f"{name}: left out {n} {what} ({command})" for what, n in losses.items() if n]
        return lines

    def lines(self) -> list[str]:
        """The summary, and the next command."""
        return [*self.summary(), *([f"next: {self.then}"] if self.then else [])]
