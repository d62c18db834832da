from .calibration import calibration as calibration
from .partition import partition as partition
from .planning import power as power
from .readings import multiverse as multiverse
from .readings import shares as shares
