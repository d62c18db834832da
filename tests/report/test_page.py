"""The report: one file that loads nothing and says what the tables say."""

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.pictured import patch
from tests.reported import reported, reported_fit
from tests.synthetic import synthetic_fit
from versa.comparison import compare
from versa.report import write_report
from versa.report.embedding import draw_figures, picture_address, report_file
from versa.report.glossary import GLOSSARY
from versa.report.matrices import matrices, pack_integers, quantised
from versa.report.prose import cautions, methods_paragraphs, summary_sentences
from versa.report.references import bibtex
from versa.report.tables import network_table, score_tables
from versa.result import FitResult
from versa.stats.tables import for_reading


class Page(HTMLParser):
    """Tables, addresses and data of a report."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.addresses, self.ids, self.data = {}, [], [], {}
        self.headings, self.described = {}, []
        self.key, self.cell, self.script, self.policy = None, None, None, ""
        self.sorting = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.addresses += [attrs[name] for name in ("src", "href") if name in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        if "aria-describedby" in attrs:
            self.described.append((attrs["aria-describedby"], attrs["title"]))
        if attrs.get("http-equiv") == "Content-Security-Policy":
            self.policy = attrs["content"]
        if "data-table" in attrs:
            self.key = attrs["data-dataset"], attrs["data-table"]
            self.tables[self.key], self.headings[self.key] = [], []
        if tag == "tr" and self.key:
            self.tables[self.key].append([])
        if tag == "td":
            self.cell = ""
            self.tables[self.key][-1].append("")
        if tag == "button" and attrs.get("class") == "sort":
            self.headings[self.key].append("")
            self.cell = None
        self.sorting = tag == "button" and attrs.get("class") == "sort"
        if tag == "script" and attrs.get("class") == "data":
            self.script = attrs["data-dataset"]

    def handle_endtag(self, tag):
        if tag in ("table", "tbody"):
            self.cell = None
        self.script = None

    def handle_data(self, data):
        if self.script:
            self.data[self.script] = json.loads(data)
        elif self.sorting:
            self.headings[self.key][-1] += data
            self.sorting = False
        elif self.cell is not None:
            self.tables[self.key][-1][-1] += data.strip()


def written(comparison, folder, **options):
    path = write_report(comparison, folder / "report.html", figures=False, **options)
    return path.read_text("utf-8")


@pytest.fixture(scope="module")
def text(comparison, tmp_path_factory):
    return written(comparison, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_tables_are_those_for_reading(page, comparison):
    for name in ("best", "pairs", "layers"):
        shown = for_reading(getattr(comparison, name)())
        assert page.headings["d0", name] == list(shown.columns)
        rows = page.tables["d0", name][1:]
        assert rows == shown.values.tolist()


def test_saved_tables_are_those_of_write(page, comparison, tmp_path):
    comparison.write(tmp_path)
    packed = page.data["d0"]["tables"]
    assert set(packed) == {"best", "pairs", "layers"}
    for name, packed_table in packed.items():
        table = zlib.decompress(base64.b64decode(packed_table))
        assert table == (tmp_path / f"{name}.csv").read_bytes()


def test_every_heading_is_explained(page, text):
    assert len(page.described) > 40
    meanings = {f"g{n}": term.text for n, term in enumerate(GLOSSARY.values())}
    for place, title in page.described:
        assert meanings[place] == title
        assert place in page.ids
    for heading, term in GLOSSARY.items():
        assert term.meaning.endswith("."), heading
        assert "  " not in term.text


def test_ids_are_there_once_and_links_lead_somewhere(page):
    assert len(page.ids) == len(set(page.ids))
    for address in page.addresses:
        if address.startswith("#"):
            assert address[1:] in page.ids


def test_nothing_is_loaded(page, text):
    for address in page.addresses:
        assert address.startswith(("#", "data:image/")), address[:60]
    assert "default-src 'none'" in page.policy
    # the hashes of the policy are those of the style and the script, as browsers do it
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page.policy
        assert "url(" not in content
        assert "http" not in content
    assert " style=" not in text
    assert " onclick=" not in text


def test_same_results_give_the_same_bytes(tmp_path):
    comparison = reported(1, n_images=4, methods=("rsa",))
    first = write_report(comparison, tmp_path / "a.html").read_bytes()
    assert write_report(comparison, tmp_path / "b.html").read_bytes() == first


def test_names_cannot_break_the_page(tmp_path):
    evil = '</script><script>alert("1")</script>'
    fits = [reported_fit(f"{evil}{n}", n, sectors=("EarlyV", evil)) for n in range(2)]
    text = written(compare(fits), tmp_path, title=evil)
    page = Page(text)
    assert text.count("<script") == 2
    assert page.data["d0"]["rdms"]["sectors"] == ["EarlyV", evil]
    assert page.tables["d0", "best"][1][0] == f"{evil}0"


def test_two_datasets_have_a_part_each(comparison, tmp_path):
    other = reported(2, baseline="net0", dataset="another")
    page = Page(written([comparison, other], tmp_path))
    assert [part["dataset"] for part in page.data.values()] == ["made-up", "another"]
    assert len(page.tables["d1", "pairs"]) == 1 + 6
    assert len(page.ids) == len(set(page.ids))
    with pytest.raises(ValueError, match=r"datasets .* unique; repeated: 'made-up'"):
        write_report([comparison, comparison], tmp_path / "x.html")
    with pytest.raises(ValueError, match=r"must be a Comparison or several; got none"):
        write_report([], tmp_path / "x.html")
    with pytest.raises(ValueError, match="or several; got FitResult"):
        write_report([comparison.results[0]], tmp_path / "x.html")


def test_old_and_small_results(tmp_path):
    plain = synthetic_fit("plain")  # no RDMs, no pictures, no card
    page = Page(written(compare([plain]), tmp_path))
    assert ("d0", "pairs") not in page.tables
    assert page.data["d0"]["rdms"] is None
    figures = draw_figures(compare([plain]))
    skipped = {figure.title: figure.skipped for figure in figures if figure.skipped}
    assert set(skipped) == {
        "All networks against each other",
        "Networks against the baseline",
        "Accuracy and brain score",
        "RDMs of the brain and of a network",
        "Map of the stimuli in the brain",
    }
    assert "needs results that hold RDMs" in skipped["Map of the stimuli in the brain"]


def test_figures(caplog):
    cards = [
        {"top1_linear": 10.0 * n, "architecture": "A", "method": f"m{n}"}
        for n in range(1, 3)
    ]
    fits = [
        reported_fit(f"net{n}", n, card=card, n_images=6)
        for n, card in enumerate(cards)
    ]
    comparison = compare(fits, baseline="net0")
    figures = draw_figures(comparison)
    assert [figure.skipped for figure in figures] == [""] * 8
    for figure in figures:
        assert figure.address.startswith("data:image/")
        assert 200 < figure.width < 4000
        assert "7 subjects, 6 images, 35 half-splits." in figure.caption
    caplog.set_level("INFO", "versa")
    draw_figures(compare([synthetic_fit(methods=("rsa",))]))
    assert "figure diets_rsa skipped: needs --baseline" in caplog.text


def test_quantised_distances():
    rng = np.random.default_rng(0)
    for scale in (1e-7, 0.02, 0.6, 40.0):
        distances = scale * rng.random(500)
        distances[3] = np.nan
        numbers, decimals = quantised(distances)
        back = np.where(numbers == -32768, np.nan, numbers / 10.0**decimals)
        np.testing.assert_allclose(back, distances, rtol=0, atol=0.5 * 10.0**-decimals)
        assert 1000 <= numbers.max() < 10000
    assert quantised(np.zeros(3))[0].tolist() == [0, 0, 0]
    # rounding up to a fifth digit
    assert quantised(np.array([9.99996]))[0].tolist() == [10000]
    # some distances are negative, such as crossnobis ones
    assert quantised(np.array([-0.5, 1.0]))[0].tolist() == [-500, 1000]


def test_packed_numbers():
    numbers = np.array([0, 1, -1, 300, -32768, 32767], dtype=np.int16)
    planes = zlib.decompress(base64.b64decode(pack_integers(numbers)))
    low, high = planes[:6], planes[6:]
    back = [
        int.from_bytes([a, b], "little", signed=True)
        for a, b in zip(low, high, strict=True)
    ]
    assert back == numbers.tolist()


def test_matrices_are_those_of_the_chosen_layers(comparison):
    content = matrices(comparison.results, comparison.best())
    planes = np.frombuffer(zlib.decompress(base64.b64decode(content["data"])), np.uint8)
    numbers = planes.reshape(2, -1).T.copy().view("<i2").ravel()
    n_pairs = 12 * 11 // 2

    def distances(matrix):
        part = numbers[matrix["at"] : matrix["at"] + n_pairs]
        assert (part.min(), part.max()) == (matrix["low"], matrix["high"])
        return part / 10.0 ** matrix["decimals"]

    first = comparison.results[0]
    for sector in first.sectors:
        np.testing.assert_allclose(
            distances(content["brain"][sector]),
            first.data["brain_rdm"].sel(sector=sector),
            atol=6e-4,
        )
    best = comparison.best().set_index(["model", "method", "sector"])["layer"]
    assert {one["unit"] for one in content["brain"].values()} == {"1 − r"}
    for result, model in zip(comparison.results, content["models"], strict=True):
        for method in result.methods:
            for sector in result.sectors:
                matrix = model["methods"][method][sector]
                layer = best[result.model, method, sector]
                assert matrix["layer"] == layer
                stored = result.data["model_rdm"].loc[method, sector, layer]
                np.testing.assert_allclose(distances(matrix), stored, atol=6e-4)


def test_distances_that_came_as_rdms_have_no_unit():
    data = reported_fit().data
    data["n_voxels"] = 0 * data["n_voxels"]
    data["brain_rdm"] = 30_000 * data["brain_rdm"]
    result = FitResult(data)
    content = matrices([result], result.best())
    assert {one["unit"] for one in content["brain"].values()} == {"distance"}
    assert {one["decimals"] for one in content["brain"].values()} <= {-1, -2, 0}
    (network,) = content["models"]
    assert network["methods"]["rsa"]["aOTC"]["unit"] == "1 − r"
    paragraphs = methods_paragraphs(compare([result]))
    assert " in EarlyV, aOTC." in paragraphs[0]
    assert "Brain RDMs were given with the dataset." in " ".join(paragraphs)


def test_scores_that_mean_nothing_are_not_dressed_up():
    data = reported_fit().data.copy(deep=True)
    data["scores"] = -abs(data["scores"])
    below = compare([FitResult(data)])
    text = " ".join(summary_sentences(below, below.best()))
    assert ": no similarity" in text
    assert "r²/ceiling²" not in text
    rng = np.random.default_rng(0)
    data = reported_fit().data.copy(deep=True)
    data["ceiling"] = data["ceiling"].dims, rng.normal(0, 0.1, data["ceiling"].shape)
    noise = compare([FitResult(data)])
    best = noise.best()
    text = " ".join(summary_sentences(noise, best))
    assert "which is not significantly different from 0" in text
    assert "at or above the ceiling" not in text
    (warning,) = [one for one in cautions(noise, best) if "different from 0" in one]
    assert warning.startswith("EarlyV, aOTC: the noise ceiling is not significantly")


def test_summary_has_the_digits_of_the_table(comparison):
    best = comparison.best()
    first, *sectors = summary_sentences(comparison, best)
    assert "3 networks were compared with the responses of 7 subjects" in first
    shown = for_reading(best)
    for sentence, sector in zip(sectors, ("EarlyV", "aOTC"), strict=True):
        rows = (best["method"] == "versa-debiased") & (best["sector"] == sector)
        top = best[rows]["r"].idxmax()
        assert best.loc[top, "model"] in sentence
        for heading in ("r", "95% CI (S-1)", "ceiling"):
            assert shown.loc[top, heading] in sentence
    table = comparison.table
    held = table[(table["method"] == "versa-debiased") & (table["sector"] == "aOTC")]
    held = held[(held["model_a"] == "net2") | (held["model_b"] == "net2")]
    n_held = held["significant_subjects"].sum()
    assert n_held == 2
    assert "differs significantly from 2 of 2 other networks" in sectors[1]


def test_summary_against_a_baseline_and_alone():
    comparison = reported(3, baseline="net1")
    last = summary_sentences(comparison, comparison.best())[-1]
    assert (
        "Of 2 other networks, 1 score significantly higher and 1 significantly lower "
        "than net1" in last
    )
    fits = [reported_fit(f"net{n}", n) for n in range(2)]
    comparison = compare(fits, baseline="net0")
    last = summary_sentences(comparison, comparison.best())[-1]
    assert "Of 1 other network, none differs significantly from net0" in last
    alone = reported(1)
    first, *sectors = summary_sentences(alone, alone.best())
    assert first.startswith("1 network was compared")
    assert "net0 scores, r = " in sectors[0]
    assert "other" not in sectors[0]
    lost = alone.results[0].data.copy(deep=True)
    lost["scores"] = lost["scores"] * np.nan
    nowhere = compare([FitResult(lost)])
    assert "no network has a score" in summary_sentences(nowhere, nowhere.best())[1]


def test_words_of_parity():
    fits = [reported_fit(f"net{n}", n, shift=0.3 * n) for n in range(3)]
    comparison = compare(fits, baseline="net1", equivalence=0.05)
    rows = comparison.pairs()
    rows = rows[(rows.method == "versa-debiased") & (rows.sector == "aOTC")]
    assert rows.verdict.tolist() == ["different", "different"]
    text = summary_sentences(comparison, comparison.best())[-1]
    assert "Against net1, different: net0, net2." in text
    wide = compare(fits, baseline="net1", equivalence=0.6)
    text = summary_sentences(wide, wide.best())[-1]
    assert "Against net1, on par within ±.6: net0, net2." in text
    assert "margin of ±0.6 in r" in " ".join(methods_paragraphs(wide))
    close = [reported_fit(f"net{n}", n) for n in range(2)]
    plain = compare(close)
    row = plain.pairs().iloc[-1]
    detected = f"{plain.pairs().detectable[3]:.2f}".removeprefix("0")
    text = summary_sentences(plain, plain.best())[-1]
    assert f"this study detects differences of {detected}." in text, row
    asked = compare(close, equivalence=0.01)
    text = summary_sentences(asked, asked.best())[-1]
    assert f"cannot tell (this study detects {detected}): net" in text


def test_methods_name_the_settings(comparison):
    text = " ".join(methods_paragraphs(comparison))
    for part in (
        "EarlyV (50 voxels per subject)",
        "Layers analysed: conv_block_1, conv_block_2, fc6.",
        "1 − Pearson r between the activations",
        "licence CC0-1.0",
        "the other 11 images",
        "9 values from 0.0001 to 10000 times the mean eigenvalue",
        "each voxel",
        "not standardized",
        "all 35 half-splits",
        "J − 1 = 69",
        "S − 1 = 6",
        "n_test / n_train = 1 ",
        "family of 6 tests, significant at corrected p < 0.05",
        "differences of the best layers' Fisher z",
        "versa 9.9, numpy 2.0",
    ):
        assert part in text, part
    fits = [
        synthetic_fit(f"net{n}", n, alphas=[0.5, 20], standardize=True)
        for n in range(2)
    ]
    options = {"on_z": False, "alpha": 0.001, "test_train_ratio": "literal"}
    text = " ".join(methods_paragraphs(compare(fits, baseline="net1", **options)))
    assert "from 0.5, 20." in text
    assert "z-scored over the images" in text
    assert "the baseline net1" in text
    assert "best layers' r;" in text
    assert "significant at corrected p < 0.001" in text
    assert "n_test / n_train = 1.042" in text
    only_rsa = compare([synthetic_fit(methods=("rsa",))])
    text = " ".join(methods_paragraphs(only_rsa))
    assert "ridge" not in text
    assert "t-tests" not in text


def test_cautions():
    fits = [
        reported_fit(
            "net:seed=1",
            card={"unverified": ["the size"], "method": "untrained"},
            warnings=["beware of aOTC."],
            edge=0.7,
            shift=-0.3,
        ),
        reported_fit("deep", 1, shift=0.3, warnings=["beware of aOTC."]),
    ]
    comparison = compare(fits)
    found = cautions(comparison, comparison.best())
    text = "\n".join(found)
    assert "subjects only" not in text
    assert "null" not in text
    assert "net:seed=1, deep: beware of aOTC." in found
    assert "the largest penalty of the grid was chosen: net:seed=1, EarlyV" in text
    assert "(70%)" in text
    assert "deep, " not in text
    assert "net: one random initialisation only" in text
    assert "net:seed=1: not verified on the model card yet, the size." in found
    few = compare([synthetic_fit(n_subjects=4, shift=0.3)])
    assert "There are 4 subjects only" in cautions(few, few.best())[0]
    seeds = [reported_fit(f"net:seed={n}", n, shift=0.3) for n in range(2)]
    comparison = compare(seeds)
    assert cautions(comparison, comparison.best()) == []


def test_seeds_have_a_table():
    comparison = compare([reported_fit(f"net:seed={n}", n) for n in range(2)])
    tables = {t.name: t for t in score_tables(comparison, comparison.best())}
    shown = for_reading(comparison.seeds())
    assert [list(row) for row in tables["seeds"].rows] == shown.values.tolist()
    assert tables["seeds"].n_text == 3
    assert tables["layers"].n_text == tables["pairs"].n_text == 4
    assert tables["best"].tail
    assert not tables["pairs"].tail


def test_networks_from_their_cards():
    card = {"method": "IPCL", "top1_knn": 38.4, "top1": None, "licence": "MIT"}
    table = network_table([reported_fit("a", card=card), reported_fit("b")])
    rows = [dict(zip(table.headings, row, strict=True)) for row in table.rows]
    assert rows[0]["training"] == "IPCL"
    assert rows[0]["kNN top-1"] == "38.4"
    assert rows[0]["top-1"] == rows[1]["training"] == "-"
    assert rows[0]["layers"] == "3"
    assert not table.packed


def test_references():
    paper = {"citation": "https://doi.org/10.1038/s41467-022-28091-4"}
    other = {"citation": "Other & Co (2019), https://doi.org/10.1/x_y"}
    fits = [
        reported_fit("a", card=paper),
        reported_fit("b", card=other),
        reported_fit("c_1", card=other),
    ]
    text = bibtex(fits)
    keys = re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)
    assert keys == [
        "konkle2022",
        "nadeau2003",
        "bouckaert2004",
        "versa",
        "dataset_1",
        "networks_2",
    ]
    assert text.count("{") == text.count("}")
    assert r"title        = {Weights of b, c\_1}" in text
    assert r"\url{https://doi.org/10.1/x_y}" in text
    assert r"note         = {Other \& Co (2019), https://doi.org/10.1/x\_y}" in text
    assert "version = {9.9}" in text
    assert text.count("10.1038/s41467-022-28091-4") == 1


def test_pictures_and_file_names(comparison, tmp_path):
    picture = tmp_path / "sectors.png"
    patch(1).save(picture)
    text = written(comparison, tmp_path, pictures=[("My <brain>", picture)])
    address = picture_address(picture)
    assert base64.b64decode(address.partition(",")[2]) == picture.read_bytes()
    assert address in text
    assert "My &lt;brain&gt;" in text
    with pytest.raises(ValueError, match=r"ends with .html or .htm; got 'report.pdf'"):
        report_file(tmp_path / "report.pdf")
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        report_file(tmp_path / "folder.html")
    with pytest.raises(ValueError, match=r"must end with \.png, .*got 'a\.gif'"):
        picture_address(tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"absent\.png does not exist"):
        write_report(
            comparison, tmp_path / "x.html", pictures=[("", tmp_path / "absent.png")]
        )
    assert not (tmp_path / "x.html").exists()


def test_the_papers_full_set_stays_small(tmp_path):
    """Twenty networks and 72 images take less than half of 5 MB, without figures."""
    fits = []
    for n in range(20):
        fit = reported_fit(f"network_with_a_long_name_{n}", n, n_images=72)
        fits.append(fit)
    path = write_report(
        compare(fits, baseline=fits[0].model), tmp_path / "r.html", figures=False
    )
    assert path.stat().st_size < 2.5e6


def test_permutations_are_reported():
    comparison = reported(2, permutations=39)
    best = comparison.best()
    top = best[(best["sector"] == "aOTC") & (best["method"] == "versa-debiased")]
    shown = for_reading(top.loc[[top["r"].idxmax()]]).iloc[0]
    text = summary_sentences(comparison, best)[-1]
    assert f"; by chance {shown['chance']} (p perm. = {shown['p perm.']})" in text
    assert "the same 39 times for all subjects" in methods_paragraphs(comparison)[2]
    entries = bibtex(comparison.results)
    assert "phipson2010" in entries
    assert "nichols2002" in entries
    for table in score_tables(comparison, best):
        assert all(heading in GLOSSARY for heading in table.headings)
    plain = reported(2)
    assert "permut" not in methods_paragraphs(plain)[2]
    assert "phipson" not in bibtex(plain.results)


def test_a_score_below_the_null_is_no_reason_for_caution():
    data = reported_fit().data
    data["null"] = 0 * data["null"] + 0.99
    comparison = compare([FitResult(data)])
    assert not [one for one in cautions(comparison, comparison.best()) if "null" in one]
