"""What figures share: colours, Axes that are taken and given, files."""

import sys
from functools import partial

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tests.pictured import pictured_fit
from tests.synthetic import synthetic_fit
from versa.comparison import compare
from versa.plotting.comparisons import plot_accuracy, plot_comparison, plot_diets
from versa.plotting.rdms import plot_mds, plot_rdm, plot_rdms
from versa.plotting.scores import plot_best, plot_layers, plot_null
from versa.plotting.style import save_figure, sector_colours

SCORES = (plot_layers, plot_best, plot_null, plot_accuracy, plot_comparison)


@pytest.fixture(scope="module")
def fits():
    fits = [pictured_fit(4, model=f"net{n}", shift=0.1 * n) for n in range(2)]
    card = {"method": "IPCL", "architecture": "A", "top1_linear": 40.0}
    for fit in fits:
        fit.provenance["model"]["card"] = card
    return fits


def test_an_axes_is_taken_and_given_and_pyplot_is_left_alone(fits):
    before = "matplotlib.pyplot" in sys.modules
    for plot in (
        *(partial(plot, fits) for plot in SCORES),
        *(partial(plot, compare(fits, baseline="net0")) for plot in SCORES),
        partial(plot_diets, fits, baseline="net0"),
        partial(plot_diets, compare(fits, baseline="net0")),
        partial(plot_layers, fits[0]),
        partial(plot_rdm, fits[0]),
        partial(plot_rdms, fits[0], sector="aOTC"),
        partial(plot_mds, fits[0]),
    ):
        own = Figure(figsize=(8, 4), layout="constrained").add_subplot()
        assert plot(ax=own) is own
        assert own.child_axes
        one = plot(sector="aOTC")
        assert isinstance(one.figure, Figure)
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_colours_are_fixed_and_apart():
    names = ["LOC", "aOTC", "EarlyV", "pOTC", "PPA", "OPA", "RSC", "FFA"]
    colours = sector_colours(names)
    assert colours["EarlyV"] == sector_colours(["EarlyV"])["EarlyV"] == "#0072B2"
    assert len(set(colours.values())) == 8
    values = np.array([to_rgb(colour) for colour in colours.values()])
    apart = np.linalg.norm(values[:, None] - values, axis=-1)
    assert apart[~np.eye(8, dtype=bool)].min() > 0.25


def test_more_sectors_than_colours_are_reported(caplog):
    colours = sector_colours(f"roi{n}" for n in range(6))
    assert colours["roi5"] == colours["roi0"]
    assert "6 sectors share the 5 colours" in caplog.text


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_figures_are_written_whole_and_alike(tmp_path, suffix, start):
    ax = plot_layers(synthetic_fit())
    first = save_figure(ax, tmp_path / "new" / f"a{suffix}", dpi=50)
    second = save_figure(ax.figure, tmp_path / f"b{suffix}", dpi=50)
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in first.parent.iterdir()] == [f"a{suffix}"]


def test_other_kinds_of_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"as \.png, \.svg, \.pdf; got 'a\.bmp'"):
        save_figure(Figure(), tmp_path / "a.bmp")
    assert not list(tmp_path.iterdir())
