"""Stimuli, responses and RDMs of an experiment, and the folder that keeps them."""
