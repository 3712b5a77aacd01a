"""Normalizers one after the other, by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from deepprofiler.errors import ConfigError, nearest
from deepprofiler.profiling.correct import CellCount, WellPosition
from deepprofiler.profiling.joint import Harmony, RankNormal
from deepprofiler.profiling.moments import CellMoments
from deepprofiler.profiling.normalize import Robust, Standardize
from deepprofiler.profiling.normalizer import Normalizer
from deepprofiler.profiling.parameters import checked, defaults
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.profiling.saved import read_steps, write_steps
from deepprofiler.profiling.sphering import Sphering
from deepprofiler.profiling.tvn import TVN
from deepprofiler.profiling.tvn_variants import AuthorsTVN, EfaarTVN

NORMALIZERS: dict[str, type[Normalizer]] = {
    kind.name: kind
    for kind in (
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
    )
}


class Chain:
    """Each step is fitted on what the steps before it give.

    Parameters
    ----------
    steps : sequence of Normalizer
        None at all: profiles stay as they are.
    """

    def __init__(self, steps: Sequence[Normalizer]) -> None:
        self.steps = list(steps)

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
        write_steps(Path(path), self.steps)

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
        return cls(read_steps(Path(path), NORMALIZERS))

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
    made = []
    for name, params in steps:
        if name not in NORMALIZERS:
            raise ConfigError(
                f"no normalizer {name}{nearest(name, NORMALIZERS)}; there are "
                f"{', '.join(NORMALIZERS)}"
            )
        known = defaults(NORMALIZERS[name])
        given = {key: value for key, value in shared.items() if key in known and value is not None}
        given |= checked(NORMALIZERS[name], params, name)
        for key, default in known.items():
            if default is inspect.Parameter.empty and key not in given:
                raise ConfigError(f"{name} needs a value for {key}")
        try:
            made.append(NORMALIZERS[name](**given))
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
    return Chain(made)
