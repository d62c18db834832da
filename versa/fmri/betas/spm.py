"""Betas of a first-level analysis that SPM made."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from versa.fmri.betas.conditions import ConditionBetas
from versa.fmri.betas.elsewhere import ImageOptions, betas_from_runs
from versa.fmri.volumes.nifti import open_image
from versa.fmri.volumes.spaces import check_space
from versa.fmri.volumes.voxels import PathLike
from versa.untrusted import check_expansion, load_mat, open_hdf5
from versa.wording import listing, reading

logger = logging.getLogger("versa")

_DESCRIP_LENGTH = 79  # bytes that SPM writes of the 80 that a NIfTI header has
_MOST_BASES = 3  # the canonical response and its two derivatives


def read_spm(
    folder: PathLike,
    *,
    subject: str,
    space: str,
    conditions: Sequence[str] | None = None,
    halves: str | None = "runs",
    mask: PathLike | None = None,
    activity: PathLike | None = None,
    unit: str = "a.u.",
) -> ConditionBetas:
    """Read the betas of an SPM first-level folder, averaged over its sessions.

    Regressors are named by ``SPM.mat``, or without it by the headers of the images.
    Taken are conditions with the first basis function, ``Sn(1) house*bf(1)``;
    derivatives, parametric modulators, other regressors and constants are left out.

    Parameters
    ----------
    folder : path-like
        With ``beta_0001.nii``, ...
    subject : str
        Label such as ``"01"``.
    space : str
        See :class:`~versa.Sector`.
    conditions : sequence of str, optional
        Which conditions, and their order; by default all, as they first occur.
    halves : {"runs"}, optional
        Odd and even sessions; with a single session there are no halves.
    mask : path-like, optional
        Image of the voxels to read; by default all that SPM estimated.
    activity : path-like, optional
        Image of the contrast of all conditions against rest, such as
        ``spmT_0001.nii``.
    unit : str, default="a.u."
        Unit of the betas.

    Returns
    -------
    betas : ConditionBetas
        Means over sessions.

    Raises
    ------
    ValueError
        If images are missing, names are cut or belong to another model, or the basis
        functions have no single amplitude (FIR, Fourier).
    """
    folder = Path(folder)
    check_space(space)
    images = _beta_images(folder)
    headers = {number: _description(path) for number, path in images.items()}
    matrix = folder / "SPM.mat"
    if matrix.is_file():
        names, basis = _spm_names(matrix)
        if not basis.startswith("hrf"):
            raise ValueError(
                f"{matrix} must have the canonical response (hrf) as basis function; "
                f"got {basis!r}, whose first function is no amplitude."
            )
        for number, header in headers.items():
            stated = names.get(number, "")
            # a header keeps 80 bytes
            if header and not stated.startswith(header):
                raise ValueError(
                    f"{images[number].name} must be of the model in {matrix}, which "
                    f"calls it {stated!r}; its header says {header!r}."
                )
    else:
        names = _header_names(images, headers)
    estimates = _spm_conditions(names, images, folder)
    options = ImageOptions(
        subject, space, mask, activity, None, unit, source=f"SPM, {folder.name}"
    )
    return betas_from_runs(estimates, options, conditions=conditions, halves=halves)


def _beta_images(folder: Path) -> dict[int, Path]:
    """Images of SPM's betas by their number."""
    if not folder.is_dir():
        raise ValueError(f"{folder} must be a folder of SPM; it is missing.")
    images: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        match = re.fullmatch(r"beta_(\d{4,})\.nii(?:\.gz)?", path.name)
        if match and images.setdefault(int(match[1]), path) != path:
            raise ValueError(
                f"{folder} must have one image per beta; got both "
                f"{images[int(match[1])].name} and {path.name}."
            )
    if not images:
        pairs = "; those in .img and .hdr must be converted" * any(
            folder.glob("beta_*.img")
        )
        raise ValueError(
            f"{folder} must have images beta_0001.nii, ...; got none{pairs}."
        )
    return images


