"""Sectors and maps on nilearn's templates: in the right place, in the right colour."""

import re

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from versa.fmri.sectors.sector import Sector
from versa.plotting.figures import save_figure, sector_colours
from versa.plotting.templates import plot_glass, plot_surface, write_view

AFFINE = np.array([[-4.0, 0, 0, 90], [0, 4, 0, -126], [0, 0, 4, -72], [0, 0, 0, 1]])
SHAPE = (46, 55, 46)
SPACE = "MNI152NLin6Asym"


def ball(x, y, z, radius=14):
    index = np.indices(SHAPE).reshape(3, -1).T
    places = index @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    return (((places - [x, y, z]) ** 2).sum(axis=1) < radius**2).reshape(SHAPE)


def pixels(figure, tmp_path):
    from PIL import Image

    path = save_figure(figure, tmp_path / "figure.png", dpi=80)
    return np.asarray(Image.open(path).convert("RGB")) / 255


def near(image, colour):
    return np.abs(image - to_rgb(colour)).max(axis=2) < 0.1


def test_glass(tmp_path):
    sectors = [
        Sector("EarlyV", ball(-12, -88, 0), AFFINE, SPACE),
        Sector("aOTC", ball(38, -42, -14), AFFINE, SPACE),
    ]
    ax = plot_glass(sectors, title="mine")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [f"{one.name} ({one.n_voxels} voxels)" for one in sectors]
    assert ax.get_title() == "mine"
    assert pyplot.get_fignums() == []
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
    ax = plot_surface(values, AFFINE, space=SPACE, title="right")
    image = pixels(ax, tmp_path)
    yellow = near(image, "#c5e021")
    half = int(0.43 * image.shape[1])
    assert yellow[:, half : 2 * half].sum() > 20
    assert yellow[:, :half].sum() == 0
    assert pyplot.get_fignums() == []
    given = Figure().add_subplot()
    assert plot_surface(values, AFFINE, space=SPACE, ax=given) is given


def test_a_page_that_needs_no_network(tmp_path):
    values = np.where(ball(36, -55, -16), 0.9, np.nan)
    path = write_view(tmp_path / "v.html", values, AFFINE, space=SPACE, title="mine")
    text = path.read_text()
    assert "mine" in text
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']https?:", text)
    with pytest.raises(ValueError, match=r"written as \.html; got 'v.png'"):
        write_view(tmp_path / "v.png", values, AFFINE, space=SPACE)


def test_other_spaces_are_refused(tmp_path):
    sector = Sector("V1", ball(0, -80, 0), AFFINE, "TAL")
    with pytest.raises(ValueError, match="sector V1 must be in MNI152; got TAL"):
        plot_glass({"V1": sector})
    with pytest.raises(
        ValueError, match="fsaverage5 must be in MNI152; got individual"
    ):
        plot_surface(sector.mask, AFFINE, space="individual")
    with pytest.raises(ValueError, match="must be in MNI152; got none"):
        write_view(tmp_path / "v.html", sector.mask, AFFINE, space="none")
    with pytest.raises(ValueError, match="view must be among ventral"):
        plot_surface(sector.mask, AFFINE, space=SPACE, view="below")
    with pytest.raises(ValueError, match="one or more; got none"):
        plot_glass([])
