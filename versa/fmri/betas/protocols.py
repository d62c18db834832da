"""BrainVoyager's protocols and design matrices as tables for a first-level GLM."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from versa.fmri.betas.brainvoyager import read_file, unpacked
from versa.wording import reading, unique_names

if TYPE_CHECKING:
    import pandas as pd

_SDM_HEAD = 7  # lines before the data: five of header, colours, names


def read_protocol(
    path: str | os.PathLike[str], *, t_r: float | None = None
) -> "pd.DataFrame":
    """Read the events of a PRT file, as a first-level GLM takes them.

    Parameters
    ----------
    path : path-like
        A file whose name ends in ``.prt`` or ``.prt.gz``.
    t_r : float, optional
        Repetition time in s; needed if the protocol counts volumes.

    Returns
    -------
    events : DataFrame
        Columns ``onset`` and ``duration`` in s and ``trial_type``, in order of onset;
        ``modulation`` if the protocol has parametric weights: nilearn then multiplies
        the response to each event by its weight; drop the column for events that all
        count alike. Volumes are counted from 1 and both ends belong to an event;
        milliseconds are counted from 0 and an event ends where it says. Conditions
        that never occur are left out.

    Raises
    ------
    ValueError
        If the file is missing or damaged, has no conditions, `t_r` is needed, or an
        event ends before it begins.
    ImportError
        If bvbabel is not installed.
    """
    import pandas as pd

    path = Path(path)
    _, header, conditions = read_file(path, ("prt",))
    with reading(path, "a whole PRT file"):
        n_conditions = int(header["NrOfConditions"])
    if len(conditions) != n_conditions:
        raise ValueError(
            f"{path} must be whole: it announces {n_conditions} conditions "
            f"and has {len(conditions)}."
        )
    if not conditions:
        raise ValueError(f"{path} must have one or more conditions; it has none.")
    names = [str(item["NameOfCondition"]) for item in conditions]
    unique_names(names, f"{path}: names of conditions")
    unit = str(header.get("ResolutionOfTime")).lower()
    if unit not in ("volumes", "msec"):
        raise ValueError(f"{path} must count in Volumes or msec; got {unit}.")
    if unit == "volumes" and not (t_r is not None and t_r > 0):
        raise ValueError(
            f"{path} counts volumes; pass the repetition time in s as t_r=, got {t_r}."
        )
    first, extra, scale = (1, 1, t_r) if unit == "volumes" else (0, 0, 1e-3)
    tables = []
    for name, item in zip(names, conditions, strict=True):
        start, stop = (np.asarray(item[f"Time {end}"]) for end in ("start", "stop"))
        if (start < first).any() or (stop < start).any():
            raise ValueError(
                f"{path}: events of {name} must begin at {first} or later and end "
                f"after they begin; got {start.tolist()} to {stop.tolist()}."
            )
        columns: dict[str, Any] = {
            "onset": (start - first) * scale,
            "duration": (stop - start + extra) * scale,
            "trial_type": name,
        }
        if "Parametric weight" in item:
            columns["modulation"] = item["Parametric weight"]
        tables.append(pd.DataFrame(columns))
    events = pd.concat(tables, ignore_index=True)
    return events.sort_values("onset", kind="stable", ignore_index=True)


def read_sdm(path: str | os.PathLike[str]) -> "pd.DataFrame":
    """Read a design matrix or motion estimates from an SDM file.

    Parameters
    ----------
    path : path-like
        A file whose name ends in ``.sdm`` or ``.sdm.gz``.

    Returns
    -------
    design : DataFrame of shape (n_volumes, n_predictors)
        A column per predictor.

    Raises
    ------
    ValueError
        If the file is missing or damaged, or has two predictors of one name.
    ImportError
        If bvbabel is not installed.
    """
    import pandas as pd

    path = Path(path)
    _, header, predictors = read_file(path, ("sdm",))
    names = [str(item["NameOfPredictor"]) for item in predictors]
    unique_names(names, f"{path}: names of predictors")
    with unpacked(path) as plain:
        n_lines = sum(bool(line.strip()) for line in plain.read_text().splitlines())
    n_rows = n_lines - _SDM_HEAD
    if n_rows != header["NrOfDataPoints"]:  # bvbabel fills what is missing with zeros
        raise ValueError(
            f"{path} must be whole: it announces {header['NrOfDataPoints']} data "
            f"points and has {n_rows}."
        )
    values = [item["ValuesOfPredictor"] for item in predictors]
    return pd.DataFrame(dict(zip(names, values, strict=True)))
