"""The zoo: from the name of a network to the network with its weights."""
