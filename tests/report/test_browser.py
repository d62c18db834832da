"""The report in a real browser: by mouse, by keyboard, on paper, without a network."""

import base64
import json
import re
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.chromium import Browser, find_chromium
from tests.reported import reported, reported_fit
from versa.comparison import compare
from versa.report import write_report
from versa.result import FitResult

PROGRAM = find_chromium()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PROGRAM is None, reason="needs Chromium (Debian: apt-get install chromium)"
    ),
]
READY = "!document.querySelector('.matrices').hidden"
BEST = '[data-dataset="d0"][data-table="best"]'


@pytest.fixture(scope="module")
def browser():
    opened = Browser(PROGRAM)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def report(comparison, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    other = reported(2, dataset="another", n_images=5)
    return write_report([comparison, other], folder / "report.html", figures=False)


@pytest.fixture
def page(browser, report):
    browser.look()
    browser.open(report)
    browser.until(READY)
    return browser


def column(page, place):
    """Texts of one column of the best layers, the rows that are shown."""
    return page.run(
        f"""[...document.querySelectorAll('{BEST} tbody tr')]
        .filter(row => !row.hidden).map(row => row.cells[{place}].textContent)"""
    )


def test_no_complaint_and_no_request(page, report, comparison):
    asked = [address for address in page.requests() if not address.startswith("data:")]
    assert asked == [report.as_uri()]
    assert page.complaints() == []
    # the policy is at work: neither a script nor an address can get out
    page.run("fetch('https://example.org/').catch(() => 0)")
    page.run("document.body.insertAdjacentHTML('beforeend', '<p style=\"color:red\">')")
    blocked = [c["text"] for c in page.complaints() if "text" in c]
    assert any("Content Security Policy" in text for text in blocked)


def test_figures_break_no_policy(browser, tmp_path):
    one = reported(1, n_images=4)
    browser.look()
    browser.open(write_report(one, tmp_path / "figures.html"))
    browser.until(READY)
    loaded = browser.run(
        "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
    )
    assert loaded
    assert browser.run("document.querySelectorAll('figure img').length") >= 4
    assert browser.complaints() == []
    assert not [a for a in browser.requests() if a.startswith("http")]


def test_sorting(page):
    heading = f"{BEST} th:nth-child(6)"
    state = f"document.querySelector('{heading}').getAttribute('aria-sort')"
    assert page.run(state) == "none"
    page.click(f"{heading} button")
    assert page.run(state) == "ascending"
    numbers = [float(text) for text in column(page, 5)]
    assert numbers == sorted(numbers)
    page.key("Enter", 13, "\r")  # the heading has the focus
    assert page.run(state) == "descending"
    assert [float(text) for text in column(page, 5)] == numbers[::-1]
    page.click(f"{BEST} th:nth-child(9) button")  # null r: dashes come last
    assert page.run(state) == "none"
    texts = column(page, 8)
    assert texts[:6] == sorted(texts[:6])
    assert set(texts[6:]) == {"-"}
    page.click(f"{BEST} th:nth-child(1) button")
    assert column(page, 0) == sorted(column(page, 0))


def test_headings_explain_themselves(page):
    tip = "document.getElementById('tip')"
    assert page.run(f"{tip}.hidden")
    x, y = page.middle(f"{BEST} th:nth-child(9) button")
    page.mouse("Moved", x, y)
    page.until(f"!{tip}.hidden")
    assert "intercept-only encoder" in page.run(f"{tip}.textContent")
    page.key("Escape", 27)
    assert page.run(f"{tip}.hidden")
    page.mouse("Moved", 1, 1)
    page.run(f"document.querySelector('{BEST} th:nth-child(9) button').focus()")
    page.key("Tab", 9)
    page.until(f"!{tip}.hidden")
    assert "Noise ceiling" in page.run(f"{tip}.textContent")
    box = page.run(f"(({{left, top, right, bottom}}) => [left, top, right, bottom])"
                   f"({tip}.getBoundingClientRect())")  # fmt: skip
    assert min(box[:2]) >= 0
    assert box[2] <= 1200
    assert box[3] <= 900
    page.key("Tab", 9)
    assert "jackknife" in page.run(f"{tip}.textContent")
    page.key("Tab", 9)
    assert "explainable" in page.run(f"{tip}.textContent")


def test_filter_and_copy(page, comparison):
    page.run(
        f"""(() => {{
        const field = document.querySelector('{BEST} .filter');
        field.value = 'AOTC rsa';
        field.dispatchEvent(new Event('input'));
    }})()"""
    )
    assert column(page, 1) == ["aOTC"] * 3
    assert column(page, 2) == ["rsa"] * 3
    page.run(
        "navigator.clipboard.writeText = async (text) => { window.copied = text; }"
    )
    page.click(f"{BEST} .copy")
    page.until("window.copied")
    lines = page.run("window.copied").splitlines()
    assert lines[0].split("\t")[:2] == ["model", "sector"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["net0", "net1", "net2"]
    said = f"document.querySelector('{BEST} .said').textContent"
    assert page.run(said) == "Copied."
    page.click("[data-from=bibtex]")
    page.until("window.copied.includes('@article{konkle2022')")


def test_saved_csv_is_that_of_write(page, comparison, tmp_path):
    comparison.write(tmp_path / "tables")
    page.send(
        "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path),
        eventsEnabled=True,
    )  # fmt: skip
    for name in ("best", "layers", "pairs"):
        page.events.clear()
        page.click(f'[data-dataset="d0"][data-table="{name}"] .csv')
        while not any(
            event["method"] == "Browser.downloadProgress"
            and event["params"]["state"] == "completed"
            for event in page.events
        ):
            page.run("new Promise(done => setTimeout(done, 20))")
        saved = (tmp_path / f"{name}.csv").read_bytes()
        assert saved == (tmp_path / "tables" / f"{name}.csv").read_bytes()


def shown_pair(page):
    """Names of the two stimuli and the distances in brain and network."""
    return page.run(
        """(() => {
        const pair = document.querySelector('.pair');
        const all = (what) => [...pair.querySelectorAll(what)];
        const texts = (what) => all(what).map((element) => element.textContent);
        return [texts('.both span'), texts('dd'), all('img').length];
    })()"""
    )


def test_rdm_viewer(page, comparison):
    first = comparison.results[0]
    canvas = ".viewer canvas:not(.scale)"
    n = len(first.stimuli)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]

    def stored(sector, method, model, i, j):
        result = comparison.results[model]
        best = result.best()
        best = best[(best["method"] == method) & (best["sector"] == sector)]
        k = pairs.index((min(i, j), max(i, j)))
        layer = best["layer"].iloc[0]
        model_rdm = result.data["model_rdm"].loc[method, sector, layer]
        brain_rdm = first.data["brain_rdm"].sel(sector=sector)
        return [float(rdm.values[k]) for rdm in (brain_rdm, model_rdm)]

    def check(sector, method, model, i, j):
        names, distances, n_pictures = shown_pair(page)
        assert names == [f"thing-{i:02d}", f"thing-{j:02d}"]
        assert n_pictures == 2
        for text, number in zip(
            distances, stored(sector, method, model, i, j), strict=True
        ):
            assert re.fullmatch(r"[01]\.\d{3}", text)
            assert abs(float(text) - number) <= 0.00051

    check("EarlyV", "versa-debiased", 0, 0, 1)
    box = page.run(
        f"""(() => {{
        const canvas = document.querySelector('{canvas}');
        canvas.scrollIntoView({{block: "center", behavior: "instant"}});
        const box = canvas.getBoundingClientRect();
        return [box.left, box.top, box.width, box.height];
    }})()"""
    )

    def at(i, j):
        return box[0] + (j + 0.5) / n * box[2], box[1] + (i + 0.5) / n * box[3]

    page.mouse("Moved", *at(7, 3))
    check("EarlyV", "versa-debiased", 0, 7, 3)
    page.run(f"document.querySelector('{canvas}').focus({{preventScroll: true}})")
    page.key("ArrowDown", 40)
    page.key("ArrowRight", 39)
    page.key("ArrowRight", 39)
    check("EarlyV", "versa-debiased", 0, 8, 5)
    page.run(
        """(() => {
        const [sector, network, method] = document.querySelectorAll('.choices select');
        sector.value = 'aOTC';
        network.value = 'net2';
        method.value = 'rsa';
        method.dispatchEvent(new Event('change'));
    })()"""
    )
    check("aOTC", "rsa", 2, 8, 5)
    page.mouse("Moved", *at(4, 4))
    assert shown_pair(page)[1] == ["same image", "same image"]
    assert page.complaints() == []


def test_colours_of_the_viewer_are_those_of_the_distances(page, comparison):
    """Darkest and brightest cell of the brain's matrix are its ends."""
    rdm = comparison.results[0].data["brain_rdm"].sel(sector="EarlyV").values
    n = len(comparison.results[0].stimuli)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]

    def colour(i, j):
        return page.run(
            f"""(() => {{
            const canvas = document.querySelector('.viewer canvas:not(.scale)');
            const size = canvas.width / {n};
            return [...canvas.getContext('2d').getImageData(
                ({j} + 0.5) * size, ({i} + 0.5) * size, 1, 1).data];
        }})()"""
        )

    page.run("document.querySelector('.viewer canvas').focus()")
    page.key("ArrowUp", 38)
    low, high = pairs[int(rdm.argmin())], pairs[int(rdm.argmax())]
    assert colour(*low) == colour(*low[::-1]) == [68, 1, 84, 255]
    assert colour(*high) == colour(*high[::-1]) == [253, 231, 37, 255]
    assert colour(5, 5) == [190, 190, 190, 255]


