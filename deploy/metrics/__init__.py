"""What a comparison is judged by: tensor error, label agreement, occupancy mIoU."""

from deploy.metrics.labels import ConfusionMatrix, SliceAgreement
from deploy.metrics.occupancy import OccupancyMIoU
from deploy.metrics.tensors import ErrorAccumulator, TensorError, compare_tensors

__all__ = [
    "ConfusionMatrix",
    "ErrorAccumulator",
    "OccupancyMIoU",
    "SliceAgreement",
    "TensorError",
    "compare_tensors",
]
