"""Names that behave alike, and where new ones belong."""

from __future__ import annotations

from tonnage.analyses.closed_form.groups import Group, assign, group

BASE = {"layer.0.q": (8, 8), "layer.0.k": (8, 8), "layer.1.q": (8, 8), "layer.1.k": (8, 8), "head": (8, 3)}


def test_alike_are_those_with_one_pattern_and_one_shape_whatever_is_changed():
    wider = {name: (16, 8) if name.endswith("q") else shape for name, shape in BASE.items()}
    groups = group(BASE, [wider], BASE)
    assert [(g.pattern, g.members) for g in groups] == [
        ("layer.{}.q", ("layer.0.q", "layer.1.q")),
        ("layer.{}.k", ("layer.0.k", "layer.1.k")),
        ("head", ("head",)),
    ]


def test_a_group_splits_where_one_change_tells_its_members_apart():
    """Two stages of one width by chance: only the second follows the size that was changed."""
    base = {"stage.0.w": (8,), "stage.1.w": (8,)}
    assert len(group(base, [], base)) == 1
    groups = group(base, [{"stage.0.w": (8,), "stage.1.w": (16,)}], base)
    assert [g.members for g in groups] == [("stage.0.w",), ("stage.1.w",)]


def test_members_are_those_of_the_full_model():
    full = {f"layer.{n}.w": (4,) for n in range(6)}
    (found,) = group({"layer.0.w": (4,), "layer.1.w": (4,)}, [], full)
    assert found.members == tuple(full)


def test_a_new_name_belongs_to_the_last_known_place_before_it():
    groups = [Group("s.{}.b.{}.w", ("s.0.b.0.w", "s.0.b.1.w")), Group("s.{}.b.{}.w", ("s.1.b.0.w", "s.1.b.1.w"))]
    table = {f"s.{s}.b.{b}.w": (4,) for s in range(2) for b in range(4)}
    assert [len(names) for names in assign(groups, table)] == [4, 4]


def test_a_name_like_no_other_belongs_nowhere():
    groups = [Group("layer.{}.w", ("layer.0.w",))]
    assert assign(groups, {"layer.0.w": (4,), "norm": (4,)}) is None
    assert assign(groups, {"layer.0.w": (4,), "layer.1.w": (5,)}) is None


def test_members_that_have_become_different_are_no_group():
    groups = [Group("layer.{}.w", ("layer.0.w", "layer.1.w"))]
    assert assign(groups, {"layer.0.w": (4,), "layer.1.w": (5,)}) is None


def test_a_group_may_be_gone():
    groups = [Group("layer.{}.w", ("layer.0.w",)), Group("head", ("head",))]
    assert assign(groups, {"layer.0.w": (4,)}) == [["layer.0.w"], []]
