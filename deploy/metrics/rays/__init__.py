"""Occupancy judged by what a LiDAR would see of it: RayIoU and RayPQ.

Labels in a voxel grid reward thick surfaces, and what stands behind them is never seen. A ray stops
at the first occupied voxel, in the prediction and in the ground truth alike, and is right where
class and distance agree. Liu et al., "Fully Sparse 3D Occupancy Prediction", ECCV 2024 (SparseOcc,
upstream commit af4d9df); Panoptic-FlashOcc, 2024 (upstream commit 4084861) measures the same.
"""
