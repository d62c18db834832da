"""Figures: they draw what was found elsewhere, and take and give an Axes."""

from versa.plotting.brains import plot_reliability, plot_sectors
from versa.plotting.figures import save_figure, sector_colours

__all__ = ["plot_reliability", "plot_sectors", "save_figure", "sector_colours"]
