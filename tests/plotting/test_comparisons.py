"""Figures of networks side by side: what is drawn is what the tables say."""

import json
from functools import cache

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba
from scipy.stats import gaussian_kde

from tests.synthetic import SECTORS, synthetic_fit
from versa.comparison import compare
from versa.plotting.comparisons import plot_accuracy, plot_comparison, plot_diets
from versa.plotting.style import NULL_LABEL, model_styles
from versa.result import FitResult, best_layer_scores
from versa.stats.splits import split_halves
from versa.stats.tables import for_reading

VARIANTS = pytest.mark.parametrize(
    ("method", "df"),
    [("versa", "subjects"), ("versa-debiased", "splits"), ("rsa", "subjects")],
)
CARDS = {
    "ipcl": {"method": "IPCL", "architecture": "AlexNet-GN", "diet": "ImageNet"},
    "places": {"method": "IPCL", "architecture": "AlexNet-GN", "diet": "Places2"},
    "labels": {"method": "supervised", "architecture": "ResNet-50", "diet": "Faces"},
    "swav": {"method": "SwAV", "architecture": "ResNet-50", "diet": "ImageNet"},
}
ACCURACY = {"ipcl": 39.5, "places": 30.9, "labels": 76.1, "swav": None}


def fit(name, seed=0, shift=0.0, card=None, **changes):
    """A made-up fit with a model card."""
    result = synthetic_fit(name, seed=seed, shift=shift, **changes)
    data = result.data.copy()
    for same in ("ceiling", "null"):  # they belong to the dataset, not the network
        data[same] = synthetic_fit(**changes).data[same]
    record = result.provenance
    record["model"]["card"] = card
    return FitResult(data.assign_attrs(provenance=json.dumps(record)))


@cache
def _four():
    return [
        fit(name, n, 0.15 * n, {**card, "top1_linear": ACCURACY[name]})
        for n, (name, card) in enumerate(CARDS.items())
    ]


def four():
    """The same four fits in a new list."""
    return list(_four())


@cache
def compared(baseline=None):
    """One comparison of the four networks for all tests."""
    return compare(four(), baseline=baseline)


def undefined(result, sector):
    """The same fit without scores in one sector."""
    data = result.data.copy(deep=True)
    data["scores"].loc[{"sector": sector}] = np.nan
    return FitResult(data)


def row_of(result, method, sector):
    best = result.best()
    return best[(best["method"] == method) & (best["sector"] == sector)].iloc[0]


def lines(panel, label):
    return [line for line in panel.lines if line.get_label() == label]


def plain(text):
    return text.get_text().replace("\N{NO-BREAK SPACE}", " ")


def head(ax):
    legend = ax.get_legend()
    entries = [plain(text) for text in legend.get_texts()]
    return plain(legend.get_title()).split("\n"), entries


def matrix(panel):
    """Numbers of the cells, NaN where the cell is grey."""
    return np.ma.filled(panel.collections[0].get_array().astype(float), np.nan)


def stars(panel):
    marks = [c for c in panel.collections if c.get_label() == "significant"]
    return {tuple(np.floor(at).astype(int)[::-1]) for c in marks for at in
            c.get_offsets()}  # fmt: skip


@VARIANTS
def test_diets_are_drawn_against_the_baseline(method, df):
    results = four()
    ax = plot_diets(results, baseline="ipcl", method=method, df=df)
    end = "_subjects" if df == "subjects" else ""
    assert [panel.get_title("left") for panel in ax.child_axes] == list(SECTORS)
    for panel, sector in zip(ax.child_axes, SECTORS, strict=True):
        row = row_of(results[0], method, sector)
        (mean,) = lines(panel, "mean of the baseline")
        assert mean.get_ydata()[0] == row["r"]
        band = panel.patches[0].get_extents().transformed(panel.transData.inverted())
        expected = [row[f"ci_low{end}"], row[f"ci_high{end}"]]
        np.testing.assert_allclose([band.y0, band.y1], expected)
        null = [line.get_ydata()[0] for line in lines(panel, NULL_LABEL)]
        assert null == ([row["null_r"]] if method == "versa" else [])
        for place, other in enumerate(results[1:]):
            (dot,) = lines(panel, other.model)
            found = row_of(other, method, sector)["r"]
            assert dot.get_xydata().tolist() == [[place, found]]
        assert panel.get_ylim() == ax.child_axes[0].get_ylim()
    title, entries = head(ax)
    assert title[0] == "made-up: 7 subjects, 4 images, 35 half-splits"
    assert "baseline: ipcl" in title
    freedom = "S − 1 = 6 df" if df == "subjects" else "J − 1 = 69 df"
    assert f"its 95% interval ({freedom})" in entries
    assert any(entry.startswith("null") for entry in entries) == (method == "versa")


