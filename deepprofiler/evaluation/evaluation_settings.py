"""Settings of evaluations: what profiles are scored by, and what they are compared with.

Only the schema of the configuration imports them: they are declared in the room that they belong
to, and read before the rest of it is loaded.
"""

from __future__ import annotations

from deepprofiler.parameters import Choice, Decides, Parameters, setting


class Scoring(Parameters):
    """From profiles to scores."""

    evaluate: tuple[Choice, ...] | None = setting(
        None, Decides.SCORES, text="evaluations; none: all that the columns of the index allow"
    )
    baselines: bool = setting(
        True,
        Decides.SCORES,
        text="also score random weights, cell count, shuffled labels, other normalizations",
    )
    classical: str | None = setting(
        None,
        Decides.SCORES,
        text="classical features to compare with: `cp-measure` computes them (extra `classical`), "
        "or a table of CellProfiler or CytoTable, relative to the project folder",
    )
