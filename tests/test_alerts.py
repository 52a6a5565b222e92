"""Each alert is proved with promtool: it fires, it stays silent, it resolves; and a day is quiet.

Rules, waits and evaluations are production's: the committed file, scraped once a minute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alert_series import Instance, Trial
from prometheus_server import promtool

pytestmark = pytest.mark.operators

RULES = Path(__file__).parents[1] / "grafana" / "rules" / "moorings.yml"

MAIN = {"job": "worker", "connection": "main"}
PAGE = {"severity": "critical"}
TICKET = {"severity": "warning"}
HOUR = 60


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial(tmp_path, RULES)


def fleet(*minutes: str, **common: Any) -> list[Instance]:
    """An instance for each of these."""
    return [Instance(m, name=f"pod-{n}:9464", **common) for n, m in enumerate(minutes)]


def rising(values: str, **steps: float) -> list[float]:
    """A counter that rises by `steps[letter]` at each letter."""
    total, found = 0.0, []
    for letter in values:
        total += steps.get(letter, 0.0)
        found.append(total)
    return found


def refused(since: int, until: int, reason: str) -> Instance:
    """Ready for fifty minutes; its fresh connections are refused during some of them."""
    values = [float(since <= minute < until) for minute in range(50)]
    gauge = f'moorings_connection_probe_refused{{reason="{reason}"}}'
    return Instance("r" * 50, extra={gauge: values})


def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES)


# -- ConnectionDown


def test_down_on_over_half_pages_after_two_minutes_and_resolves_with_the_first_recovery(
    trial: Trial,
) -> None:
    ready = "r" * 40
    down = "r" * 10 + "cffffffffffff" + "r" * 17
    trial.run(
        fleet(down, down, down, ready),
        "ConnectionDown",
        {9: [], 11: [], 12: [MAIN | PAGE], 22: [MAIN | PAGE], 23: [], 39: []},
    )


def test_a_page_is_one_page_for_all_pods(trial: Trial) -> None:
    down = "r" * 5 + "f" * 10
    trial.run(fleet(*[down] * 50), "ConnectionDown", {7: [MAIN | PAGE], 14: [MAIN | PAGE]})


def test_a_page_says_why_and_links_to_the_runbook(trial: Trial) -> None:
    trial.says(
        fleet("r" * 5 + "f" * 10, "r" * 5 + "f" * 10, reason="dns"),
        "ConnectionDown",
        10,
        MAIN | PAGE,
        {
            "summary": "main (worker) is down",
            "description": "100% of its instances cannot use this database, which they require: "
            "they are not ready and get no traffic. Reasons: dns",
            "runbook_url": "docs/runbook.md#connectiondown",
        },
    )


@pytest.mark.parametrize("lost", [11, 12, 15])
def test_a_scrape_lost_within_an_outage_neither_delays_the_page_nor_ends_it(
    trial: Trial, lost: int
) -> None:
    minutes = list("r" * 10 + "f" * 20)
    minutes[lost] = "-"
    firing = {minute: [MAIN | PAGE] for minute in range(12, 30)}
    trial.run([Instance("".join(minutes))], "ConnectionDown", {11: [], **firing})


@pytest.mark.parametrize(
    ("minutes", "required"),
    [
        (("r" * 30, "r" * 10 + "f" * 20), True),  # half is not over half
        (("r" * 10 + "s" * 20,), True),
        (("r" * 10 + "f" * 20,), False),
        (("r" * 10 + "cf" + "r" * 18,), True),
        (("i" * 30,), True),
    ],
    ids=["half", "stopped", "optional", "brief", "init"],
)
def test_what_is_no_outage_of_the_job_pages_nobody(
    trial: Trial, minutes: tuple[str, ...], required: bool
) -> None:
    every = {minute: [] for minute in range(30)}
    trial.run(fleet(*minutes, required=required), "ConnectionDown", every)


def test_instances_that_were_stopped_are_no_majority(trial: Trial) -> None:
    """Nine are stopped, and the one that is left is down: all that is wanted is down."""
    stopped = ["r" * 5 + "s" * 15] * 9
    trial.run(fleet(*stopped, "r" * 5 + "f" * 15), "ConnectionDown", {6: [], 7: [MAIN | PAGE]})


def test_a_deploy_into_an_outage_pages_although_no_instance_was_ever_ready(trial: Trial) -> None:
    old, new = "rrrrrrrrrrs" + "." * 10, "." * 11 + "f" * 10
    trial.run(fleet(old, new), "ConnectionDown", {15: [MAIN | PAGE], 20: [MAIN | PAGE]})


# -- OptionalConnectionDown


def test_an_optional_connection_that_is_down_is_no_page_but_a_ticket(trial: Trial) -> None:
    minutes = "r" * 5 + "f" * 20 + "r" * 5
    trial.run(
        [Instance(minutes, required=False)],
        "OptionalConnectionDown",
        {14: [], 15: [MAIN | TICKET], 24: [MAIN | TICKET], 25: []},
    )
    trial.run([Instance(minutes)], "OptionalConnectionDown", {15: [], 24: []})


# -- PartiallyDown


def test_an_instance_that_stays_down_beside_others_is_a_ticket(trial: Trial) -> None:
    down = "r" * 10 + "f" * 30 + "r" * 10
    # Three minutes until it counts as stuck, ten until it is said.
    trial.run(
        fleet("r" * 50, "r" * 50, down),
        "PartiallyDown",
        {22: [], 24: [MAIN | TICKET], 39: [MAIN | TICKET], 40: []},
    )


def test_where_most_are_down_nobody_speaks_of_some(trial: Trial) -> None:
    """That is ConnectionDown, or OptionalConnectionDown."""
    minutes = ("r" * 40, "r" * 5 + "f" * 35, "r" * 5 + "f" * 35)
    for required in (True, False):
        instances = fleet(*minutes, required=required)
        trial.run(instances, "PartiallyDown", {20: [], 39: []})


def test_a_lost_scrape_does_not_let_it_begin_anew(trial: Trial) -> None:
    down = "r" * 10 + "ffff-ffffffffffffffff"
    trial.run(fleet("r" * 31, "r" * 31, down), "PartiallyDown", {24: [MAIN | TICKET]})


def test_a_deploy_of_thirty_slow_pods_is_not_partially_down(trial: Trial) -> None:
    """At each moment of half an hour some pods are starting, for three minutes each."""
    old = ["r" * (10 + n) + "s" + "." * (50 - n) for n in range(30)]
    new = ["." * (10 + n) + "ccc" + "r" * (48 - n) for n in range(30)]
    trial.silent(fleet(*old, *new))


# -- AvailabilityBudgetBurn


def test_a_fast_burn_pages_and_resolves_soon_after_its_cause(trial: Trial) -> None:
    """A third of the instances: too few for ConnectionDown. The slow burn takes longer to go."""
    before, well = "r" * (2 * HOUR), "r" * (3 * HOUR)
    third = before + "f" * 20 + "r" * 40
    fast, slow = MAIN | PAGE | {"window": "1h"}, MAIN | TICKET | {"window": "6h"}
    trial.run(
        fleet(well, well, third),
        "AvailabilityBudgetBurn",
        # More than two minutes' worth takes seven.
        {125: [], 127: [fast, slow], 139: [fast, slow], 146: [slow], 179: []},
    )


def test_a_slow_burn_is_a_ticket(trial: Trial) -> None:
    """One of ten instances, six minutes of each hour: 1 %, ten times too fast for six hours."""
    hours = 7
    ill = ("r" * 54 + "f" * 6) * hours
    slow = MAIN | TICKET | {"window": "6h"}
    trial.run(
        fleet(*["r" * len(ill)] * 9, ill),
        "AvailabilityBudgetBurn",
        {HOUR + 59: [], hours * HOUR - 1: [slow]},
    )


def test_within_the_budget_nobody_is_told(trial: Trial) -> None:
    """0.58 % of six hours: over the objective, and under six times as much of it."""
    ill = "r" * (6 * HOUR) + "f" * 21 + "r" * 9
    fast = MAIN | PAGE | {"window": "1h"}  # two minutes' worth are 3.4 % of an hour
    trial.run(
        fleet(*["r" * len(ill)] * 9, ill),
        "AvailabilityBudgetBurn",
        {6 * HOUR + 20: [fast], 6 * HOUR + 29: []},
    )


@pytest.mark.parametrize("minutes", ["rrrr" + "s" * 60, "i" * 60, "r" * 30 + "cc" + "r" * 30])
def test_what_was_stopped_and_what_lasts_two_minutes_burns_no_budget(
    trial: Trial, minutes: str
) -> None:
    trial.run([Instance(minutes)], "AvailabilityBudgetBurn", {m: [] for m in range(60)})


# -- Flapping


def test_the_fourth_loss_within_a_quarter_of_an_hour_is_flapping(trial: Trial) -> None:
    minutes = "r" * 10 + "rrcr" * 4 + "r" * 30
    trial.run(
        fleet(minutes, "r" * 56),
        "Flapping",
        {23: [], 24: [MAIN | TICKET], 26: [MAIN | TICKET], 28: [], 55: []},
    )


def test_three_losses_or_one_on_each_of_many_or_a_long_outage_are_not(trial: Trial) -> None:
    never: dict[int, list[Any]] = {minute: [] for minute in range(10, 50)}
    trial.run([Instance("r" * 10 + "rrcr" * 3 + "r" * 30)], "Flapping", never)
    # With a scrape less, `increase` takes three for 3.2, unless there was nothing before.
    lost = Instance("rc" + "r" * 15 + "-r" + "crrr" * 3 + "r" * 30)
    trial.run([lost], "Flapping", never)
    trial.run(fleet(*["r" * 12 + "c" + "r" * 40] * 50), "Flapping", never)
    trial.run([Instance("r" * 10 + "cf" * 20 + "r" * 10)], "Flapping", never)


# -- AuthenticationFailing


def test_a_refused_login_pages_after_five_minutes_until_it_is_mended(trial: Trial) -> None:
    minutes = "r" * 5 + "fc" * 8 + "r" * 10
    # A value that is at most three minutes old counts.
    trial.run(
        fleet(minutes, "r" * 31, reason="auth"),
        "AuthenticationFailing",
        {9: [], 10: [MAIN | PAGE], 20: [MAIN | PAGE], 24: []},
    )


def test_probes_that_keep_being_refused_page_while_pings_are_green(trial: Trial) -> None:
    """Connections that were opened before the password changed hide it from pings."""
    trial.run(
        [refused(3, 30, "auth"), Instance("r" * 50, name="well")],
        "AuthenticationFailing",
        # Six minutes until it counts, five until it is said.
        {13: [], 14: [MAIN | PAGE], 29: [MAIN | PAGE], 30: [], 49: []},
    )


def test_probes_that_are_refused_now_and_then_page(trial: Trial) -> None:
    """One server of several does not know the password: the others accept some."""
    failures = "...p....p....p....p" + "." * 30
    name = 'moorings_connection_probe_failures_total{reason="auth"}'
    extra = {name: rising(failures, p=1)}
    trial.run(
        [Instance("r" * len(failures), extra=extra)],
        "AuthenticationFailing",
        {8: [], 12: [], 13: [MAIN | PAGE], 25: [MAIN | PAGE], 30: [], 40: []},
    )


def test_the_one_probe_that_notices_a_rotation_pages_nobody(trial: Trial) -> None:
    trial.silent([refused(3, 4, "auth")])


@pytest.mark.parametrize("reason", ["auth", "tls"])
def test_a_probe_that_is_refused_once_pages_nobody(trial: Trial, reason: str) -> None:
    """The next one, five minutes and a half later at most, is accepted."""
    trial.silent([refused(3, 9, reason)])


def test_outages_of_other_kinds_are_not_about_credentials(trial: Trial) -> None:
    down = Instance("r" * 5 + "f" * 25, reason="refused")
    trial.run([down], "AuthenticationFailing", {m: [] for m in range(30)})


# -- FreshConnectionsRefused


@pytest.mark.parametrize(
    ("reason", "severity"),
    [("tls", PAGE), ("config", PAGE), ("secret", PAGE), ("network", TICKET), ("timeout", TICKET)],
)
def test_fresh_connections_that_are_refused_are_told_although_the_open_ones_work(
    trial: Trial, reason: str, severity: dict[str, str]
) -> None:
    """A page where only a person can mend it: a certificate that nobody vouches for any more."""
    ill = refused(3, 30, reason)
    firing = MAIN | severity | {"reason": reason}
    trial.run(
        [ill, Instance("r" * 50, name="well")],
        "FreshConnectionsRefused",
        {13: [], 14: [firing], 29: [firing], 30: [], 49: []},
    )
    trial.run([ill], "AuthenticationFailing", {m: [] for m in range(50)})


def test_refused_logins_are_said_once(trial: Trial) -> None:
    ill = refused(3, 30, "auth")
    trial.run([ill], "FreshConnectionsRefused", {m: [] for m in range(50)})


def test_an_instance_that_is_replaced_after_a_lost_probe_warns_nobody(trial: Trial) -> None:
    """What it had said last must not stand for longer than it was there."""
    ill = refused(10, 16, "timeout")
    ill.minutes = ill.minutes[:16] + "." * (len(ill.minutes) - 16)
    trial.silent([ill, Instance("r" * 50, name="well")])


@pytest.mark.parametrize("lost", [5, 9, 12])
def test_a_lost_scrape_does_not_hide_what_is_refused(trial: Trial, lost: int) -> None:
    ill = refused(3, 30, "tls")
    ill.minutes = ill.minutes[:lost] + "-" + ill.minutes[lost + 1 :]
    trial.run([ill], "FreshConnectionsRefused", {14: [MAIN | PAGE | {"reason": "tls"}], 31: []})


# -- SupervisorRestarting


def test_a_restart_is_told_at_once_and_forgotten_after_a_quarter_of_an_hour(trial: Trial) -> None:
    name = 'moorings_supervisor_restarts_total{supervisor="moorings",reason="crash"}'
    crashing = Instance("r" * 40, extra={name: rising("." * 10 + "x" + "." * 29, x=1)})
    labels = {"job": "worker", "runtime": "moorings", "supervisor": "moorings"} | TICKET
    trial.run(
        [crashing],
        "SupervisorRestarting",
        {9: [], 10: [labels], 24: [labels], 26: []},
    )


def test_what_crashed_before_its_first_scrape_is_told(trial: Trial) -> None:
    """A hook that a deploy has broken uses its budget up within milliseconds."""
    name = 'moorings_supervisor_restarts_total{supervisor="moorings",reason="crash"}'
    born = Instance("." * 5 + "r" * 40, extra={name: [5.0] * 45})
    labels = {"job": "worker", "runtime": "moorings", "supervisor": "moorings"} | TICKET
    trial.run([born], "SupervisorRestarting", {4: [], 5: [labels], 19: [labels], 21: []})


def test_restarts_of_long_ago_are_not_told_again_after_a_lost_scrape(trial: Trial) -> None:
    name = 'moorings_supervisor_restarts_total{supervisor="moorings",reason="crash"}'
    crashed = Instance("r" * 25 + "-" + "r" * 34, extra={name: [3.0] * 60})
    trial.run([crashed], "SupervisorRestarting", {m: [] for m in range(21, 60)})


def test_an_outage_restarts_nothing(trial: Trial) -> None:
    name = 'moorings_supervisor_restarts_total{supervisor="moorings",reason="crash"}'
    down = Instance("r" * 25 + "f" * 30, extra={name: [3.0] * 55})  # of before
    trial.run([down], "SupervisorRestarting", {m: [] for m in range(21, 55)})


# -- ReadyButStale


def test_readiness_without_proof_pages_until_a_ping_is_answered(trial: Trial) -> None:
    stale = Instance("r" * 30)
    name = "moorings_connection_last_ping_success_timestamp_seconds"
    answered = [60.0 * min(m, 10) if m < 20 else 60.0 * m for m in range(30)]
    proof = Instance("r" * 30, extra={name: answered})
    trial.run(
        [stale, proof], "ReadyButStale", {11: [], 13: [MAIN | PAGE], 19: [MAIN | PAGE], 20: []}
    )


def test_what_was_scraped_a_while_ago_is_not_stale(trial: Trial) -> None:
    """Every four minutes: between them the last answer is old, and so is the scrape."""
    trial.run([Instance("r___" * 8)], "ReadyButStale", {m: [] for m in range(32)})


def test_what_is_down_is_not_stale(trial: Trial) -> None:
    down = Instance("r" * 10 + "f" * 20)
    trial.run([down], "ReadyButStale", {m: [] for m in range(30)})


# -- PingSlow


def pings(slow: str) -> dict[str, list[float]]:
    """Six pings a minute: all within 5 ms, or half of them over a second where it says `x`."""
    quick = rising(slow, **{".": 6, "x": 3})
    every = rising(slow, **{".": 6, "x": 6})
    name = "moorings_connection_ping_duration_seconds_bucket"
    return {
        f'{name}{{le="0.005"}}': quick,
        f'{name}{{le="1.0"}}': quick,
        f'{name}{{le="2.5"}}': every,
        f'{name}{{le="+Inf"}}': every,
    }


def test_slow_pings_are_a_ticket_until_they_are_quick_again(trial: Trial) -> None:
    slow = Instance("r" * 90, extra=pings("." * 20 + "x" * 40 + "." * 30))
    trial.run(
        [slow], "PingSlow", {20: [], 30: [], 35: [MAIN | TICKET], 59: [MAIN | TICKET], 80: []}
    )


def test_one_slow_minute_is_no_slow_database(trial: Trial) -> None:
    slow = Instance("r" * 60, extra=pings("." * 20 + "x" + "." * 39))
    trial.run([slow], "PingSlow", {m: [] for m in range(60)})


# -- ExecutorSaturated


def test_calls_that_keep_waiting_for_a_thread_are_a_ticket(trial: Trial) -> None:
    queued = [0.0] * 10 + [7.0] * 20 + [0.0] * 10
    waiting = Instance("r" * 40, extra={"moorings_executor_queued": queued})
    trial.run(
        [waiting],
        "ExecutorSaturated",
        {15: [], 19: [], 20: [MAIN | TICKET], 29: [MAIN | TICKET], 30: [], 39: []},
    )


def test_bursts_that_the_threads_keep_up_with_are_none(trial: Trial) -> None:
    """On fifty instances: at each scrape, something waits somewhere."""
    bursts = [
        Instance(
            "r" * 40,
            name=f"pod-{n}",
            extra={"moorings_executor_queued": [5.0 * ((m + n) % 3 == 0) for m in range(40)]},
        )
        for n in range(50)
    ]
    trial.run(bursts, "ExecutorSaturated", {m: [] for m in range(40)})


# -- CertificateExpiring


def expires(days: float, then: float) -> dict[str, list[float]]:
    """In so many days; renewed after five hours."""
    values = [days * 86400] * (5 * HOUR) + [then * 86400] * HOUR
    return {"moorings_connection_certificate_expiry_timestamp_seconds": values}


def test_a_certificate_is_announced_two_weeks_before_until_it_is_renewed(trial: Trial) -> None:
    minutes = "r" * (6 * HOUR)
    trial.run(
        [Instance(minutes, extra=expires(14.1, 400))],
        "CertificateExpiring",
        {2 * HOUR: [], 4 * HOUR: [MAIN | TICKET], 5 * HOUR + 1: []},
    )
    trial.run([Instance(minutes, extra=expires(30, 400))], "CertificateExpiring", {5 * HOUR: []})


# -- MetricsAbsent


def test_a_job_that_is_not_heard_of_pages_until_it_is(trial: Trial) -> None:
    gone = "r" * 10 + "-" * 10 + "r" * 10
    labels = {"job": "worker"} | PAGE
    trial.run(
        fleet(gone, gone),
        "MetricsAbsent",
        {14: [], 15: [labels], 19: [labels], 20: []},
    )


def test_a_job_that_was_removed_is_forgotten_after_six_hours(trial: Trial) -> None:
    gone = "r" * 10 + "." * (7 * HOUR)
    labels = {"job": "worker"} | PAGE
    trial.run([Instance(gone)], "MetricsAbsent", {5 * HOUR: [labels], 6 * HOUR + 15: []})


def test_one_instance_of_several_is_not_the_job(trial: Trial) -> None:
    trial.run(fleet("r" * 30, "r" * 5 + "." * 25), "MetricsAbsent", {m: [] for m in range(30)})


# -- A day of which nobody is told


DAY = 24 * HOUR


def scene(*changes: tuple[int, str]) -> str:
    """A day of `r`, with these letters from these minutes on."""
    minutes = ["r"] * DAY
    for minute, letters in changes:
        minutes[minute : minute + len(letters)] = letters
    return "".join(minutes[:DAY])


ELECTION, LOST, BOTH = 12 * HOUR, 16 * HOUR, 20 * HOUR
"""Minutes at which twelve seconds without a primary are seen by a scrape, a scrape is lost, and
the one is followed by the other."""


def test_a_day_with_a_deploy_an_election_and_lost_scrapes_fires_nothing(trial: Trial) -> None:
    """Six pods are replaced one after the other; starting takes each of them two minutes.

    The elections last twelve seconds: a scrape of every fifth pod sees one.
    """
    deploy = 6 * HOUR
    old = [scene((deploy + 3 * n, "s" + "." * DAY)) for n in range(6)]
    new = [
        scene(
            (0, "." * (deploy + 3 * n - 2) + "cc"),
            *([(ELECTION, "c"), (BOTH, "c")] if n == 0 else []),
            *([(LOST, "-"), (BOTH + 1, "-")] if n < 3 else []),
        )
        for n in range(6)
    ]
    trial.silent(fleet(*old, *new))


def test_nor_does_the_day_of_a_single_pod(trial: Trial) -> None:
    """Its only scrape sees each election, and a lost scrape is all there is of that minute.

    It is replaced by one that starts after it has gone.
    """
    deploy = 6 * HOUR
    old = scene((deploy, "s" + "." * DAY))
    new = scene((0, "." * (deploy + 1) + "c"), (ELECTION, "c"), (LOST, "-"), (BOTH, "c-"))
    trial.silent(fleet(old, new))


def test_an_outage_of_that_day_is_not_missed(trial: Trial) -> None:
    """The control: the same day, in which the database is gone for ten minutes."""
    day = [Instance(scene((ELECTION, "c"), (LOST, "-"), (22 * HOUR, "c" + "f" * 9)))]
    with pytest.raises(AssertionError, match="ConnectionDown"):
        trial.silent(day)
    trial.run(
        day,
        "ConnectionDown",
        {ELECTION + 2: [], LOST + 2: [], 22 * HOUR + 2: [MAIN | PAGE], 22 * HOUR + 10: []},
    )
