"""Figures: they draw what was found elsewhere, and take and give an Axes."""

from versa.plotting.brains import plot_reliability, plot_sectors
from versa.plotting.designs import plot_design
from versa.plotting.figures import model_styles, save_figure, sector_colours

__all__ = [
    "model_styles",
    "plot_design",
    "plot_reliability",
    "plot_sectors",
    "save_figure",
    "sector_colours",
]
