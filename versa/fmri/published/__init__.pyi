from .converting import convert as convert
from .mapping import read_layout as read_layout
from .osf import fetch_files as fetch_files
