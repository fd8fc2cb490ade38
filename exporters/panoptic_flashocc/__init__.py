"""Panoptic-FlashOcc: occupancy with instances, from cameras, over time (arXiv:2406.10527).

FlashOcc with a depth net that knows its cameras, a head that finds the centres of instances and a
memory of past BEV maps. The networks are in ``model``, their widths in ``config``::

    network = PanopticFlashOcc(MINI, make_pooling(tables))
    logits, centres = network(images)      # [nx, ny, nz, classes]; reg, height, heatmap

``panoptic-flashocc-mini`` is ``flashocc-mini`` with a centre head, under the same parameter names:
trained once, its weights without ``aux_centerness_head.*`` are those of ``flashocc-mini``.
"""
