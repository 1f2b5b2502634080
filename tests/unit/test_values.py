# SPDX-License-Identifier: MIT
"""Values to JSON and back, and what does not fit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkm.errors import ParseError
from lkm.system.snapshot import LoadedModule, ModuleState, Snapshot
from lkm.values import decode, encode
from tests.snapshots import make_module, make_snapshot

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def test_an_address_is_written_in_hexadecimal_and_read_in_either_form() -> None:
    data = encode(make_module("x"))
    assert data["address"] == "0xffffffffc0123040"
    assert decode(LoadedModule, data) == make_module("x")
    assert decode(LoadedModule, {**data, "address": 4096}).address == 4096


def test_an_enum_is_written_as_its_value() -> None:
    assert encode(make_module("x", ModuleState.COMING))["state"] == "coming"


def test_what_has_a_default_may_be_left_out() -> None:
    short = {"name": "x", "state": "live", "refcnt": None, "size": 1}
    assert decode(LoadedModule, short).holders == ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"size": "big"}, "LoadedModule.size: expected int, found 'big'"),
        ({"size": True}, "LoadedModule.size: expected int, found True"),
        ({"state": "lively"}, "LoadedModule.state: expected one of"),
        ({"holders": "y"}, "LoadedModule.holders: expected an array"),
        ({"memory": [{"start": []}]}, r"LoadedModule.memory\[0\]"),
        ({"address": None}, "LoadedModule.address: expected an address"),
        ({"colour": 1}, "LoadedModule: expected only the fields"),
        ({"raw": 3}, "LoadedModule.raw: expected an object"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ParseError, match=complaint):
        decode(LoadedModule, {**encode(make_module("x")), **change})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ParseError, match=r"LoadedModule\.size: expected a value"):
        decode(LoadedModule, {"name": "x", "state": "live", "refcnt": 0})


@given(JSON)
def test_any_json_is_a_snapshot_or_a_parse_error(data: Any) -> None:
    with pytest.raises(ParseError):
        Snapshot.from_json(json.dumps({"schema": "lkm.snapshot/1", "modules": data}))
    with pytest.raises(ParseError):
        Snapshot.from_json(json.dumps(data))


@given(st.data())
def test_a_damaged_snapshot_is_a_parse_error_or_reads_back_as_it_is(data: st.DataObject) -> None:
    text = make_snapshot(make_module("x")).to_json()
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.sampled_from(["", "0", '"', "}", "null", "é"])) + text[at + 1 :]
    try:
        snapshot = Snapshot.from_json(damaged)
    except ParseError:
        return
    assert Snapshot.from_json(snapshot.to_json()) == snapshot
