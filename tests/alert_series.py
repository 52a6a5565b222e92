"""What Prometheus would have scraped, a letter a minute; and what `promtool` is to find in it.

An `Instance` is one connection of one process. Its minutes are written as letters: `i`, `c`, `r`,
`f` and `s` for the states, `-` for a scrape that was lost, `_` for a minute without one, `.` where
it is not there at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from prometheus_server import promtool

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

STATES = {"i": "init", "c": "connecting", "r": "ready", "f": "failed", "s": "stopped"}
DOWN = "cf"
EDGES = (
    ("connecting", "ready"),
    ("ready", "connecting"),
    ("connecting", "failed"),
    ("failed", "connecting"),
)

Values = list[float]


@dataclass
class Instance:
    """One connection of one process, and what it shows each minute.

    Attributes:
        minutes: a letter each.
        name: the label `instance`.
        reason: why it is down when it is.
        extra: further series: name and labels, as they are written, and a value a minute.
    """

    minutes: str
    name: str = "a:9464"
    job: str = "worker"
    connection: str = "main"
    required: bool = True
    reason: str = "refused"
    extra: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def series(self) -> Iterator[dict[str, str]]:
        """All of it, as promtool reads it."""
        for name, values in self._values():
            yield {"series": name, "values": self._written(values)}

    def _values(self) -> Iterator[tuple[str, Sequence[float]]]:
        minutes = self.minutes
        required = str(self.required).lower()
        yield self._of("connection_info", required=required), self._constant(1)
        for letter, state in STATES.items():
            yield self._of("connection_state", state=state), [float(m == letter) for m in minutes]
        yield self._of("connection_ready"), [float(m == "r") for m in minutes]
        yield self._of("connection_generation"), self._generations()
        yield self._of("connection_stale_after_seconds"), self._constant(17)
        yield self._of("connection_last_ping_success_timestamp_seconds"), self._pinged()
        for source, target in EDGES:
            counter = self._of("connection_transitions_total", **{"from": source, "to": target})
            yield counter, self._transitions(source, target)
        why = [float(m in DOWN) for m in minutes]
        yield self._of("connection_failure_reason", reason=self.reason), why
        labels = f'job="{self.job}",instance="{self.name}",runtime="moorings"'
        yield f'moorings_build_info{{{labels},version="1"}}', self._constant(1)
        for name, values in self.extra.items():
            bare, _, further = name.removesuffix("}").partition("{")
            own = f'{labels},connection="{self.connection}"'
            yield f"{bare}{{{own}{',' if further else ''}{further}}}", values

    def _of(self, name: str, **further: str) -> str:
        labels = {
            "job": self.job,
            "instance": self.name,
            "runtime": "moorings",
            "connection": self.connection,
            **further,
        }
        return f"moorings_{name}{{{','.join(f'{k}={json.dumps(v)}' for k, v in labels.items())}}}"

    def _constant(self, value: float) -> Values:
        return [value] * len(self.minutes)

    def _generations(self) -> Values:
        first = self.minutes.find("r")
        return [float(0 <= first <= minute) for minute in range(len(self.minutes))]

    def _pinged(self) -> Values:
        """A ready connection was pinged ten seconds before each scrape."""
        found, last = [], 0.0
        for minute, letter in enumerate(self.minutes):
            last = 60.0 * minute - 10 if letter == "r" else last
            found.append(last)
        return found

    def _transitions(self, source: str, target: str) -> Values:
        """How often it went that way; what is `failed` a minute after `ready` was lost first."""
        found, count, before = [], 0, "."
        for letter in self.minutes:
            if letter in STATES:
                path = "rcf" if (before, letter) == ("r", "f") else before + letter
                steps = pairwise(path)
                count += sum((STATES.get(a), STATES.get(b)) == (source, target) for a, b in steps)
                before = letter
            found.append(float(count))
        return found

    def _written(self, values: Sequence[float]) -> str:
        """What is lost, or gone, is marked as stale by Prometheus, which ends the series there."""
        words, before = [], "."
        for letter, value in zip(self.minutes, values, strict=True):
            if letter in STATES:
                words.append(f"{value:g}")
            else:
                words.append("stale" if before in STATES and letter in "-." else "_")
            before = letter
        return " ".join(_repeated(word, len(list(run))) for word, run in groupby(words))


def _repeated(word: str, times: int) -> str:
    if times == 1:
        return word
    # promtool repeats a value this often again, and a gap this often in all.
    return f"_x{times}" if word == "_" else f"{word}x{times - 1}"


class Trial:
    """Series, and at which minute which alerts fire.

    Args:
        folder: for promtool's files.
        rules: the rule file.
    """

    def __init__(self, folder: Path, rules: Path) -> None:
        self._folder = folder
        self._rules = rules

    def run(
        self,
        instances: Iterable[Instance],
        alert: str,
        expected: Mapping[int, Iterable[Mapping[str, str]]],
    ) -> None:
        """At each minute of `expected`, exactly these of `alert` fire: their labels."""
        self._promtool(
            instances,
            promql_expr_test=[
                self._expectation(
                    f'ALERTS{{alertname="{alert}",alertstate="firing"}}',
                    minute,
                    [
                        {"__name__": "ALERTS", "alertname": alert, "alertstate": "firing", **labels}
                        for labels in firing
                    ],
                )
                for minute, firing in expected.items()
            ],
        )

    def answers(
        self,
        instances: Iterable[Instance],
        query: str,
        labels: Mapping[str, str],
        values: Mapping[int, float],
    ) -> None:
        """At each minute of `values`, the query has this one series, with that value."""
        samples = {
            minute: [{"labels": _selector(labels), "value": v}] for minute, v in values.items()
        }
        self._promtool(
            instances,
            promql_expr_test=[
                {"expr": query, "eval_time": f"{minute}m", "exp_samples": expected}
                for minute, expected in samples.items()
            ],
        )

    def silent(self, instances: Iterable[Instance]) -> None:
        """Nothing fires at any minute."""
        instances = list(instances)
        minutes = max(len(instance.minutes) for instance in instances)
        query = f'count_over_time(ALERTS{{alertstate="firing"}}[{minutes}m])'
        expected = self._expectation(query, minutes - 1, [])
        self._promtool(instances, promql_expr_test=[expected])

    def says(
        self,
        instances: Iterable[Instance],
        alert: str,
        minute: int,
        labels: Mapping[str, str],
        annotations: Mapping[str, str],
    ) -> None:
        """`alert` fires then, with these labels and in these words."""
        self._promtool(
            instances,
            alert_rule_test=[
                {
                    "eval_time": f"{minute}m",
                    "alertname": alert,
                    "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}],
                }
            ],
        )

    @staticmethod
    def _expectation(
        query: str, minute: int, labels: Iterable[Mapping[str, str]]
    ) -> dict[str, Any]:
        samples = [{"labels": _selector(found), "value": 1} for found in labels]
        return {"expr": query, "eval_time": f"{minute}m", "exp_samples": samples}

    def _promtool(self, instances: Iterable[Instance], **tests: Any) -> None:
        series = {s["series"]: s for instance in instances for s in instance.series()}
        case = {"interval": "1m", "input_series": list(series.values()), **tests}
        trial = {"rule_files": [str(self._rules)], "evaluation_interval": "1m", "tests": [case]}
        file = self._folder / "trial.json"
        file.write_text(json.dumps(trial))  # promtool reads YAML, of which this is some
        promtool("test", "rules", file)


def _selector(labels: Mapping[str, str]) -> str:
    name = labels.get("__name__", "")
    others = ",".join(f"{k}={json.dumps(v)}" for k, v in labels.items() if k != "__name__")
    return f"{name}{{{others}}}"
