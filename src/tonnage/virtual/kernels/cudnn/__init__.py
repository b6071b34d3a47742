"""What cuDNN takes for itself. Much of it is the library's own choice: what is not known of it is listed.

Convolutions, batch norm and recurrent layers have files of their own; its attention is with the others'.
"""

from __future__ import annotations

from tonnage.virtual.kernels.cudnn import batch_norm, convolution, recurrent

LAYER = recurrent.LAYER
EARLY = recurrent.EARLY
SCRATCH = {**batch_norm.SCRATCH, **convolution.SCRATCH, **recurrent.SCRATCH}
SHAPES = recurrent.SHAPES
