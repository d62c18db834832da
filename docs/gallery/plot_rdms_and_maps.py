"""
Geometry: matrices and maps
===========================

An RDM, a representational dissimilarity matrix, holds for every pair of images how
different their patterns are: 1 - r, from 0 (the same pattern) over 1 (unrelated) to 2
(opposite). Every score of versa is a correlation between two such matrices, so it is
worth looking at them.
"""

import torch

import versa
from versa.models.readouts import embedding_map, stream_features
from versa.plotting import plot_map, plot_mds, plot_rdm, plot_rdms

result = versa.fit(
    "alexnet_gn_untrained",
    ["conv_block_1", "conv_block_4", "fc7"],
    dataset="simulated-orientation",
    progress=False,
)

# %%
# The brain
# ---------
# The mean over all subjects of sector aOTC, with the images along both sides: eight
# objects, each in five orientations.

brain = plot_rdm(result, what="brain", sector="aOTC")

# %%
# Brain, prediction, network
# --------------------------
# What was measured, what an encoding model predicts from the network, and the network's
# own units. The r in the titles is that of these mean RDMs of *all* subjects; the
# scores in the tables are means over half-splits, and a little lower.

three = plot_rdms(result, sector="aOTC", layer="fc7")

# %%
# A map
# -----
# Multidimensional scaling puts images with similar patterns near each other. Two
# dimensions cannot hold all distances; the stress says how much is lost.

mds = plot_mds(result, what="brain", sector="aOTC")

# %%
# A map of the units
# ------------------
# The paper's Figure 1b is a t-SNE map of a network's embedding. Here are the 72 objects
# of the other simulated dataset, by layer ``fc7``.

objects = versa.load_dataset("simulated-inanimate").stimuli
model = versa.load_model("alexnet_gn_untrained")
images = (objects.paths, objects.names)
parts = stream_features(model, images, "fc7", transform=model.preprocess)
features = torch.cat([values for values, _ in parts])
places = embedding_map(features, perplexity=8)
tsne = plot_map(places, objects.paths)
