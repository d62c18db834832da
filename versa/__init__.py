"""versa: does this network see like the brain does?

Relates the layers of vision networks to human fMRI responses, after Konkle & Alvarez
(2022), Nature Communications 13:491. Public names are loaded when they are first used,
so that ``import versa`` is fast and brings no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> module that holds it.
_HOMES = {
    "BrainDataset": "versa.fmri.braindata",
    "Comparison": "versa.comparison",
    "FitResult": "versa.result",
    "ModelCard": "versa.models.cards",
    "Preprocess": "versa.models.preprocess",
    "Sector": "versa.fmri.sector",
    "SplitHalves": "versa.stats.splits",
    "StimulusSet": "versa.fmri.stimuli",
    "VisionModel": "versa.models.zoo",
    "compare": "versa.comparison",
    "fit": "versa.api",
    "list_datasets": "versa.fmri.datasets",
    "list_layers": "versa.models.outlines",
    "list_models": "versa.models.zoo",
    "load_dataset": "versa.fmri.datasets",
    "load_model": "versa.models.zoo",
    "load_result": "versa.result",
    "read_dataset": "versa.fmri.bids",
    "register_dataset": "versa.fmri.datasets",
    "split_halves": "versa.stats.splits",
    "write_dataset": "versa.fmri.bids",
}

__all__ = [
    "BrainDataset",
    "Comparison",
    "FitResult",
    "ModelCard",
    "Preprocess",
    "Sector",
    "SplitHalves",
    "StimulusSet",
    "VisionModel",
    "compare",
    "fit",
    "list_datasets",
    "list_layers",
    "list_models",
    "load_dataset",
    "load_model",
    "load_result",
    "read_dataset",
    "register_dataset",
    "split_halves",
    "write_dataset",
]


_ROOMS = ("plotting", "report")  # loaded when first used, as the names are


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"versa.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'versa' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})


if TYPE_CHECKING:
    from versa.api import fit
    from versa.comparison import Comparison, compare
    from versa.fmri.bids import read_dataset, write_dataset
    from versa.fmri.braindata import BrainDataset
    from versa.fmri.datasets import list_datasets, load_dataset, register_dataset
    from versa.fmri.sector import Sector
    from versa.fmri.stimuli import StimulusSet
    from versa.models.cards import ModelCard
    from versa.models.outlines import list_layers
    from versa.models.preprocess import Preprocess
    from versa.models.zoo import VisionModel, list_models, load_model
    from versa.result import FitResult, load_result
    from versa.stats.splits import SplitHalves, split_halves
