"""Coarse & Fine Weight Splitting: one convolution becomes two whose weights fit INT8."""
