"""How much arithmetic a run is: multiply-accumulates, FLOPs by named conventions, where they are, what is not known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from msgspec import Struct, field
from msgspec.structs import replace

from tonnage.analyses.deferred import asked
from tonnage.analyses.forms import ComputeForm
from tonnage.analyses.known import Known
from tonnage.analyses.passes import PASSES, Pass, Step, enclosing, last_step
from tonnage.analyses.side_form import Product
from tonnage.costs import FLASH, Cost, Padding, Unknown, cost
from tonnage.errors import BadOption
from tonnage.recording import Recording
from tonnage.trace import ROOT, Op, Trace

FLOPS_PER_MAC = 2


class Work(Struct, frozen=True, kw_only=True):
    """The arithmetic of one pass.

    `macs` are the multiply-accumulates of products: matrix products, convolutions, attention, recurrent gates.
    `flops` are the same by the convention "mac": two for each. `other` is all other floating-point work by its kind
    ("elementwise", "norm", "bias", ...), which that convention leaves out. `textbook_flops` is by the convention
    "textbook": a dot product of n terms is 2n - 1, and `other` counts. `bytes_moved` is every operator's inputs
    read once and outputs written once. `at_least`: operators without a rule add more.
    """

    macs: int
    flops: int
    other: dict[str, int]
    textbook_flops: int
    bytes_moved: int
    at_least: bool


class ModuleWork(Struct, frozen=True, kw_only=True):
    """One module: what it did itself (`own_macs`) and with everything it called (`macs`), over all its `calls`.

    `path` and `type` are both "" for what ran outside of every module. `share` is of the forward pass. `backward_macs`
    are of the module and those it called; of a module that several call, they are with the first of them.
    """

    path: str
    type: str
    calls: int
    own_macs: int
    macs: int
    backward_macs: int
    share: float


class OperatorWork(Struct, frozen=True, kw_only=True):
    """One operator in one pass, such as "aten.addmm.default"; `kind` is the family of its rule."""

    operator: str
    kind: str
    during: Pass
    times: int
    macs: int


class Unsupported(Struct, frozen=True, kw_only=True):
    """An operator whose work is not known and not counted."""

    operator: str
    module: str
    during: Pass
    times: int
    reason: str


class Compute(Struct, frozen=True, kw_only=True, dict=True):
    """The arithmetic of one inference, or of one training step.

    `macs` and `flops` are of the forward pass. `recomputation` is what is done a second time: forward work under
    activation checkpointing, and the scores that fused attention kernels do not keep. `step_macs` is all of it.
    `by_module` has the modules that ran, in the order of `named_modules`; `by_operator` the most work first.
    """

    macs: int
    flops: int
    at_least: bool
    forward: Work
    recomputation: Work
    backward: Work
    optimizer: Work
    step_macs: int
    by_module: list[ModuleWork]
    by_operator: list[OperatorWork]
    unsupported: list[Unsupported]
    known: Known = "exact"
    written: str = field(default="", name="formula")
    derived: ComputeForm | None = field(default=None, name="form")

    @property
    def form(self) -> ComputeForm | None:
        """The closed form of the forward MACs, derived when it is first asked for; None without a subject to ask."""
        return self.derived or asked(self)

    @property
    def formula(self) -> str:
        """The forward MACs in batch, lengths and image side; "" where no polynomial gives them."""
        return self.form.formula if self.form else ""

    def evaluate(self, **sizes: int) -> int:
        """The forward MACs at these sizes (`B=8, S=512`), all others as recorded: see `ComputeForm.evaluate`."""
        if self.form is None:
            raise BadOption("nothing says which sizes the work follows", hint="weigh the model itself")
        return self.form.evaluate(**sizes)

    def settled(self) -> Compute:
        """With the form derived and written down."""
        return replace(self, written=self.formula, derived=self.form)


def account_compute(recording: Recording) -> Compute:
    """The arithmetic of `recording`: of its inference or of its last training step.

    Which passes there are follows from the marks that `weigh` sets. Where there are none, it is all that was recorded.
    """
    trace = recording.trace
    step = last_step(trace)
    costs = costs_of(trace.ops[step.begin : step.end])
    works = _works(step, costs)
    forward = works["forward"]
    return Compute(
        forward=forward,
        macs=forward.macs,
        flops=forward.flops,
        at_least=any(work.at_least for work in works.values()),
        recomputation=works["recomputation"],
        backward=works["backward"],
        optimizer=works["optimizer"],
        step_macs=sum(work.macs for work in works.values()),
        by_module=_by_module(trace, step, costs),
        by_operator=_by_operator(trace, step, costs),
        unsupported=_unsupported(trace, step, costs),
    )


def products_of(ops: Sequence[Op]) -> list[Product]:
    """The products among some operators that ran one after the other."""
    costs = zip(ops, costs_of(ops), strict=True)
    return [Product(found.macs, _side(op)) for op, found in costs if isinstance(found, Cost) and found.macs]


def _side(op: Op) -> int:
    """The side of what a convolution gives, if it is square; 0 for any other product."""
    shape = op.outputs[0].shape if op.outputs and "convolution" in op.name else ()
    return shape[-1] if len(shape) == 4 and shape[-1] == shape[-2] else 0


def products_by_module(ops: Sequence[Op]) -> dict[int, tuple[int, ...]]:
    """The work of each module itself, by its index: of one product (its results, the length of each), else (MACs,).

    Results times length are the multiply-accumulates. Modules without any are left out.
    """
    work: dict[int, list[Cost]] = {}
    for op, found in zip(ops, costs_of(ops), strict=True):
        if isinstance(found, Cost) and found.macs:
            work.setdefault(op.module, []).append(found)
    return {module: _factors(costs) for module, costs in work.items()}


def _factors(costs: Sequence[Cost]) -> tuple[int, ...]:
    first = costs[0]
    if len(costs) == 1 and first.products and first.macs % first.products == 0:
        return first.products, first.macs // first.products
    return (sum(cost.macs for cost in costs),)


def costs_of(ops: Sequence[Op]) -> list[Cost | Unknown]:
    """The cost of each; a distinct operator, of which a long run has few, is asked for once."""
    padding = Padding()
    known: dict[int, Cost | Unknown] = {}
    found = []
    for index, op in enumerate(ops):
        if FLASH in op.name:
            found.append(cost(padding.undo(op, ops[max(0, index - 3) : index])))
            continue
        answer = known.get(id(op))
        if answer is None:
            answer = known[id(op)] = cost(op)
        found.append(answer)
    return found


@dataclass
class _Tally:
    """What the operators of one pass add up to."""

    macs: int = 0
    products: int = 0
    bytes_moved: int = 0
    other: Counter[str] = dataclass_field(default_factory=Counter)
    unknown: int = 0

    def add(self, found: Cost | Unknown) -> None:
        if isinstance(found, Unknown):
            self.unknown += 1
            return
        self.macs += found.macs
        self.products += found.products
        self.bytes_moved += found.bytes_moved
        self.other[found.other_kind] += found.flops
        self.other["bias"] += found.bias

    def work(self) -> Work:
        other = {kind: flops for kind, flops in self.other.most_common() if flops}
        return Work(
            macs=self.macs,
            flops=FLOPS_PER_MAC * self.macs,
            other=other,
            textbook_flops=FLOPS_PER_MAC * self.macs - self.products + sum(other.values()),
            bytes_moved=self.bytes_moved,
            at_least=self.unknown > 0,
        )


def _works(step: Step, costs: Sequence[Cost | Unknown]) -> dict[Pass, Work]:
    tallies = {name: _Tally() for name in PASSES}
    for during, found in zip(step.passes, costs, strict=True):
        tallies[during].add(found)
        if isinstance(found, Cost) and found.again:
            tallies["recomputation"].add(found.again)
    return {name: tally.work() for name, tally in tallies.items()}


def _macs(found: Cost | Unknown) -> int:
    return found.macs if isinstance(found, Cost) else 0


def _by_module(trace: Trace, step: Step, costs: Sequence[Cost | Unknown]) -> list[ModuleWork]:
    """Forward work with children is what happened during the calls; backward is passed up to the calling modules."""
    own: dict[Pass, Counter[int]] = {name: Counter() for name in PASSES}
    forward = [0]
    for during, op, found in zip(step.passes, trace.ops[step.begin : step.end], costs, strict=True):
        macs = _macs(found)
        own[during][op.module] += macs
        forward.append(forward[-1] + (macs if during == "forward" else 0))
    with_children, times, callers = _calls(step, forward)
    backward: Counter[int] = Counter()
    for module, macs in own["backward"].items():
        for index in {module, *callers.get(module, ())}:
            backward[index] += macs
    with_children[ROOT] = own["forward"][ROOT]
    return [
        ModuleWork(
            path=module.path,
            type=module.type,
            calls=times[index],
            own_macs=own["forward"][index],
            macs=with_children[index],
            backward_macs=backward[index],
            share=with_children[index] / forward[-1] if forward[-1] else 0.0,
        )
        for index, module in enumerate(trace.modules)
        if times[index] or with_children[index] or backward[index]
    ]


def _calls(step: Step, forward: Sequence[int]) -> tuple[Counter[int], Counter[int], dict[int, list[int]]]:
    """Of each module: forward work during its calls, how often it was called, and who called it first.

    `forward[n]` is the work before operator n of the step. A module inside a call of itself is counted there already.
    """
    macs: Counter[int] = Counter()
    times: Counter[int] = Counter()
    callers: dict[int, list[int]] = {}
    for call, outer in enclosing(step.calls):
        begin, end = call.begin - step.begin, call.end - step.begin
        if begin < end and step.passes[begin] != "forward":
            continue
        times[call.module] += 1
        callers.setdefault(call.module, outer)
        if call.module not in outer:
            macs[call.module] += forward[end] - forward[begin]
    return macs, times, callers


def _by_operator(trace: Trace, step: Step, costs: Sequence[Cost | Unknown]) -> list[OperatorWork]:
    times: Counter[tuple[Pass, str, str]] = Counter()
    macs: Counter[tuple[Pass, str, str]] = Counter()
    for during, op, found in zip(step.passes, trace.ops[step.begin : step.end], costs, strict=True):
        if isinstance(found, Cost):
            key = (during, op.name, found.kind)
            times[key] += 1
            macs[key] += found.macs
    return [
        OperatorWork(operator=name, kind=kind, during=during, times=times[during, name, kind], macs=count)
        for (during, name, kind), count in sorted(macs.items(), key=lambda item: (-item[1], item[0]))
    ]


def _unsupported(trace: Trace, step: Step, costs: Sequence[Cost | Unknown]) -> list[Unsupported]:
    times: Counter[tuple[str, int, Pass, str]] = Counter()
    for during, op, found in zip(step.passes, trace.ops[step.begin : step.end], costs, strict=True):
        if isinstance(found, Unknown):
            times[op.name, op.module, during, found.reason] += 1
    return [
        Unsupported(operator=name, module=trace.modules[module].path, during=during, times=count, reason=reason)
        for (name, module, during, reason), count in times.items()
    ]
