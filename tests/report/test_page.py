from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from deepprofiler.report import (
    figures,
    pictures,
    plot,
)
from deepprofiler.report import (
    plate_maps as plates,
)
from deepprofiler.report.explore import Neighbours, PlateWells, PointMap, Similarities
from deepprofiler.report.findings import (
    Comparison,
    Estimate,
    LeftOutCount,
    Method,
    Metric,
    summarize,
)
from deepprofiler.report.page import Page, Picture, Section, Table, render, write

HOSTILE = [
    "<script>alert(1)</script>",
    "\"quoted' &amp; <b>",
    "</script><img src=x onerror=alert(2)>",
    "n" * 300,
    "🧪 {{ 7 * 7 }} \u2028",
    "{% raw %}${1+1}",
]
VOID = {"meta", "img", "input", "link", "br", "line", "circle"}


class ParsedPage(HTMLParser):
    """Collects elements, text and addresses, and checks that elements close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.inside: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.inside.setdefault(self.open[-1], []).append(data)
        else:
            self.text.append(data)


METRICS = (
    Metric("nsc", "NSC", "treatments", "have a nearest neighbour of the same mechanism", 0.08),
    Metric(
        "replicate-map",
        "mAP",
        "wells",
        "mean average precision of finding the same treatment",
        0.03,
        counted=False,
    ),
)


def compared(learned, random, count=None):
    methods = [Method("the learned profile", "ResNet18", {"nsc": learned})]
    methods.append(Method("random weights", "not trained", {"nsc": random}))
    if count is not None:
        methods.append(Method("the cell count alone", "one number", {"nsc": count}))
    return Comparison(METRICS, methods)


GOOD = Estimate(84 / 103, 103, 0.73, 0.89, 84)
WEAK = Estimate(0.40, 103, 0.30, 0.50, 41)
POOR = Estimate(0.10, 103, 0.05, 0.18, 10)
MISSING = (
    LeftOutCount("sites", 12, 1600, "could not be read"),
    LeftOutCount("wells", 0, 400, "fewer than 10 cells"),
)


def plain(**changes):
    page = Page(
        title="A screen",
        subtitle="results",
        facts={"wells": 400, "cells": 71963},
        comparison=compared(GOOD, WEAK, POOR),
        left_out=MISSING,
        provenance={"seed": "0", "checkpoint": "last.h5"},
    )
    return replace(page, **changes)


def wells(count, names):
    rng = np.random.default_rng(0)
    columns = pd.DataFrame(
        {
            "treatment": [names[index % len(names)] for index in range(count)],
            "plate": [f"P{index % 5}" for index in range(count)],
            "cells": rng.poisson(180, count),
        }
    )
    return rng.normal(size=(count, 2)), columns


def full(folder):
    """A page that uses every part, with hostile names wherever a user names something."""
    count = len(HOSTILE)
    data = pd.DataFrame({"name": HOSTILE})
    figure = plot.confusion_matrix(np.eye(count), HOSTILE, truth="a", prediction="b")
    saved = figures.save(figure, folder, "confusion", data)
    picture = Picture(HOSTILE[0], HOSTILE[1], saved.svg, saved.data)
    points, columns = wells(60, HOSTILE)
    columns.insert(0, HOSTILE[2], columns["treatment"])
    columns["cells"] = columns["cells"].astype(float)
    columns.loc[3, "cells"] = np.nan
    neighbours = pd.DataFrame(
        {
            "treatment": np.repeat(HOSTILE, 2),
            "group": np.repeat(["a", "", "a", "b", "b", HOSTILE[0]], 2),
            "rank": [1, 2] * 6,
            "neighbour": HOSTILE * 2,
            "neighbour_group": ["a"] * 12,
            "similarity": np.linspace(1, -1, 12),
        }
    )
    methods = [Method(name, name, {"nsc": GOOD}) for name in HOSTILE[:3]]
    similarity = Similarities(HOSTILE, HOSTILE, np.eye(count), HOSTILE[0], HOSTILE[1])
    places = [f"{row}{column:02d}" for row in "AB" for column in (1, 2, 12)]
    quantities = pd.DataFrame({"cells": [0, 1, 2, 3, 4, np.nan], HOSTILE[2]: np.arange(6.0)})
    on_plates = PlateWells(
        ["P", "P", "P", *HOSTILE[3:4] * 3], places, quantities, HOSTILE, HOSTILE[1]
    )
    bold = np.zeros(data.shape, bool)
    table = Table(HOSTILE[0], data, HOSTILE[2], bold, folded=True)
    return plain(
        title=HOSTILE[0],
        subtitle=HOSTILE[2],
        facts={HOSTILE[0]: HOSTILE[1]},
        comparison=Comparison(METRICS, methods),
        left_out=(LeftOutCount(HOSTILE[0], 3, None, HOSTILE[1]),),
        warnings=tuple(HOSTILE),
        maps=(PointMap(HOSTILE[0], points, HOSTILE[1], columns),),
        wells=on_plates,
        similarities=similarity,
        neighbours=Neighbours(neighbours, HOSTILE[0], HOSTILE[1]),
        results=(Section(HOSTILE[2], tables=(table,), notes=tuple(HOSTILE)),),
        sections=(Section(HOSTILE[0], (HOSTILE[2],), (picture,), (Table(HOSTILE[0], data),)),),
        failures=pd.DataFrame({HOSTILE[0]: HOSTILE, "reason": HOSTILE}),
        provenance={name: name for name in HOSTILE},
        config="\n".join(HOSTILE),
    )


@pytest.fixture
def hostile(tmp_path):
    return render(full(tmp_path))


def test_page_is_well_formed_and_names_are_text(hostile):
    page = ParsedPage(hostile)
    shown = "".join(page.text)
    for name in HOSTILE:
        assert name in shown
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 4  # three of data, one that runs
    assert tags.count("b") == 12  # similarities of neighbours; none from `<b>` in a name
    assert "49" not in shown
    assert not any(key.startswith("on") for _, attributes in page.elements for key in attributes)
    image = next(attributes for tag, attributes in page.elements if tag == "img")
    assert image["alt"] == f"{HOSTILE[0]}. {HOSTILE[1]}"


def test_names_survive_the_way_into_the_script(hostile):
    content = re.search(r'<script type="application/json" id="map-data">(.*?)</script>', hostile)[1]
    assert not set("<>&") & set(content)
    view = json.loads(content)[0]
    assert view["name"] == HOSTILE[0]
    assert view["columns"][0]["name"] == HOSTILE[2]
    treatment = view["columns"][1]
    decoded = [treatment["levels"][code] for code in treatment["codes"]]
    assert decoded == [HOSTILE[index % 6] for index in range(60)]
    assert view["columns"][3]["numbers"][3] is None


def test_script_puts_names_into_no_markup(hostile):
    script = ParsedPage(hostile).inside["script"][-1]
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert danger not in script


def test_nothing_is_loaded_from_elsewhere(hostile):
    page = ParsedPage(hostile)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            address = attributes.get(name)
            if address is not None:
                assert address.startswith(("data:", "#")), (tag, address[:80])
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
    style = "".join(page.inside["style"])
    assert "url(" not in style
    assert "@import" not in style
    script = page.inside["script"][-1]
    for request in ("fetch(", "XMLHttpRequest", "import(", "WebSocket", "sendBeacon"):
        assert request not in script
    assert re.findall(r"https?://[^\"'\s]+", script) == ["http://www.w3.org/2000/svg"]


def test_policy_lets_only_this_script_run(hostile):
    page = ParsedPage(hostile)
    policy = next(a["content"] for _, a in page.elements if "http-equiv" in a)
    script = page.inside["script"][-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy


def test_first_screen_says_what_was_found():
    shown = " ".join("".join(ParsedPage(render(plain())).text).split())
    start = shown[: shown.index("Comparison with baselines")]
    for part in (
        "84 of 103 treatments have a nearest neighbour of the same mechanism",
        "0.82; 95 % interval 0.73–0.89",
        "clearly higher than the best baseline, random weights (0.40)",
        "the cell count alone 0.10 (0.05–0.18); chance 0.08",
        "Left out: 12 of 1 600 sites (could not be read).",
    ):
        assert part in start


@pytest.mark.parametrize(
    ("comparison", "verdict", "words"),
    [
        (compared(GOOD, WEAK), "clear", "clearly higher than the baseline, random weights"),
        (
            compared(Estimate(0.55, 20, 0.35, 0.7), WEAK),
            "open",
            "intervals overlap",
        ),
        (compared(Estimate(0.9, 20), WEAK), "open", "without intervals"),
        (compared(WEAK, WEAK), "none", "not higher than random weights"),
        (compared(POOR, WEAK), "none", "not distinguishable from chance"),
        (compared(WEAK, POOR, GOOD), "none", "not higher than the cell count alone"),
        (Comparison(METRICS, []), "open", "Nothing was evaluated"),
        (Comparison(METRICS, [Method("x", "", {})]), "open", "No accuracy could be computed for x"),
        (Comparison(METRICS, [Method("x", "", {"nsc": GOOD})]), "open", "no baseline"),
    ],
)
def test_verdict(comparison, verdict, words):
    summary = summarize(comparison, ())
    assert summary.verdict == verdict
    assert words in summary.lead
    assert summary.left_out == "Nothing was left out."
    ParsedPage(render(plain(comparison=comparison, left_out=())))


def test_a_baseline_with_a_wide_interval_keeps_the_verdict_open():
    # The best baseline is clearly lower; another one is lower, but its interval is wide.
    wide = Estimate(0.3, 3, 0.01, 0.9)
    summary = summarize(compared(GOOD, WEAK, wide), ())
    assert summary.verdict == "open"
    assert "overlaps with that of the cell count alone" in summary.lead


def test_neighbours_are_marked_by_group(tmp_path):
    page = ParsedPage(render(full(tmp_path)))
    marks = [a["class"] for tag, a in page.elements if tag == "li" and "class" in a]
    assert marks == ["same"] * 2 + ["unknown"] * 2 + ["same"] * 2 + ["differs"] * 6


def test_every_column_of_the_neighbours_is_on_the_page():
    table = pd.DataFrame(
        {
            "treatment": ["a_1", "a_1"],
            "group": ["m", "m"],
            "dose": [1.5, 1.5],
            "rank": [1, 2],
            "neighbour": ["b_2", "c_3"],
            "neighbour_group": ["m", "n"],
            "similarity": [0.9, 0.8],
            "neighbour_dose": [2.0, np.nan],
        }
    )
    page = render(plain(neighbours=Neighbours(table, "mechanism", "cosine similarity")))
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>\n<td>(.*?)</td></tr>', page, re.S)
    ((treatment, neighbours),) = rows
    assert "<small>dose: 1.5</small>" in treatment
    assert re.findall(r"<small>dose: (.*?)</small>", neighbours) == ["2", "–"]


def test_long_tables_say_how_much_is_shown():
    failures = pd.DataFrame({"reason": ["empty"] * 301})
    shown = "".join(ParsedPage(render(plain(failures=failures))).text)
    assert "The first 300 of 301 rows." in shown
    assert "No sites or wells failed." in "".join(ParsedPage(render(plain())).text)


def test_maps_that_do_not_fit_are_refused():
    points, columns = wells(5, ["a"])
    with pytest.raises(ValueError, match="cells: points"):
        render(plain(maps=(PointMap("cells", points[:4], "", columns),)))
    thumbnails = np.zeros((4, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="4 thumbnails for 5 rows"):
        render(plain(maps=(PointMap("cells", points, "", columns, thumbnails),)))


def test_thumbnails_keep_their_order():
    points, columns = wells(5, ["a"])
    thumbnails = np.zeros((5, 80, 80, 3), np.uint8)
    thumbnails[:] = (np.arange(5) * 50)[:, None, None, None]
    page = render(plain(maps=(PointMap("cells", points, "", columns, thumbnails),)))
    content = re.search(r'id="map-data">(.*?)</script>', page)[1]
    sheet = json.loads(content)[0]["sheet"]
    assert (sheet["side"], sheet["across"]) == (40, 3)
    pixels = imread(BytesIO(base64.b64decode(sheet["image"].split(",")[1])), format="jpg")
    for index in range(5):
        row, column = divmod(index, 3)
        assert pixels[row * 40 + 20, column * 40 + 20, 0] == pytest.approx(50 * index, abs=3)


def test_size_of_a_large_screen(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{letter}{column:02d}" for letter in "ABCDEFGHIJKLMNOP" for column in range(1, 26)]
    counts = rng.poisson(180, 400).astype(float)
    plate_map = plates.plate_map(["P"] * 400, names, counts, quantity="cells per well")
    crops = rng.integers(0, 4000, (120, 96, 96, 3)).astype(np.uint16)
    treatments = [f"treatment {index // 5}" for index in range(120)]
    ranges = np.array([[0, 4000]] * 3)
    montage = pictures.montage(
        pictures.composite(crops, ranges),
        treatments,
        channels=["DNA", "actin", "tubulin"],
        columns=5,
    )
    data = pd.DataFrame({"well": names, "cells": counts})
    saved = [
        figures.save(plate_map, tmp_path, "plates", data),
        figures.save(montage, tmp_path, "montage", data),
    ]
    images = [
        Picture("Plates", "Cells per well.", saved[0].svg, saved[0].data),
        Picture("Cells", "Five of each treatment.", saved[1].png),
    ]
    treatment_names = [f"treatment {index}" for index in range(40)]
    thumbnails = rng.integers(0, 255, (3000, 40, 40, 3), dtype=np.uint8)  # noise packs worst
    maps = (
        PointMap("wells", *reordered(wells(400, treatment_names))),
        PointMap("cells", *reordered(wells(3000, treatment_names)), thumbnails),
    )
    quantities = pd.DataFrame(rng.normal(1000, 100, (400, 11)), columns=[*"abcdefghijk"])
    large = plain(
        maps=maps,
        sections=(Section("Screen", pictures=tuple(images)),),
        wells=PlateWells(["P"] * 400, names, quantities, [""] * 400, ""),
        similarities=Similarities(names, names, rng.uniform(-1, 1, (400, 400)), "", ""),
    )
    path = tmp_path / "report" / "index.html"
    write(large, path)
    assert path.stat().st_size < 15_000_000
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
    ParsedPage(path.read_text(encoding="utf-8"))


def reordered(screen):
    points, columns = screen
    return points, "t-SNE, perplexity 30.", columns


def test_pictures_and_their_data_are_in_the_page(tmp_path):
    history = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})
    saved = figures.save(plot.training_curves(history), tmp_path, "training", history)
    picture = Picture("Training", "Loss.", saved.svg, saved.data)
    page = ParsedPage(render(plain(sections=(Section("Training", pictures=(picture,)),))))
    source = next(a["src"] for tag, a in page.elements if tag == "img")
    assert base64.b64decode(source.split(",")[1]) == saved.svg.read_bytes()
    link = next(a for tag, a in page.elements if tag == "a" and "download" in a)
    assert link["download"] == "training.csv"
    assert base64.b64decode(link["href"].split(",")[1]) == saved.data.read_bytes()


def test_wells_lie_where_their_names_say():
    wells = PlateWells(
        ["P"] * 3, ["B02", "H12", "A01"], pd.DataFrame({"cells": [1, 2, 3]}), [""] * 3, ""
    )
    data = wells.script_data()
    assert list(zip(data["row"], data["column"], strict=True)) == [(1, 1), (7, 11), (0, 0)]
    assert (data["plates"][0]["rows"], data["plates"][0]["columns"]) == (8, 12)
    named = replace(wells, wells=["first", "second", "third"])
    data = named.script_data()
    assert len(set(zip(data["row"], data["column"], strict=True))) == 3
    assert data["plates"][0]["letters"] == []
    with pytest.raises(ValueError, match="2 wells for 3 rows"):
        replace(wells, wells=["A01", "A02"]).script_data()


def test_similarities_must_fit():
    with pytest.raises(ValueError, match=r"similarities \(2, 2\) for 1 names"):
        Similarities(["a"], ["b"], np.eye(2), "", "").script_data()


def test_bold_marks_the_values_that_stand_out():
    rows = pd.DataFrame({"measure": ["NSC", "drop"], "a": ["0.5", "0.1"], "b": ["0.6", "0.0"]})
    bold = np.array([[False, False, True], [False, True, False]])
    page = render(plain(results=(Section("Corrections", tables=(Table("T", rows, "", bold),)),)))
    marked = re.findall(r'<td class="best"><span class="name">(.*?)</span>', page)
    assert marked == ["0.6", "0.1"]


def browse(page, folder):
    """Open a page in a headless browser; return its elements after the script has run."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs the program chromium")
    process = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            f"--user-data-dir={folder / 'profile'}",
            *("--enable-logging=stderr", "--virtual-time-budget=3000", "--dump-dom"),
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "CONSOLE" not in process.stderr
    return process.stdout


