"""A screen as evaluations see it: wells, treatments, and which of them are negative controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from deepprofiler.columns import COUNT, MEMBERS
from deepprofiler.commands.analyze.aggregate import with_enough_cells
from deepprofiler.config.schema import Analyze
from deepprofiler.errors import DataError
from deepprofiler.evaluation.resampling import deals
from deepprofiler.evaluation.similarity import Metric, blank
from deepprofiler.profiling.averages import group_means, group_medians
from deepprofiler.profiling.profiles import Profiles
from deepprofiler.project import Project
from deepprofiler.project.index import Index

# What has one value of each label, and is dealt labels anew in shuffles; None: each well.
_SHUFFLED_BY = {"mechanism": "compound", "gene": "treatment", "treatment": None}


def negative_rows(index: Index, profiles: Profiles) -> np.ndarray:
    """Which profiles are negative controls, (n,) bool."""
    if not index.has("control"):
        return np.zeros(len(profiles), bool)
    return profiles.values(index.roles["control"]) == index.control


def unnamed(index: Index, profiles: Profiles) -> np.ndarray:
    """Which profiles have a blank treatment, (n,) bool."""
    return blank(profiles.values(index.roles["treatment"]))


def treatments_of(wells: Profiles, index: Index, settings: Analyze, *by: str) -> Profiles:
    """Profile of each treatment, or of each treatment in each value of other roles.

    It is the mean of wells, and their median where a well's profile is the median of its cells.
    Wells with a blank treatment are in none.
    """
    known = [index.roles[role] for role in ("treatment", *by) if index.has(role)]
    columns = list(dict.fromkeys(known))
    aggregate = group_medians if settings.aggregate == "median" else group_means
    wells = wells.subset(~unnamed(index, wells))
    if not len(wells):
        raise DataError("no well with enough cells has a treatment, controls aside")
    return aggregate(wells, columns, count=COUNT, members=MEMBERS, weight=settings.weight)


@dataclass(frozen=True)
class Screen:
    """What an evaluation may look at.

    Attributes
    ----------
    wells : Profiles
        Normalized profiles of the wells with enough cells, controls too.
    index : Index
    settings : Analyze
        Of the project's config.
    seed : int
        Of bootstraps, nulls and shuffles.
    shuffled : bool
        Whether a label was dealt out anew: nothing is tested then.
    """

    wells: Profiles
    index: Index
    settings: Analyze
    seed: int
    shuffled: bool = False

    @classmethod
    def of(cls, project: Project, wells: Profiles) -> Screen:
        """Look at well profiles as a project's config says; small wells take no part."""
        config = project.config
        usable = with_enough_cells(wells)
        roles = project.index.roles
        if "compound" in roles:
            # What nobody named is no compound of its own name.
            compounds, treatments = (usable.values(roles[r]) for r in ("compound", "treatment"))
            compounds = np.where(blank(compounds), treatments, compounds)
            usable = usable.with_column(roles["compound"], compounds)
        return cls(usable, project.index, config.analyze, config.dataset.seed)

    @cached_property
    def controls(self) -> np.ndarray:
        """Which wells are negative controls, (n,) bool."""
        return negative_rows(self.index, self.wells)

    @cached_property
    def treated(self) -> Profiles:
        """The wells that are no negative controls."""
        return self.wells.subset(~self.controls)

    @property
    def metric(self) -> Metric:
        """Cosine; one number has no angle, and is compared by its distance."""
        return "euclidean" if len(self.wells.names) == 1 else "cosine"

    @property
    def batches(self) -> int:
        """How many batches the treated wells are of; a blank one is not known."""
        return len(set(self.treated.values(self.index.roles["batch"])) - {""})

    def has(self, role: str) -> bool:
        """Tell whether a column plays the role; a compound is at least the treatment."""
        return self.index.has(role)

    @property
    def has_treatments(self) -> bool:
        """Tell whether there are treatments, controls aside."""
        return self.has("treatment") and not unnamed(self.index, self.treated).all()

    def column(self, role: str) -> str:
        """Name of the column that plays a role; of the compound, the treatment's if there is none.

        Raises
        ------
        KeyError
            There is none.
        """
        roles = self.index.roles
        return roles.get("compound", roles["treatment"]) if role == "compound" else roles[role]

    @cached_property
    def treatments(self) -> Profiles:
        """Profiles of the treatments, controls aside; see :func:`treatments_of`."""
        return treatments_of(self.treated, self.index, self.settings, "mechanism", "compound")

    @cached_property
    def treatments_by_batch(self) -> Profiles:
        """Profiles of the treatments in each batch."""
        by = ("mechanism", "compound", "batch")
        known = ~blank(self.treated.values(self.index.roles["batch"]))
        return treatments_of(self.treated.subset(known), self.index, self.settings, *by)

    def deals(self, role: str, times: int) -> Iterator[Screen]:
        """Screens with the labels of a role dealt out anew, among compounds, treatments or wells.

        Parameters
        ----------
        role : {"mechanism", "gene", "treatment"}
        times : int

        Raises
        ------
        DataError
            A compound has two mechanisms, or a treatment two genes.
        """
        unit = _SHUFFLED_BY[role]
        for wells in deals(
            self.wells,
            self.column(role),
            unit=self.column(unit) if unit else None,
            controls=self.controls,
            times=times,
            seed=self.seed,
        ):
            yield replace(self, wells=wells, shuffled=True)
