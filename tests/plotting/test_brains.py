"""Figures of brains: the pixels are where the voxels are, and the files are whole."""

import re

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from versa.fmri.sectors.making import split_at_y
from versa.fmri.sectors.sector import Sector
from versa.plotting.brains import (
    plot_glass,
    plot_reliability,
    plot_sectors,
    plot_surface,
    write_view,
)
from versa.plotting.style import save_figure, sector_colours

AFFINE = np.array([[3.0, 0, 0, -45], [0, 3, 0, -89], [0, 0, 3, -30], [0, 0, 0, 1]])
SHAPE = (31, 30, 15)


def slab(name="OTC", where=np.s_[2:29, 3:25, 2:12], space="TAL", affine=AFFINE):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[where] = True
    return Sector(name, mask, affine, space)


def cuts_of(ax):
    """Panels of the cuts by their axis, as written in them, and that from the side."""
    panels = {
        text.get_text()[0]: panel
        for panel in ax.figure.axes
        for text in panel.texts
        if text.get_text()[1:2] == "="
    }
    sides = [panel for panel in ax.figure.axes if "side" in panel.get_title()]
    return panels | {"side": sides[0]} if sides else panels


def images(panel):
    """Pixels of a panel's images, the ground first, with mm of columns and rows."""
    for image in panel.get_images():
        values = np.ma.filled(image.get_array().astype(float), np.nan)
        values = values[::-1] if image.origin == "upper" else values
        left, right, low, high = image.get_extent()
        rows = low + (np.arange(values.shape[0]) + 0.5) * (high - low) / len(values)
        width = (right - left) / values.shape[1]
        yield values, left + (np.arange(values.shape[1]) + 0.5) * width, rows


def oblique():
    """A grid turned by 20 degrees about x and mirrored along x."""
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ np.diag([-1.0, 1, 1, 1]) @ AFFINE


@pytest.mark.parametrize("affine", [AFFINE, np.diag([-1.0, 1, 1, 1]) @ AFFINE])
def test_the_pixels_of_a_cut_are_its_voxels(affine):
    sector = slab(where=np.s_[2:9, 3:25, 2:12], space="individual", affine=affine)
    x, y, z = sector.coordinates.T
    panels = cuts_of(plot_sectors([sector], cuts=(x[0], y[0], z[0])))
    extents = {"x": x, "y": y, "z": z}
    for name, (across, up) in {"x": "yz", "y": "xz", "z": "xy", "side": "yz"}.items():
        _, (values, columns, rows) = images(panels[name])
        seen = np.isfinite(values) & (values > 0)
        for places, axis in ((columns[seen.any(0)], across), (rows[seen.any(1)], up)):
            # voxels of 3 mm reach 1.5 mm beyond their centres
            assert places.min() == pytest.approx(extents[axis].min() - 1.5, abs=1.01)
            assert places.max() == pytest.approx(extents[axis].max() + 1.5, abs=1.01)


def test_an_oblique_grid_is_drawn_in_its_place():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[15, 14, 7] = True
    sector = Sector("V1", mask, oblique(), "individual")
    place = sector.coordinates[0]
    panels = cuts_of(plot_sectors([sector]))
    for name, (across, up) in {
        "x": (1, 2),
        "y": (0, 2),
        "z": (0, 1),
        "side": (1, 2),
    }.items():
        _, (values, columns, rows) = images(panels[name])
        seen = np.isfinite(values) & (values > 0)
        assert columns[seen.any(0)].mean() == pytest.approx(place[across], abs=0.8)
        assert rows[seen.any(1)].mean() == pytest.approx(place[up], abs=0.8)


def test_the_plane_is_straight_in_talairach_and_tilted_in_mni():
    for space, tilt in (("TAL", 0.0), ("MNI152NLin6Asym", 0.0773)):
        halves = split_at_y(slab(space=space))
        ax = plot_sectors(halves, title="Sectors")
        for name in ("x", "side"):
            path = cuts_of(ax)[name].collections[-1].get_paths()[0].vertices
            slope = np.polyfit(path[:, 1], path[:, 0], 1)[0]
            assert slope == pytest.approx(tilt, abs=0.001)
        level = path[:, 0][np.abs(path[:, 1]).argmin()]
        assert level == pytest.approx(-53 if space == "TAL" else -54.9, abs=0.3)
        assert ax.get_title() == "Sectors"