def test_violins_are_densities_cut_at_the_whiskers():
    results = four()
    panel = plot_diets(results, baseline="ipcl", sector="aOTC")
    colours = model_styles(CARDS)
    for place, (other, body) in enumerate(
        zip(results[1:], panel.collections, strict=True)
    ):
        r = best_layer_scores(other, "versa-debiased", "aOTC").r.ravel()
        q1, q3 = np.percentile(r, [25, 75])
        low = r[r >= q1 - 1.5 * (q3 - q1)].min()
        high = r[r <= q3 + 1.5 * (q3 - q1)].max()
        outline = body.get_paths()[0].vertices
        np.testing.assert_allclose(outline[:, 1].min(), low)
        np.testing.assert_allclose(outline[:, 1].max(), high)
        right = outline[outline[:, 0] > place]
        density = gaussian_kde(r)(right[:, 1])
        share = (right[:, 0] - place) / density
        np.testing.assert_allclose(share, share[0], rtol=1e-6)
        assert to_hex(body.get_facecolor()[0]) == colours[other.model].colour.lower()
    # the ends of the baseline are those of its violin
    other = plot_diets(results, baseline="places", sector="aOTC")
    drawn = other.collections[0].get_paths()[0].vertices[:, 1]  # violin of ipcl
    dotted = [line.get_ydata()[0] for line in panel.lines if line.get_ls() == ":"]
    np.testing.assert_allclose(sorted(dotted), [drawn.min(), drawn.max()])


def test_networks_are_named_by_diets_if_nothing_else_differs():
    results = four()

    def labels(chosen):
        panel = plot_diets(chosen, baseline="swav", sector="aOTC")
        return [label.get_text() for label in panel.get_xticklabels()]

    assert labels([results[0], results[1], results[3]]) == ["ImageNet", "Places2"]
    assert labels(results) == ["ipcl", "places", "labels"]
    bare = [fit("one"), fit("two", 1), fit("swav", 2)]
    assert labels(bare) == ["one", "two"]


def test_equal_scores_have_no_density_and_undefined_ones_no_violin(caplog):
    results = four()
    data = results[1].data.copy(deep=True)
    data["scores"][:] = 0.5
    results[1] = FitResult(data)
    results[2] = undefined(results[2], "aOTC")
    ax = plot_diets(results, baseline="ipcl")
    early, anterior = ax.child_axes
    assert len(early.collections) == 3
    assert len(anterior.collections) == 2
    flat = anterior.collections[0].get_paths()[0].vertices
    assert set(flat[:, 1].round(12)) == {0.5}
    assert [text.get_text() for text in anterior.texts] == ["not\ndefined"]
    assert "labels has no score in aOTC" in caplog.text
    results[0] = undefined(results[0], "aOTC")
    bandless = plot_diets(results, baseline="ipcl").child_axes[1]
    assert not lines(bandless, "mean of the baseline")
    assert not bandless.patches


@VARIANTS
def test_accuracy_comes_from_the_cards(method, df, caplog):
    results = four()
    ax = plot_accuracy(results, method=method, df=df)
    end = "_subjects" if df == "subjects" else ""
    for panel, sector in zip(ax.child_axes, SECTORS, strict=False):
        drawn = {one.get_label(): one for one in panel.containers}
        assert list(drawn) == ["ipcl", "places", "labels"]
        for result in results[:3]:
            row = row_of(result, method, sector)
            point, _, (bar,) = drawn[result.model].lines
            expected = [[ACCURACY[result.model], row["r"]]]
            assert point.get_xydata().tolist() == expected
            ends = [row[f"ci_low{end}"], row[f"ci_high{end}"]]
            np.testing.assert_allclose(bar.get_segments()[0][:, 1], ends)
        (ceiling,) = lines(panel, "noise ceiling")
        assert ceiling.get_ydata()[0] == row["ceiling"]
        null = [line.get_ydata()[0] for line in lines(panel, NULL_LABEL)]
        assert null == ([row["null_r"]] if method == "versa" else [])
    assert "Not drawn, as their cards hold no top1_linear: swav." in caplog.text
    about = " ".join(head(ax)[0])
    assert "published top-1 accuracy on ImageNet of a linear read-out" in about


