"""Which column of the index plays which role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from deepprofiler.errors import ConfigError, DataError, nearest

#: All roles; ``dataset.columns`` of the configuration has a key for each.
ROLES = (
    "label",
    "treatment",
    "compound",
    "dose",
    "mechanism",
    "gene",
    "batch",
    "replicate",
    "control",
    "split",
)


def find_roles(
    source: str,
    columns: Sequence[str],
    named: Mapping[str, str | None],
    prefix: str,
) -> dict[str, str]:
    """Find the columns that play roles: the named ones, else those called like the role.

    Parameters
    ----------
    source : str
        Name of the file, for errors.
    columns : sequence of str
        Columns that may play a role.
    named : mapping
        Role to the column that plays it, with or without ``prefix``; None is no name.
    prefix : str
        What the columns' names begin with.

    Returns
    -------
    dict
        Role to column.

    Raises
    ------
    ConfigError
        A named column does not exist; all such are listed.
    """
    found = {}
    lines = []
    for role in ROLES:
        name = named.get(role)
        candidates = [name, f"{prefix}{name}"] if name else [f"{prefix}{role.capitalize()}"]
        present = [column for column in candidates if column in columns]
        if present:
            found[role] = str(present[0])
        elif name:
            close = nearest(name, columns) or nearest(f"{prefix}{name}", columns)
            lines.append(
                f"dataset.columns.{role} names `{name}`, which {source} does not have as a column "
                f"of metadata{close}"
            )
    if lines:
        raise ConfigError("\n".join(lines))
    return found


def derive_roles(
    roles: Mapping[str, str], table: pd.DataFrame, treatment: str, batch: str
) -> tuple[dict[str, str], pd.DataFrame]:
    """Add the roles that follow from others.

    A treatment is a compound at a dose, else the label, else the compound alone; the label is the
    treatment.

    Parameters
    ----------
    roles : mapping
        Role to column.
    table : DataFrame
        Text.
    treatment : str
        Name of the column that is added where compound and dose are joined.
    batch : str
        Column that plays the batch where none does.

    Returns
    -------
    roles : dict
        In the order of ``ROLES``.
    table : DataFrame

    Raises
    ------
    DataError
        Two compounds at their doses would be one treatment.
    """
    found = {"batch": batch, **roles}
    if "treatment" not in found and {"compound", "dose"} <= found.keys():
        pairs = list(zip(table[found["compound"]], table[found["dose"]], strict=True))
        joined = [f"{name} {dose}" if name and dose else name for name, dose in pairs]
        seen: dict[str, tuple[str, str]] = {}
        for treated, pair in zip(joined, pairs, strict=True):
            if pair != (one := seen.setdefault(treated, pair)) and treated:
                raise DataError(
                    f"compound `{one[0]}` at dose `{one[1]}` and compound `{pair[0]}` at dose "
                    f"`{pair[1]}` would both be the treatment `{treated}`; add a column {treatment}"
                )
        table = table.assign(**{treatment: pd.Series(joined, index=table.index, dtype=object)})
        found["treatment"] = treatment
    for role, other in (("treatment", "label"), ("treatment", "compound"), ("label", "treatment")):
        if role not in found and other in found:
            found[role] = found[other]
    return {role: found[role] for role in ROLES if role in found}, table
