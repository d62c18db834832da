"""Read-outs of a network: nearest neighbours, a linear classifier, maps."""
