"""How long a run takes at least: arithmetic against the card's peak, bytes against its memory's bandwidth.

A bound and never a prediction: every operator runs alone, at the full peak or the full bandwidth, whichever takes
longer.
"""

from tonnage.analyses.roofline.batches import UsefulBatch, find_useful_batch
from tonnage.analyses.roofline.bounds import Bound, LayerBound, Roofline, account_roofline
from tonnage.analyses.roofline.peaks import Peak, peak_of

__all__ = [
    "Bound",
    "LayerBound",
    "Peak",
    "Roofline",
    "UsefulBatch",
    "account_roofline",
    "find_useful_batch",
    "peak_of",
]
