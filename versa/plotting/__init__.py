"""Figures: they draw what was found elsewhere, and take and give an Axes."""

from versa.plotting.brains import plot_reliability, plot_sectors
from versa.plotting.comparisons import plot_accuracy, plot_comparison, plot_diets
from versa.plotting.designs import plot_design
from versa.plotting.everything import draw_results
from versa.plotting.figures import model_styles, save_figure, sector_colours
from versa.plotting.rdms import (
    mds_coordinates,
    plot_map,
    plot_mds,
    plot_rdm,
    plot_rdms,
)
from versa.plotting.scores import plot_best, plot_layers, plot_null
from versa.plotting.templates import plot_glass, plot_surface, write_view

__all__ = [
    "draw_results",
    "mds_coordinates",
    "model_styles",
    "plot_accuracy",
    "plot_best",
    "plot_comparison",
    "plot_design",
    "plot_diets",
    "plot_glass",
    "plot_layers",
    "plot_map",
    "plot_mds",
    "plot_null",
    "plot_rdm",
    "plot_rdms",
    "plot_reliability",
    "plot_sectors",
    "plot_surface",
    "save_figure",
    "sector_colours",
    "write_view",
]
