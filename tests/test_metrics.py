"""What Prometheus is shown: names, types and labels as specified, zeros from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from moorings.errors import FailureReason
from moorings.providers.pools import CheckoutFailure, PoolCounter, PoolStatistics
from moorings.runtime.loading import load_settings
from moorings.runtime.measurements import BUCKETS, Histogram, Measurements
from moorings.runtime.metrics import Exposition, _collectors, expose, text_of
from moorings.runtime.opening import build
from moorings.runtime.redaction import Redactor
from moorings.runtime.state import State

if TYPE_CHECKING:
    from scripted import World
    from trio.testing import MockClock

C = ("runtime", "connection")
R = ("runtime",)
# FIELD 3, written out: name, type, labels.
SPECIFIED = {
    "moorings_build": ("info", {*R, "version", "python", "driver"}),
    "moorings_connection": ("info", {*C, "backend", "required"}),
    "moorings_connection_state": ("gauge", {*C, "state"}),
    "moorings_connection_ready": ("gauge", {*C}),
    "moorings_connection_failure_reason": ("gauge", {*C, "reason"}),
    "moorings_connection_state_change_timestamp_seconds": ("gauge", {*C}),
    "moorings_connection_transitions": ("counter", {*C, "from", "to"}),
    "moorings_connection_pings": ("counter", {*C}),
    "moorings_connection_ping_failures": ("counter", {*C, "reason"}),
    "moorings_connection_ping_duration_seconds": ("histogram", {*C}),
    "moorings_connection_last_ping_success_timestamp_seconds": ("gauge", {*C}),
    "moorings_connection_stale_after_seconds": ("gauge", {*C}),
    "moorings_connection_probes": ("counter", {*C}),
    "moorings_connection_probe_failures": ("counter", {*C, "reason"}),
    "moorings_connection_probe_refused": ("gauge", {*C, "reason"}),
    "moorings_connection_rotations": ("counter", {*C, "result"}),
    "moorings_connection_connect_attempts": ("counter", {*C, "result"}),
    "moorings_connection_connect_duration_seconds": ("histogram", {*C}),
    "moorings_connection_retry_delay_seconds": ("gauge", {*C}),
    "moorings_connection_generation": ("gauge", {*C}),
    "moorings_connection_close_timeouts": ("counter", {*C}),
    "moorings_connection_certificate_expiry_timestamp_seconds": ("gauge", {*C}),
    "moorings_supervisor_restarts": ("counter", {*R, "supervisor", "reason"}),
    "moorings_supervisor_restart_limit": ("gauge", {*R, "supervisor"}),
    "moorings_supervisor_children": ("gauge", {*R, "supervisor", "state"}),
    "moorings_runtime_heartbeat_timestamp_seconds": ("gauge", {*R}),
    "moorings_runtime_loop_lag_seconds": ("histogram", {*R}),
    "moorings_secret_resolutions": ("counter", {*R, "provider", "result"}),
    "moorings_executor_threads": ("gauge", {*C, "state"}),
    "moorings_executor_queued": ("gauge", {*C}),
    "moorings_pool_connections": ("gauge", {*C, "state"}),
    "moorings_pool_checkout_duration_seconds": ("histogram", {*C}),
    "moorings_pool_checkout_failures": ("counter", {*C, "reason"}),
    "moorings_pool_cleared": ("counter", {*C}),
}


class Executor:
    busy, idle, queued = 2, 3, 1


def samples(registry: CollectorRegistry) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for m in registry.collect()
        for s in m.samples
    }


async def test_names_types_and_labels_are_exactly_these(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open() as manager:
        await manager.get_database()
        manager["db"].provider.executors = [Executor()]
        manager["db"].provider.certificate_expiry = 1.0
        manager["db"].provider.pools = [PoolStatistics(1, 2)]
        manager["db"].provider.pool_counter = PoolCounter()
        found = {}
        for metric in world.metrics.collect():
            labels = {label for s in metric.samples for label in s.labels} - {"le"}
            found[metric.name] = (metric.type, labels)
            assert metric.documentation
    assert found == SPECIFIED


async def test_executors_are_added_up_and_left_out_where_there_are_none(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open("a", "b") as manager:
        manager["a"].provider.executors = [Executor(), Executor()]
        labels = {"runtime": "moorings", "connection": "a"}
        value = world.metrics.get_sample_value
        assert value("moorings_executor_threads", {**labels, "state": "busy"}) == 4
        assert value("moorings_executor_threads", {**labels, "state": "idle"}) == 6
        assert value("moorings_executor_queued", labels) == 2
        assert value("moorings_executor_queued", {**labels, "connection": "b"}) is None


async def test_pools_are_added_up_and_their_counts_are_the_providers(
    world: World, autojump_clock: MockClock
) -> None:
    """An open client each has statistics; what they counted is common to them and to those gone."""
    async with world.open("a", "b") as manager:
        counter = PoolCounter()
        manager["a"].provider.pools = [PoolStatistics(1, 2), PoolStatistics(3, 4)]
        manager["a"].provider.pool_counter = counter
        counter.checked_out(0.0005)
        counter.checked_out(0.0006)
        counter.checked_out(31.0)
        counter.failed(CheckoutFailure.TIMEOUT)
        counter.cleared()

        def value(name: str, connection: str = "a", **labels: str) -> float | None:
            labels = {"runtime": "moorings", "connection": connection, **labels}
            return world.metrics.get_sample_value(f"moorings_pool_{name}", labels)

        assert value("connections", state="idle") == 4
        assert value("connections", state="in_use") == 6
        bounds = ("0.0001", "0.0005", "0.001", "30.0", "+Inf")
        buckets = [value("checkout_duration_seconds_bucket", le=le) for le in bounds]
        assert buckets == [0, 1, 2, 2, 3]
        assert value("checkout_duration_seconds_count") == 3
        assert value("checkout_duration_seconds_sum") == pytest.approx(31.0011)
        failures = [value("checkout_failures_total", reason=r) for r in CheckoutFailure]
        assert failures == [1, 0, 0]
        assert value("cleared_total") == 1
        assert value("connections", "b", state="idle") is None
        assert value("cleared_total", "b") is None


async def test_zeros_are_there_from_the_start(world: World, autojump_clock: MockClock) -> None:
    world["db"].from_now_on("open", world.hang())
    async with world.open():
        found = samples(world.metrics)
        counters = [k for k in found if k[0].endswith("_total")]
        by_name = {name: sum(k[0] == name for k in counters) for name, _ in counters}
        assert by_name == {
            "moorings_connection_transitions_total": 11,
            "moorings_connection_pings_total": 1,
            "moorings_connection_ping_failures_total": len(FailureReason),
            "moorings_connection_probes_total": 1,
            "moorings_connection_probe_failures_total": len(FailureReason),
            "moorings_connection_rotations_total": 2,
            "moorings_connection_connect_attempts_total": 2,
            "moorings_connection_close_timeouts_total": 1,
            "moorings_supervisor_restarts_total": 3,
            "moorings_secret_resolutions_total": 2,
        }
        started = {("from", "init"), ("to", "connecting")}
        assert all(found[k] == 0 for k in counters if not started <= k[1])


async def test_values_follow_what_happens(world: World, autojump_clock: MockClock) -> None:
    world["db"].next("verify", world.fail())
    world["db"].next("ping", world.succeed, world.succeed, world.fail(FailureReason.OVERLOAD))
    async with world.open(health={"interval": 10.0}) as manager:
        await manager.get_database()

        def value(name: str, **labels: str) -> float | None:
            labels = {"runtime": "moorings", "connection": "db", **labels}
            return world.metrics.get_sample_value(f"moorings_connection_{name}", labels)

        assert value("ready") == 1
        assert [value("state", state=s) for s in State] == [0, 0, 1, 0, 0]
        assert sum(value("failure_reason", reason=r) or 0 for r in FailureReason) == 0
        assert value("info", backend="scripted", required="true") == 1
        assert value("connect_attempts_total", result="success") == 1
        assert value("connect_attempts_total", result="failure") == 1
        assert value("connect_duration_seconds_count") == 1
        assert value("connect_duration_seconds_bucket", le="+Inf") == 1
        assert value("generation") == 1
        assert value("stale_after_seconds") == 17
        assert value("pings_total") == 0
        assert value("last_ping_success_timestamp_seconds") == pytest.approx(
            manager["db"].measurements.last_ping_at
        )
        await trio.sleep(12)
        assert value("pings_total") == 2  # the second follows the miss at once
        assert value("ping_failures_total", reason="overload") == 1
        assert value("ping_duration_seconds_count") == 1
        transitions = {"from": "connecting", "to": "ready"}
        assert value("transitions_total", **transitions) == 1
        world["db"].from_now_on("open", world.fail(FailureReason.AUTH))
        world["db"].from_now_on("ping", world.fail(FailureReason.AUTH))
        await world.until(manager["db"], State.FAILED)
        assert value("ready") == 0
        assert value("failure_reason", reason="auth") == 1
        assert sum(value("failure_reason", reason=r) or 0 for r in FailureReason) == 1
        assert 1 <= (value("retry_delay_seconds") or 0) <= 3
        world["db"].heal()
        await manager.get_database()
        assert value("retry_delay_seconds") == 0
        children = {"runtime": "moorings", "supervisor": "moorings", "state": "running"}
        assert world.metrics.get_sample_value("moorings_supervisor_children", children) == 1


def _semantics(families: Any) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for family in families:
        found[family.name] = (family.type, family.documentation)
        for sample in family.samples:
            labels = {k: float(v) if k == "le" else v for k, v in sample.labels.items()}
            key = (sample.name, frozenset(labels.items()))
            assert key not in found, f"{key} twice"
            found[key] = sample.value
    return found


@pytest.mark.parametrize("name", ["plain", 'odd "quoted" 100%s {x} \\ back\nline', "ünïcode"])
@pytest.mark.parametrize("is_openmetrics", [False, True])
async def test_our_text_means_what_prometheus_clients_own_means(
    world: World, name: str, *, is_openmetrics: bool
) -> None:
    """Both formats, names that need escaping, and others' collectors beside ours."""
    Counter("others", "Of the application.", ["a"], registry=world.metrics).labels("b").inc(3)
    world["a"].next("ping", world.fail())
    async with world.open("a", "b", runtime={"name": name}) as manager:
        manager["a"].provider.executors = [Executor()]
        await manager.wait_ready()
        rendered = (await manager.metrics.render(is_openmetrics)).decode()
        if is_openmetrics:
            reference = openmetrics.generate_latest(world.metrics).decode()
            assert rendered.endswith("# EOF\n")
            assert rendered.count("# EOF") == 1
            ours, theirs = (_semantics(parse_openmetrics(t)) for t in (rendered, reference))
        else:
            reference = generate_latest(world.metrics).decode()
            ours, theirs = (_semantics(parse_text(t)) for t in (rendered, reference))
    volatile = "moorings_runtime_"
    keys = [k for k in theirs if not (isinstance(k, tuple) and k[0].startswith(volatile))]
    assert {k: ours.get(k) for k in keys} == {k: theirs[k] for k in keys}
    assert set(ours) == set(theirs)
    assert any(k[0] == "others_total" for k in ours if isinstance(k, tuple))
    assert any(("runtime", name) in k[1] for k in ours if isinstance(k, tuple))


