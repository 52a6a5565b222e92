"""What a server says reaches terminals: as text, and not as commands to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from moorings.runtime.kernel import Kernel
from moorings.runtime.redaction import Redactor


def test_an_errors_text_is_one_line_without_control_characters() -> None:
    kernel: Any = SimpleNamespace(redactor=Redactor())
    provider: Any = SimpleNamespace(describe=str)
    said = Kernel.describe(kernel, provider, OSError("no\x1b]0;x\x07\r\nforged  ready\udcff"))
    assert said == "no ]0;x   forged  ready "
