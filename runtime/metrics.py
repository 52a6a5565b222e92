"""One collector per prometheus_client registry, and a renderer that never holds the loop up.

`generate_latest` takes over 100 ms for a thousand connections, all of it on somebody's loop. The
exporter therefore renders our families from templates, a slice at a time, and only what others
have registered goes through prometheus_client, in a thread.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector

from .families import CONNECTION_FAMILIES, RUNTIME_FAMILIES
from .family import COUNTER, GAUGE, INFO, Family
from .hosts import checkpoint, in_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .family import Labels
    from .kernel import Kernel

SLICE = 0.002
"""How long rendering may hold the loop at a time, in seconds."""
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = openmetrics_exposition.CONTENT_TYPE_LATEST

# Set while the exporter asks prometheus_client for what others have registered.
_muted: ContextVar[bool] = ContextVar("moorings_collector_muted", default=False)

_EOF = b"# EOF\n"


class MooringsCollector(Collector):
    """All runtimes that were opened with one registry, told apart by the label `runtime`."""

    def __init__(self) -> None:
        self.kernels: tuple[Kernel, ...] = ()

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are told by `collect`, also while no runtime is open."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every family, read from plain state. From any thread."""
        if _muted.get():
            return
        for family in (*RUNTIME_FAMILIES, *CONNECTION_FAMILIES):
            metric = Metric(family.name, family.help, family.kind)
            for subject, labels in _subjects(self.kernels, family):
                values = family.values(subject)
                for (suffix, further), value in zip(family.series, values or (), strict=False):
                    metric.add_sample(family.name + suffix, {**labels, **further}, value)
            yield metric


_collectors: WeakKeyDictionary[CollectorRegistry, MooringsCollector] = WeakKeyDictionary()


@contextmanager
def expose(kernel: Kernel, registry: CollectorRegistry | None) -> Iterator[None]:
    """Let `registry` (None: prometheus_client's own) show `kernel` for as long as the block runs.

    Raises:
        ValueError: a runtime of this name is shown there already.
    """
    where = REGISTRY if registry is None else registry
    collector = _collectors.get(where)
    if collector is None:
        collector = _collectors[where] = MooringsCollector()
    if not collector.kernels:
        where.register(collector)
    if any(other.name == kernel.name for other in collector.kernels):
        raise ValueError(
            f"a runtime called {kernel.name!r} is open already: give each one a name of its own "
            "(runtime.name), or a metrics registry of its own"
        )
    collector.kernels = (*collector.kernels, kernel)
    try:
        yield
    finally:
        collector.kernels = tuple(k for k in collector.kernels if k is not kernel)
        if not collector.kernels:
            where.unregister(collector)


class Exposition:
    """What a scrape is answered with: all of a registry, ours and others'."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self._registry = REGISTRY if registry is None else registry

    async def render(self, openmetrics: bool) -> bytes:
        """The whole text. Holds the loop for at most `SLICE` seconds at a time, on either host."""
        others = await in_thread(_others, self._registry, openmetrics)
        collector = _collectors.get(self._registry)
        parts: list[str] = []
        since = perf_counter()
        for part in text_of(collector.kernels if collector else (), openmetrics=openmetrics):
            parts.append(part)
            if perf_counter() - since > SLICE:
                await checkpoint()
                since = perf_counter()
        ours = "".join(parts).encode()
        return others.removesuffix(_EOF) + ours + _EOF if openmetrics else others + ours


def _others(registry: CollectorRegistry, openmetrics: bool) -> bytes:
    _muted.set(True)  # in this thread's copy of the context only
    generate = openmetrics_exposition.generate_latest if openmetrics else generate_latest
    text: bytes = generate(registry)
    return text


def text_of(kernels: Iterable[Kernel], *, openmetrics: bool) -> Iterator[str]:
    """Our families as text, a piece per family and subject."""
    kernels = tuple(kernels)
    for family in (*RUNTIME_FAMILIES, *CONNECTION_FAMILIES):
        yield _head(family, openmetrics=openmetrics)
        for subject, labels in _subjects(kernels, family):
            values = family.values(subject)
            if values is not None:
                template = _template(family.name, tuple(labels))
                yield template.format(*map(_escaped, labels.values())) % tuple(map(float, values))


def _subjects(kernels: Iterable[Kernel], family: Family) -> Iterator[tuple[Any, Labels]]:
    of_connections = family.name in _OF_CONNECTIONS
    for kernel in kernels:
        for subject in tuple(kernel.connections.values()) if of_connections else (kernel,):
            labels = {"runtime": kernel.name}
            if of_connections:
                labels["connection"] = subject.name
            if family.labels is not None:
                labels |= family.labels(subject)
            yield subject, labels


_OF_CONNECTIONS = frozenset(family.name for family in CONNECTION_FAMILIES)


def _head(family: Family, *, openmetrics: bool) -> str:
    # The older format knows neither infos nor names without a counter's suffix.
    suffix = "" if openmetrics else {COUNTER: "_total", INFO: "_info"}.get(family.kind, "")
    kind = GAUGE if family.kind == INFO and not openmetrics else family.kind
    name = family.name + suffix
    return f"# HELP {name} {family.help}\n# TYPE {name} {kind}\n"


@cache
def _template(family_name: str, label_names: tuple[str, ...]) -> str:
    """Fields for the subject's labels, `%r` for the values: filled in by C code, line by line."""
    family = _BY_NAME[family_name]
    common = [f'{name}="{{{index}}}"' for index, name in enumerate(label_names)]
    return "".join(
        family.name
        + suffix
        + "{{"
        + ",".join([*common, *(f'{name}="{value}"' for name, value in further.items())])
        + "}} %r\n"
        for suffix, further in family.series
    )


_BY_NAME = {family.name: family for family in (*RUNTIME_FAMILIES, *CONNECTION_FAMILIES)}


def _escaped(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return escaped.replace("%", "%%")  # the values are filled in with `%`
