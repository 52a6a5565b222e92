"""What a metric is, to those who list them: a name, a type, its series, and who tells the values.

A family holds the same series for each of its subjects (a connection, or a runtime), so that one
template renders a subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Labels = Mapping[str, str]
Series = tuple[str, Labels]
Values = Callable[[Any], "Sequence[float] | None"]

COUNTER, GAUGE, HISTOGRAM, INFO = "counter", "gauge", "histogram", "info"


@dataclass(frozen=True)
class Family:
    """One metric.

    Attributes:
        name: without the type's suffix (`_total`, `_info`), as OpenMetrics has it.
        kind: `counter`, `gauge`, `histogram` or `info`.
        help: what it means, for people.
        series: the suffix and the further labels of each series of one subject.
        values: of one subject, in the order of `series`; None: the subject has none.
        labels: labels whose values depend on the subject.
    """

    name: str
    kind: str
    help: str
    values: Values
    series: tuple[Series, ...] = (("", {}),)
    labels: Callable[[Any], Labels] | None = None


def histogram(bounds: Iterable[float]) -> tuple[Series, ...]:
    """The series of a histogram: cumulative buckets, the count and the sum."""
    buckets = [("_bucket", {"le": str(bound)}) for bound in bounds]
    return (*buckets, ("_bucket", {"le": "+Inf"}), ("_count", {}), ("_sum", {}))


def enumerated(suffix: str, label: str, members: Iterable[str]) -> tuple[Series, ...]:
    """A series for each member of an enumeration."""
    return tuple((suffix, {label: str(member)}) for member in members)
