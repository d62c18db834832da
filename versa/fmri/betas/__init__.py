"""Betas of one subject: estimated from runs, or made by other programs."""
