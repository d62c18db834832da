"""A dataset folder that grows: betas, images and sectors."""
