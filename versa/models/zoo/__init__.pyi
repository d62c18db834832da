from .cards import ModelCard as ModelCard
from .cards import list_models as list_models
from .layouts import LAYOUTS as LAYOUTS
from .layouts import CheckpointLayout as CheckpointLayout
from .listing import list_layers as list_layers
from .loading import load_model as load_model
