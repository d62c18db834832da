from .cards import ModelCard as ModelCard
from .listing import list_layers as list_layers
from .loading import list_models as list_models
from .loading import load_model as load_model
