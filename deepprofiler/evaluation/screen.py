"""A screen as evaluations see it: normalized wells, negative controls, and treatments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from deepprofiler.columns import COUNT, FLAG, MEMBERS
from deepprofiler.errors import DataError
from deepprofiler.evaluation.resampling import permuted_labels
from deepprofiler.evaluation.similarity import Metric, blank
from deepprofiler.profiling.averages import (
    Statistic,
    Weight,
    group_means,
    group_medians,
    with_enough_cells,
)
from deepprofiler.profiling.profiles import Profiles

# Role whose values have one label each, and among which labels are permuted; None: each well.
_PERMUTED_AMONG = {"mechanism": "compound", "gene": "treatment", "treatment": None}


def negative_rows(profiles: Profiles, roles: Mapping[str, str], control: str) -> np.ndarray:
    """Mask (n,) of the profiles that are negative controls.

    Parameters
    ----------
    profiles : Profiles
    roles : mapping
        Role to column. Without the role ``control`` there are no negative controls.
    control : str
        Value of that column that marks a negative control.
    """
    if "control" not in roles:
        return np.zeros(len(profiles), bool)
    return np.asarray(profiles.values(roles["control"]) == control)


def untreated_rows(profiles: Profiles, roles: Mapping[str, str]) -> np.ndarray:
    """Mask (n,) of the profiles whose treatment is blank."""
    return blank(profiles.values(roles["treatment"]))


def treatment_profiles(
    wells: Profiles,
    roles: Mapping[str, str],
    by: Sequence[str] = (),
    *,
    aggregate: Statistic = "mean",
    weight: Weight = "cells",
) -> Profiles:
    """Profile of each treatment, or of each treatment and value of other roles.

    Parameters
    ----------
    wells : Profiles
        Wells with a blank treatment are left out.
    roles : mapping
        Role to column.
    by : sequence of str
        Further roles, such as ``batch``; those without a column are ignored.
    aggregate : {"mean", "median", "site-medians"}
        Statistic of a well's profile. The profile of a treatment is the median of its wells where
        this is ``median``, else their mean.
    weight : {"cells", "wells"}
        See :func:`~deepprofiler.profiling.averages.group_means`.

    Raises
    ------
    DataError
        No well has a treatment.
    """
    treated = wells.subset(~untreated_rows(wells, roles))
    if not len(treated):
        raise DataError("no well with enough cells has a treatment, negative controls aside")
    columns = [roles[role] for role in ("treatment", *by) if role in roles]
    group = group_medians if aggregate == "median" else group_means
    return group(treated, list(dict.fromkeys(columns)), count=COUNT, members=MEMBERS, weight=weight)


class Screen:
    """The wells of a screen, and the profiles of its treatments.

    Parameters
    ----------
    wells : Profiles
        Normalized profiles of wells, controls too. Wells that are flagged for too few cells
        (``Metadata_Few_Cells``) are left out. A blank compound is replaced by the treatment, so
        that wells without a compound do not count as one compound.
    roles : mapping
        Role (``treatment``, ``compound``, ``mechanism``, ``gene``, ``batch``, ``control``) to the
        column that plays it. Evaluations that need a missing role are not applicable.
    control : str
        Value of the control column that marks a negative control.
    aggregate : {"mean", "median", "site-medians"}
        See :func:`treatment_profiles`.
    weight : {"cells", "wells"}
        See :func:`treatment_profiles`.
    seed : int
        Of bootstraps, nulls and permutations.
    shuffled : bool
        Whether labels are permuted. Then, nothing is tested for significance.
    """

    def __init__(
        self,
        wells: Profiles,
        roles: Mapping[str, str],
        *,
        control: str = "negative",
        aggregate: Statistic = "mean",
        weight: Weight = "cells",
        seed: int = 0,
        shuffled: bool = False,
    ) -> None:
        if FLAG in wells.metadata:
            wells = with_enough_cells(wells)
        if {"treatment", "compound"} <= set(roles):
            compounds, treatments = (wells.values(roles[r]) for r in ("compound", "treatment"))
            compounds = np.where(blank(compounds), treatments, compounds)
            wells = wells.with_column(roles["compound"], compounds)
        self.wells = wells
        self.roles = dict(roles)
        self.control = control
        self.aggregate = aggregate
        self.weight = weight
        self.seed = seed
        self.shuffled = shuffled

    def with_wells(self, wells: Profiles, *, shuffled: bool | None = None) -> Screen:
        """Return the same screen with other profiles of wells."""
        return Screen(
            wells,
            self.roles,
            control=self.control,
            aggregate=self.aggregate,
            weight=self.weight,
            seed=self.seed,
            shuffled=self.shuffled if shuffled is None else shuffled,
        )

    def has(self, role: str) -> bool:
        """Whether a column plays the role."""
        return role in self.roles

    def column(self, role: str) -> str:
        """Column that plays a role; without a compound, the treatment stands for it.

        Raises
        ------
        KeyError
            No column does.
        """
        if role == "compound" and not self.has(role):
            return self.roles["treatment"]
        return self.roles[role]

    @property
    def group_column(self) -> str | None:
        """Column of what similar treatments should share: the mechanism, else the gene, or None."""
        return self.roles.get("mechanism") or self.roles.get("gene")

    @property
    def metric(self) -> Metric:
        """Cosine; but one number has no angle, and is compared by its distance."""
        return "euclidean" if len(self.wells.names) == 1 else "cosine"

    @cached_property
    def controls(self) -> np.ndarray:
        """Which wells are negative controls, (n,) bool."""
        return negative_rows(self.wells, self.roles, self.control)

    @cached_property
    def treated(self) -> Profiles:
        """The wells that are not negative controls."""
        return self.wells.subset(~self.controls)

    @property
    def has_treatments(self) -> bool:
        """Whether a well that is not a negative control has a treatment."""
        return self.has("treatment") and not untreated_rows(self.treated, self.roles).all()

    @property
    def names_treatments(self) -> bool:
        """Whether any well, controls too, has a treatment."""
        return self.has("treatment") and not untreated_rows(self.wells, self.roles).all()

    @property
    def batches(self) -> int:
        """Number of batches of the treated wells; blanks do not count."""
        if not self.has("batch"):
            return 0
        return len(set(self.treated.values(self.roles["batch"])) - {""})

    @cached_property
    def treatments(self) -> Profiles:
        """Profiles of the treatments, controls aside; see :func:`treatment_profiles`."""
        return self._treatments(self.treated, ("mechanism", "compound"))

    @cached_property
    def all_treatments(self) -> Profiles:
        """Profiles of all treatments, negative controls too."""
        return self._treatments(self.wells, ())

    @cached_property
    def treatments_by_batch(self) -> Profiles:
        """Profiles of the treatments in each batch; wells with a blank batch are left out."""
        has_batch = ~blank(self.treated.values(self.roles["batch"]))
        wells = self.treated.subset(has_batch)
        return self._treatments(wells, ("mechanism", "compound", "batch"))

    def _treatments(self, wells: Profiles, by: Sequence[str]) -> Profiles:
        return treatment_profiles(
            wells, self.roles, by, aggregate=self.aggregate, weight=self.weight
        )

    def permuted(self, role: str, times: int) -> Iterator[Screen]:
        """Screens with permuted labels of a role.

        Mechanisms are permuted among compounds, genes among treatments, treatments among wells.

        Parameters
        ----------
        role : {"mechanism", "gene", "treatment"}
        times : int
            Number of permutations.

        Yields
        ------
        Screen

        Raises
        ------
        DataError
            A compound has two mechanisms, or a treatment two genes.
        """
        among = _PERMUTED_AMONG[role]
        for wells in permuted_labels(
            self.wells,
            self.column(role),
            unit=self.column(among) if among else None,
            controls=self.controls,
            times=times,
            seed=self.seed,
        ):
            yield self.with_wells(wells, shuffled=True)
