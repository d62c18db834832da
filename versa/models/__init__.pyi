from . import ipcl as ipcl
from . import readouts as readouts
from . import zoo as zoo
from .features import LayerGram as LayerGram
from .features import extract_grams as extract_grams
from .layers import default_layers as default_layers
from .preprocess import Preprocess as Preprocess
from .vision import VisionModel as VisionModel
