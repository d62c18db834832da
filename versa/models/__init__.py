"""The torch world: networks in, one Gram matrix per layer out.

Nothing here knows of brains, and nothing outside this folder imports torch.
Importing the folder loads no torch either; its modules do when they need it.
"""
