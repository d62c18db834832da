from .neighbours import embedding_map as embedding_map
from .neighbours import knn_accuracy as knn_accuracy
from .neighbours import readout_knn as readout_knn
from .neighbours import readout_linear as readout_linear
