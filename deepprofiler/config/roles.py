"""Which column of the index plays which role: label, treatment, compound, batch and others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pandas as pd

from deepprofiler.errors import ConfigError, DataError, nearest
from deepprofiler.parameters import Decides, Parameters, setting


def _role(text: str, *decides: Decides) -> str | None:
    """Declare the column that plays a role; without it the column of the role's own name does."""
    column: str | None = setting(None, *(decides or (Decides.SCORES,)), text=text)
    return column


class Columns(Parameters):
    """Which column of the index plays which role, with or without ``Metadata_``.

    A role without a key is played by the column of its own name, such as ``Metadata_Batch``.
    """

    label: str | None = _role(
        "what the network learns; none: `Metadata_Label`, else the treatment", Decides.INPUTS
    )
    treatment: str | None = _role(
        "wells of one treatment are averaged; none: `Metadata_Treatment`, else compound and dose, "
        "else the label, else the compound"
    )
    compound: str | None = _role(
        "neighbours of the same compound do not count in NSC; none: `Metadata_Compound`"
    )
    dose: str | None = _role("with the compound, the treatment; none: `Metadata_Dose`")
    mechanism: str | None = _role(
        "mechanism of action, for NSC and NSCB; none: `Metadata_Mechanism`"
    )
    gene: str | None = _role("perturbed gene, for gene accuracy; none: `Metadata_Gene`")
    batch: str | None = _role(
        "plates made and imaged together; none: `Metadata_Batch`, else the plate",
        Decides.INPUTS,
    )
    replicate: str | None = _role(
        "for `train.validation.by: replicate`; none: `Metadata_Replicate`", Decides.INPUTS
    )
    control: str | None = _role(
        "marks controls, see `dataset.control`; none: `Metadata_Control`", Decides.INPUTS
    )
    split: str | None = _role(
        "0 for training, 1 for validation; none: `Metadata_Split`", Decides.INPUTS
    )


#: Default of ``dataset.control``.
NEGATIVE = "negative"
#: What a control column says in the field, without case and signs; JUMP's negcon, poscon and trt.
_SYNONYMS = {
    NEGATIVE: ("negative", "negativecontrol", "negcon", "negcontrol", "negctrl", "neg"),
    "positive": ("positive", "positivecontrol", "poscon", "poscontrol", "posctrl", "pos"),
    "treated": ("trt", "treated", "treatment"),
}
# JUMP has several kinds of positive controls, such as poscon_cp.
_POSITIVE_KINDS = "poscon_"

#: All roles, in order; ``dataset.columns`` of the configuration has a key for each.
ROLES = tuple(Columns.model_fields)


#: Other names of such columns in the field, without case and signs.
_FIELD_NAMES = {
    "treatment": ("perturbation", "pert"),
    "compound": (
        *("broadsample", "pertiname", "pertname", "pertid", "jcp2022", "inchikey"),
        *("compoundname", "compoundid", "drug", "drugname"),
    ),
    "dose": (
        *("concentration", "conc", "compoundconcentration", "doseum", "pertdose"),
        *("mmolesperliter", "mgperml"),
    ),
    "mechanism": ("moa", "mechanismofaction"),
    "gene": ("symbol", "genesymbol", "genename", "targetgene"),
    "batch": ("batchid", "batchname", "batchnumber"),
    "replicate": ("rep", "replicateid", "replicatenumber"),
    "control": ("controltype", "perttype", "iscontrol"),
}


def control_meaning(value: str) -> str | None:
    """Tell what a value of a control column means: negative, positive, treated, or None."""
    if value.lower().startswith(_POSITIVE_KINDS):
        return "positive"
    letters = re.sub(r"[^a-z]", "", value.lower())
    return next((kind for kind, names in _SYNONYMS.items() if letters in names), None)


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
    roles = {}
    lines = []
    for role in ROLES:
        name = named.get(role)
        candidates = [name, f"{prefix}{name}"] if name else [f"{prefix}{role.capitalize()}"]
        present = [column for column in candidates if column in columns]
        if present:
            roles[role] = str(present[0])
        elif name:
            close = nearest(name, columns) or nearest(f"{prefix}{name}", columns)
            lines.append(
                f"dataset.columns.{role} names `{name}`, which {source} does not have as a column "
                f"of metadata{close}"
            )
    if lines:
        raise ConfigError("\n".join(lines))
    return roles


def similar_columns(
    roles: Mapping[str, str], named: Columns, columns: Sequence[str], prefix: str
) -> dict[str, list[str]]:
    """Find columns that may be meant for roles which no column plays, or only by default.

    Parameters
    ----------
    roles : mapping
        Role to the column that plays it.
    named : Columns
        The config's choice; a role that it names is not looked for.
    columns : sequence of str
    prefix : str
        What the columns' names begin with.

    Returns
    -------
    dict
        Role to the columns of metadata that have its name in another case, such as
        ``Metadata_batch``, or another name of the field for it, such as ``Metadata_moa``.
    """
    free = [name for name in columns if name.startswith(prefix) and name not in roles.values()]
    letters = {name: re.sub(r"[^a-z0-9]", "", name[len(prefix) :].lower()) for name in free}
    similar = {
        role: [name for name in free if letters[name] in (role, *_FIELD_NAMES.get(role, ()))]
        for role in ROLES
        if getattr(named, role) is None and roles.get(role) != f"{prefix}{role.capitalize()}"
    }
    return {role: names for role, names in similar.items() if names}


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
    derived = {"batch": batch, **roles}
    if "treatment" not in derived and {"compound", "dose"} <= derived.keys():
        pairs = list(zip(table[derived["compound"]], table[derived["dose"]], strict=True))
        joined = [f"{name} {dose}" if name and dose else name for name, dose in pairs]
        first_pairs: dict[str, tuple[str, str]] = {}
        for treated, pair in zip(joined, pairs, strict=True):
            if pair != (first := first_pairs.setdefault(treated, pair)) and treated:
                raise DataError(
                    f"compound `{first[0]}` at dose `{first[1]}` and compound `{pair[0]}` at dose "
                    f"`{pair[1]}` would both be the treatment `{treated}`; add a column {treatment}"
                )
        table = table.assign(**{treatment: pd.Series(joined, index=table.index, dtype=object)})
        derived["treatment"] = treatment
    for role, other in (("treatment", "label"), ("treatment", "compound"), ("label", "treatment")):
        if role not in derived and other in derived:
            derived[role] = derived[other]
    return {role: derived[role] for role in ROLES if role in derived}, table
