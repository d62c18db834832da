from .images import labelled_images as labelled_images
from .images import stream_features as stream_features
from .linear import readout_linear as readout_linear
from .maps import embedding_map as embedding_map
from .neighbours import knn_accuracy as knn_accuracy
from .neighbours import readout_knn as readout_knn
