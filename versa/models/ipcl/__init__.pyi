from .config import TrainConfig as TrainConfig
from .export import export_run as export_run
from .loss import IPCLLoss as IPCLLoss
from .packing import pack as pack
from .recipes import read_config as read_config
from .training import train as train
