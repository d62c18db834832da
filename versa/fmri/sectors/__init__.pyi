from .atlases import atlas_sector as atlas_sector
from .label_tables import read_label_table as read_label_table
from .making import define_sectors as define_sectors
from .making import label_sector as label_sector
from .making import most_active as most_active
from .making import split_at_y as split_at_y
from .sector import Sector as Sector
from .surfaces import surface_responses as surface_responses
