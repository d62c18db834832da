"""Volumes and surfaces: files, grids and coordinate spaces."""
