from .betas import estimate_betas as estimate_betas
from .betas import reliability_table as reliability_table
from .betas import write_betas as write_betas
from .files import read_betas as read_betas
from .images import add_images as add_images
from .sectors import add_sectors as add_sectors
from .sectors import choose_sectors as choose_sectors
from .sectors import paper_sectors as paper_sectors