def test_colour_tells_training_and_marker_architecture():
    ax = plot_accuracy(four())
    looks = {
        one.get_label(): (
            one.lines[0].get_color(),
            one.lines[0].get_markerfacecolor(),
            one.lines[0].get_marker(),
        )
        for one in ax.child_axes[0].containers
    }
    assert looks["ipcl"] == looks["places"] == ("#0072B2", "#0072B2", "o")
    assert looks["labels"] == ("#000000", "white", "D")
    key = ax.child_axes[-1].get_legend()
    assert [text.get_text() for text in key.get_texts()] == [
        "training (open: with labels)", "IPCL", "supervised",
        "architecture", "AlexNet-GN", "ResNet-50",
    ]  # fmt: skip


def test_many_kinds_of_training_and_architecture_stay_apart(caplog):
    def drawn(n):
        results = [
            fit(f"net{i}", card={"method": f"m{i}", "architecture": f"a{i}",
                                 "diet": "", "top1": float(i)},
                splits=split_halves(2), sectors=("V1",))
            for i in range(n)
        ]  # fmt: skip
        panel = plot_accuracy(results, accuracy="top1", sector="V1")
        points = [one.lines[0] for one in panel.containers]
        return (
            {(p.get_markerfacecolor(), p.get_markeredgecolor()) for p in points},
            {p.get_marker() for p in points},
        )

    fills, markers = drawn(14)
    assert len(fills) == len(markers) == 14
    assert not caplog.text
    fills, markers = drawn(17)
    assert (len(fills), len(markers)) == (16, 14)
    assert "17 methods of training share 16 looks" in caplog.text
    assert "17 architectures share 14 markers" in caplog.text


def test_the_arrow_spans_the_gap_of_the_best_network():
    results = four()
    panel = plot_accuracy(results, sector="aOTC")
    rows = [row_of(result, "versa-debiased", "aOTC") for result in results[:3]]
    best = max(rows, key=lambda row: row["r"])
    arrow, text = panel.texts
    assert arrow.xy[1] == best["ceiling"]
    assert arrow.xyann[1] == best["r"]
    assert text.get_text() == f"{best['ceiling'] - best['r']:.3f}"
    (reach,) = (line for line in panel.lines if line.get_ls() == ":")
    assert reach.get_xydata()[0].tolist() == [ACCURACY[best["model"]], best["r"]]


def test_at_the_ceiling_there_is_no_gap_and_without_one_no_arrow(caplog):
    high = fit("high", 0, 2.0, {**CARDS["ipcl"], "top1_linear": 50.0})
    panel = plot_accuracy(high, sector="aOTC")
    assert [text.get_text() for text in panel.texts] == ["no gap"]
    panel = plot_accuracy([undefined(high, "aOTC")], sector="aOTC")
    assert not panel.texts
    assert not lines(panel, "noise ceiling")
    assert "high has no score in aOTC" in caplog.text


def test_the_first_accuracy_that_a_card_holds_is_drawn():
    results = four()
    kinds = {"top1_linear": None, "top1_knn": 20.0, "top1": 70.0}
    results[3] = fit("swav", 3, card={**CARDS["swav"], **kinds})

    def places(*accuracy):
        panel = plot_accuracy(results, accuracy=accuracy, sector="aOTC")
        return {c.get_label(): c.lines[0].get_xdata()[0] for c in panel.containers}

    drawn = places("top1_linear", "top1")
    assert (drawn["ipcl"], drawn["swav"]) == (39.5, 70.0)
    assert places("top1_knn") == {"swav": 20.0}


@VARIANTS
def test_the_matrix_holds_the_table(method, df):
    comparison = compared()
    ax = plot_comparison(comparison, method=method, df=df)
    names = list(CARDS)
    limits = set()
    marked = 0
    for panel, sector in zip(ax.child_axes, SECTORS, strict=True):
        values = matrix(panel)
        assert np.isnan(np.diag(values)).all()
        np.testing.assert_array_equal(values, -values.T)
        table = comparison.table.query("method == @method and sector == @sector")
        expected = set()
        for pair in table.to_dict("records"):
            at = names.index(pair["model_a"]), names.index(pair["model_b"])
            assert values[at] == pair["difference"]
            if pair["significant_subjects" if df == "subjects" else "significant"]:
                expected |= {at, at[::-1]}
        assert stars(panel) == expected
        marked += len(expected)
        limits.add(panel.collections[0].get_clim())
        title = panel.get_title("left")
        null = row_of(comparison.results[0], method, sector)["null_r"]
        assert title == sector + (f"\nnull r = {null:.3f}" if null == null else "")
    assert marked
    ((low, high),) = limits
    of_method = comparison.table[comparison.table["method"] == method]
    assert -low == high == of_method["difference"].abs().max()
    freedom = "S − 1 = 6 df" if df == "subjects" else "J − 1 = 69 df"
    text = f"★ corrected p < 0.05 (Bonferroni, 12 tests, {freedom})"
    assert " ".join(head(ax)[0]).endswith(text)


