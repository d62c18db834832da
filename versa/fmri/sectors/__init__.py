"""Sectors of the brain: made from labels, atlases and contrasts, and checked."""