async def test_two_managers_share_one_collector_and_the_last_takes_it_along(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open("a", runtime={"name": "one"}):
        async with world.open("b", runtime={"name": "two"}):
            found = samples(world.metrics)
            runtimes = {dict(k[1]).get("runtime") for k in found}
            assert runtimes == {"one", "two"}
            names = [m.name for m in world.metrics.collect()]
            assert len(names) == len(set(names))
            assert len(_collectors[world.metrics].kernels) == 2
        assert {dict(k[1])["runtime"] for k in samples(world.metrics)} == {"one"}
    assert list(world.metrics.collect()) == []


async def test_a_second_runtime_of_the_same_name_is_refused(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.open("a") as manager:
        with pytest.raises(ValueError, match="called 'moorings' is open already"):
            async with world.open("b"):
                pass
        await manager.get_database()
    async with world.open("a") as manager:  # and the name is free again
        await manager.get_database()


async def test_a_scrape_before_the_connections_run_is_answered(world: World) -> None:
    """The exporter starts first."""
    loaded = load_settings(world.settings(), registry=world.registry)
    kernel = build(loaded, world.registry, "trio", (), Redactor()).kernel
    with expose(kernel, world.metrics):
        assert {m.name for m in world.metrics.collect()} == set(SPECIFIED)
        assert b"moorings_build_info" in await Exposition(world.metrics).render(openmetrics=False)


async def test_rendering_lets_others_run(world: World) -> None:
    names = [f"c{n}" for n in range(300)]
    async with world.open(*names, health={"interval": 1000.0}) as manager:
        await manager.wait_ready()
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            await trio.lowlevel.checkpoint()
            before = turns
            text = "".join(text_of([manager.kernel], openmetrics=False))
            assert turns == before  # the pieces themselves never wait
            assert (await manager.metrics.render(openmetrics=False)).decode().count(
                "\n"
            ) >= text.count("\n")
            assert turns > before
            nursery.cancel_scope.cancel()


def test_a_histogram_counts_each_duration_once() -> None:
    histogram = Histogram()
    assert histogram.snapshot() == (0,) * (len(BUCKETS) + 1)
    for seconds in (0.0, 0.001, 0.0011, 5.0, 5.1):
        histogram.observe(seconds)
    counts = histogram.snapshot()
    assert (counts[0], counts[1], counts[-2], counts[-1]) == (2, 1, 1, 1)
    assert sum(counts) == 5
    assert histogram.sum == pytest.approx(10.1021)


def test_measurements_count_steps_and_failures() -> None:
    measurements = Measurements()
    measurements.step(State.INIT, State.CONNECTING)
    measurements.ping_failed(FailureReason.DNS)
    measurements.ping_failed(FailureReason.DNS)
    assert sum(measurements.transitions) == 1
    assert measurements.pings == 2
    assert measurements.ping_failures == {FailureReason.DNS: 2}