def test_cells_print_the_digits_of_the_tables():
    comparison = compared()
    panel = plot_comparison(comparison, sector="aOTC")
    chosen = "method == 'versa-debiased' and sector == 'aOTC'"
    printed = {text.get_text() for text in panel.texts}
    pairs = for_reading(comparison.table.query(chosen))
    means = for_reading(comparison.best().query(chosen))
    assert set(pairs["A - B"]) | set(means["r"]) < printed
    assert len(panel.texts) == 16
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels == ["ipcl  1", "places  2", "labels  3", "swav  4"]


def test_a_baseline_is_the_only_column():
    comparison = compared("places")
    ax = plot_comparison(comparison)
    panel = ax.child_axes[0]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["2"]
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        "ipcl  1", "labels  3", "swav  4",
    ]  # fmt: skip
    chosen = "method == 'versa-debiased' and sector == 'EarlyV'"
    expected = comparison.table.query(chosen)["difference"].to_list()
    assert matrix(panel).ravel().tolist() == expected
    assert "column 2: places" in head(ax)[0]


def test_undefined_differences_are_grey_and_print_a_dash(caplog):
    results = four()
    results[2] = undefined(results[2], "aOTC")
    ax = plot_comparison(compare(results))
    values = matrix(ax.child_axes[1])
    assert np.isnan(values[2]).all()
    assert np.isnan(values[:, 2]).all()
    assert np.isnan(matrix(ax.child_axes[0])).sum() == 4
    printed = [text.get_text() for text in ax.child_axes[1].texts]
    assert printed.count("-") == 7
    assert not any(2 in at for at in stars(ax.child_axes[1]))
    assert "labels has no score in aOTC" in caplog.text


def test_many_networks_have_stars_but_no_numbers_and_equal_ones_no_colour():
    results = [
        fit(f"net{i}", i, 0.05 * i, splits=split_halves(4), sectors=("V1",))
        for i in range(11)
    ]
    panel = plot_comparison(compare(results, family=1), sector="V1")
    assert not panel.texts
    assert len(stars(panel)) > 20
    assert matrix(panel).shape == (11, 11)
    equal = plot_comparison(compare([fit("a"), fit("b")])).child_axes[0]
    mesh = equal.collections[0]
    assert mesh.get_clim() == (-0.01, 0.01)
    np.testing.assert_allclose(mesh.to_rgba(0.0)[:3], 0.97, atol=0.01)
    assert not stars(equal)


def test_print_is_legible_on_every_colour():
    panel = plot_comparison(compared(), sector="aOTC")
    mesh = panel.collections[0]
    values = matrix(panel)
    for text in panel.texts:
        j, i = (int(at) for at in text.get_position())
        ground = np.array(mesh.to_rgba(values[i, j]) if i != j else to_rgba("#ececec"))
        ink = np.array(to_rgba(text.get_color()))
        # relative luminance and contrast of WCAG 2
        light, dark = sorted(
            (
                np.where(c <= 0.03928, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
                @ [0.2126, 0.7152, 0.0722]
                for c in (ground[:3], ink[:3])
            ),
            reverse=True,
        )
        assert (light + 0.05) / (dark + 0.05) > 4


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: plot_diets(four(), baseline="x"), "baseline must be among ipcl, "),
        (lambda: plot_diets(four()[:1], baseline="ipcl"), "got ipcl alone"),
        (lambda: plot_diets(compared()), "baseline must be named, here or to"),
        (
            lambda: plot_accuracy(four(), accuracy="top5"),
            "accuracy must be among top1_linear, top1_knn, top1; got 'top5'",
        ),
        (
            lambda: plot_accuracy(four(), accuracy=("top1_knn", "top1")),
            "must have model cards with top1_knn or top1; none of ipcl, places, ",
        ),
        (lambda: plot_accuracy([fit("a")]), "none of a has. Choose another"),
        (
            lambda: plot_comparison(compare(four()[:1])),
            "must hold two networks or more; got ipcl",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()
