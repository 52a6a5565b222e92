"""What is measured: wall time of contestants that alternate in one process, quoted as ratios."""

from __future__ import annotations

import gc
import resource
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

clock = perf_counter


def cpu_seconds() -> float:
    """CPU time of this process so far, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def resident_kb() -> int:
    """Resident memory of this process, in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS: this benchmark needs Linux")


def alternate(
    contestants: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int
) -> dict[str, dict[str, float]]:
    """Run ABCABC…, one warming round first; the lowest decile of each figure, per contestant.

    The machine's noise hits all alike, and what is low is what is left when it does not. Of fewer
    than ten rounds that is the minimum; of a hundred the minimum is a single lucky round, by which
    the floor differed from itself by a tenth.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in contestants}
    for round_ in range(rounds + 1):
        for name, life in contestants.items():
            gc.collect()
            figures = life()
            if round_ == 0:
                continue
            for key, value in figures.items():
                found[name].setdefault(key, []).append(value)
    return {
        name: {key: sorted(values)[len(values) // 10] for key, values in figures.items()}
        for name, figures in found.items()
    }


@dataclass
class Row:
    """One line of the table. `bound` None: printed for comparison only."""

    what: str
    value: float
    unit: str = "x"
    bound: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """`ok`, `over` (noted), or `FAIL` (by more than a quarter)."""
        if self.bound is None:
            return ""
        if self.value <= self.bound:
            return "ok"
        return "over" if self.value <= 1.25 * self.bound else "FAIL"


@dataclass
class Report:
    """What a run has measured."""

    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        what: str,
        value: float,
        unit: str = "x",
        bound: float | None = None,
        note: str = "",
    ) -> None:
        """Take a row in, and show it at once."""
        row = Row(what, value, unit, bound, note)
        self.rows.append(row)
        limit = "" if bound is None else f"≤ {bound:g}"
        print(f"{what:58s} {value:10.3f} {unit:4s} {limit:8s} {row.verdict:5s} {note}", flush=True)
