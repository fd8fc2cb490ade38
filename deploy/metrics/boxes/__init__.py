"""Boxes in three dimensions judged as KITTI and nuScenes judge them."""
