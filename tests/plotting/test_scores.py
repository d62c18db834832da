"""Figures of scores: what is drawn are the numbers of the tables."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.testing.compare import compare_images

from tests.pictured import AS_DRAWN
from tests.synthetic import LAYERS, SECTORS, synthetic_fit
from versa.comparison import compare
from versa.plotting.comparisons import plot_comparison
from versa.plotting.scores import plot_best, plot_layers, plot_null
from versa.plotting.style import model_styles, save_figure
from versa.result import FitResult, best_layer_scores
from versa.stats.intervals import corrected_interval, fisher_mean

BASELINES = Path(__file__).parent / "baselines"
TOLERANCE = 8.0  # of 255, root mean square: other versions set letters otherwise


@pytest.fixture(scope="module")
def fits():
    """Two networks and the brains that they share."""
    first = synthetic_fit("net", shift=0.1)
    second = synthetic_fit("other", shift=-0.25)
    return [first, second]


def changed(result, **arrays):
    """A result with other values of some variables."""
    data = result.data.copy(deep=True)
    for name, values in arrays.items():
        data[name].values[...] = values
    return FitResult(data)


def leaking(result, rest=0.2):
    """What remains of the scores without the leak is `rest` at the last layer."""
    scores = result.scores.values.copy()
    scores[1, ..., -1, :, :] = rest * scores[0, ..., -1, :, :]
    scores[1, ..., :-1, :, :] = scores[0, ..., :-1, :, :] + 0.01
    return changed(result, scores=scores)


def panels_of(ax):
    return ax.child_axes or [ax]


def curves(panel):
    """Curves by their label."""
    return {line.get_label(): line for line in panel.lines}


def texts(ax):
    """Entries of the legend."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def columns(table, **where):
    for name, value in where.items():
        table = table[table[name] == value]
    return table


@pytest.mark.parametrize(
    ("method", "df"),
    [("versa", "subjects"), ("versa-debiased", "splits"), ("rsa", "subjects")],
)
def test_curves_and_bands_are_the_numbers_of_the_table(fits, method, df):
    ending = "_subjects" if df == "subjects" else ""
    comparison = compare(fits, test_train_ratio="literal")
    ax = plot_layers(comparison, method=method, df=df)
    for panel, sector in zip(panels_of(ax), SECTORS, strict=True):
        assert panel.get_title(loc="left") == sector
        shown = curves(panel)
        for fit, band in zip(fits, panel.collections, strict=True):
            table = columns(
                fit.layers(test_train_ratio="literal"), sector=sector, method=method
            )
            np.testing.assert_array_equal(shown[fit.model].get_ydata(), table.r)
            corners = band.get_paths()[0].vertices
            for n in range(len(LAYERS)):
                ends = corners[corners[:, 0] == n, 1]
                assert ends.min() == table[f"ci_low{ending}"].iloc[n]
                assert ends.max() == table[f"ci_high{ending}"].iloc[n]
        names = [label.get_text() for label in panel.get_xticklabels()]
        assert names == list(LAYERS)
    assert panels_of(ax)[0].get_ylim() == panels_of(ax)[1].get_ylim()
    about = ax.get_legend().get_title().get_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "made-up: 7 subjects, 4 images, 35 half-splits" in about
    assert ("S − 1 = 6 df" if df == "subjects" else "J − 1 = 69 df") in about


def test_ceiling_and_null_are_drawn_where_they_apply(fits):
    first = fits[0]
    for method in first.methods:
        ax = plot_layers(fits, method=method)
        for panel, sector in zip(panels_of(ax), SECTORS, strict=True):
            shown = curves(panel)
            r = first.ceiling.sel(sector=sector).values
            mean, low, high = corrected_interval(r, df=6)
            assert shown["noise ceiling, 95% interval"].get_ydata() == [mean, mean]
            (band,) = panel.patches
            assert band.get_y() == low
            assert band.get_y() + band.get_height() == pytest.approx(high)
            null = shown.get("null: intercept-only encoder")
            assert (null is not None) == (method == "versa")
            if null is not None:
                expected = float(fisher_mean(first.null.sel(sector=sector).values))
                assert null.get_ydata() == [expected, expected]
                assert null.get_linestyle() == "--"
        assert texts(ax)[-2:] == ["net", "other"]
    rdms = [changed(fit, null=np.nan) for fit in fits]  # as of a dataset of RDMs
    assert "null" not in " ".join(texts(plot_layers(rdms, method="versa")))


