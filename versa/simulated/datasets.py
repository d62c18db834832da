"""The embedded datasets: rendered images, a known network, simulated brains.

``simulated-orientation`` and ``simulated-inanimate`` have the layout of the paper's
two experiments and need no download. They are made once and kept in the cache folder.
"""

import logging
import tempfile
from pathlib import Path

from versa.cache import atomic_write, cache_folder
from versa.fmri.dataset.braindata import BrainDataset
from versa.fmri.dataset.folder import read_dataset, write_dataset
from versa.fmri.dataset.stimuli import StimulusSet
from versa.simulated.brains import (
    DESIGNS,
    N_COMPONENTS,
    pattern_covariance,
    simulate_responses,
    simulated_sectors,
)
from versa.simulated.render import inanimate_stimuli, orientation_stimuli, write_pngs
from versa.wording import unknown

logger = logging.getLogger("versa")

KNOWN_NETWORK = "alexnet_gn_untrained"  # whose layers the simulated voxels read out

_EDITION = "1"  # counts up when images or responses change
_RENDERERS = {
    "simulated-orientation": orientation_stimuli,
    "simulated-inanimate": inanimate_stimuli,
}


def simulated_orientation() -> BrainDataset:
    """Object Orientation, simulated: 7 subjects, 8 objects x 5 orientations."""
    return _kept("simulated-orientation")


def simulated_inanimate() -> BrainDataset:
    """Inanimate Objects, simulated: 10 subjects, 72 objects."""
    return _kept("simulated-inanimate")


def _kept(name: str) -> BrainDataset:
    """The dataset from the cache folder, made there first if need be."""
    folder = cache_folder() / "datasets" / f"{name}-{_EDITION}"
    if folder.exists():
        try:
            return read_dataset(folder)
        except ValueError as error:
            logger.warning("%s is damaged (%s); it is made again.", folder, error)
            _remove(folder)
    logger.info("making %s, once, in %s.", name, folder)
    with tempfile.TemporaryDirectory() as scratch:
        paths = write_pngs(_RENDERERS[name](), Path(scratch))
        dataset = simulate_dataset(name, StimulusSet.from_paths(paths))
        # another process may be faster: its folder is as good as ours
        with atomic_write(folder) as temporary:
            write_dataset(dataset, temporary)
    return read_dataset(folder)


def _remove(folder: Path) -> None:
    """Take a folder away in one step, then delete it at leisure."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".damaged-") as bin_:
        try:
            folder.rename(Path(bin_) / folder.name)
        except FileNotFoundError:  # another process has done it
            return


def simulate_dataset(
    name: str, stimuli: StimulusSet, *, noise: bool = True
) -> BrainDataset:
    """Simulate the brains of one of the embedded datasets.

    Parameters
    ----------
    name : {"simulated-orientation", "simulated-inanimate"}
        Which one.
    stimuli : StimulusSet
        Images to show them; those of the dataset are rendered by versa.
    noise : bool, default=True
        With the noise that gives the paper's ceilings, or without any: then the
        known layer scores best in every sector; below the ceiling it is kept by what
        five components (``rsa``) or few images (``versa``) leave out.

    Returns
    -------
    dataset : BrainDataset
        Sectors EarlyV, pOTC and aOTC in Talairach space, one layer of
        ``alexnet_gn_untrained`` each.

    Raises
    ------
    ValueError
        If there is no embedded dataset of that name.
    """
    from versa.models.features import extract_grams
    from versa.models.zoo.loading import load_model

    if name not in DESIGNS:
        raise ValueError(unknown("simulated dataset", name, DESIGNS))
    design = DESIGNS[name]
    grams = extract_grams(
        load_model(KNOWN_NETWORK),
        stimuli.paths,
        list(design.layers.values()),
        names=stimuli.names,
    )
    responses = {}
    for number, (sector, layer) in enumerate(design.layers.items()):
        gram = grams[layer]
        responses[sector] = simulate_responses(
            pattern_covariance(gram.gram, gram.sums, gram.n_units),
            n_subjects=design.n_subjects,
            n_voxels=design.n_voxels[sector],
            ceiling=design.ceilings[sector] if noise else None,
            seed=[design.seed, number],
        )
    answer = ", ".join(f"{sector} {layer}" for sector, layer in design.layers.items())
    return BrainDataset(
        name=name,
        stimuli=stimuli,
        subjects=[f"{number:02d}" for number in range(1, design.n_subjects + 1)],
        responses=responses,
        sectors=simulated_sectors(design.n_voxels, design.n_subjects, seed=design.seed),
        unit="a.u.",
        space="TAL",
        licence="CC0-1.0",
        citation="Simulated by versa, after Konkle & Alvarez (2022).",
        description=(
            f"Voxels read out the mean and {N_COMPONENTS} leading components of layers "
            f"of {KNOWN_NETWORK}: {answer}."
        ),
    )
