"""The brain world: datasets, encoding models, RDMs, scores. No torch in here."""
