"""Programs with packed weights, for inference on a processor: the C++ library computes them, nothing else does."""
