from .braindata import BrainDataset as BrainDataset
from .checking import check_dataset as check_dataset
from .folder import read_dataset as read_dataset
from .folder import write_dataset as write_dataset
from .registry import list_datasets as list_datasets
from .registry import load_dataset as load_dataset
from .registry import register_dataset as register_dataset
from .stimuli import StimulusSet as StimulusSet
