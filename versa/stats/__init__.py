"""Statistics of split-half designs: vectors in, numbers out, no neuroscience."""
