"""A small street world, made from a seed: scenes of solids on flat ground, images, voxel labels.

It needs no data and no licence, and it knows the truth about itself. It is good enough to
calibrate on, to measure with and to look at; a network trained on real images sees no street in
it, which is said wherever its numbers are shown.

``solids`` what there is · ``actors`` cars, people, trees from solids · ``ground`` roads and
pavements · ``layout`` a street with everything on it · ``render`` ray casting · ``shade`` colours ·
``voxelize`` occupancy and visibility
"""
