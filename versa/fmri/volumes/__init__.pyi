from .grids import onto_grid as onto_grid
from .nifti import read_image as read_image
from .spaces import to_mni as to_mni
from .spaces import to_talairach as to_talairach
from .surface_files import read_cifti as read_cifti
from .surface_files import read_hemispheres as read_hemispheres
from .surface_files import surface_label_names as surface_label_names
