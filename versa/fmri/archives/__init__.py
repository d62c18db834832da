"""Archives of any layout: downloaded from osf.io, converted by a mapping file."""
