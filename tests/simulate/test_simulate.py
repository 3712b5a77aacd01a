"""The simulator against what its settings say, measured from the pixels."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage

from deepprofiler.errors import ConfigError, DataError
from deepprofiler.simulate import (
    MECHANISMS,
    Nuisance,
    ScreenDesign,
    ScreenPaths,
    simulate,
)
from deepprofiler.simulate.microscope import draw_site
from deepprofiler.simulate.phenotype import Phenotype
from deepprofiler.simulate.plan import (
    Batch,
    Site,
    Treatment,
    Well,
    plan,
)

CALM = Nuisance(
    vignetting=0.0,
    batch_gain=0.0,
    batch_background=0.0,
    batch_blur=0.0,
    site_blur=0.0,
    column_gain=0.0,
    edge_cells=1.0,
    count_spread=0.0,
    shot_noise=0.0,
    read_noise=0.0,
)
SMALL = ScreenDesign(
    image_size=(96, 128),
    pixel_size=1.0,
    batches=2,
    plates=2,
    sites=1,
    plate_shape=(3, 4),
    controls=4,
    mechanisms=("DNA damage", "Actin disruptors"),
    compounds=2,
    doses=(1.0, 10.0),
    inactive=1,
    toxic=1,
    cells=8,
    crop_size=32,
)
PRESETS = {
    "default": ScreenDesign(),
    "demo": ScreenDesign.demo(),
    "tiny": ScreenDesign.tiny(),
    "cell painting": ScreenDesign.cell_painting(),
    "small": SMALL,
}


def paths(folder: Path, *, locations: bool = False) -> ScreenPaths:
    return ScreenPaths(
        images=folder / "images",
        index=folder / "tables" / "index.csv",
        truth=folder / "truth",
        locations=folder / "locations" if locations else None,
    )


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    simulate(paths(folder), SMALL, seed=3)
    return folder


def one_field(
    screen: ScreenDesign,
    phenotype: Phenotype | None = None,
    seed: int = 0,
    cells: float = 20.0,
    **well,
):
    """Draw one field: image, cells; gain and background of all channels 1 and 400."""
    phenotype = phenotype or Phenotype()
    treatment = Treatment("T", "T", "", 0.0, (0,), "active", 1.0, 1.0, phenotype)
    values = {"gain": 1.0, "cells": cells} | well
    C = len(screen.channels)
    batch = Batch("Week1", screen.nuisance.blur, (1.0,) * C, (screen.nuisance.background,) * C)
    place = Well("P", "A01", 0, 0, treatment, phenotype=phenotype, **values)
    image, drawn, _ = draw_site(screen, seed, Site(place, "1"), batch)
    return image, drawn


def nuclei(image: np.ndarray, screen: ScreenDesign) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres (n, 2) as x, y, areas (pixels²) and mean levels of objects above half brightness."""
    dna = image[:, :, 0].astype(float) - screen.nuisance.offset - screen.nuisance.background
    labels, n = ndimage.label(dna > screen.levels * 0.45)
    number = np.arange(1, n + 1)
    rows, columns = np.array(ndimage.center_of_mass(labels > 0, labels, number)).reshape(-1, 2).T
    areas = ndimage.sum_labels(labels > 0, labels, number)
    return (
        np.stack([columns, rows], axis=1),
        areas,
        np.asarray(ndimage.median(dna, labels, number)),
    )


# -- the same again -----------------------------------------------------------------------


def test_same_seed_same_bytes_for_any_number_of_workers(small, tmp_path):
    simulate(paths(tmp_path), SMALL, seed=3, workers=2)
    first, second = contents(small), contents(tmp_path)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_written_again_over_itself_and_other_seeds_differ(small, tmp_path):
    before = contents(small)
    simulate(paths(small), SMALL, seed=3)
    assert contents(small) == before
    simulate(paths(tmp_path), SMALL, seed=4)
    images = [name for name in before if name.endswith(".tif")]
    other = contents(tmp_path)
    assert not any(before[name] == other.get(name) for name in images)