def background(page):
    return page.run("getComputedStyle(document.body).backgroundColor")


def test_light_dark_and_paper(page, tmp_path):
    white = "rgb(255, 255, 255)"
    assert background(page) == white
    page.click("#theme")
    assert background(page) != white
    assert page.run("document.getElementById('theme').textContent") == "Light page"
    page.click("#theme")
    assert background(page) == white
    page.look(scheme="dark")
    assert background(page) == white  # what was chosen by hand stays
    page.run("delete document.documentElement.dataset.theme")
    dark = background(page)
    assert dark != white
    assert contrast(dark, page.run("getComputedStyle(document.body).color")) > 7
    page.look(scheme="dark", media="print")
    assert background(page) == white
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    heights = page.run(
        """[...document.querySelectorAll('.scroll')].map(
        (part) => [part.clientHeight, part.scrollHeight])"""
    )
    assert all(client == scroll for client, scroll in heights)
    paper = page.send("Page.printToPDF")
    assert base64.b64decode(paper["data"]).startswith(b"%PDF")


def contrast(a, b):
    """Ratio of the relative luminances of two colours, as WCAG defines it."""

    def luminance(text):
        shares = [int(part) / 255 for part in re.findall(r"\d+", text)[:3]]
        linear = [
            share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
            for share in shares
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


def test_small_screens(browser, tmp_path):
    fits = [reported_fit(f"{'long_name_' * 8}{n}", n) for n in range(2)]
    path = write_report(compare(fits), tmp_path / "r.html", figures=False)
    browser.look(width=390, height=844)
    browser.open(path)
    browser.until(READY)
    assert browser.run("document.documentElement.scrollWidth") == 390


def test_everything_has_a_name(page):
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    nameless = [
        node["role"]["value"]
        for node in nodes
        if node.get("role", {}).get("value")
        in ("button", "link", "combobox", "searchbox", "application", "table", "region")
        and not node.get("ignored")
        and not node.get("name", {}).get("value")
    ]
    assert set(nameless) <= {"table"}  # each lies in a region with a name


def test_without_script(browser, report, comparison):
    browser.look()
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(report)
        document = browser.send("DOM.getDocument", depth=-1)
        assert "The viewer needs JavaScript" in json.dumps(document)
        assert "intercept-only encoder" in json.dumps(document)
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_packed_bytes_are_readable_by_others(page, comparison):
    text = page.run(
        "JSON.parse(document.querySelector('script.data').textContent).tables.pairs"
    )
    csv = zlib.decompress(base64.b64decode(text)).decode()
    assert csv == comparison.pairs().to_csv(index=False)


def test_a_brain_to_turn(browser, comparison, tmp_path):
    """nilearn's page runs inside the report, by its hashes, and loads nothing."""
    from tests.plotting.test_brains import MNI, MNI_AFFINE, ball
    from versa.plotting.brains import write_view

    values = np.where(ball(36, -55, -16, 25), 0.8, np.nan)
    view = write_view(
        tmp_path / "view.html", values, MNI_AFFINE, space=MNI, threshold=0.05
    )
    pictures = [("reliability of subject 01", view)]
    path = write_report(
        comparison, tmp_path / "report.html", figures=False, pictures=pictures
    )
    browser.look()
    browser.open(path)
    browser.until(READY)
    assert browser.complaints() == []
    frame = "document.querySelector('iframe.view')"
    assert browser.run(f"{frame}.title") == "reliability of subject 01"
    browser.run(f"{frame}.scrollIntoView({{behavior: 'instant'}})")
    time.sleep(1.0)  # the frame is a page of its own and cannot be asked
    place = browser.run(
        f"(({{x, y, width, height}}) => [x, y, width, height])"
        f"({frame}.getBoundingClientRect())"
    )
    browser.picture(tmp_path / "turned.png")
    left, top, width, height = (int(value) for value in place)
    whole = np.asarray(Image.open(tmp_path / "turned.png").convert("RGB"))
    picture = whole[top : top + height, left : left + width]
    coloured = np.ptp(picture.astype(int), axis=2) > 60
    assert coloured.sum() > 100  # the map, in viridis over a grey brain
    grey = (np.ptp(picture.astype(int), axis=2) < 12) & (picture.max(axis=2) < 200)
    assert grey.sum() > 1000


def test_a_view_that_loads_something_is_refused(comparison, tmp_path):
    page = tmp_path / "view.html"
    page.write_text('<script src="https://example.org/a.js"></script>')
    with pytest.raises(ValueError, match="a view must load nothing from elsewhere"):
        write_report(comparison, tmp_path / "r.html", pictures=[("x", page)])


def test_large_distances(browser, tmp_path):
    data = reported_fit().data
    data["n_voxels"] = 0 * data["n_voxels"]
    data["brain_rdm"] = 45_000 * data["brain_rdm"]
    comparison = compare([FitResult(data)])
    path = write_report(comparison, tmp_path / "large.html", figures=False)
    browser.look()
    browser.open(path)
    browser.until(READY)
    assert browser.complaints() == []
