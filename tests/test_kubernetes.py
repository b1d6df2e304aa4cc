"""The Helm chart and the kustomize base: valid for several versions of Kubernetes, and the same."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from helm_python import Chart, HelmError

from librechat_exporter import __version__
from tests.conftest import METRICS_PY

ROOT = METRICS_PY.parent
BASE = ROOT / "deploy" / "kubernetes"
CHART = ROOT / "charts" / "librechat-exporter"
VERSIONS = ("1.25", "1.31", "1.34", "1.37")
# Resources of the Prometheus operator, which Kubernetes' own schemas do not know.
OPERATORS = ("ServiceMonitor", "PrometheusRule")
# What only Helm knows of, and what only one of them writes.
HELMS = (
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
    "helm.sh/resource-policy",
)

Manifests = dict[str, dict[str, Any]]


def by_kind(documents: Iterator[Any]) -> Manifests:
    return {document["kind"]: document for document in documents if document}


def rendered(**values: Any) -> Manifests:
    with Chart.load(str(CHART)) as chart:
        files = chart.render(values=values, name="librechat-exporter")
        return by_kind(yaml.safe_load(text) for path, text in files.items() if path.endswith(".yaml"))


def base() -> Manifests:
    """The manifests that kustomize would make of it: with its labels and its image."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    manifests = by_kind(yaml.safe_load((BASE / name).read_text()) for name in kustomization["resources"])
    [labels] = kustomization["labels"]
    [image] = kustomization["images"]
    for manifest in manifests.values():
        manifest["metadata"].setdefault("labels", {}).update(labels["pairs"])
    template = manifests["Deployment"]["spec"]["template"]
    template["metadata"]["labels"].update(labels["pairs"])
    [container] = template["spec"]["containers"]
    assert container["image"] == image["name"]
    container["image"] = f"{image['newName']}:{image['newTag']}"
    return manifests


def without_helms(value: Any) -> Any:
    if isinstance(value, Mapping):
        found = {key: without_helms(inner) for key, inner in value.items() if key not in HELMS}
        return {key: inner for key, inner in found.items() if (key, inner) != ("annotations", {})}
    return [without_helms(inner) for inner in value] if isinstance(value, list) else value


def test_chart_and_base_are_the_same() -> None:
    assert without_helms(rendered()) == base()


def test_the_image_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    [container] = base()["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["image"].endswith(f":{__version__}")


OTHER_VALUES: dict[str, Any] = {
    "env": {"METRICS_TIMEZONE": "Europe/Berlin", "STATE_REFRESH": 30, "DOMAIN_METRICS": True, "MAX_SERIES": 1_000_000},
    "persistence": {"storageClass": "fast", "size": "2Gi"},
    "mongodb": {"secretName": "other", "secretKey": "uri"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "imagePullSecrets": [{"name": "pull"}],
    "podAnnotations": {"note": "text"},
    "serviceMonitor": {
        "labels": {"release": "monitoring"},
        "tlsConfig": {"ca": {"secret": {"name": "tls", "key": "ca.crt"}}, "serverName": "exporter"},
    },
    "envFromSecrets": {"USER_ID_SALT": {"name": "librechat-exporter", "key": "salt"}},
    "extraVolumes": [{"name": "mongodb-ca", "configMap": {"name": "mongodb-ca"}}],
    "extraVolumeMounts": [{"name": "mongodb-ca", "mountPath": "/etc/mongodb-ca", "readOnly": True}],
    "web": {"secretName": "web", "scheme": "HTTPS", "basicAuth": {"secretName": "login"}},
    "networkPolicy": {"enabled": True, "from": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}]},
}
WITH_TOKEN: dict[str, Any] = {
    "metricsSecret": {"secretName": "librechat-exporter"},
    "web": {"secretName": "web", "scheme": "HTTPS"},
    "persistence": {"enabled": False},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("values", "kinds"), [({}, 3), (OTHER_VALUES, 4), (WITH_TOKEN, 2)], ids=["default", "all", "token"]
)
def test_every_manifest_is_valid(version: str, values: dict[str, Any], kinds: int) -> None:
    manifests = rendered(**values)
    known = [manifest for kind, manifest in manifests.items() if kind not in OPERATORS]
    assert len(known) == kinds
    for manifest in known:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_values_reach_their_places() -> None:
    manifests = rendered(**OTHER_VALUES)
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    environment = {one["name"]: one.get("value") or one["valueFrom"] for one in pod["containers"][0]["env"]}
    assert environment["METRICS_TIMEZONE"] == "Europe/Berlin"
    assert (environment["STATE_REFRESH"], environment["DOMAIN_METRICS"]) == ("30", "true")
    assert environment["MAX_SERIES"] == "1000000"
    [secret] = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "mongodb-uri"]
    assert secret["secretName"] == "other"
    assert secret["items"] == [{"key": "uri", "path": "mongodb-uri"}]
    assert manifests["PersistentVolumeClaim"]["spec"]["storageClassName"] == "fast"
    assert manifests["ServiceMonitor"]["metadata"]["labels"]["release"] == "monitoring"
    off = rendered(serviceMonitor={"enabled": False}, prometheusRule={"enabled": False})
    assert not set(OPERATORS) & off.keys()
    assert "PersistentVolumeClaim" not in rendered(persistence={"existingClaim": "mine"})


