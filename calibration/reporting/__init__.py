"""What a run leaves to be read: ranges of weights and activations, and the error of every layer."""