def test_a_site_depends_on_nothing_but_its_own_name(small):
    planned = plan(SMALL, 3)
    well = planned.wells[-1]
    image, _, _ = draw_site(SMALL, 3, Site(well, "1"), planned.batches[well.batch])
    for number, channel in enumerate(SMALL.channels):
        path = small / "images" / well.plate / f"{well.well}-1-{channel}.tif"
        np.testing.assert_array_equal(tifffile.imread(path), image[:, :, number])


# -- what is written ----------------------------------------------------------------------


def test_images_of_the_index(small):
    rows = table(small / "tables" / "index.csv")
    for channel in SMALL.channels:
        for name in rows[channel]:
            with tifffile.TiffFile(small / "images" / name) as file:
                page = file.pages[0]
                assert (page.shape, page.dtype) == (SMALL.image_size, np.uint16)
                assert page.compression.name == "ADOBE_DEFLATE"


def test_index_columns_and_split(small):
    rows = table(small / "tables" / "index.csv")
    names = (
        *("Plate", "Well", "Site", "Batch", "Compound", "Dose"),
        *("Mechanism", "Treatment", "Control", "Replicate", "Split"),
    )
    assert set(rows) == {*SMALL.channels, *(f"Metadata_{name}" for name in names)}
    control = rows.Metadata_Control == "negative"
    assert set(rows.Metadata_Control) == {"negative", ""}
    assert set(rows[control].Metadata_Treatment) == {"DMSO"}
    assert (rows[control].groupby("Metadata_Plate").Metadata_Well.nunique() == 4).all()
    # One replicate of every treatment is held out, and it is a plate of its own.
    assert (rows.groupby("Metadata_Plate").Metadata_Split.nunique() == 1).all()
    for _, replicates in rows[~control].groupby("Metadata_Treatment"):
        assert sorted(replicates.Metadata_Split) == ["0", "1"]
        assert sorted(replicates.Metadata_Replicate) == ["1", "2"]


def test_true_locations_are_written_where_asked(small, tmp_path):
    assert not (small / "locations").exists()
    simulate(paths(tmp_path, locations=True), SMALL, seed=3)
    rows = table(tmp_path / "tables" / "index.csv")
    counts = table(tmp_path / "truth" / "sites.csv")
    assert len(rows) == len(counts)
    for row in counts.itertuples():
        name = Path(row.Plate) / f"{row.Well}-{row.Site}-Nuclei.csv"
        given = table(tmp_path / "locations" / name)
        true = table(tmp_path / "truth" / "locations" / name)
        assert list(given) == ["Nuclei_Location_Center_X", "Nuclei_Location_Center_Y"]
        pd.testing.assert_frame_equal(given, true[list(given)])
        assert len(given) == int(row.Cells)
        x, y = given.astype(float).to_numpy().reshape(-1, 2).T
        assert ((x >= -0.5) & (x < 127.5) & (y >= -0.5) & (y < 95.5)).all()


def test_truth_names_every_treatment_and_its_fate(small):
    truth = table(small / "truth" / "truth.csv").set_index("name")
    rows = table(small / "tables" / "index.csv")
    assert set(truth.index) == set(rows.Metadata_Treatment)
    assert truth.fate.value_counts().to_dict() == {
        "control": 1,
        "active": 8,
        "inactive": 2,
        "toxic": 2,
    }
    assert ((truth.mechanism != "") == (truth.fate == "active")).all()
    names = list(vars(Phenotype()))
    inactive = truth[truth.fate == "inactive"][names].astype(float)
    assert (inactive == truth.loc["DMSO", names].astype(float)).all(axis=None)
    assert (truth[truth.fate == "toxic"].cells.astype(float) == SMALL.survival).all()


