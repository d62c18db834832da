"""Simulated experiments: images, networks and brains with a known answer."""
