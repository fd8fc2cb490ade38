"""What is not quantized in 16 bits: which nodes, and the casts between."""