def test_another_screen_is_never_written_over(small, tmp_path):
    with pytest.raises(DataError, match="already holds another screen"):
        simulate(paths(small), SMALL, seed=5)
    index = paths(tmp_path).index
    index.parent.mkdir(parents=True)
    index.write_text("mine\n")
    with pytest.raises(DataError, match="already holds"):
        simulate(paths(tmp_path), SMALL, seed=3)
    assert index.read_text() == "mine\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": ("DNA", "Actine")}, "Actine"),
        ({"mechanisms": ("Magic",)}, "Magic"),
        ({"batches": 1}, "2 batches"),
        ({"compounds": 1}, "2 compounds"),
        ({"batches_per_compound": 3}, "batches_per_compound"),
        ({"controls": 3}, "3 controls"),
        ({"plate_shape": (2, 4)}, "do not fit"),
        ({"plate_shape": (32, 48)}, "rows"),
    ],
)
def test_settings_that_contradict_each_other(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **change)


# -- the design ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_treatments_are_confounded_with_batches_but_nscb_is_defined(name):
    screen = PRESETS[name]
    planned = plan(screen, 0)
    active = [t for t in planned.treatments if t.fate == "active"]
    assert len(active) == len(screen.mechanisms) * screen.compounds * len(screen.doses)
    for treatment in active:
        assert len(treatment.batches) == screen.batches_per_compound < screen.batches
        others = [
            other
            for other in active
            if other.mechanism == treatment.mechanism and other.compound != treatment.compound
        ]
        for batch in treatment.batches:
            assert any(set(other.batches) - {batch} for other in others)
    for plate in {well.plate for well in planned.wells}:
        wells = [well for well in planned.wells if well.plate == plate]
        assert len({well.well for well in wells}) == len(wells)
        assert sum(well.treatment.fate == "control" for well in wells) == screen.controls >= 4
        assert all(well.batch in well.treatment.batches for well in wells)


def test_compounds_may_be_tested_in_two_batches():
    screen = replace(SMALL, batches=3, batches_per_compound=2)
    for treatment in plan(screen, 0).treatments[1:]:
        assert len(treatment.batches) == 2


def test_effect_is_factor_to_the_power_of_strength():
    screen = replace(SMALL, compound_spread=0.0)
    for treatment in plan(screen, 0).treatments:
        factors = MECHANISMS.get(treatment.mechanism, {})
        for name, base in vars(Phenotype()).items():
            expected = base * factors.get(name, 1.0) ** treatment.strength
            assert getattr(treatment.phenotype, name) == pytest.approx(expected)
        if treatment.fate == "active":
            assert 0 < treatment.strength < 1


# -- the pixels ---------------------------------------------------------------------------


def test_locations_lie_within_two_pixels_of_the_drawn_nuclei():
    screen = replace(SMALL, image_size=(400, 400), nuisance=CALM, pixel_size=0.65)
    found = 0
    for seed in range(3):
        image, cells = one_field(screen, seed=seed, cells=30)
        centers, _, _ = nuclei(image, screen)
        single = np.bincount(cells.owner) == 1
        for x, y in np.stack([cells.x, cells.y], axis=1)[single]:
            away = np.linalg.norm(np.stack([cells.x, cells.y]).T - [x, y], axis=1)
            if not (20 < x < 380 and 20 < y < 380) or np.sort(away)[1] < 30:
                continue
            assert np.linalg.norm(centers - [x, y], axis=1).min() < 2
            found += 1
    assert found > 40


def test_nuclear_area_can_be_measured():
    screen = replace(SMALL, image_size=(400, 400), nuisance=CALM, pixel_size=0.65)
    true, measured = [], []
    for seed, area in enumerate((90.0, 180.0, 300.0)):
        phenotype = replace(Phenotype(), nucleus_area=area, mitotic=1e-9, nuclei=1e-9)
        image, cells = one_field(screen, phenotype, seed, cells=20)
        centers, areas, _ = nuclei(image, screen)
        places = np.stack([cells.x, cells.y], axis=1)
        apart = np.linalg.norm(places[:, None] - places, axis=2) + 1e9 * np.eye(len(places))
        for number, place in enumerate(places):
            if apart[number].min() > 40 and (abs(place - 200) < 175).all():
                nearest = np.linalg.norm(centers - place, axis=1).argmin()
                true.append(cells.nucleus_area[number])
                measured.append(areas[nearest])
    assert len(true) > 20
    assert np.corrcoef(true, measured)[0, 1] > 0.98
    assert np.median(np.divide(measured, true)) == pytest.approx(1, abs=0.05)
    assert np.ptp(true) > 300


