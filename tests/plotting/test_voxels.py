"""Figures of encoding scores: what is drawn is what the result holds."""

import numpy as np
import pytest
import xarray as xr

import versa
from tests.synthetic import synthetic_fit
from versa.plotting import plot_best, plot_encoding, plot_layers, plot_voxel_map
from versa.plotting.catalogue import all_figures, report_figures
from versa.result import FitResult

AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def with_voxels(result, seed=0, *, places=True):
    """The result with scores of 30 voxels for each subject and sector."""
    rng = np.random.default_rng(seed)
    sizes = result.data.sizes
    shape = (sizes["sector"], sizes["subject"], 30)
    codes = np.indices(shape)
    n_voxels = np.prod(shape)
    r = rng.uniform(-0.3, 0.8, (sizes["layer"], n_voxels)).astype(np.float32)
    data = result.data.assign(
        voxel_r=(("layer", "voxel"), r),
        voxel_r2=(("layer", "voxel"), r**2),
        voxel_ceiling=(("voxel",), np.full(n_voxels, 0.9, np.float32)),
        voxel_sector=(("voxel",), codes[0].ravel()),
        voxel_subject=(("voxel",), codes[1].ravel()),
    )
    if places:
        grid = (10, 10, 10)
        flat = rng.permutation(1000)[: shape[0] * 30].reshape(shape[0], 1, 30)
        data = data.assign(
            voxel_place=(("voxel",), np.broadcast_to(flat, shape).ravel()),
            grid_shape=(("subject", "axis"), np.tile(grid, (sizes["subject"], 1))),
            grid_affine=(
                ("subject", "row", "column"),
                np.tile(AFFINE, (sizes["subject"], 1, 1)),
            ),
        )
    return FitResult(data)


@pytest.fixture
def result():
    return with_voxels(synthetic_fit("net"))


def test_curves_are_the_table(result):
    ax = plot_encoding(result)
    table = result.encoding()
    for name, panel in zip(result.sectors, ax.child_axes or [ax], strict=True):
        rows = table[table["sector"] == name]
        curve = next(line for line in panel.lines if line.get_label() == "net")
        means = rows.groupby("layer", sort=False)["median_r"].mean()
        np.testing.assert_allclose(curve.get_ydata(), means)
        dots = [line for line in panel.lines if line.get_marker() == "."]
        assert len(dots) == len(result.subjects)
        own = rows[rows["subject"] == result.subjects[0]]["median_r"]
        np.testing.assert_allclose(dots[0].get_ydata(), own)


def test_networks_without_scores_are_left_out(result):
    other = synthetic_fit("other")
    ax = plot_encoding([result, other], sector=result.sectors[0])
    assert "other" not in [line.get_label() for line in ax.lines]
    with pytest.raises(ValueError, match="Fit again with voxel_scores=True"):
        plot_encoding(other)


@pytest.mark.parametrize("what", ["best layer", "r", "r2", "ceiling", "normalized"])
def test_maps(result, what):
    ax = plot_voxel_map(result, what=what, subject=result.subjects[1])
    assert f"subject {result.subjects[1]}" in ax.get_title()


def test_which_figures_apply(result):
    asked = {"encoding", "voxels", "hierarchy"}
    for kept, n in ((result, 3), (synthetic_fit("net"), 0)):
        comparison = versa.compare(kept)
        shown = {figure.kind.key for figure in report_figures(comparison)}
        assert len(shown & asked) == n
        drawn = {
            figure.kind.key
            for figure in all_figures(comparison)
            if figure.kind.key in asked and not figure.kind.needs(figure.subject)
        }
        assert len(drawn) == n
    placeless = versa.compare(with_voxels(synthetic_fit("net"), places=False))
    shown = {figure.kind.key for figure in report_figures(placeless)}
    assert shown & asked == {"encoding"}


def test_single_subjects_are_dots(result):
    sizes = result.data.sizes
    shape = [sizes[d] for d in ("methods", "sector", "layer", "subject")]
    own = np.random.default_rng(1).uniform(0, 0.5, shape)
    dims = ("methods", "sector", "layer", "subject")
    data = result.data.drop_vars("subject_scores", errors="ignore")
    result = FitResult(data.assign(subject_scores=xr.Variable(dims, own)))
    method, sector = result.methods[-1], result.sectors[0]
    ax = plot_layers(result, method=method, sector=sector)
    dots = [line for line in ax.lines if line.get_marker() == "."]
    found = np.stack([line.get_ydata() for line in dots], axis=1)
    np.testing.assert_array_equal(found, own[-1, 0])
    ax = plot_best(result, method=method, sector=sector)
    row = result.best().query("method == @method and sector == @sector").iloc[0]
    layer = result.layer_names.index(row["layer"])
    dots = [line for line in ax.lines if line.get_marker() == "."]
    found = [float(line.get_xdata()[0]) for line in dots]
    np.testing.assert_array_equal(found, own[-1, 0, layer])
