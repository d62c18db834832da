from .partition import partition as partition
