"""Parallel branches of re-parameterised blocks, fused into one convolution."""
