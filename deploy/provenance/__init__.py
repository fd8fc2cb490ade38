"""Where a bundle comes from: made again, compared, listed, licensed and signed."""
