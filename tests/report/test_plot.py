from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from deepprofiler.errors import DataError
from deepprofiler.report import (
    figures,
    pictures,
    plot,
)
from deepprofiler.report import (
    plate_maps as plates,
)
from deepprofiler.report.embedding import tsne, umap
from deepprofiler.report.pictures import display_ranges

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'&$\\frac{$",
    "x" * 300,
    "🧪 化合物",
    "",
    "line\nbreak\x07",
]


def text_of(path: Path) -> str:
    """Characters that an SVG shows; parsing proves that it is well-formed."""
    return "".join(ElementTree.parse(path).getroot().itertext())


def drawn_wells(figure, panel=0):
    """(column, row) of each filled circle, read from its outline, with its value."""
    collection = next(
        artist
        for artist in figure.axes[panel].collections
        if isinstance(artist, PatchCollection) and artist.get_array() is not None
    )
    centres = [path.get_extents() for path in collection.get_paths()]
    places = [((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for box in centres]
    return {
        (round(x), round(y)): value
        for (x, y), value in zip(places, collection.get_array(), strict=True)
    }


def tick_at(axis, position):
    labels = [label.get_text() for label in axis.get_ticklabels()]
    return labels[list(axis.get_ticklocs()).index(position)]


@pytest.mark.parametrize(("rows", "columns"), [(8, 12), (16, 24)])
def test_plate_map_places_wells(rows, columns):
    letters = "ABCDEFGHIJKLMNOP"[:rows]
    wells = [f"{letter}{number:02d}" for letter in letters for number in range(1, columns + 1)]
    values = np.arange(len(wells), dtype=float)
    figure = plates.plate_map(["P"] * len(wells), wells, values, quantity="cells")
    drawn = drawn_wells(figure)
    axes = figure.axes[0]
    assert len(drawn) == rows * columns
    for (x, y), value in drawn.items():
        name = f"{tick_at(axes.yaxis, y)}{int(tick_at(axes.xaxis, x)):02d}"
        assert name == wells[int(value)]
    assert axes.yaxis_inverted()
    assert not axes.xaxis_inverted()


@pytest.mark.parametrize(
    ("name", "place"),
    [("A1", (0, 0)), ("a01", (0, 0)), ("H12", (7, 11)), ("P24", (15, 23)), ("AF48", (31, 47))],
)
def test_well_position(name, place):
    assert plates.well_position(name) == place


@pytest.mark.parametrize("name", ["", "A", "12", "A0", "A-1", "well 3", "r01c02", "A01.1", "①"])
def test_no_well_position(name):
    assert plates.well_position(name) is None


def test_layout_is_the_smallest_plate():
    assert plates.layout(["H12"]).rows == 8
    assert plates.layout(["I01"]).rows == 16
    assert plates.layout(["A13"]).columns == 24
    assert plates.layout(["Q01"]).rows == 32
    assert plates.layout(["A49"]) is None
    assert plates.layout(["A1", "A01"]) is None


def test_no_well_no_cells_and_not_measured_differ():
    figure = plates.plate_map(
        ["P"] * 3,
        ["A01", "A02", "A03"],
        [0, 12, np.nan],
        quantity="cells",
        flagged=[True, False, False],
        flag="under 10 cells",
    )
    assert drawn_wells(figure) == {(0, 0): 0, (1, 0): 12}
    axes = figure.axes[0]
    crosses = [np.asarray(artist.get_offsets()) for artist in axes.collections[2:]]
    assert np.array_equal(np.concatenate(crosses), [[2, 0]])
    assert {text.get_text() for text in axes.texts} == {"0", "12"}
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend == {
        "no such well in the index",
        "measured as 0",
        "in the index, not measured",
        "under 10 cells",
    }
    assert figure.axes[-1].get_ylabel() == "cells"


def test_plates_share_a_scale():
    figure = plates.plate_map(["P", "Q"], ["A01", "B02"], [5, 50], quantity="cells")
    assert drawn_wells(figure, 0) == {(0, 0): 5}
    assert drawn_wells(figure, 1) == {(1, 1): 50}
    scales = [axes.collections[1].norm for axes in figure.axes[:2]]
    assert [(scale.vmin, scale.vmax) for scale in scales] == [(0, 50), (0, 50)]


def test_other_names_are_listed():
    names = ["dish 10", "dish 2", *HOSTILE[:4]]
    values = [3, 0, 5, 6, 7, np.nan]
    figure = plates.plate_map(["P"] * 6, names, values, quantity="cells")
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels.index("dish 2") < labels.index("dish 10")
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[labels.index("dish 10")] == 3
    notes = {labels[round(text.get_position()[1])]: text.get_text().strip() for text in axes.texts}
    assert notes == {"dish 2": "0", "🧪 化合物": "not measured"}


def test_plate_map_refuses():
    with pytest.raises(DataError, match="plate P, well A01 has two values"):
        plates.plate_map(["P", "P"], ["A01", "A01"], [1, 2], quantity="cells")
    with pytest.raises(DataError, match="no well"):
        plates.plate_map([], [], [], quantity="cells")


def test_montage_uses_the_plate_range():
    crops = np.zeros((3, 8, 8, 2), np.uint16)
    crops[0, ..., 0], crops[1, ..., 0], crops[2, ..., 1] = 1000, 550, 9999
    cells = pictures.composite(crops, np.array([[100, 1000], [0, 500]]))
    figure = pictures.montage(cells, ["a", "a", "b"], channels=["DNA", "GFP"])
    pixels = np.asarray(figure.axes[0].images[0].get_array()) / 255
    first, second = (np.array(to_rgb(colour)) for colour in pictures.CHANNEL_COLOURS[:2])
    assert pixels[4, 4] == pytest.approx(first, abs=0.01)
    assert pixels[4, 9 + 4] == pytest.approx(first / 2, abs=0.01)
    assert pixels[9 + 4, 4] == pytest.approx(second, abs=0.01)
    assert pixels[9 + 4, 9 + 4] == pytest.approx([1, 1, 1])
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a", "b\n(n = 1)"]


def test_montage_ranges_by_cell():
    crops = np.full((2, 4, 4, 1), 100, np.uint8)
    cells = pictures.composite(crops, np.array([[[0, 100]], [[0, 200]]]))
    figure = pictures.montage(cells, ["a", "b"], channels=["DNA"])
    pixels = np.asarray(figure.axes[0].images[0].get_array()) / 255
    assert pixels[2, 2] == pytest.approx(1)
    assert pixels[7, 2] == pytest.approx(0.5, abs=0.01)


def test_montage_refuses():
    with pytest.raises(DataError, match=r"needs pictures \(N, S, S, 3\) and got \(2, 4, 4, 5\)"):
        pictures.montage(np.zeros((2, 4, 4, 5), np.uint8), ["a", "b"], channels=["DNA"])
    with pytest.raises(DataError, match="2 pictures came with 1 treatments"):
        pictures.montage(np.zeros((2, 4, 4, 3), np.uint8), ["a"], channels=["DNA"])


def test_examples_of_each_treatment():
    treatments = np.array(["b", "a", "DMSO"] * 12)
    (rows,) = pictures.example_rows(treatments, treatments == "DMSO")
    # Negative controls come first, then the treatments by name; ten cells of each.
    assert treatments[rows].tolist() == ["DMSO"] * 10 + ["a"] * 10 + ["b"] * 10
    assert rows[:3].tolist() == [2, 5, 8]
    many = np.array([f"t{number:03}" for number in range(300)])
    montages = pictures.example_rows(many, np.zeros(300, bool))
    assert [len(rows) for rows in montages] == [16] * 8
    assert np.concatenate(montages).tolist() == list(range(128))


def test_display_ranges_by_channel():
    crops = np.zeros((1, 10, 100, 2))
    crops[..., 0] = np.arange(1000).reshape(10, 100)
    assert display_ranges(crops) == pytest.approx(np.array([[9.99, 996.003], [0, 0]]))


def test_embedding_draws_every_point_once():
    points = np.random.default_rng(0).normal(size=(100, 2))
    names = [f"treatment {index % 40}" for index in range(100)]
    figure = plot.embedding(points, names, quantity="treatment")
    drawn = np.concatenate([np.asarray(a.get_offsets()) for a in figure.axes[0].collections])
    assert np.array_equal(np.sort(drawn, axis=0), np.sort(points, axis=0))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(labels) == 32
    assert labels[0].startswith("9 others (")
    looks = {
        (tuple(a.get_facecolor()[0]), a.get_paths()[0].vertices.tobytes())
        for a in figure.axes[0].collections
    }
    assert len(looks) == 32


def test_embedding_of_numbers_has_a_labelled_scale():
    figure = plot.embedding(np.eye(3)[:, :2], [1.0, np.nan, 3.0], quantity="cells per well")
    assert figure.axes[1].get_ylabel() == "cells per well"
    assert [len(a.get_offsets()) for a in figure.axes[0].collections] == [1, 2]
    with pytest.raises(DataError, match="3 points came with 2 values"):
        plot.embedding(np.zeros((3, 2)), ["a", "b"], quantity="x")


def test_confusion_matrix():
    figure = plot.confusion_matrix(
        np.array([[3, 1], [0, 0.5]]), ["a", "b"], truth="mechanism", prediction="nearest"
    )
    axes = figure.axes[0]
    shares = axes.images[0].get_array()
    assert shares.filled(-1).tolist() == [[0.75, 0.25], [-1, 1]]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts == {(0, 0): "3", (1, 0): "1", (1, 1): "0.5"}
    assert axes.get_xlabel() == "nearest"
    with pytest.raises(DataError, match="2 names"):
        plot.confusion_matrix(np.zeros((3, 3)), ["a", "b"], truth="t", prediction="p")


def test_training_curves():
    history = pd.DataFrame({"epoch": [1, 2], "loss": [2, 1], "val_loss": [3, 2]})
    history["accuracy"] = [0.1, 0.4]
    figure = plot.training_curves(history, chance=0.05)
    loss, accuracy = figure.axes[:2]
    assert [line.get_ydata().tolist() for line in loss.lines] == [[2, 1], [3, 2]]
    assert accuracy.lines[1].get_ydata()[0] == 0.05
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss")
    with pytest.raises(DataError, match="0 rows"):
        plot.training_curves(history.head(0))


def test_layers():
    rows = [
        (layer, way, metric, value, value - 0.1, value + 0.2)
        for metric in ("NSC", "NSCB")
        for way in ("none", "standardize + tvn")
        for layer, value in (("conv2a", 0.3), ("conv4a", 0.7), ("pool5", 0.5))
    ]
    columns = ["layer", "normalization", "metric", "value", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    table.loc[0, ["low", "high"]] = np.nan
    figure = plot.layers(table)
    panels = figure.axes
    assert [panel.get_title("left") for panel in panels] == ["NSC", "NSCB"]
    assert [tick.get_text() for tick in panels[0].get_xticklabels()] == [
        "conv2a",
        "conv4a",
        "pool5",
    ]
    assert len(panels[0].containers) == 2
    first = panels[0].containers[0]
    assert first.lines[0].get_ydata().tolist() == [0.3, 0.7, 0.5]
    bars = [segment[:, 1].tolist() for segment in first.lines[2][0].get_segments()]
    assert bars[0] == pytest.approx([0.3, 0.3])  # no interval, no bar
    assert bars[1] == pytest.approx([0.6, 0.9])
    with pytest.raises(DataError, match="no layer"):
        plot.layers(table.head(0))


def test_illumination_has_one_scale():
    functions = {"P": np.ones((20, 30, 2)), "Q": np.full((20, 30, 2), 1.5)}
    figure = pictures.illumination(functions, ["DNA", "GFP"])
    images = [axes.images[0] for axes in figure.axes[:4]]
    assert {image.get_clim() for image in images} == {(1, 1.5)}
    assert [float(image.get_array().max()) for image in images] == [1, 1.5, 1, 1.5]
    with pytest.raises(DataError, match=r"plate P: .* 2 channels, and 3"):
        pictures.illumination(functions, ["a", "b", "c"])


def test_hostile_names_are_text(tmp_path):
    count = len(HOSTILE)
    data = pd.DataFrame({"name": HOSTILE})
    cells = np.zeros((count, 4, 4, 3), np.uint8)
    drawn = {
        "plate-map": plates.plate_map(HOSTILE, ["A01"] * count, range(count), quantity="n"),
        "list": plates.plate_map(["P"] * count, HOSTILE, range(count), quantity="n"),
        "montage": pictures.montage(cells, HOSTILE, channels=["$"]),
        "embedding": plot.embedding(np.zeros((count, 2)), HOSTILE, quantity=HOSTILE[1]),
        "confusion": plot.confusion_matrix(
            np.eye(count), HOSTILE, truth=HOSTILE[0], prediction=HOSTILE[1]
        ),
        "illumination": pictures.illumination({HOSTILE[1]: np.ones((4, 4, 1))}, [HOSTILE[3]]),
    }
    for name, figure in drawn.items():
        saved = figures.save(figure, tmp_path, name, data)
        content = saved.svg.read_text(encoding="utf-8")
        assert "<script" not in content, name
        assert imread(saved.png).ndim == 3
        read = pd.read_csv(saved.data, keep_default_na=False)
        assert read["name"].tolist() == HOSTILE
    shown = text_of(tmp_path / "confusion.svg")
    assert "<script>alert(1)</script>" in shown
    assert "\"'&$\\frac{$" in shown
    assert "🧪 化合物" in shown
    assert "(blank)" in shown
    assert "x" * 30 not in shown
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg", ".csv"}


def test_save_is_repeatable_and_refuses_other_names(tmp_path):
    history = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})
    first = figures.save(plot.training_curves(history), tmp_path / "a", "training", history)
    second = figures.save(plot.training_curves(history), tmp_path / "b", "training", history)
    assert first.svg.read_bytes() == second.svg.read_bytes()
    assert first.png.read_bytes() == second.png.read_bytes()
    assert pd.read_csv(first.data).equals(history)
    for name in ("../x", "A", "", "a/b", "a b"):
        with pytest.raises(ValueError, match="name"):
            figures.save(plot.training_curves(history), tmp_path, name, history)


def test_figures_of_an_earlier_report_are_removed(tmp_path):
    history = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})
    earlier = figures.FigureFolder(tmp_path)
    for name in ("training", "layers"):
        earlier.save(plot.training_curves(history), name, history)
    (tmp_path / "own.png").touch()
    folder = figures.FigureFolder(tmp_path)
    folder.save(plot.training_curves(history), "training", history)
    folder.remove_others()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["own.png", "training.csv", "training.png", "training.svg"]