def test_mechanisms_move_what_they_say():
    """Elongation and number of nuclei, from the pixels of cells drawn at full strength."""
    screen = replace(SMALL, image_size=(400, 400), nuisance=CALM, pixel_size=0.65)
    base = Phenotype()

    def field(mechanism: str) -> np.ndarray:
        return one_field(screen, base.times(MECHANISMS[mechanism]), seed=1, cells=25)[0]

    control, _ = one_field(screen, base, seed=1, cells=25)
    sharp = {
        name: ndimage.gaussian_laplace(image[:, :, 2].astype(float), 1.0).std()
        for name, image in {
            "control": control,
            "without": field("Microtubule destabilizers"),
            "bundled": field("Microtubule stabilizers"),
        }.items()
    }
    assert sharp["without"] < 0.4 * sharp["control"] < 0.4 * sharp["bundled"]
    assert len(nuclei(field("Aurora kinase inhibitors"), screen)[1]) >= len(
        nuclei(control, screen)[1]
    )
    damaged = np.median(nuclei(field("DNA damage"), screen)[1])
    ratio = damaged / np.median(nuclei(control, screen)[1])
    assert ratio == pytest.approx(MECHANISMS["DNA damage"]["nucleus_area"], rel=0.15)


def test_vignetting_and_background_are_as_set(tmp_path):
    nuisance = replace(CALM, vignetting=0.3, background=2000.0, offset=150.0, shot_noise=1.5)
    screen = replace(SMALL, nuisance=nuisance, cells=0.0)
    summary = simulate(paths(tmp_path), screen, seed=0)
    assert summary.cells == 0
    images = sorted((tmp_path / "images").rglob("*.tif"))
    mean = np.mean([tifffile.imread(path) for path in images], axis=0)
    y, x = np.mgrid[-1:1:96j, -1:1:128j]
    expected = 150 + 2000 * (1 - 0.3 * (x**2 + y**2) / 2)
    # Of n images with variance 1.5 × level; 5 standard errors.
    error = 5 * np.sqrt(1.5 * 2000 / len(images))
    assert np.abs(mean - expected).max() < error
    assert (mean - expected).mean() == pytest.approx(0, abs=0.5)


def test_batch_gain_and_background_are_as_written():
    screen = replace(SMALL, nuisance=replace(CALM, batch_gain=0.4, batch_background=0.4))
    first, second = plan(screen, 1).batches
    ratio = np.divide(second.gain, first.gain)
    assert np.abs(np.log(ratio)).max() > 0.1
    well = plan(screen, 1).wells[0]
    images = [
        draw_site(screen, 1, Site(well, "1"), batch)[0].astype(float) for batch in (first, second)
    ]
    for channel in range(3):
        empty = [image[:, :, channel].min() for image in images]
        for level, batch in zip(empty, (first, second), strict=True):
            assert level == pytest.approx(batch.background[channel] + CALM.offset, abs=1)
        signal = [image[:, :, channel] - level for image, level in zip(images, empty, strict=True)]
        assert signal[1].sum() / signal[0].sum() == pytest.approx(ratio[channel], rel=0.01)


def test_spread_of_batch_gain_is_as_set():
    screen = replace(ScreenDesign(), batches=60, nuisance=replace(CALM, batch_gain=0.3))
    logs = np.log([batch.gain for batch in plan(screen, 0).batches])
    # 180 values: the standard error of a standard deviation is 5 %.
    assert logs.std() == pytest.approx(0.3, rel=0.2)
    assert logs.mean() == pytest.approx(0, abs=0.1)