def test_the_legend_names_sectors_sizes_and_the_plane():
    posterior, anterior = split_at_y(slab())
    ax = plot_sectors({"pOTC": posterior, "aOTC": anterior})
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [
        f"pOTC ({posterior.n_voxels} voxels)",
        f"aOTC ({anterior.n_voxels} voxels)",
        "Talairach y = -53 mm",
    ]
    for drawn in (
        plot_sectors([posterior], y=None),
        plot_sectors([slab(space="individual")]),
    ):
        assert len(drawn.get_legend().get_texts()) == 1


def test_an_axes_is_taken_and_pyplot_holds_no_figure():
    values = np.where(ball(36, -55, -16), 0.9, np.nan)
    for plot in (
        lambda ax: plot_sectors([slab()], ax=ax),
        lambda ax: plot_reliability(np.ones(SHAPE), AFFINE, ax=ax),
        lambda ax: plot_surface(values, MNI_AFFINE, space=MNI, ax=ax),
    ):
        own = Figure().subplots()
        assert plot(own) is own
        assert isinstance(plot(None).figure, Figure)
    assert pyplot.get_fignums() == []


def test_a_background_is_drawn_under_the_sectors():
    brain = np.zeros((16, 16, 16))
    brain[2:14, 2:14, 2:14] = 100.0
    affine = np.diag([8.0, 8, 8, 1])
    affine[:3, 3] = -64
    ax = plot_sectors(
        [slab(space="individual")], background=(brain, affine), cuts=(0, -40, -10)
    )
    for panel in cuts_of(ax).values():
        below, above = panel.get_images()
        shares = [np.ma.count(one.get_array()) for one in (below, above)]
        areas = [np.ptp(one.get_extent()[:2]) for one in (below, above)]
        assert min(*shares, *areas) > 0
        assert areas[0] > areas[1]
    for bad, text in (
        (np.zeros((2, 2, 2)), "must have values above 0; it has none"),
        (np.ones((2, 2)), r"background must be \(x, y, z\); got \(2, 2\)"),
    ):
        with pytest.raises(ValueError, match=text):
            plot_sectors([slab()], background=(bad, affine))


def test_a_map_is_drawn_with_its_values_and_limits():
    rng = np.random.default_rng(0)
    values = np.full(SHAPE, np.nan)
    values[10:20, 10:20, 5:10] = rng.uniform(-0.2, 0.9, (10, 10, 5))
    x, y, z = (AFFINE @ [12, 14, 7, 1])[:3]
    ax = plot_reliability(values, AFFINE, cuts=(x, y, z))
    _, (drawn, columns, rows) = images(cuts_of(ax)["x"])
    at = np.abs(rows - z).argmin(), np.abs(columns - y).argmin()
    # from 1 to 2 for the limits 0 and 1; what is below gets the first colour
    assert drawn[at] == pytest.approx(1 + max(0, values[12, 14, 7]), abs=1e-6)
    assert np.isnan(drawn).any()
    assert np.nanmin(drawn) == 1
    assert cuts_of(ax)["x"].get_images()[1].get_clim() == (1, 2)
    (bar,) = ax.child_axes
    assert bar.get_ylim() == (0, 1)
    assert bar.get_ylabel() == "reliability (r of odd and even runs)"
    assert bar.get_title() == "500 voxels"


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: plot_sectors([]), "in one space with places; got no sector"),
        (lambda: plot_sectors([slab(space="none")]), "with places; got none"),
        (
            lambda: plot_sectors([slab(), slab(space="individual")]),
            "got TAL, individual",
        ),
        (lambda: plot_sectors([slab()], cuts=(1, 2)), r"three places in mm; got \[1, "),
        (lambda: plot_reliability(np.full(SHAPE, np.nan), AFFINE), "with finite ones"),
        (
            lambda: plot_reliability(np.ones(SHAPE), AFFINE, limits=(1, 0)),
            r"low < high; got \(1, 0\)",
        ),
        (
            lambda: plot_reliability(np.ones(SHAPE), AFFINE, space="mni"),
            "space must be TAL",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, text):
    with pytest.raises(ValueError, match=text):
        call()


