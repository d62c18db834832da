from . import intervals as intervals
from . import parity as parity
from . import permutation as permutation
from . import power as power
from . import selection as selection
from . import splits as splits
from . import tables as tables
from . import ttests as ttests
