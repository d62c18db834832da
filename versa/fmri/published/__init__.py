"""Datasets that others published: downloaded, converted and read by name."""
