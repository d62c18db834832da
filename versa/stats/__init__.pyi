from . import intervals as intervals
from . import selection as selection
from . import splits as splits
from . import tables as tables
from . import ttests as ttests
