"""Scripts that train the miniatures on generated scenes; they are not installed."""
