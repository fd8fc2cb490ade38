"""Integers and biases that leave a layer's output nearer to the float one than rounding alone."""
