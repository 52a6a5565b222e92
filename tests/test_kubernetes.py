"""deploy/kubernetes: Kubernetes takes the manifests, and their numbers agree with the program's."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from moorings.runtime.exporter import GRACE
from moorings.runtime.loading import LoadedSettings, load_settings

if TYPE_CHECKING:
    from mongod import Mongod
    from processes import Call, Start

FOLDER = Path(__file__).parents[1] / "deploy" / "kubernetes"
VERSIONS = ("1.28", kubernetes_validate.latest_version())

# Of the Prometheus Operator's monitoring.coreos.com/v1, what a pod of ours can need.
DURATION = {"type": "string", "pattern": r"^[0-9]+(ms|s|m)$"}
POD_MONITOR = {
    "type": "object",
    "additionalProperties": False,
    "required": ["selector", "podMetricsEndpoints"],
    "properties": {
        "selector": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"matchLabels": {"type": "object"}},
        },
        "jobLabel": {"type": "string"},
        "podMetricsEndpoints": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "port": {"type": "string"},
                    "path": {"type": "string", "pattern": "^/"},
                    "interval": DURATION,
                    "scrapeTimeout": DURATION,
                },
            },
        },
    },
}

ANY_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["expr"],
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
    "properties": {
        "alert": {"type": "string"},
        "record": {"type": "string"},
        "expr": {"type": "string"},
        "for": {"type": "string", "pattern": r"^(0|[0-9]+(ms|s|m|h|d))$"},
        "labels": ANY_TEXTS,
        "annotations": ANY_TEXTS,
    },
}
PROMETHEUS_RULE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["groups"],
    "properties": {
        "groups": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "rules"],
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "interval": DURATION,
                    "rules": {"type": "array", "items": RULE},
                },
            },
        }
    },
}

WAITING = """
import trio

async def main(connections):
    await trio.sleep_forever()
