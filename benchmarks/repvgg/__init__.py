"""The RepVGG workload: the network, its scenes, its training on two cores, and what is measured."""