def driven(page, steps):
    """Let the policy of a page run one more script, which writes its results as JSON."""
    script = f"""
    "use strict";
    (() => {{
      const at = (id) => document.getElementById(id);
      const set = (id, value, kind) => {{
        at(id).value = value;
        at(id).dispatchEvent(new Event(kind));
      }};
      const point = (canvas, x, y) => canvas.dispatchEvent(
        new PointerEvent("pointermove", {{ clientX: x, clientY: y, pointerType: "mouse" }}));
      const colours = (canvas) => {{
        const copy = document.createElement("canvas");
        [copy.width, copy.height] = [canvas.width, canvas.height];
        const context = copy.getContext("2d", {{ willReadFrequently: true }});
        context.drawImage(canvas, 0, 0);
        const {{ data }} = context.getImageData(0, 0, copy.width, copy.height);
        const seen = new Set();
        for (let i = 0; i < data.length; i += 4) seen.add(data.slice(i, i + 3).join());
        return [...seen];
      }};
      const results = {{}};
      {steps}
      document.body.append(Object.assign(
        document.createElement("pre"), {{ id: "driven", textContent: JSON.stringify(results) }}));
    }})();
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    return page.replace("</body>", f"<script>{script}</script></body>")


def results_of(dom):
    return json.loads(html.unescape(re.search(r'<pre id="driven">(.*?)</pre>', dom, re.S)[1]))


@pytest.mark.slow
def test_page_in_a_browser(tmp_path):
    path = tmp_path / "index.html"
    write(full(tmp_path / "figures"), path)
    page = ParsedPage(browse(path, tmp_path))
    shown = "".join(page.text)
    assert "60 points." in shown
    assert "6 of 6 rows" in shown
    legend = [a["title"] for tag, a in page.elements if tag == "button" and "title" in a]
    assert sorted(legend) == sorted(HOSTILE)


@pytest.mark.slow
def test_colouring_search_and_cards_in_a_browser(tmp_path):
    steps = """
      set("colour", "1", "change");
      const names = at("legend").querySelectorAll("button").length;
      results.byName = { legend: names, colours: colours(at("canvas")) };
      set("colour", "3", "change");
      results.byNumber = { legend: at("legend").textContent, colours: colours(at("canvas")) };
      set("find", "QUOTED'", "input");
      results.highlighted = at("map-caption").textContent;
      set("find", "", "input");
      set("search", "raw", "input");
      results.rows = at("row-count").textContent;
      const rows = [...at("neighbour-table").tBodies[0].rows];
      results.visible = rows.filter((row) => !row.hidden).length;
      const box = at("canvas").getBoundingClientRect();
      for (let x = 0; x < box.width && at("card").hidden; x += 5) {
        for (let y = 0; y < box.height && at("card").hidden; y += 5) {
          point(at("canvas"), box.left + x, box.top + y);
        }
      }
      results.card = at("card").textContent;
      const first = at("plate-stage").querySelector("canvas");
      results.plates = at("plate-stage").querySelectorAll("canvas").length;
      const before = colours(first);
      set("quantity", "1", "change");
      results.repainted = colours(first).join("|") !== before.join("|");
      const plate = first.getBoundingClientRect();
      const half = 0.5 * (plate.width - 22) / 12;
      point(first, plate.left + 18 + half, plate.top + 16 + half);
      results.well = at("plate-card").textContent;
      const map = at("similarity-canvas").getBoundingClientRect();
      point(at("similarity-canvas"), map.right - 3, map.bottom - 3);
      results.pair = at("similarity-card").textContent;
      results.images = document.images.length;
    """
    path = tmp_path / "index.html"
    path.write_text(driven(render(full(tmp_path / "figures")), steps), encoding="utf-8")
    results = results_of(browse(path, tmp_path))
    assert results["byName"]["legend"] == 6
    okabe_ito = {"0,114,178", "230,159,0", "0,158,115", "204,121,167", "86,180,233", "213,94,0"}
    assert okabe_ito <= set(results["byName"]["colours"])
    assert not okabe_ito <= set(results["byNumber"]["colours"])
    assert "missing (1)" in results["byNumber"]["legend"]
    # Ten of sixty points have that name.
    assert "10 of 60 points highlighted" in results["highlighted"]
    # That name has a row of its own, and is a neighbour in another row.
    assert (results["rows"], results["visible"]) == ("2 of 6 rows", 2)
    assert any(name in results["card"] for name in HOSTILE)
    assert (results["plates"], results["repainted"]) == (2, True)
    assert "A01" in results["well"]
    assert HOSTILE[0] in results["well"]
    assert "1.00" in results["pair"]
    assert HOSTILE[5] in results["pair"]
    assert results["images"] == 1  # no image out of a name