def groups(seed=0, each=40):
    rng = np.random.default_rng(seed)
    centres = 20 * np.eye(3, 70)
    labels = np.repeat(range(3), each)
    return rng.normal(size=(3 * each, 70)) + centres[labels], labels


def test_tsne_keeps_groups_and_repeats():
    features, labels = groups()
    first, again = tsne(features, seed=1), tsne(features, seed=1)
    assert np.array_equal(first.points, again.points)
    assert not np.array_equal(first.points, tsne(features, seed=2).points)
    assert (first.method, first.perplexity) == ("t-SNE", 30)
    distances = np.linalg.norm(first.points[:, None] - first.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()


@pytest.mark.slow
def test_umap_keeps_groups_and_repeats():
    pytest.importorskip("umap")
    features, labels = groups()
    first, again = umap(features, seed=1), umap(features, seed=1)
    assert np.array_equal(first.points, again.points)
    assert str(first) == "UMAP, 15 neighbours"
    distances = np.linalg.norm(first.points[:, None] - first.points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert umap(features[:5], seed=0).neighbours == 4
    assert umap(features[:3], seed=0).method == "PCA"


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_rows_are_placed_by_principal_components(count):
    features = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    result = tsne(features, seed=0)
    assert (result.method, result.perplexity) == ("PCA", 0)
    assert result.points.shape == (count, 2)
    between = np.linalg.norm(features[:, None] - features[None], axis=2)
    kept = np.linalg.norm(result.points[:, None] - result.points[None], axis=2)
    assert kept == pytest.approx(between, abs=1e-5)


@pytest.mark.parametrize(("count", "size"), [(4, 5), (10, 1), (10, 200)])
def test_small_tables_lower_the_perplexity(count, size):
    features = np.random.default_rng(0).normal(size=(count, size))
    result = tsne(features, seed=0)
    assert result.perplexity == pytest.approx((count - 1) / 3)
    assert np.isfinite(result.points).all()


def test_equal_rows_do_not_break_the_embedding():
    assert not tsne(np.ones((20, 4)), seed=0).points.any()


def test_tsne_refuses():
    features = np.zeros((5, 3))
    features[2, 1] = np.nan
    with pytest.raises(DataError, match="row 2, feature 1 is nan"):
        tsne(features, seed=0)
    with pytest.raises(DataError, match="have none"):
        tsne(np.zeros((5, 0)), seed=0)
