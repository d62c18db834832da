from .grids import onto_grid as onto_grid
from .spaces import to_talairach as to_talairach
from .surface_files import surface_label_names as surface_label_names
