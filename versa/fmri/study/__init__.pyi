from .sectors import study_sectors as study_sectors
from .study import add_images as add_images
from .study import add_sectors as add_sectors
from .study import estimate_betas as estimate_betas
from .study import write_study as write_study
