"""The stages in order, one function for each thing that can be asked. Nothing is worked out here."""

from __future__ import annotations

from tonnage.pipeline.counting import count_at as count_at
from tonnage.pipeline.counting import params as params
from tonnage.pipeline.structuring import structure as structure
from tonnage.pipeline.weighing import weigh as weigh
from tonnage.pipeline.working import flops as flops
