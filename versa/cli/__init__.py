"""Console scripts: parse, call one function, print."""
