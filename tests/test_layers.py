"""Layers: the tree, where each of its values comes from, and what a variable's text means."""

from __future__ import annotations

from typing import Any

import pytest

from moorings.runtime.layers import DEFAULT, Document, Layered, parse_override


def layered(*contents: dict[str, Any]) -> Layered:
    """The `default` layers of documents called 1, 2, …, merged."""
    merged = Layered()
    documents = [Document(str(n), {"default": c}) for n, c in enumerate(contents, start=1)]
    merged.merge(documents, ("default",))
    return merged


def test_a_later_value_replaces_an_earlier_one_with_its_origin() -> None:
    merged = layered({"runtime": {"a": 1, "b": 1}}, {"runtime": {"a": 2}})
    assert merged.tree == {"runtime": {"a": 2, "b": 1}}
    assert merged.origin(("runtime", "a")).file == "2"
    assert merged.origin(("runtime", "b")).file == "1"


def test_of_a_table_the_latest_change_counts_and_of_a_missing_key_the_beginning() -> None:
    merged = layered({"runtime": {"t": {"a": 1}}}, {"runtime": {"t": {"b": 1}}})
    assert merged.origin(("runtime", "t")).file == "2"
    assert merged.origin(("runtime", "t", "missing")).file == "1"
    assert Layered().origin(("runtime", "t")) is DEFAULT


def test_a_table_and_a_value_replace_each_other_whole() -> None:
    table, value = {"runtime": {"x": {"a": 1}}}, {"runtime": {"x": 1}}
    merged = layered(table, value)
    assert merged.tree == {"runtime": {"x": 1}}
    assert set(merged.origins) == {("runtime", "x")}
    merged = layered(value, table)
    assert merged.tree == {"runtime": {"x": {"a": 1}}}
    assert set(merged.origins) == {("runtime", "x", "a")}


def test_an_empty_table_has_an_origin_too() -> None:
    merged = layered({"database": {"documents": {"main": {}}}})
    assert merged.origin(("database", "documents", "main", "backend")).file == "1"


def test_the_documents_are_not_changed() -> None:
    first, second = {"runtime": {"t": {"a": 1}}}, {"runtime": {"t": {"a": 2}}}
    layered(first, second)
    assert first == {"runtime": {"t": {"a": 1}}}


def test_what_belongs_to_others_is_listed_once() -> None:
    merged = layered({"logging": {}}, {"logging": {}, "database": {"sql": 1}})
    assert merged.foreign == ["default.logging", "default.database.sql"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("{ a = 1 }", {"a": 1}),
        ("[1, 2]", [1, 2]),
        ("['a']", ["a"]),
        (" {} ", {}),
        ("{", "{"),
        ("5", "5"),
        ("", ""),
    ],
)
def test_only_tables_and_arrays_are_parsed(text: str, value: Any) -> None:
    assert parse_override(text) == value
