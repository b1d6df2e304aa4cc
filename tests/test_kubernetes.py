"""The Helm chart and the kustomize base: valid for several versions of Kubernetes, and the same."""

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
    """What kustomize would make of it: with its labels and its image."""
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
    "env": {"METRICS_TIMEZONE": "Europe/Berlin", "STATE_REFRESH": 30, "DOMAIN_METRICS": True},
    "persistence": {"storageClass": "fast", "size": "2Gi"},
    "mongodb": {"secretName": "other", "secretKey": "uri"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    "imagePullSecrets": [{"name": "pull"}],
    "podAnnotations": {"note": "text"},
    "serviceMonitor": {"labels": {"release": "monitoring"}},
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "values", [{}, OTHER_VALUES, {"persistence": {"enabled": False}}], ids=["default", "all", "memory"]
)
def test_every_manifest_is_valid(version: str, values: dict[str, Any]) -> None:
    manifests = rendered(**values)
    known = [manifest for kind, manifest in manifests.items() if kind not in OPERATORS]
    assert len(known) == (2 if values.get("persistence", {}).get("enabled") is False else 3)
    for manifest in known:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_values_reach_their_places() -> None:
    manifests = rendered(**OTHER_VALUES)
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    assert environment["METRICS_TIMEZONE"] == "Europe/Berlin"
    assert (environment["STATE_REFRESH"], environment["DOMAIN_METRICS"]) == ("30", "true")
    [secret] = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "mongodb-uri"]
    assert secret["secretName"] == "other"
    assert secret["items"] == [{"key": "uri", "path": "mongodb-uri"}]
    assert manifests["PersistentVolumeClaim"]["spec"]["storageClassName"] == "fast"
    assert manifests["ServiceMonitor"]["metadata"]["labels"]["release"] == "monitoring"
    off = rendered(serviceMonitor={"enabled": False}, prometheusRule={"enabled": False})
    assert not set(OPERATORS) & off.keys()
    assert "PersistentVolumeClaim" not in rendered(persistence={"existingClaim": "mine"})


@pytest.mark.parametrize("values", [{"replicas": 2}, {"service": {"port": 0}}, {"image": {"repository": ""}}])
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
