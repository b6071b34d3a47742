"""Pickles of plain values, read without running anything.

`pickle.load` runs whatever a file tells it to. A memory snapshot is made of dictionaries, lists, tuples, strings and
numbers alone (torch/csrc/cuda/Module.cpp: THCPModule_memorySnapshot; memory_snapshot.cpp: _memory_snapshot_pickled),
so this is a machine that knows the opcodes of those and no other: there is nothing in it to import a name or to call
one. A subclass of pickle.Unpickler would not do: a tuple nested a million deep as a key of a dictionary ends the
process, and one opcode of nine bytes reserves any amount of memory.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from tonnage.errors import BadFile
from tonnage.units import GiB, format_bytes

MOST_BYTES = 4 * GiB
"""A snapshot of a million events with Python stacks is a few hundred MiB."""

MOST_CONTAINERS = 50_000_000
"""One byte of a pickle can be an empty dictionary of 64 bytes; a snapshot has about one for each event and frame."""

MOST_MARKS = 64
"""How deep containers may be opened inside each other; a snapshot needs 7."""

_LONGEST_INTEGER = 16
_HINT = "give a file written by torch.cuda.memory._dump_snapshot or by `tonnage export`"
_CALLING = frozenset(b"cRbioPQ\x81\x82\x83\x84\x92\x93\x96\x97")
"""GLOBAL REDUCE BUILD INST OBJ PERSID BINPERSID NEWOBJ EXT1 EXT2 EXT4 NEWOBJ_EX STACK_GLOBAL, and out-of-band data."""


class _Refused(Exception):
    """Why a pickle is not read."""


def plain_value(data: bytes, *, name: str = "pickle") -> Any:
    """The value that `data` holds, made of dict, list, tuple, str, int, float, bool and None.

    >>> import pickle
    >>> plain_value(pickle.dumps({"segments": [], "device_traces": [[]]}))
    {'segments': [], 'device_traces': [[]]}

    Keys of dictionaries are strings or integers. Values may be shared and may contain themselves, as in any pickle:
    walk them by their known shape. Raises BadFile for what is truncated, asks for code, or is larger than any
    snapshot.
    """
    if len(data) > MOST_BYTES:
        raise BadFile(
            f"{name} has {format_bytes(len(data))}, more than the {format_bytes(MOST_BYTES)} read", hint=_HINT
        )
    try:
        return _Machine(data).run()
    except _Refused as error:
        raise BadFile(f"{name} is refused: {error}", hint=_HINT) from None
    except (IndexError, struct.error, KeyError, UnicodeDecodeError):
        raise BadFile(f"{name} is truncated or damaged", hint=_HINT) from None


class _Machine:
    """Runs a pickle; every opcode is a method that moves `at` past its argument."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.containers = 0

    def run(self) -> Any:
        data, opcodes = self.data, _OPCODES
        while True:
            opcode = data[self.at]
            self.at += 1
            if opcode == _STOP:
                break
            action = opcodes.get(opcode)
            if action is None:
                what = "asks to import or run something" if opcode in _CALLING else "has something no snapshot has"
                raise _Refused(f"it {what} (opcode {opcode:#04x} at byte {self.at - 1})")
            action(self)
        if self.outer or len(self.stack) != 1:
            raise IndexError
        return self.stack[0]

    def number(self, layout: struct.Struct) -> Any:
        (value,) = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return value

    def taken(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.data):
            raise IndexError
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def push_container(self, value: Any) -> None:
        self.containers += 1
        if self.containers > MOST_CONTAINERS:
            raise _Refused(f"it has more than {MOST_CONTAINERS:,} dictionaries and lists")
        self.stack.append(value)

    def open(self) -> None:
        if len(self.outer) == MOST_MARKS:
            raise _Refused(f"its values are nested more than {MOST_MARKS} deep")
        self.outer.append(self.stack)
        self.stack = []

    def close(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def memoize(self, number: int) -> None:
        self.memo[number] = self.stack[-1]


def _protocol(machine: _Machine) -> None:
    protocol = machine.taken(1)[0]
    if protocol > 5:
        raise _Refused(f"it has pickle protocol {protocol}; this tonnage reads up to 5")


def _pushes(layout: struct.Struct) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        machine.stack.append(machine.number(layout))

    return push


def _pushes_constant(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(value)


def _pushes_text(layout: struct.Struct) -> Callable[[_Machine], None]:
    def push(machine: _Machine) -> None:
        machine.stack.append(machine.taken(machine.number(layout)).decode("utf-8", "surrogatepass"))

    return push


def _long(machine: _Machine) -> None:
    length = machine.taken(1)[0]
    if length > _LONGEST_INTEGER:
        raise _Refused(f"it has an integer of {length} bytes")
    machine.stack.append(int.from_bytes(machine.taken(length), "little", signed=True))


def _append(machine: _Machine) -> None:
    item = machine.stack.pop()
    _target(machine, list).append(item)


def _appends(machine: _Machine) -> None:
    items = machine.close()
    _target(machine, list).extend(items)


def _set_item(machine: _Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _put(_target(machine, dict), [key, value])


def _set_items(machine: _Machine) -> None:
    items = machine.close()
    _put(_target(machine, dict), items)


def _target(machine: _Machine, kind: type) -> Any:
    target = machine.stack[-1]
    if type(target) is not kind:
        raise _Refused(f"it adds to something that is no {kind.__name__}")
    return target


def _put(target: dict[Any, Any], items: list[Any]) -> None:
    """Keys that are plain: hashing a tuple of tuples of tuples can take for ever."""
    if len(items) % 2:
        raise IndexError
    for key in items[::2]:
        if type(key) is not str and type(key) is not int:
            raise _Refused(f"it has a key that is a {type(key).__name__}")
    target.update(zip(items[::2], items[1::2], strict=True))


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def make(machine: _Machine) -> None:
        items = [machine.stack.pop() for _ in range(count)]
        machine.push_container(tuple(reversed(items)))

    return make


_BYTE, _SHORT, _INT, _UINT = (struct.Struct(code) for code in ("<B", "<H", "<i", "<I"))
_LONG, _DOUBLE = struct.Struct("<Q"), struct.Struct(">d")
_STOP = ord(".")
_ACTIONS: dict[int | str, Callable[[_Machine], None]] = {
    0x80: _protocol,
    0x95: lambda machine: machine.number(_LONG),  # FRAME: how much to read ahead
    "(": _Machine.open,
    "N": _pushes_constant(None),
    0x88: _pushes_constant(True),
    0x89: _pushes_constant(False),
    "K": _pushes(_BYTE),
    "M": _pushes(_SHORT),
    "J": _pushes(_INT),
    0x8A: _long,
    "G": _pushes(_DOUBLE),
    0x8C: _pushes_text(_BYTE),
    "X": _pushes_text(_UINT),
    0x8D: _pushes_text(_LONG),
    "]": lambda machine: machine.push_container([]),
    "}": lambda machine: machine.push_container({}),
    ")": _tuple_of(0),
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    "t": lambda machine: machine.push_container(tuple(machine.close())),
    "a": _append,
    "e": _appends,
    "s": _set_item,
    "u": _set_items,
    0x94: lambda machine: machine.memoize(len(machine.memo)),
    "q": lambda machine: machine.memoize(machine.number(_BYTE)),
    "r": lambda machine: machine.memoize(machine.number(_UINT)),
    "h": lambda machine: machine.stack.append(machine.memo[machine.number(_BYTE)]),
    "j": lambda machine: machine.stack.append(machine.memo[machine.number(_UINT)]),
}
"""By the names and numbers of Lib/pickle.py and pickletools.py, protocols 2 to 5."""
_OPCODES = {ord(opcode) if isinstance(opcode, str) else opcode: action for opcode, action in _ACTIONS.items()}
