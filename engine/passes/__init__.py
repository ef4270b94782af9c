"""One pass a file: a function from a graph to a better graph of equal value."""
