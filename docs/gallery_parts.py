"""What the gallery needs beside sphinx-gallery: its order, and figures without pyplot.

The figures of versa are no figures of pyplot, which sphinx-gallery looks for; so the
names that a block of a script leaves behind are searched for them.
"""

import weakref

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

ORDER = (
    "plot_compare_two_networks.py",
    "plot_figure2_layers.py",
    "plot_figure3_diets.py",
    "plot_figure4_accuracy.py",
    "plot_rdms_and_maps.py",
    "plot_power.py",
    "plot_leak.py",
)
_shown: "weakref.WeakSet[Figure]" = weakref.WeakSet()


class ScriptOrder:
    """Sorts scripts from the first question to the last."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name):
        return ORDER.index(name)

    def __repr__(self):
        return "ScriptOrder"


def figures(block, block_vars, gallery_conf):
    """Save the figures that a block has made, each once."""
    paths = []
    for value in list(block_vars["example_globals"].values()):
        figure = value.figure if isinstance(value, Axes) else value
        if isinstance(figure, Figure) and figure not in _shown:
            _shown.add(figure)
            path = next(block_vars["image_path_iterator"])
            figure.savefig(path, dpi=150, bbox_inches="tight", facecolor="white")
            paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"])