def test_chance_is_drawn_where_images_were_permuted():
    fits = [synthetic_fit(m, k, permutations=50) for k, m in enumerate(("net", "b"))]
    label = "chance: 95% of permutations of the images"
    ax = plot_layers(fits, method="versa")
    assert label in texts(ax)
    assert "null: intercept-only encoder" not in texts(ax)
    for panel, sector in zip(panels_of(ax), SECTORS, strict=True):
        bands = [one for one in panel.collections if one.get_label() == label]
        for band, fit in zip(bands, fits, strict=True):
            permuted = fit.data["permuted"].loc["versa", sector].values
            ends = np.tanh(np.quantile(permuted, [0.025, 0.975], axis=1))
            corners = band.get_paths()[0].vertices
            for n in range(len(LAYERS)):
                y = corners[corners[:, 0] == n, 1]
                np.testing.assert_allclose([y.min(), y.max()], ends[:, n])
    ax = plot_best(fits, sector="aOTC", method="rsa")
    assert label in texts(ax)
    bands = [one for one in ax.collections if one.get_label() == label]
    for y, (band, fit) in enumerate(zip(bands, fits, strict=True)):
        permuted = fit.data["permuted_best"].loc["rsa", "aOTC"].values
        corners = band.get_paths()[0].vertices
        ends = np.tanh(np.quantile(permuted, [0.025, 0.975]))
        x = corners[:, 0]
        np.testing.assert_allclose([x.min(), x.max()], ends)
        np.testing.assert_allclose(
            [corners[:, 1].min(), corners[:, 1].max()], [y - 0.45, y + 0.45]
        )


def test_networks_with_other_layers_share_an_axis_of_depth(fits):
    fewer = FitResult(fits[1].data.isel(layer=[0, 2]))
    panel = panels_of(plot_layers([fits[0], fewer], sector="aOTC"))[0]
    shown = curves(panel)
    assert shown["net"].get_xdata().tolist() == [0, 0.5, 1]
    assert shown["other"].get_xdata().tolist() == [0, 1]
    assert panel.get_xlabel() == "relative depth of the layer"
    ticks = [label.get_text() for label in panel.get_xticklabels()]
    assert ticks == ["first", "0.5", "last"]


def test_of_many_layers_some_are_named(fits):
    data = fits[0].data.isel(layer=np.arange(40) % 3)
    names = [f"features.stage_with_a_long_name.{n}" for n in range(40)]
    panel = plot_layers(FitResult(data.assign_coords(layer=names)), sector="aOTC")
    shown = [label.get_text() for label in panel.get_xticklabels()]
    assert len(shown) == 14
    assert max(map(len, shown)) <= 24
    assert shown[1].endswith("name.3")
    assert panel.lines[-1].get_xdata().size == 40
    assert panel.lines[-1].get_marker() == ""


def test_scores_below_zero_are_in_the_picture_and_undefined_ones_break_it(fits):
    low = changed(fits[1], scores=fits[1].scores.values - 0.9)
    for panel in panels_of(plot_layers([fits[0], low])):
        bottom, top = panel.get_ylim()
        assert bottom < low.layers()["ci_low_subjects"].min()
        assert top > 1
    for panel in panels_of(plot_layers(fits[0])):
        assert panel.get_ylim()[0] == 0
    scores = fits[0].scores.values.copy()
    scores[:, :, 1] = np.nan
    panel = plot_layers(changed(fits[0], scores=scores), sector="aOTC")
    y = curves(panel)["net"].get_ydata()
    assert np.isnan(y).tolist() == [False, True, False]