def test_plate_position_moves_gain_and_counts():
    nuisance = replace(CALM, column_gain=0.5, edge_cells=0.5)
    screen = replace(ScreenDesign(), nuisance=nuisance, density_spread=0.0)
    for well in plan(screen, 0).wells:
        row, column = ord(well.well[0]) - ord("A"), int(well.well[1:]) - 1
        assert well.gain == pytest.approx(1 + 0.5 * column / 11)
        edge = row in (0, 7) or column in (0, 11)
        assert well.cells == pytest.approx(60 * well.treatment.cells * (0.5 if edge else 1))
    small = replace(SMALL, nuisance=CALM)
    dim, bright = (one_field(small, gain=gain)[0].astype(float) for gain in (1.0, 1.5))
    floor = CALM.offset + CALM.background
    assert (bright - floor).sum() / (dim - floor).sum() == pytest.approx(1.5, rel=0.001)


def test_focus_blur_is_as_written():
    """Blurring the sharper field by the missing part gives the other one."""
    sharp, soft = (replace(CALM, blur=blur) for blur in (1.0, 1.8))
    images = [
        one_field(replace(SMALL, nuisance=nuisance), seed=2)[0].astype(float)
        for nuisance in (sharp, soft)
    ]
    again = ndimage.gaussian_filter(images[0], (np.sqrt(1.8**2 - 1), np.sqrt(1.8**2 - 1), 0))
    inner = (slice(8, -8), slice(8, -8))
    assert np.abs(again - images[1])[inner].max() < 0.02 * np.ptp(images[0])


def test_numbers_of_cells_are_as_set():
    screen = replace(SMALL, image_size=(256, 256))
    counts = []
    for seed in range(12):
        _, cells = one_field(screen, seed=seed, cells=25)
        inside = (abs(cells.x - 127.5) < 128) & (abs(cells.y - 127.5) < 128)
        counts.append(inside.sum())
    # Places are drawn over a larger area: nearly binomial, sd 3; of the mean 0.9.
    assert np.mean(counts) == pytest.approx(25, abs=3)


def test_cells_keep_apart():
    _, cells = one_field(replace(SMALL, image_size=(256, 256)), cells=25)
    places = np.stack([cells.x, cells.y], axis=1)
    apart = np.linalg.norm(places[:, None] - places, axis=2)[~np.eye(len(places), dtype=bool)]
    assert apart.min() > 12


@pytest.mark.parametrize("name", ["tiny", "demo"])
def test_counts_do_not_tell_mechanisms(name):
    """Variance of log counts between mechanisms is no more than chance gives."""
    screen = PRESETS[name]
    shares = []
    for seed in range(30):
        active = [t for t in plan(screen, seed).treatments if t.fate == "active"]
        logs = pd.Series([np.log(t.cells) for t in active])
        groups = logs.groupby([t.mechanism for t in active]).mean()
        shares.append(groups.var() / (screen.density_spread**2 / screen.compounds))
    assert np.mean(shares) == pytest.approx(1, abs=0.4)


def test_five_channels_show_five_stains():
    screen = replace(ScreenDesign.cell_painting(), image_size=(256, 256), nuisance=CALM)
    image, _ = one_field(screen, cells=20)
    assert image.shape == (256, 256, 5)
    correlation = np.corrcoef(image.reshape(-1, 5).T.astype(float))
    assert correlation[np.triu_indices(5, 1)].max() < 0.9
    assert all(image[:, :, channel].max() > 2000 for channel in range(5))


def test_three_sites_a_second_on_one_core(tmp_path):
    screen = replace(
        ScreenDesign(),
        batches=2,
        plates=1,
        sites=1,
        compounds=2,
        doses=(10.0,),
        inactive=0,
        toxic=0,
    )
    screen = replace(screen, mechanisms=screen.mechanisms[:2], controls=4)
    start = time.process_time()
    summary = simulate(paths(tmp_path), screen, seed=0)
    assert summary.sites / (time.process_time() - start) >= 3
