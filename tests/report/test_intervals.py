"""The intervals that a page draws are those of its tables, whatever the ratio."""

import base64
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.report.test_page import Page
from tests.synthetic import synthetic_fit
from versa.comparison import compare
from versa.report.page import write_report

METHOD, SECTOR = "versa-debiased", "aOTC"
CARDS = [
    {"method": "IPCL", "architecture": "A", "top1_linear": 20.0},
    {"method": "SimCLR", "architecture": "B", "top1_linear": 60.0},
]
SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
DIGITS = 0.00051  # the tables have three


class Panel:
    """A panel of a figure in SVG, in units of its axes."""

    def __init__(self, svg, number=1):
        keep = ElementTree.TreeBuilder(insert_comments=True)
        root = ElementTree.fromstring(svg, ElementTree.XMLParser(target=keep))
        self.panel = root.find(f".//{SVG}g[@id='axes_{number}']")

    def parts(self, name):
        """Groups that are called NAME_1, NAME_2 and so on."""
        groups = self.panel.iter(f"{SVG}g")
        return [
            one for one in groups if re.fullmatch(rf"{name}_\d+", one.get("id", ""))
        ]

    def scale(self, axis):
        """Slope and intercept that turn points of the page into data."""
        places, values = [], []
        for tick in self.parts(f"{axis}tick"):
            places.append(float(next(tick.iter(f"{SVG}use")).get(axis)))
            label = next(tick.iter(ElementTree.Comment)).text
            values.append(float(label.replace("\u2212", "-")))
        return np.polyfit(places, values, 1)

    def corners(self, part):
        """Corners of the paths of a part, each (n, 2), in points of the page."""
        used = {use.get(LINK)[1:]: use for use in part.iter(f"{SVG}use")}
        for path in part.iter(f"{SVG}path"):
            moved = used.get(path.get("id"))
            offset = (0, 0) if moved is None else (moved.get("x"), moved.get("y"))
            found = re.findall(r"[ML] (\S+) (\S+)", path.get("d"))
            yield np.array(found, dtype=float) + np.array(offset, dtype=float)

    def ends(self, name, axis):
        """Lowest and highest value of each path of the parts of a kind."""
        slope, intercept = self.scale(axis)
        paths = [path for part in self.parts(name) for path in self.corners(part)]
        values = [slope * path[:, "xy".index(axis)] + intercept for path in paths]
        return [(one.min(), one.max()) for one in values]

    def bands(self):
        """Lowest and highest value of the bands around curves at each of their x."""
        slope, intercept = self.scale("y")
        for part in self.parts("FillBetweenPolyCollection"):
            (path,) = self.corners(part)
            for x in np.unique(path[:, 0]):
                values = slope * path[path[:, 0] == x, 1] + intercept
                yield values.min(), values.max()

    def spans(self):
        """Lowest and highest value of grey bands across the panel."""
        slope, intercept = self.scale("y")
        for part in self.parts("patch"):
            (path,) = part.iter(f"{SVG}path")
            if "fill: #dddddd" in path.get("style"):
                (corners,) = self.corners(part)
                values = slope * corners[:, 1] + intercept
                yield values.min(), values.max()


def figures(text):
    """SVG of the figures of a page, by title."""
    shown = r'<img src="data:image/svg\+xml;base64,([^"]+)" [^>]*alt="([^."]+)\.'
    return {
        title: base64.b64decode(svg).decode() for svg, title in re.findall(shown, text)
    }


def intervals(page, name, method, model=None):
    """Intervals with S - 1 degrees of freedom in the page's own table."""
    headings = page.headings["d0", name]
    place = headings.index("95% CI (S-1)")
    found = [
        [float(end) for end in re.findall(r"-?\d*\.\d+", row[place])]
        for row in page.tables["d0", name][1:]
        if row[headings.index("method")] == method and row[0] in (model or row[0])
    ]
    assert found
    return found


@pytest.mark.parametrize("ratio", [0, 1, "literal"])
def test_drawn_intervals_are_those_of_the_tables(ratio, tmp_path):
    # seven subjects: halves of three and four, so that the literal ratio is not 1
    fits = [
        synthetic_fit(f"net{n}", n, shift=0.1 * n, sectors=(SECTOR,)) for n in range(2)
    ]
    for fit, card in zip(fits, CARDS, strict=True):
        fit.provenance["model"]["card"] = card
    comparison = compare(fits, baseline="net0", test_train_ratio=ratio)
    text = write_report(comparison, tmp_path / "report.html").read_text("utf-8")
    page, drawn = Page(text), figures(text)

    best = intervals(page, "best", METHOD)
    width = {0: 0.021, 1: 0.175, "literal": 0.179}[ratio]
    assert best[0][1] - best[0][0] == pytest.approx(width, abs=0.001)
    bars = Panel(drawn["Best layers"]).ends("LineCollection", "x")
    np.testing.assert_allclose(bars, best, atol=DIGITS)
    bars = Panel(drawn["Accuracy and brain score"]).ends("LineCollection", "y")
    np.testing.assert_allclose(bars, best, atol=DIGITS)
    band = next(Panel(drawn["Networks against the baseline"]).spans())
    np.testing.assert_allclose(band, best[0], atol=DIGITS)

    bands = list(Panel(drawn["Score of every layer"]).bands())
    np.testing.assert_allclose(bands, intervals(page, "layers", METHOD), atol=DIGITS)
    bias = drawn["How much of the score is leave-one-out bias"]
    for number, model in enumerate(("net0", "net1"), 2):
        expected = [
            interval
            for method in ("versa", METHOD)
            for interval in intervals(page, "layers", method, model)
        ]
        bars = Panel(bias, number).ends("LineCollection", "y")
        np.testing.assert_allclose(bars, expected, atol=DIGITS)