def _description(path: Path) -> str:
    """What a beta's header says it is; empty if it is no description of SPM's."""
    with open_image(path) as image:
        raw = image.header["descrip"].item()
    text = raw.decode("latin-1").rstrip("\0 ")
    match = re.fullmatch(r"spm_spm:beta \(\d+\) - (.*)", text)
    return match[1] if match else ""


def _header_names(
    images: Mapping[int, Path], headers: Mapping[int, str]
) -> dict[int, str]:
    """Names of regressors from the headers, refused where one is cut."""
    prefix = len("spm_spm:beta (0001) - ")
    for number, header in headers.items():
        cut = prefix + len(header) >= _DESCRIP_LENGTH
        if not header or (cut and not re.search(r"\*bf\(\d+\)$", header)):
            raise ValueError(
                f"{images[number]} must say in its header which regressor it is; got "
                f"{header!r}{', which is cut' if cut else ''}. Put SPM.mat beside it."
            )
    return dict(headers)


def _spm_names(path: Path) -> tuple[dict[int, str], str]:
    """Names of regressors by the number of their beta, and that of the basis."""
    import h5py

    with reading(path, "an SPM.mat of an estimated model"):
        if h5py.is_hdf5(path):
            with open_hdf5(path) as file:
                cells = file["SPM/xX/name"]
                check_expansion(path, cells.nbytes)
                names = [_characters(path, file[cell]) for cell in np.ravel(cells[()])]
                basis = _characters(path, file["SPM/xBF/name"])
        else:
            tree = load_mat(
                path, struct_as_record=False, squeeze_me=True, variable_names=["SPM"]
            )["SPM"]
            names = [str(name) for name in np.ravel(tree.xX.name)]
            basis = str(tree.xBF.name)
    return dict(enumerate(names, start=1)), basis


def _characters(path: Path, dataset: Any) -> str:
    """Text of a MATLAB array of characters in HDF5."""
    check_expansion(path, dataset.nbytes)
    return "".join(map(chr, np.ravel(dataset[()])))


def _spm_conditions(
    names: Mapping[int, str], images: Mapping[int, Path], folder: Path
) -> list[tuple[str, int, Path]]:
    """Betas that are those of conditions."""
    parsed = {
        number: match
        for number, name in names.items()
        if (match := re.fullmatch(r"Sn\((\d+)\) (.+)\*bf\((\d+)\)", name))
        and "*bf(" not in match[2]  # an interaction of Volterra's second order
    }
    bases = sorted({int(match[3]) for match in parsed.values()})
    if bases and bases[-1] > _MOST_BASES:
        raise ValueError(
            f"{folder} must have the canonical response as basis function; it has "
            f"{bases[-1]} functions per condition, of which none is its amplitude."
        )
    first = {n: (int(m[1]), m[2]) for n, m in parsed.items() if int(m[3]) == 1}
    titles = {title for _, title in first.values()}
    modulators = {
        title
        for title in titles
        if re.search(r"\^\d+$", title)
        and any(title.startswith(f"{other}x") for other in titles - {title})
    }
    if modulators:
        logger.info(
            "%s: the parametric modulators %s are left out.",
            folder.name,
            listing(sorted(modulators)),
        )
    chosen = {n: pair for n, pair in first.items() if pair[1] not in modulators}
    if not chosen:
        raise ValueError(
            f"{folder} must have regressors of conditions, such as Sn(1) house*bf(1); "
            f"got {listing(names.values())}."
        )
    missing = [number for number in chosen if number not in images]
    if missing:
        raise ValueError(
            f"{folder} must have an image of each condition; "
            f"{listing(f'beta_{number:04d}' for number in missing)} missing."
        )
    return [
        (title, session, images[number])
        for number, (session, title) in sorted(chosen.items())
    ]
