from . import fmri as fmri
from . import models as models
from . import plotting as plotting
from . import report as report
from . import stats as stats
from .api import fit as fit
from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .fmri.dataset.braindata import BrainDataset as BrainDataset
from .fmri.dataset.folder import read_dataset as read_dataset
from .fmri.dataset.folder import write_dataset as write_dataset
from .fmri.dataset.registry import list_datasets as list_datasets
from .fmri.dataset.registry import load_dataset as load_dataset
from .fmri.dataset.registry import register_dataset as register_dataset
from .fmri.dataset.stimuli import StimulusSet as StimulusSet
from .fmri.sectors.sector import Sector as Sector
from .models.preprocess import Preprocess as Preprocess
from .models.vision import VisionModel as VisionModel
from .models.zoo.cards import ModelCard as ModelCard
from .models.zoo.listing import list_layers as list_layers
from .models.zoo.loading import list_models as list_models
from .models.zoo.loading import load_model as load_model
from .result import FitResult as FitResult
from .result import load_result as load_result
from .stats.splits import SplitHalves as SplitHalves
from .stats.splits import split_halves as split_halves

__version__: str
