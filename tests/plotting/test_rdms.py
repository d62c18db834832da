"""Figures of RDMs: the cells, the order and the places are those of the result."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images
from PIL import Image
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from tests.pictured import AS_DRAWN, in_base64, patch, pictured_fit
from tests.synthetic import synthetic_fit
from versa.plotting.rdms import mds_coordinates, plot_map, plot_mds, plot_rdm, plot_rdms
from versa.plotting.style import save_figure
from versa.result import FitResult

BASELINES = Path(__file__).parent / "baselines"


def cells(panel):
    """The drawn matrix, NaN where it is white."""
    return np.ma.filled(panel.get_images()[0].get_array(), np.nan)


def off_diagonal(rdm):
    matrix = squareform(rdm)
    np.fill_diagonal(matrix, np.nan)
    return matrix


def label(panel):
    return panel.child_axes[0].get_xlabel()


@pytest.fixture(scope="module")
def fit():
    return pictured_fit()


def test_cells_are_the_stored_dissimilarities(fit):
    ax = plot_rdm(fit, sector="aOTC")
    expected = fit.data["brain_rdm"].sel(sector="aOTC").values
    np.testing.assert_array_equal(cells(ax), off_diagonal(expected))
    assert ax.get_images()[0].get_clim() == (expected.min(), expected.max())
    assert ax.get_images()[0].get_extent() == [0, 12, 0, 12]
    assert len(ax.get_images()) == 3
    assert ax.get_title() == "aOTC: brain"
    assert label(ax) == "dissimilarity (1 − r)\n12 stimuli, mean of 7 subjects"
    for panel, sector in zip(plot_rdm(fit).child_axes, fit.sectors, strict=True):
        assert panel.get_title() == f"{sector}: brain"
        stored = fit.data["brain_rdm"].sel(sector=sector).values
        np.testing.assert_array_equal(cells(panel), off_diagonal(stored))


def test_the_default_layer_is_the_one_chosen_most_often(fit):
    best = fit.best().set_index(["method", "sector"])["layer"]
    for method, words in (("versa", "predicted by veRSA"),
                          ("rsa", "features (classic RSA)")):  # fmt: skip
        layer = best[method, "EarlyV"]
        ax = plot_rdm(fit, what=method, sector="EarlyV")
        stored = fit.data["model_rdm"].loc[method, "EarlyV", layer].values
        np.testing.assert_array_equal(cells(ax), off_diagonal(stored))
        assert ax.get_title() == f"EarlyV: {words}\nnet, {layer}"
        assert ("subjects" in label(ax)) == (method != "rsa")
    ax = plot_rdm(fit, what="versa-debiased", sector="EarlyV", layer="conv_block_1")
    stored = fit.data["model_rdm"].loc["versa-debiased", "EarlyV", "conv_block_1"]
    np.testing.assert_array_equal(cells(ax), off_diagonal(stored.values))


def test_ranks_are_shares(fit):
    ax = plot_rdm(fit, sector="aOTC", ranked=True)
    stored = fit.data["brain_rdm"].sel(sector="aOTC").values
    expected = (rankdata(stored) - 1) / (stored.size - 1)
    np.testing.assert_allclose(cells(ax), off_diagonal(expected))
    assert ax.get_images()[0].get_clim() == (0, 1)
    assert label(ax).startswith("rank of the dissimilarity (1: largest)\n")


def test_order_is_by_name_for_cells_and_pictures(fit):
    names = [name for name, _ in fit.stimuli]
    order = names[::-1]
    plain, turned = (plot_rdm(fit, sector="aOTC", order=o) for o in (None, order))
    np.testing.assert_array_equal(cells(turned), cells(plain)[::-1, ::-1])
    rows = [np.asarray(ax.get_images()[1].get_array()) for ax in (plain, turned)]
    side = rows[0].shape[1]
    for n in range(12):
        of_plain = rows[0][n * side : (n + 1) * side]
        np.testing.assert_array_equal(of_plain, rows[1][(11 - n) * side :][:side])
    named = plot_rdm(fit, sector="aOTC", order=order, thumbnails=False)
    assert [text.get_text() for text in named.texts][::2] == order
    for bad, text in (
        (order[1:], "got 11 names, and thing-11 differ"),
        ([*order[1:], "thing-00"], "got 12 names, and thing-11 differ"),
        ([*order, "cup"], "got 13 names, and cup differ"),
        ([*order, order[0]], "got 13 names, and some twice differ"),
    ):
        with pytest.raises(ValueError, match=f"each of the 12 stimuli once; {text}"):
            plot_rdm(fit, order=bad)


def test_names_take_the_place_of_absent_or_too_many_pictures():
    few = pictured_fit(12, pictures=False)
    names = {text.get_text() for text in plot_rdm(few, sector="aOTC").texts}
    assert names == {f"thing-{n:02d}" for n in range(12)}
    many = pictured_fit(101)
    ax = plot_rdm(many, sector="aOTC")
    assert len(ax.get_images()) == 1
    assert 20 < len(ax.texts) < 80


def test_pairs_without_a_value_are_white_and_counted(fit):
    data = fit.data.copy(deep=True)
    data["brain_rdm"][1, :3] = np.nan
    for ranked in (False, True):
        ax = plot_rdm(FitResult(data), sector="aOTC", ranked=ranked)
        assert np.isnan(cells(ax)).sum() == 12 + 2 * 3
        assert np.nanmax(cells(ax)) == ax.get_images()[0].get_clim()[1]
        assert label(ax).endswith("\n3 pairs without a value")
    data["brain_rdm"][1] = np.nan
    with pytest.raises(ValueError, match="finite values; that of brain, aOTC has none"):
        plot_rdm(FitResult(data))


def test_given_rdms_have_the_unit_of_their_dataset(fit):
    data = fit.data.copy()
    data["n_voxels"] = ("sector", "subject"), np.zeros((2, 7))
    given = FitResult(data)
    ax = plot_rdm(given, sector="aOTC")
    assert label(ax).startswith("dissimilarity (unit of the dataset)")
    assert label(plot_rdm(given, what="rsa", sector="aOTC")).startswith(
        "dissimilarity (1 − r)"
    )


def test_rdms_side_by_side_carry_their_correlation_with_the_brain(fit):
    ax = plot_rdms(fit, sector="EarlyV", layer="fc6")
    assert ax.get_title() == "EarlyV: net"
    brain = fit.data["brain_rdm"].sel(sector="EarlyV").values
    titles = [panel.get_title() for panel in ax.child_axes]
    assert titles[0] == "brain"
    for title, panel, method in zip(
        titles[1:], ax.child_axes[1:], ("versa", "rsa"), strict=True
    ):
        stored = fit.data["model_rdm"].loc[method, "EarlyV", "fc6"].values
        np.testing.assert_array_equal(cells(panel), off_diagonal(stored))
        r = np.corrcoef(brain, stored)[0, 1]
        assert title.endswith(f", fc6\nr = {r:.2f} with the brain")
    (note,) = ax.texts
    assert "not the score of the half-splits" in note.get_text()


def test_rdms_side_by_side_of_other_methods_and_constant_ones(fit):
    data = fit.data.copy(deep=True)
    data["model_rdm"].loc["versa-debiased"] = 0.5
    ax = plot_rdms(FitResult(data), sector="aOTC", methods=["versa-debiased"])
    assert len(ax.child_axes) == 2
    assert ax.child_axes[1].get_title().endswith("r undefined with the brain")
    classic = pictured_fit(methods=("rsa",))
    assert len(plot_rdms(classic, sector="aOTC").child_axes) == 2
    for bad in ([], "versa"):
        with pytest.raises(ValueError, match=f"in a sequence; got {bad!r}".replace(
            "[]", r"\[\]"
        )):  # fmt: skip
            plot_rdms(fit, sector="aOTC", methods=bad)


@pytest.mark.parametrize("draw", [plot_rdm, plot_mds])
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"what": "vesra"}, "what must be among brain, versa.*Did you mean versa"),
        ({"sector": "V4"}, "sector must be among EarlyV, aOTC; got 'V4'"),
        ({"layer": "fc6"}, "layer must be None for the brain; got 'fc6'"),
        ({"what": "rsa", "layer": "fc9"}, "layer must be among .*got 'fc9'"),
    ],
)
def test_unknown_names_are_refused(fit, draw, options, text):
    with pytest.raises(ValueError, match=text):
        draw(fit, **options)


def test_results_without_rdms_or_chosen_layers_are_refused(fit):
    for what, name in (("brain", "brain_rdm"), ("rsa", "model_rdm")):
        with pytest.raises(ValueError, match=f"must hold {name} to draw it; that of n"):
            plot_rdm(synthetic_fit(), what=what, layer=None)
    data = fit.data.copy(deep=True)
    data["scores"].loc["rsa"] = np.nan
    with pytest.raises(ValueError, match="layer must be named for rsa in EarlyV"):
        plot_rdm(FitResult(data), what="rsa")


def test_places_of_a_plane_are_found_again():
    spots = np.random.default_rng(0).normal(size=(20, 2)) * (3.0, 1.0)
    found, stress = mds_coordinates(pdist(spots))
    assert stress < 1e-5
    assert procrustes(spots, found)[2] < 1e-9
    np.testing.assert_allclose(pdist(found), pdist(spots), atol=1e-4)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    assert np.ptp(found[:, 0]) > np.ptp(found[:, 1])
    np.testing.assert_allclose(found[:, 0] @ found[:, 1], 0, atol=1e-9)
    furthest = np.abs(found).argmax(axis=0)
    assert (found[furthest, [0, 1]] > 0).all()


def test_mds_is_near_that_of_scikit_learn_and_has_its_unit():
    from sklearn.manifold import smacof

    rdm = pdist(np.random.default_rng(1).normal(size=(15, 30)), "correlation")
    found, stress = mds_coordinates(rdm, seed=3)
    theirs, raw = smacof(
        squareform(rdm), n_init=30, max_iter=1000, eps=1e-7, random_state=0
    )
    apart = pdist(found)
    assert stress == pytest.approx(
        np.sqrt(((apart - rdm) ** 2).sum() / (apart**2).sum())
    )
    assert ((apart - rdm) ** 2).sum() == pytest.approx(raw, rel=0.03)
    assert apart.std() == pytest.approx(pdist(theirs).std(), rel=0.1)
    again, _ = mds_coordinates(rdm, seed=3)
    np.testing.assert_array_equal(again, found)
    double, same = mds_coordinates(2 * rdm, seed=3)
    np.testing.assert_allclose(double, 2 * found, atol=1e-9)
    assert same == pytest.approx(stress)


@pytest.mark.parametrize(
    ("rdm", "text"),
    [
        ([0.1, np.nan, 0.3], "got 1 of 3 that are not"),
        ([0.1, -0.2, 0.3], "got 1 of 3 that are not"),
        ([0.0, 0, 0], "got only 0"),
        (np.ones((3, 3)), r"rdm must be \(n_pairs,\); got \(3, 3\)"),
        ([1.0, 2], "n_pairs must be"),
    ],
)
def test_mds_refuses(rdm, text):
    with pytest.raises(ValueError, match=text):
        mds_coordinates(rdm)


def test_a_map_of_the_stimuli_shows_pictures_at_their_places(fit):
    ax = plot_mds(fit, what="rsa", sector="aOTC", layer="fc6", seed=2)
    stored = fit.data["model_rdm"].loc["rsa", "aOTC", "fc6"].values
    spots, stress = mds_coordinates(stored, seed=2)
    extents = np.array([image.get_extent() for image in ax.get_images()])
    middles = np.stack([extents[:, :2].mean(axis=1), extents[:, 2:].mean(axis=1)], 1)
    np.testing.assert_allclose(middles, spots)
    texts = [text.get_text() for text in ax.texts]
    assert f"stress {stress:.2f} (0: exact, 0.2: poor)\n12 stimuli" in texts
    assert any(re.fullmatch(r"0?\.?\d+ \(1 − r\)", text) for text in texts)
    assert ax.get_title() == "aOTC: features (classic RSA)\nnet, fc6"
    assert len(plot_mds(fit).child_axes) == 2


def test_a_map_without_pictures_has_dots_and_names():
    bare = pictured_fit(pictures=False)
    ax = plot_mds(bare, sector="aOTC")
    assert not ax.get_images()
    assert len(ax.get_lines()[0].get_xydata()) == 12
    assert any(text.get_text().startswith("thing-") for text in ax.texts)


def test_a_map_of_files_and_stored_pictures(tmp_path):
    grey = patch(1, (30, 60)).convert("L")
    grey.save(tmp_path / "grey.png")
    places = [[0.0, 0.0], [5.0, 1.0], [2.0, 8.0]]
    pictures = [tmp_path / "grey.png", str(tmp_path / "grey.png"), in_base64(patch(2))]
    figure = Figure()
    own = figure.subplots()
    assert plot_map(places, pictures, size=0.2, ax=own) is own
    shapes = [np.asarray(image.get_array()).shape for image in own.get_images()]
    assert shapes == [(60, 30, 4), (60, 30, 4), (48, 48, 4)]
    assert not own.axison
    assert len(plot_map([[1.0, 1.0]], pictures[:1]).get_images()) == 1


@pytest.mark.parametrize(
    ("places", "options", "text"),
    [
        ([[0, 0, 0]], {}, r"coordinates must be \(n_images, 2\); got \(1, 3\)"),
        (np.empty((0, 2)), {}, r"got \(0, 2\)"),
        ([[0, 0], [np.nan, 1]], {}, "coordinates must be finite; rows 1 are not"),
        ([[0, 0], [1, 1]], {}, "one for each of the 2 places; got 1"),
        ([[0, 0]], {"size": 1.5}, "size must be between 0 and 1; got 1.5"),
    ],
)
def test_maps_refuse(places, options, text):
    with pytest.raises(ValueError, match=text):
        plot_map(places, ["a.png"], **options)


def test_figures_stay_small_files(tmp_path):
    data = pictured_fit(72, pictures=False).data
    rng = np.random.default_rng(0)
    photographs = []
    for _ in range(72):
        coarse = Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8))
        photographs.append(in_base64(coarse.resize((96, 96), Image.Resampling.BICUBIC)))
    data["thumbnail"] = ("stimulus",), np.array(photographs, dtype=object)
    busy = FitResult(data)
    for draw in (plot_rdm, plot_mds):
        path = save_figure(draw(busy, sector="aOTC"), tmp_path / "a.svg")
        assert path.stat().st_size < 1_500_000
        assert path.read_text().count("<image") <= 3


@AS_DRAWN
def test_the_figure_is_that_of_the_baseline(fit, tmp_path):
    order = [name for name, _ in fit.stimuli][::-1]
    for options, same in (({}, True), ({"order": order}, False)):
        ax = plot_rdm(fit, sector="aOTC", **options)
        drawn = save_figure(ax, tmp_path / "new.png", dpi=80)
        # of 255, root mean square; letters differ between versions
        found = compare_images(str(BASELINES / "rdm.png"), str(drawn), 8)
        assert (found is None) == same
