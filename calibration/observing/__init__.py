"""Running a model over samples and keeping what its activations do, in bounded memory."""
