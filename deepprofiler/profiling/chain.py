"""Normalizers one after the other, by name."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.files import replacing
from deepprofiler.profiling.correct import CellCount, WellPosition
from deepprofiler.profiling.joint import Harmony, RankNormal
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.normalizer import Normalizer
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.sphering import Sphering
from deepprofiler.profiling.standardize import Robust, Standardize
from deepprofiler.profiling.tvn import TVN, AuthorsTVN, EfaarTVN
from deepprofiler.registry import NORMALIZERS

FORMAT = "deepprofiler normalization"
VERSION = 1


def write_steps(path: Path, steps: Sequence[Normalizer], made_from: str = "") -> None:
    """Write fitted steps in order; see :meth:`~deepprofiler.profiling.chain.Chain.save`."""
    about, arrays = [], {}
    for position, step in enumerate(steps):
        if not hasattr(step, "names_in_"):
            raise DataError(f"{step.name} is not fitted, so there is nothing to save")
        facts, own = step.state()
        arrays.update({f"{position}/{key}": array for key, array in own.items()})
        counts = step.n_
        about.append(
            {
                "name": step.name,
                "params": step.params(),
                "reference": step.reference_,
                # JSON has no keys but text, and a plate's name may be a number.
                "n": list(map(list, counts.items())) if isinstance(counts, dict) else counts,
                "names_in": step.names_in_,
                "names": step.names_,
                "left_out": step.left_out_,
                "notes": step.notes_,
                "facts": facts,
            }
        )
    contents = {"format": FORMAT, "version": VERSION, "made_from": made_from, "steps": about}
    text = json.dumps(contents, default=_plain)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, chain=np.array(text), **arrays)


def read_steps(path: Path) -> tuple[list[Normalizer], str]:
    """Read what :func:`write_steps` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    steps : list of Normalizer
    made_from : str
        Empty where the file does not say it.

    Raises
    ------
    DataError
        The file is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; `analyze` writes it beside the profiles")
    try:
        # Opened here, for NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        found = json.loads(str(arrays.pop("chain")))
        if (found["format"], found["version"]) != (FORMAT, VERSION):
            raise ValueError(f"{found['format']} {found['version']}, not {FORMAT} {VERSION}")
        steps = [_step(position, about, arrays) for position, about in enumerate(found["steps"])]
        return steps, str(found.get("made_from", ""))
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} does not hold a normalization: {error}") from None


def _step(
    position: int,
    about: dict[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> Normalizer:
    step: Normalizer = NORMALIZERS.get(about["name"])(**about["params"])
    counts = about["n"]
    step.n_ = dict(counts) if isinstance(counts, list) else counts
    step.names_in_, step.names_ = about["names_in"], about["names"]
    step.left_out_, step.notes_ = about["left_out"], about["notes"]
    step.reference_ = about["reference"]
    begin = f"{position}/"
    own = {key.removeprefix(begin): one for key, one in arrays.items() if key.startswith(begin)}
    step.restore(about["facts"], own)
    return step


def _plain(value: Any) -> Any:
    """Return what JSON can hold in the place of a number or array of NumPy."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be saved")


for _kind in (
    Standardize,
    Robust,
    RankNormal,
    Sphering,
    TVN,
    AuthorsTVN,
    EfaarTVN,
    Harmony,
    WellPosition,
    CellCount,
):
    NORMALIZERS.register(_kind.name)(_kind)


class Chain:
    """Each step is fitted on what the steps before it give.

    Parameters
    ----------
    steps : sequence of Normalizer
        Without steps, profiles stay as they are.
    made_from : str
        What the chain was fitted on, in any form of the caller's; it is saved with the steps.
    """

    def __init__(self, steps: Sequence[Normalizer], made_from: str = "") -> None:
        self.steps = list(steps)
        self.made_from = made_from

    def fit(
        self,
        profiles: Profiles,
        *,
        controls: np.ndarray | None = None,
        cells: CellMoments | None = None,
    ) -> Self:
        """Fit all steps; parameters as for :class:`Normalizer`."""
        for position, step in enumerate(self.steps):
            step.fit(profiles, controls=controls, cells=cells)
            if position < len(self.steps) - 1:
                profiles = step.transform(profiles)
                cells = None if cells is None else step.transform_moments(cells)
        return self

    def transform(self, profiles: Profiles) -> Profiles:
        """Apply all steps, in order."""
        for step in self.steps:
            profiles = step.transform(profiles)
        return profiles

    def covers(self, profiles: Profiles) -> np.ndarray:
        """Which profiles can be transformed, such as those of plates in the fit, (n,) bool."""
        known = np.ones(len(profiles), bool)
        for step in self.steps:
            known &= step.covers(profiles)
        return known

    def save(self, path: Path) -> None:
        """Write the fitted steps to one ``.npz`` file; an interrupted write leaves no file.

        The file holds arrays and text, nothing that runs code when it is read: each step's name,
        parameters, reference and its n, features in, given and left out, notes, and its maps.

        Raises
        ------
        DataError
            A step is not fitted.
        """
        write_steps(Path(path), self.steps, self.made_from)

    @classmethod
    def load(cls, path: Path) -> Chain:
        """Read a chain that was saved, to apply it to other profiles.

        Steps that know the profiles of their fit alone (``rank-normal``, ``harmony``) are read,
        but refuse to transform any; ``well-position`` refuses plates that were not in its fit.

        Raises
        ------
        DataError
            The file is missing, damaged or of another kind.
        """
        return cls(*read_steps(Path(path)))

    @property
    def notes_(self) -> list[str]:
        """What the fits did, in sentences."""
        return [note for step in self.steps for note in step.notes_]

    @property
    def left_out_(self) -> dict[str, str]:
        """Features left out by any step, with the reason."""
        return {name: why for step in self.steps for name, why in step.left_out_.items()}


def make_chain(
    steps: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    plate: str,
    batch: str,
    well: str | None = None,
    count: str | None = None,
    seed: int = 0,
) -> Chain:
    """Build a chain from names and parameters, as a config gives them.

    Parameters
    ----------
    steps : iterable of (str, mapping)
        Names of :data:`NORMALIZERS` and their parameters.
    plate, batch, well, count : str
        Columns of metadata, given to the steps that take them; the last two may be unknown.
    seed : int
        Given to the steps that draw at random.

    Raises
    ------
    ConfigError
        A name or a parameter does not exist, or a parameter's value cannot be used.
    """
    shared = {"plate": plate, "batch": batch, "well": well, "count": count, "seed": seed}
    shared = {key: value for key, value in shared.items() if value is not None}
    made = [NORMALIZERS.build(name, params=params, **shared) for name, params in steps]
    return Chain(made)