@pytest.mark.parametrize("method", ["versa-debiased"])
def test_violins_are_the_scores_of_the_best_layer(fits, method):
    ax = plot_best(fits, method=method)
    for panel, sector in zip(panels_of(ax), SECTORS, strict=True):
        violins = panel.collections[::2]
        bars = panel.collections[1::2]
        means = [line for line in panel.lines if line.get_label() == "mean"]
        medians = [line for line in panel.lines if line.get_color() == "white"]
        styles = model_styles(fit.model for fit in fits)
        for n, fit in enumerate(fits):
            r = best_layer_scores(fit, method, sector).r.ravel()
            row = columns(fit.best(), sector=sector, method=method).iloc[0]
            first, third = np.quantile(r, [0.25, 0.75])
            reach = 1.5 * (third - first)
            kept = r[(r >= first - reach) & (r <= third + reach)]
            x, y = violins[n].get_paths()[0].vertices.T
            assert (x.min(), x.max()) == pytest.approx((kept.min(), kept.max()))
            assert np.abs(y - n).max() == pytest.approx(0.38, abs=0.01)
            assert to_hex(violins[n].get_facecolor()[0]).upper() == (
                styles[fit.model].colour
            )
            assert medians[n].get_xdata()[0] == pytest.approx(np.median(r))
            assert means[n].get_xdata() == [row.r]
            ends = bars[n].get_segments()[0][:, 0]
            assert ends.tolist() == [row.ci_low_subjects, row.ci_high_subjects]
            assert panel.texts[n].get_text() == f"{row.layer} {100 * row.chosen:.0f}%"
    names = [label.get_text() for label in panels_of(ax)[0].get_yticklabels()]
    assert names == ["net", "other"]
    assert panels_of(ax)[0].yaxis_inverted()  # the first is at the top


def test_an_outlier_is_cut_from_the_violin(fits):
    scores = fits[0].scores.values.copy()
    scores[..., 0, :] = -0.9
    outlying = changed(fits[0], scores=scores)
    r = best_layer_scores(outlying, "rsa", "aOTC").r
    panel = plot_best(outlying, method="rsa", sector="aOTC")
    assert r.min() == pytest.approx(-0.9)
    assert panel.collections[0].get_paths()[0].vertices[:, 0].min() > 0


def test_constant_and_undefined_scores_have_no_violin(fits):
    constant = changed(fits[0], scores=0.5)
    panel = plot_best(constant, sector="aOTC")
    x, y = panel.collections[0].get_paths()[0].vertices.T
    assert x.tolist() == pytest.approx([0.5] * len(x))
    assert np.ptp(y) < 0.2
    undefined = changed(fits[0], scores=np.nan)
    panel = plot_best(undefined, sector="aOTC")
    assert [text.get_text() for text in panel.texts] == ["not defined"]
    assert not panel.collections


def test_the_leak_is_what_is_lost_without_it(fits):
    leaky = leaking(fits[0])
    table = leaky.layers()
    for panel, sector in zip(panels_of(plot_null(leaky)), SECTORS, strict=True):
        shown = curves(panel)
        r = {
            method: columns(table, sector=sector, method=method).r.to_numpy()
            for method in ("versa", "versa-debiased")
        }
        np.testing.assert_array_equal(shown["veRSA"].get_ydata(), r["versa"])
        np.testing.assert_array_equal(
            shown["debiased veRSA"].get_ydata(), r["versa-debiased"]
        )
        loss = r["versa"][-1] - r["versa-debiased"][-1]
        assert panel.get_title(loc="right") == f"largest decrease {loss:.3f} (fc6)"
        (area,) = [one for one in panel.collections if "decrease" in one.get_label()]
        corners = np.concatenate([path.vertices for path in area.get_paths()])
        last = corners[corners[:, 0] == 2, 1]
        assert last.min() == r["versa-debiased"][-1]
        assert last.max() == r["versa"][-1]
        assert corners[:, 0].min() > 1  # where there is no loss, there is no area
        assert shown["null: intercept-only encoder"].get_linestyle() == "--"


