from .calibration import calibration as calibration
from .partition import partition as partition