"""


def documents() -> dict[str, Any]:
    found = [yaml.safe_load(file.read_text()) for file in sorted(FOLDER.glob("*.yaml"))]
    return {document["kind"]: document for document in found}


MANIFESTS = documents()
POD = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
CONTAINERS = {one["name"]: one for one in (*POD["initContainers"], *POD["containers"])}
WORKER = CONTAINERS["worker"]
VARIABLES = {variable["name"]: variable["value"] for variable in WORKER["env"]}
SETTINGS = MANIFESTS["ConfigMap"]["data"]["settings.toml"]


def loaded() -> LoadedSettings:
    """As the container has them."""
    return load_settings(tomllib.loads(SETTINGS), environ=VARIABLES)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", sorted(MANIFESTS.keys() - {"PodMonitor", "PrometheusRule"}))
def test_kubernetes_takes_each_manifest(kind: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


def test_the_operator_takes_the_pod_monitor() -> None:
    monitor = MANIFESTS["PodMonitor"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    jsonschema.validate(monitor["spec"], POD_MONITOR)


def test_the_operator_takes_the_rules_which_are_those_of_the_file() -> None:
    manifest = MANIFESTS["PrometheusRule"]
    assert manifest["apiVersion"] == "monitoring.coreos.com/v1"
    jsonschema.validate(manifest["spec"], PROMETHEUS_RULE)
    rules = FOLDER.parents[1] / "grafana" / "rules" / "moorings.yml"
    assert manifest["spec"] == yaml.safe_load(rules.read_text())


def test_all_of_them_speak_of_the_same_pods() -> None:
    deployment = MANIFESTS["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    assert MANIFESTS["PodMonitor"]["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_the_pod_lives_until_the_program_has_stopped() -> None:
    runtime = loaded().settings.runtime
    shutdown = runtime.drain_delay + runtime.shutdown_timeout + GRACE
    assert POD["terminationGracePeriodSeconds"] > shutdown
    assert "lifecycle" not in WORKER


def test_what_is_probed_and_scraped_is_what_is_served() -> None:
    exporter = loaded().settings.runtime.exporter
    assert exporter.host == "0.0.0.0"  # the kubelet is not on loopback
    assert not exporter.pages
    (port,) = WORKER["ports"]
    assert port["containerPort"] == exporter.port
    (endpoint,) = MANIFESTS["PodMonitor"]["spec"]["podMetricsEndpoints"]
    probes = [WORKER[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    assert {port["name"]} == {p["httpGet"]["port"] for p in probes} | {endpoint["port"]}


def test_an_election_is_no_outage() -> None:
    """Twelve seconds, by default; and a probe that fails once is no reason for anything."""
    probe = WORKER["readinessProbe"]
    assert probe["failureThreshold"] == 3
    assert (probe["failureThreshold"] - 1) * probe["periodSeconds"] > 12  # wherever it begins
    assert WORKER["livenessProbe"]["failureThreshold"] == 3


@pytest.mark.parametrize("name", sorted(CONTAINERS))
def test_each_container_is_confined(name: str) -> None:
    assert POD["securityContext"]["runAsNonRoot"]
    assert POD["automountServiceAccountToken"] is False
    confined = CONTAINERS[name]["securityContext"]
    assert confined["readOnlyRootFilesystem"]
    assert not confined["allowPrivilegeEscalation"]
    assert confined["capabilities"]["drop"] == ["ALL"]


def test_what_is_mounted_is_where_the_settings_look() -> None:
    mounts = {mount["name"]: mount for mount in WORKER["volumeMounts"]}
    assert Path(VARIABLES["MOORINGS_SETTINGS"]).parent == Path(mounts["settings"]["mountPath"])
    secrets = loaded().settings.security.secrets
    assert secrets.backend == "file"
    assert secrets.provider.base_path == Path(mounts["secrets"]["mountPath"])
    assert "subPath" not in mounts["secrets"]  # which is never updated


def test_the_settings_are_valid(call: Call, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(SETTINGS)
    done = call("check", "--config-only", **VARIABLES | {"MOORINGS_SETTINGS": str(file)})
    assert (done.status, done.stderr) == (0, "")


@pytest.mark.mongod
def test_the_pod_runs_on_a_real_server(
    start: Start, tmp_path: Path, mongod_auth: Mongod, mongod_password: str
) -> None:
    """Init container and program, with the Secret's files as Kubernetes lays them out.

    Elsewhere are only the server, the address (loopback), and where the files are mounted.
    """
    secret = MANIFESTS["Secret"]["stringData"] | {"username": "root", "password": mongod_password}
    (volume,) = [v["secret"] for v in POD["volumes"] if v["name"] == "secrets"]
    for item in volume["items"]:
        file = tmp_path / "..data" / item["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(secret[item["key"]])
    (tmp_path / "database").symlink_to("..data/database")
    (tmp_path / "mounted.toml").write_text(SETTINGS)
    (tmp_path / "worker.py").write_text(
        "import trio\nasync def main(_): await trio.sleep_forever()"
    )
    variables = VARIABLES | {
        "MOORINGS_SETTINGS": "mounted.toml",
        "MOORINGS_RUNTIME__EXPORTER__HOST": "127.0.0.1",
        "MOORINGS_RUNTIME__EXPORTER__PORT": "0",
        "MOORINGS_DATABASE__DOCUMENTS__JOBS__PROVIDER__URL": mongod_auth.url,
        "MOORINGS_SECURITY__SECRETS__PROVIDER__BASE_PATH": str(tmp_path),
    }
    check = start(*CONTAINERS["check"]["command"][1:], **variables)
    assert check.ended() == 0, check.stdout + check.stderr
    program = start(*WORKER["command"][1:], **variables)
    program.becomes_ready()
    for probe in ("startup", "liveness", "readiness"):
        assert program.get(WORKER[f"{probe}Probe"]["httpGet"]["path"])[0] == 200