def test_a_layer_of_which_nothing_is_left_is_marked(fits):
    panel = plot_null(leaking(fits[0], rest=np.nan), sector="aOTC")
    label = "debiased veRSA not defined: nothing was learned"
    assert curves(panel)[label].get_xdata().tolist() == [2]
    assert label in texts(panel)
    assert panel.get_title(loc="right") == "no layer decreases"


def test_each_network_has_a_row_of_the_leak(fits):
    ax = plot_null(fits)
    rows = [panels_of(row) for row in ax.child_axes]
    assert [len(row) for row in rows] == [2, 2]
    assert [row[0].get_ylabel() for row in rows] == ["net\nr", "other\nr"]
    for row, fit in zip(rows, fits, strict=True):
        table = columns(fit.layers(), sector="aOTC", method="versa")
        np.testing.assert_array_equal(curves(row[1])["veRSA"].get_ydata(), table.r)


@pytest.mark.parametrize("plot", [plot_layers, plot_best, plot_null])
def test_nothing_is_cut_off_or_overlaps(fits, plot):
    long = synthetic_fit("a_network_with_quite_a_long_name:seed=1", shift=0.1)
    for results, sector in (([*fits, long], None), (long, "aOTC")):
        ax = plot(results, sector=sector)
        figure = ax.figure
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        renderer = canvas.get_renderer()
        box = figure.get_tightbbox(renderer)
        width, height = figure.get_size_inches()
        assert min(box.x0, box.y0) > -0.02
        assert box.x1 < width + 0.02
        assert box.y1 < height + 0.02
        legend = ax.get_legend().get_window_extent(renderer)
        for panel in panels_of(ax):
            for part in panels_of(panel):
                title = part.title.get_window_extent(renderer)
                assert part.get_window_extent(renderer).height > 40
                assert not legend.overlaps(title) or not title.height


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda f: plot_layers([]), "at least one FitResult; got none"),
        (lambda f: plot_layers(["a.nc"]), "must be FitResults; got str"),
        (
            lambda f: plot_layers([f[0], f[0]]),
            "names .* must be unique; repeated: 'net'",
        ),
        (
            lambda f: plot_best([f[0], synthetic_fit("x", dataset="else")]),
            r"same dataset \(made-up and else\)",
        ),
        (lambda f: plot_best(f, method="vers"), "Did you mean versa"),
        (lambda f: plot_best(f, df="voxels"), "images, both; got 'voxels'"),
        (lambda f: plot_layers(f, df="both"), "Pass generalize='both' to versa.compa"),
        (lambda f: plot_layers(f, sector="V4"), "among EarlyV, aOTC; got 'V4'"),
        (
            lambda f: plot_null(synthetic_fit(methods=("rsa",))),
            "method must be among rsa; got 'versa'",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(fits, call, text):
    with pytest.raises(ValueError, match=text):
        call(fits)


FIGURES = {
    "layers": lambda fits: plot_layers(fits, method="versa"),
    "leak": lambda fits: plot_null(leaking(fits[0])),
    "matrix": lambda fits: plot_comparison(fits, method="versa"),
}


@AS_DRAWN
@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_looks_as_it_did(fits, name, tmp_path):
    drawn = save_figure(FIGURES[name](fits), tmp_path / "new.png", dpi=80)
    stored = BASELINES / f"{name}.png"
    assert compare_images(str(stored), str(drawn), TOLERANCE) is None


def test_the_stored_pictures_tell_figures_apart(fits, tmp_path):
    other = save_figure(plot_layers(fits), tmp_path / "new.png", dpi=80)
    different = compare_images(str(BASELINES / "layers.png"), str(other), TOLERANCE)
    assert different is not None