def test_probes_and_prometheus_follow_scheme_and_credentials() -> None:
    def look(**values: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        manifests = rendered(**values)
        [container] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
        [endpoint] = manifests["ServiceMonitor"]["spec"]["endpoints"]
        return container, endpoint, {one["name"]: one for one in container["env"]}

    container, endpoint, environment = look(**OTHER_VALUES)
    for probe, path in (("startupProbe", "/health"), ("livenessProbe", "/health"), ("readinessProbe", "/ready")):
        command = container[probe]["exec"]["command"]
        assert command == ["python", "-m", "librechat_exporter.healthcheck", path]
        assert "httpGet" not in container[probe]
    password = {"name": "login", "key": "password"}
    assert environment["HEALTHCHECK_PASSWORD"]["valueFrom"]["secretKeyRef"] == password
    assert environment["USER_ID_SALT"]["valueFrom"]["secretKeyRef"] == {"name": "librechat-exporter", "key": "salt"}
    assert environment["WEB_CONFIG_FILE"]["value"] == "/run/librechat-exporter-web/web.yml"
    assert endpoint["scheme"] == "https"
    assert endpoint["basicAuth"] == {"username": {"name": "login", "key": "username"}, "password": password}
    assert endpoint["tlsConfig"]["serverName"] == "exporter"
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert (mounts["web"], mounts["mongodb-ca"]) == ("/run/librechat-exporter-web", "/etc/mongodb-ca")

    container, endpoint, environment = look(**WITH_TOKEN)
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "metrics", "scheme": "HTTPS"}
    secret = {"name": "librechat-exporter", "key": "metrics-secret"}
    assert environment["METRICS_SECRET"]["valueFrom"]["secretKeyRef"] == secret
    assert (endpoint["authorization"], "basicAuth" in endpoint) == ({"credentials": secret}, False)


def test_librechats_own_metrics_are_scraped_with_the_token() -> None:
    """The component's are the chart's; both are off by default."""
    assert "librechat" not in str(rendered()["ServiceMonitor"]["spec"]["endpoints"])
    own = rendered(serviceMonitor={"enabled": False}, librechat={"serviceMonitor": {"enabled": True}})["ServiceMonitor"]
    component = yaml.safe_load((BASE / "components" / "librechat-metrics" / "servicemonitor.yaml").read_text())
    assert without_helms(own) == component
    [endpoint] = own["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": "librechat-exporter", "key": "metrics-secret"}
    assert endpoint["relabelings"] == [{"targetLabel": "job", "replacement": "librechat-api"}]
    elsewhere = {"enabled": True, "namespace": "chat", "selector": {"app": "lc"}, "labels": {"release": "monitoring"}}
    other = rendered(serviceMonitor={"enabled": False}, librechat={"serviceMonitor": elsewhere})["ServiceMonitor"]
    assert other["spec"]["namespaceSelector"] == {"matchNames": ["chat"]}
    assert other["metadata"]["labels"]["release"] == "monitoring"


def test_the_component_of_the_token_is_the_charts() -> None:
    """Its patches add to the base what the chart adds for the same."""
    patched = base()
    component = yaml.safe_load((BASE / "components" / "token" / "kustomization.yaml").read_text())
    for patch in component["patches"]:
        for operation in yaml.safe_load(patch["patch"]):
            assert operation["op"] == "add"
            *path, last = operation["path"].strip("/").split("/")
            place: Any = patched[patch["target"]["kind"]]
            for key in path:
                place = place[int(key) if key.isdecimal() else key]
            place.append(operation["value"]) if last == "-" else place.update({last: operation["value"]})
    assert without_helms(rendered(metricsSecret={"secretName": "librechat-exporter"})) == patched


def test_the_network_policy_is_valid_and_selects_the_pod() -> None:
    policy = yaml.safe_load((BASE / "components" / "network-policy" / "networkpolicy.yaml").read_text())
    for manifest in (policy, rendered(**OTHER_VALUES)["NetworkPolicy"]):
        for version in VERSIONS:
            kubernetes_validate.validate(manifest, version, strict=True)
        pod = rendered()["Deployment"]["spec"]["template"]["metadata"]["labels"]
        assert manifest["spec"]["podSelector"]["matchLabels"].items() <= pod.items()


def test_the_schema_knows_every_value() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def compare(values: dict[str, Any], known: dict[str, Any], place: str) -> None:
        assert values.keys() <= known["properties"].keys(), place
        assert known["additionalProperties"] is False, place
        for name, value in values.items():
            if isinstance(value, dict) and value and "properties" in known["properties"][name]:
                compare(value, known["properties"][name], f"{place}.{name}")

    compare(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "values")


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 2},
        {"service": {"port": 0}},
        {"image": {"repository": ""}},
        {"env": {"not a name": "x"}},
        {"envFromSecrets": {"USER_ID_SALT": {"name": "a"}}},
        {"web": {"scheme": "https"}},
        {"web": {"basicAuth": {"user": "x"}}},
        {"extraVolumeMounts": [{"name": "a", "mountPath": "relative"}]},
        {"serviceMonitor": {"interval": "often"}},
        {"resources": {"limit": {}}},
        {"podAnnotations": {"a": 1}},
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(HelmError):
        rendered(**values)


def test_what_selects_finds_what_it_should() -> None:
    for manifests in (base(), rendered()):
        pod = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"]
        service = manifests["Service"]
        assert service["spec"]["selector"].items() <= pod.items()
        assert manifests["Deployment"]["spec"]["selector"]["matchLabels"].items() <= pod.items()
        monitor = manifests["ServiceMonitor"]["spec"]
        assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert service["metadata"]["labels"][monitor["jobLabel"]] == "librechat", "the alerts' job"