# On nilearn's templates.

MNI_AFFINE = np.array([[-4.0, 0, 0, 90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
MNI_SHAPE = (46, 55, 46)
MNI = "MNI152NLin6Asym"


def ball(x, y, z, radius=14):
    index = np.indices(MNI_SHAPE).reshape(3, -1).T
    places = index @ MNI_AFFINE[:3, :3].T + MNI_AFFINE[:3, 3]
    return (((places - [x, y, z]) ** 2).sum(axis=1) < radius**2).reshape(MNI_SHAPE)


def pixels(figure, tmp_path):
    path = save_figure(figure, tmp_path / "figure.png", dpi=80)
    return np.asarray(Image.open(path).convert("RGB")) / 255


def near(image, colour):
    return np.abs(image - to_rgb(colour)).max(axis=2) < 0.1


def test_glass(tmp_path):
    sectors = [
        Sector("EarlyV", ball(-12, -88, 0), MNI_AFFINE, MNI),
        Sector("aOTC", ball(38, -42, -14), MNI_AFFINE, MNI),
    ]
    ax = plot_glass(sectors, title="mine")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [f"{one.name} ({one.n_voxels} voxels)" for one in sectors]
    assert ax.get_title() == "mine"
    image = pixels(ax, tmp_path)
    colours = sector_colours(["EarlyV", "aOTC"])
    top = image[: int(0.8 * len(image))]
    above = 0.75 * image.shape[1]  # the last of the four views, left is left
    middles = {}
    for name in ("EarlyV", "aOTC"):
        columns = np.flatnonzero(near(top, colours[name]).any(axis=0))
        middles[name] = np.median(columns[columns > above])
    assert middles["EarlyV"] < middles["aOTC"] - 0.03 * image.shape[1]


def test_surface_has_the_hemisphere_of_the_voxels(tmp_path):
    values = np.where(ball(36, -55, -16), 0.9, np.nan)
    ax = plot_surface(values, MNI_AFFINE, space=MNI, title="right")
    image = pixels(ax, tmp_path)
    yellow = near(image, "#c5e021")
    half = int(0.43 * image.shape[1])
    assert yellow[:, half : 2 * half].sum() > 20
    assert yellow[:, :half].sum() == 0


def test_a_page_that_needs_no_network(tmp_path):
    values = np.where(ball(36, -55, -16), 0.9, np.nan)
    path = write_view(tmp_path / "v.html", values, MNI_AFFINE, space=MNI, title="mine")
    text = path.read_text()
    assert "mine" in text
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']https?:", text)
    with pytest.raises(ValueError, match=r"written as \.html; got 'v.png'"):
        write_view(tmp_path / "v.png", values, MNI_AFFINE, space=MNI)


def test_other_spaces_are_refused(tmp_path):
    sector = Sector("V1", ball(0, -80, 0), MNI_AFFINE, "TAL")
    with pytest.raises(ValueError, match="sector V1 must be in MNI152; got TAL"):
        plot_glass({"V1": sector})
    with pytest.raises(
        ValueError, match="fsaverage5 must be in MNI152; got individual"
    ):
        plot_surface(sector.mask, MNI_AFFINE, space="individual")
    with pytest.raises(ValueError, match="must be in MNI152; got none"):
        write_view(tmp_path / "v.html", sector.mask, MNI_AFFINE, space="none")
    with pytest.raises(ValueError, match="view must be among ventral"):
        plot_surface(sector.mask, MNI_AFFINE, space=MNI, view="below")
    with pytest.raises(ValueError, match="one or more; got none"):
        plot_glass([])
