from .contents import archive_contents as archive_contents
from .converting import convert as convert
from .mapping import read_mapping as read_mapping
from .osf import fetch_files as fetch_files
