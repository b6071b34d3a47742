from __future__ import annotations

import os
import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.errors import BadFile
from tonnage.measuring.snapshots import plain_pickle
from tonnage.measuring.snapshots.plain_pickle import plain_value

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers(0, 2**40), inner) | st.tuples(inner, inner, inner)
    ),
    max_leaves=30,
)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@given(value=values)
def test_plain_values_come_back(protocol, value):
    assert plain_value(pickle.dumps(value, protocol)) == value


def test_large_batches_and_shared_values_come_back():
    frame = {"filename": "a.py", "line": 70_000, "name": "f" * 300}
    value = [{"frames": [frame, frame], "addr": 0x7F00_0000_0000 + n} for n in range(3000)]
    back = plain_value(pickle.dumps(value, 4))
    assert back == value
    assert back[0]["frames"][0] is back[2999]["frames"][1]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_is_run(protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadFile, match="refused"):
        plain_value(pickle.dumps({"segments": Evil()}, protocol), name="evil.pickle")
    assert list(tmp_path.iterdir()) == []
    pickle.loads(pickle.dumps(Evil(), protocol))  # the same file is dangerous to who loads it
    assert [path.name for path in tmp_path.iterdir()] == ["pwned"]


@pytest.mark.parametrize(
    "value",
    [print, range(3), {1, 2}, frozenset(), b"bytes", bytearray(3), 1j, object()],
    ids=lambda v: type(v).__name__,
)
def test_other_types_are_refused(value):
    with pytest.raises(BadFile, match="refused"):
        plain_value(pickle.dumps([value], 5))


def test_every_truncation_is_a_bad_file():
    whole = pickle.dumps({"segments": [{"address": 2**40, "x": (1, 2.5, None, "name" * 80)}], "device_traces": [[]]}, 4)
    for length in range(len(whole)):
        with pytest.raises(BadFile, match=r"truncated or damaged|refused"):
            plain_value(whole[:length], name="cut.pickle")


@given(st.binary(max_size=200))
def test_noise_is_a_bad_file_or_a_value(noise):
    try:
        plain_value(b"\x80\x04" + noise + b".")
    except BadFile as error:
        assert error.hint


def test_a_deep_tuple_as_a_key_is_refused():
    # hashing it in C recurses once for each level, which ends a process that unpickles it with the standard library
    deep = b"\x80\x04})" + b"\x85" * 1_000_000 + b"Ns."
    with pytest.raises(BadFile, match="a key that is a tuple"):
        plain_value(deep)


def test_a_key_that_takes_for_ever_to_hash_is_refused():
    doubling = b"\x80\x04}K\x01" + b"".join(b"q\x00h\x00\x86" for _ in range(100)) + b"Ns."
    with pytest.raises(BadFile, match="a key that is a tuple"):
        plain_value(doubling)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04]r" + struct.pack("<I", 2**31) + b"h\x00.",  # remembers under a number that no list is as long as
        b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",  # a text of an exbibyte
        b"\x80\x04\x95" + struct.pack("<Q", 2**63),
        b"\x80\x04(u.",
        b"\x80\x04}(K\x01u.",
        b"\x80\x04]K\x01.",
        b"\x80\x04.",
    ],
    ids=["memo", "text", "frame", "items-without-target", "half-an-item", "two-values", "no-value"],
)
def test_damaged(data):
    with pytest.raises(BadFile, match="truncated or damaged"):
        plain_value(data, name="damaged.pickle")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x80\x06N.", "protocol 6"),
        (b"\x80\x04\x8a\xff" + bytes(255) + b".", "integer of 255 bytes"),
        (b"\x80\x04K\x01K\x02a.", "no list"),
        (b"\x80\x04]K\x01K\x02s.", "no dict"),
        (b"\x80\x04" + b"(" * 65 + b".", "nested more than 64 deep"),
        (b"\x80\x04cos\nsystem\n.", "import or run"),
        (b"Vtext\n.", "no snapshot has"),
    ],
    ids=["protocol", "integer", "append", "set-item", "nesting", "global", "text-opcode"],
)
def test_refused_with_the_reason(data, why):
    with pytest.raises(BadFile, match=why):
        plain_value(data)


def test_no_more_containers_than_a_snapshot_has(monkeypatch):
    monkeypatch.setattr(plain_pickle, "MOST_CONTAINERS", 3)
    assert plain_value(pickle.dumps([[], {}], 4)) == [[], {}]
    with pytest.raises(BadFile, match="more than 3"):
        plain_value(pickle.dumps([[], {}, ()], 4))


def test_no_more_bytes_than_a_snapshot_has(monkeypatch):
    monkeypatch.setattr(plain_pickle, "MOST_BYTES", 10)
    with pytest.raises(BadFile, match="more than the 10 B"):
        plain_value(pickle.dumps(list(range(10)), 4))


def test_values_that_hold_themselves_come_back():
    value = []
    value.append(value)
    back = plain_value(pickle.dumps(value, 4))
    assert back[0] is back
