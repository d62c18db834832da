"""The matrix of all networks: how they differ, and which differences hold."""

from typing import TYPE_CHECKING

import numpy as np

from versa.comparison import Comparison
from versa.plotting.best import best_layers, column_ending, draw_head
from versa.plotting.figures import panels
from versa.wording import listing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.colors import Colormap

__all__ = ["plot_comparison"]

_TEXT, _SMALL = 8.0, 7.0  # points
_GREY = "#666666"
_EMPTY = "#ececec"
_READABLE = 10  # networks, above which the cells hold no numbers


def plot_comparison(
    comparison: Comparison,
    *,
    method: str = "versa-debiased",
    sector: str | None = None,
    df: str = "subjects",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how all networks differ from each other, and which differences hold.

    A cell is the mean r of the network in its row less that of the network in its
    column, for their cross-validated best layers; the diagonal has the mean r itself.
    Stars mark the differences that are significant after correction.

    Parameters
    ----------
    comparison : Comparison
        Of two networks or more. If all were compared with one baseline, that is the
        only column.
    method : str, default="versa-debiased"
        A method of the results. With ``"versa"`` the null is given for each sector.
    sector : str, optional
        By default a panel for each sector.
    df : {"subjects", "splits"}, default="subjects"
        Degrees of freedom of the tests: subjects - 1 (calibrated), or evaluations - 1
        as in the paper.
    ax : Axes, optional
        Where to draw; by default a new figure, which is no figure of pyplot.

    Returns
    -------
    ax : Axes
        The whole; the panels are its ``child_axes`` if there are several.

    Raises
    ------
    ValueError
        If there is no pair of networks, or the method or sector is none of theirs.

    References
    ----------
    Nadeau & Bengio (2003), https://doi.org/10.1023/A:1024068626366
    """
    best, sectors = best_layers(comparison, method, sector)
    ending = column_ending("df", df)
    table = comparison.table
    table = table[(table["method"] == method) & table["sector"].isin(sectors)]
    names = [result.model for result in comparison.results]
    if not len(table):
        raise ValueError(
            f"comparison must hold two networks or more; got {listing(names)}."
        )
    baseline = comparison.baseline
    columns = names if baseline is None else [baseline]
    rows = [name for name in names if name != baseline]
    numbers = {name: n for n, name in enumerate(names, start=1)}
    sizes = np.abs(table["difference"].to_numpy(dtype=float))
    largest = float(sizes[np.isfinite(sizes)].max(initial=0.0)) or 0.01

    readable = len(names) <= _READABLE
    cell = 0.46 if readable else 0.17
    beside = 1.2 + 0.065 * max(len(name) for name in rows)
    width = max(1.3, 1.15 * cell * len(columns)) + beside / len(sectors)
    whole, parts = panels(ax, len(sectors), size=(width, 1.1 + cell * len(rows)))
    for panel, name in zip(parts, sectors, strict=True):
        pairs = table[table["sector"] == name]
        differences, marked = _matrices(pairs, rows, columns, f"significant{ending}")
        mesh = panel.pcolormesh(
            np.ma.masked_invalid(differences), cmap=_blue_white_red(),
            vmin=-largest, vmax=largest, edgecolors="white", linewidth=1.0,
        )  # fmt: skip
        shown = differences.copy()
        for i, row in enumerate(rows):
            if row in columns:
                shown[i, columns.index(row)] = best[row, name]["r"]
        mesh.update_scalarmappable()  # the print must know the colours
        if readable:
            _write_numbers(panel, mesh, shown)
        _draw_stars(panel, mesh, marked, readable)
        panel.set(aspect="equal", anchor="W", ylim=(len(rows), 0))
        panel.set_xticks(
            np.arange(len(columns)) + 0.5, [str(numbers[one]) for one in columns]
        )
        left = [f"{one}  {numbers[one]}" for one in rows]
        if panel is not parts[0]:
            left = [str(numbers[one]) for one in rows]
        panel.set_yticks(np.arange(len(rows)) + 0.5, left)
        panel.tick_params(length=0, labelsize=_SMALL)
        panel.spines[:].set_visible(False)
        null = best[names[0], name]["null_r"]
        title = f"{name}\nnull r = {null:.3f}" if method == "versa" else name
        panel.set_title(title, loc="left", fontsize=_TEXT, fontweight="bold")
    scale = parts[-1].inset_axes((1.06, 0.0, 0.16 / (cell * len(columns)), 1.0))
    bar = whole.figure.colorbar(mesh, cax=scale)
    bar.set_label(f"row - column\nPearson r ({method})", fontsize=_SMALL)
    bar.outline.set_visible(False)
    scale.tick_params(labelsize=_SMALL)
    lines = ["mean r of the cross-validated best layer: row less column"]
    if baseline is not None:
        lines.append(f"column {numbers[baseline]}: {baseline}")
    lines.append(
        f"★ significant after Bonferroni correction for {comparison.family} tests "
        f"({'S' if df == 'subjects' else 'J'} - 1 = {table[f'df{ending}'].iloc[0]} df)"
    )
    draw_head(whole, comparison, lines, n_titles=2 if method == "versa" else 1)
    return whole


def _matrices(
    pairs: "pd.DataFrame", rows: list[str], columns: list[str], significant: str
) -> tuple[np.ndarray, np.ndarray]:
    """Differences, row less column, and whether they are significant."""
    differences = np.full((len(rows), len(columns)), np.nan)
    marked = np.zeros(differences.shape, dtype=bool)
    for pair in pairs.to_dict("records"):
        a, b = pair["model_a"], pair["model_b"]
        for row, column, sign in ((a, b, 1), (b, a, -1)):
            if row in rows and column in columns:
                at = rows.index(row), columns.index(column)
                differences[at] = sign * pair["difference"]
                marked[at] = pair[significant]
    return differences, marked


def _blue_white_red() -> "Colormap":
    """Blue below 0, red above it, white between, grey where there is nothing."""
    from matplotlib import colormaps

    return colormaps["RdBu_r"].with_extremes(bad=_EMPTY)


def _inks(colours: np.ndarray) -> np.ndarray:
    """Black or white, whichever is more legible on each colour, (n, 4)."""
    linear = np.where(
        colours <= 0.03928, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4
    )
    # both have the same contrast (WCAG 2) on grounds of this luminance
    bright = linear[:, :3] @ [0.2126, 0.7152, 0.0722] > 0.179
    return np.where(bright, "black", "white")


def _write_numbers(panel: "Axes", mesh: "QuadMesh", shown: np.ndarray) -> None:
    """The numbers of all cells; those that are no difference in grey."""
    inks = _inks(np.asarray(mesh.get_facecolor())).reshape(shown.shape)
    own = np.ma.getmaskarray(np.ma.asarray(mesh.get_array())).reshape(shown.shape)
    for (i, j), value in np.ndenumerate(shown):
        panel.text(
            j + 0.5, i + 0.5, f"{value:.3f}" if np.isfinite(value) else "-",
            ha="center", va="center", fontsize=_SMALL,
            color=_GREY if own[i, j] else inks[i, j],
        )  # fmt: skip


def _draw_stars(
    panel: "Axes", mesh: "QuadMesh", marked: np.ndarray, in_corner: bool
) -> None:
    """Stars on significant cells, in a corner if these hold numbers."""
    if not marked.any():
        return
    i, j = np.nonzero(marked)
    panel.scatter(
        j + (0.84 if in_corner else 0.5), i + (0.2 if in_corner else 0.5),
        marker="*", s=26 if in_corner else 14, linewidths=0, zorder=3,
        c=_inks(np.asarray(mesh.get_facecolor())).reshape(marked.shape)[i, j],
        label="significant",
    )  # fmt: skip
