"""One module per way to compute the operations; none imports another, `rmeeto.ops.select` chooses."""
