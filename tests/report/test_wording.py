"""Numbers, measures and notes in words."""

from __future__ import annotations

import numpy as np
import pytest

from deepprofiler.evaluation.measure import Measure, Note, NoteCode, Reason
from deepprofiler.evaluation.resampling import Interval
from deepprofiler.evaluation.scores import Undefined
from deepprofiler.report.wording import (
    column_label,
    measure_text,
    note_text,
    number,
    undefined_text,
)


def test_numbers():
    assert [number(value) for value in (0, 71963, 0.8155, 1234.5, np.nan, "x")] == [
        "0",
        "71\u202f963",
        "0.816",
        "1\u202f234",
        "not defined",
        "x",
    ]


VALUES = {
    "reason": Reason.NO_LABEL,
    "label": "mechanism",
    "count": 6,
    "total": 34,
    "unit": "treatments",
    "names": ("a", "b", "c", "d", "e", "f"),
    "difference": -0.25,
    "share": 0.125,
    "negatives": "others",
    "role": "mechanism",
}


def test_a_note_names_what_was_left_out():
    text = note_text(Note(NoteCode.LEFT_OUT, VALUES))
    assert text == (
        "6 of 34 treatments have no mechanism and are left out: a, b, c, d, e and 1 more"
    )
    wells = VALUES | {"unit": "profiles", "labels_left_out": 2, "labels": 9, "names": ("a", "b")}
    assert "6 of 34 profiles (2 of 9 mechanisms) have no" in note_text(
        Note(NoteCode.LEFT_OUT, wells)
    )


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_words(reason):
    text = note_text(Note(NoteCode.LEFT_OUT, VALUES | {"reason": reason}))
    assert reason not in text
    assert text.startswith("6 of 34 treatments ")


@pytest.mark.parametrize("code", list(NoteCode))
def test_every_note_has_words(code):
    text = note_text(Note(code, VALUES))
    assert text != code
    assert "{" not in text


def test_a_note_of_a_project_is_its_code():
    assert note_text(Note("measured on Sundays", {})) == "measured on Sundays"


def test_a_measure_in_one_line():
    interval = Interval(0.47, 0.83, 0.95, "clopper-pearson")
    measure = Measure(
        name="NSC",
        value=2 / 3,
        n=30,
        total=34,
        unit="treatments",
        chance=0.143,
        exact=interval,
        by_compound=None,
        metric="cosine",
    )
    assert measure_text(measure) == (
        "NSC 0.667 (30 treatments; 95 % interval 0.47 to 0.83; chance 0.143; cosine)"
    )


def test_undefined_evaluations_say_what_is_missing():
    assert "dataset.columns.gene" in undefined_text(Undefined("gene accuracy", missing="gene"))
    assert "one batch" in undefined_text(Undefined("NSCB", missing="batch"))


def test_labels_of_columns():
    assert column_label("neighbour_well_count") == "well count"
