"""Validation: pydantic's errors as faults at keys, whatever the model is made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from moorings.providers.references import Secret  # noqa: TC001 - pydantic evaluates annotations
from moorings.runtime.validation import Fault, find_faults, hider


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: str
    mode: Literal["a", "b"] = "a"


class Checked(Inner):
    @model_validator(mode="after")
    def _check(self) -> Self:
        return self


class Cat(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")

    number: int = 1
    secret: Secret | None = None
    either: bool | Inner = False
    checked: bool | Checked = False
    maybe: Inner | None = None
    noted: Annotated[int | None, Field(alias="Noted", ge=1)] = None
    hosts: list[Inner] = []
    table: dict[str, Inner] = {}
    ports: list[Annotated[int, Field(ge=1)] | None] = []
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None


def faults_of(**values: Any) -> list[Fault]:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate(values)
    return find_faults(Model, caught.value)


@pytest.mark.parametrize(
    ("values", "path", "problem"),
    [
        ({"numbr": 1}, "numbr", "is not known"),
        ({"number": "x"}, "number", "should be a valid integer"),
        ({"either": {}}, "either.file", "is missing"),
        ({"either": {"file": "x", "mdoe": 1}}, "either.mdoe", "is not known"),
        ({"either": "x"}, "either", "should be a valid boolean"),
        ({"maybe": {}}, "maybe.file", "is missing"),
        ({"maybe": 3}, "maybe", "should be a table"),
        ({"maybe": {"file": "x", "mode": "c"}}, "maybe.mode", "should be 'a' or 'b'"),
        ({"Noted": 0}, "Noted", "should be greater than or equal to 1"),
        ({"hosts": [{"file": "x"}, {}]}, "hosts.1.file", "is missing"),
        ({"hosts": 3}, "hosts", "should be a valid list"),
        ({"table": {"x": {"mdoe": 1, "file": ""}}}, "table.x.mdoe", "is not known"),
        ({"ports": [1, 0]}, "ports.1", "should be greater than or equal to 1"),
        ({"pet": {"kind": "cat", "lives": 9}}, "pet.lives", "is not known"),
        ({"pet": {"kind": "cow"}}, "pet", "Input tag 'cow' found"),
        ({"secret": 3}, "secret", "should be a string, or a reference to a secret"),
        ({"secret": {"path": "x"}}, "secret", "is a malformed reference to a secret"),
        ({"secret": {"path": 1, "key": {}}}, "secret", "is a malformed reference to a secret"),
    ],
)
def test_a_fault_is_at_the_key_that_somebody_wrote(
    values: dict[str, Any], path: str, problem: str
) -> None:
    (fault,) = faults_of(**values)
    assert ".".join(fault.path) == path
    assert fault.problem.startswith(problem)
    assert fault.cure


def test_unknown_keys_are_compared_with_those_of_their_own_table() -> None:
    (fault,) = faults_of(either={"file": "x", "mdoe": 1})
    assert fault.cure == "Known: file, mode (did you mean 'mode'?)"
    (fault,) = faults_of(checked={"file": "x", "mdoe": 1})
    assert fault.cure == "Known: file, mode (did you mean 'mode'?)"
    (fault,) = faults_of(pet={"kind": "cat", "lives": 9})
    assert fault.cure == "Remove it"
    (fault,) = faults_of(noted=1)
    assert "did you mean 'Noted'?" in fault.cure


def test_faults_come_in_the_order_of_the_model_one_for_each_key() -> None:
    found = faults_of(hosts=3, number="x", secret=3, other=1)
    assert [fault.path for fault in found] == [("number",), ("secret",), ("hosts",), ("other",)]


def test_texts_are_taken_out_of_messages_wherever_they_stand() -> None:
    hide = hider({"a": "first", "b": ["second", ("third",)], "c": SecretStr("fourth"), "d": 5})
    assert hide("first second third fourth 5") == " ".join([*["**********"] * 4, "5"])


def test_short_texts_are_taken_out_as_words() -> None:
    assert hider({"a": "an", "b": " "})("an answer: 'an'") == "********** answer: '**********'"


def test_references_are_no_secrets() -> None:
    assert hider({"url": {"path": "a", "key": "an"}})("an answer") == "an answer"
