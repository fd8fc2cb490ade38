"""``--split``: which of the layers that a policy quantizes are split in two before it places Q/DQ.

``cfws`` splits every convolution that has a centre tap, ``auto`` those whose output gains at least
3 dB when everything that the policy rounds is rounded: the input of both twins, and on ONNX Runtime
both branches of the split one, which is what a split costs there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from calibration.cfws.arithmetic import SplitOptions
from calibration.cfws.gain import OutputGain
from calibration.cfws.transform import Splits, split_convs
from exporters.errors import UserError

if TYPE_CHECKING:
    import onnx_ir as ir

    from calibration.job import Job


def split_weights(job: Job, model: ir.Model) -> Splits:
    """Split convolutions of ``model`` in place, as the job's ``split`` option says.

    Raises:
        UserError: a split is asked for, and there are statistics instead of samples: those of the
            branches are in no earlier pass.
    """
    how = job.options.split
    if how == "none":
        return Splits((), ())
    if job.samples is None:
        raise UserError(
            f"--split {how} makes tensors that these statistics have not seen",
            fix="Give the samples themselves, or choose --split none",
        )
    quantized = {
        item.node.name or "" for item in job.policy.place(model.graph, job.floats).weighted
    }
    gain = None
    if how == "auto":
        gain = OutputGain(
            job.samples,
            job.file.spec,
            activations=job.policy.form if job.form.bits == 8 else None,
            rounded_branches=job.policy.integer_results,
            progress=job.progress,
        )
    options = SplitOptions(bits=job.form.bits, half=job.half)
    return split_convs(model, options, gain=gain, only=quantized)
