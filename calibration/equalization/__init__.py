"""Channel equalization: the channels of a tensor brought to like ranges, at no cost at run time."""
