from . import ipcl as ipcl
from . import readouts as readouts
from . import zoo as zoo
