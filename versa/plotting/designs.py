"""Pictures of design matrices."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["plot_design"]


def plot_design(
    design: "pd.DataFrame", *, title: str | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw the design matrix of a run.

    Parameters
    ----------
    design : DataFrame of shape (n_scans, n_regressors)
        As :func:`versa.fmri.betas.design_matrix` makes it.
    title : str, optional
        Title of the figure.
    ax : Axes, optional
        Where to draw; by default a new figure, which is no figure of pyplot.

    Returns
    -------
    ax : Axes
        Scans from top to bottom in s, one column per regressor, each scaled by its
        largest absolute value.

    Examples
    --------
    >>> import pandas as pd
    >>> design = pd.DataFrame({"cup": [0.0, 2, 1], "constant": 1.0}, index=[0, 2, 4])
    >>> [label.get_text() for label in plot_design(design).get_xticklabels()]
    ['cup', 'constant']
    """
    import numpy as np
    from matplotlib.figure import Figure

    values = design.to_numpy(dtype=float)
    largest = np.abs(values).max(axis=0)
    scaled = values / np.where(largest > 0, largest, 1)
    n_scans, n_regressors = values.shape
    if ax is None:
        figure = Figure(figsize=(1.6 + 0.22 * n_regressors, 5.0), layout="constrained")
        ax = figure.add_subplot()
    times = design.index.to_numpy(dtype=float)
    step = (times[-1] - times[0]) / max(1, n_scans - 1)
    ax.imshow(
        scaled,
        cmap="RdGy_r",  # red above 0 and grey below: told apart without colour vision
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
        extent=(-0.5, n_regressors - 0.5, times[-1] + step / 2, times[0] - step / 2),
    )
    ax.set_xticks(range(n_regressors), labels=list(design.columns), rotation=90)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.set_ylabel("time (s)")
    if title:
        ax.set_title(title)
    return ax
