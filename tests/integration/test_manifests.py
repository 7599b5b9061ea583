"""The Kubernetes manifests, checked against Kubernetes' schemas and KServe's own classes; no cluster is needed."""
import copy
import importlib
import re
import subprocess
import sys
import types

import kubernetes_validate
import pytest
import yaml
from kws_service import ROOT

pytestmark = pytest.mark.services
KUBERNETES = "1.37"
KSERVE = "kserve==0.21.0"  # its classes alone: the package brings a web server and gRPC along
OBJECTS = list(yaml.safe_load_all((ROOT / "torchserve/kubernetes.yaml").read_text()))
SCALARS = {"str": str, "int": int, "bool": bool, "float": float}


@pytest.fixture(scope="module")
def kserve(tmp_path_factory):
    """The module kserve.models of the released package."""
    folder = tmp_path_factory.mktemp("kserve")
    done = subprocess.run(["uv", "pip", "install", "--quiet", "--no-deps", "--target", folder, KSERVE],
                          capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{KSERVE} cannot be had: {done.stderr[-200:]}")
    package = types.ModuleType("kserve")
    package.__path__ = [str(folder / "kserve")]
    sys.modules["kserve"] = package
    yield importlib.import_module("kserve.models")
    for name in [name for name in sys.modules if name.split(".")[0] == "kserve"]:
        del sys.modules[name]


def build(kserve, kind, value, where):
    """Make the object of KServe's class that a document describes; what is Kubernetes' own stays as it is.

    Raises:
        ValueError: if a key is unknown or missing, or a value has another type.
    """
    if listed := re.fullmatch(r"list\[(.*)\]", kind):
        return [build(kserve, listed[1], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if kind in SCALARS:
        if type(value) is not SCALARS[kind]:
            raise ValueError(f"{where}: found {value!r}; expected {kind}")
        return value
    if not hasattr(kserve, kind):
        return value
    known = getattr(kserve, kind)
    attributes = {key: attribute for attribute, key in known.attribute_map.items()}
    if unknown := value.keys() - attributes.keys():
        raise ValueError(f"{where}: unknown {unknown}")
    return known(**{attributes[key]: build(kserve, known.openapi_types[attributes[key]], item, f"{where}.{key}")
                    for key, item in value.items()})


def check_inference_service(kserve, document):
    """Check the document against KServe's classes, and the pod in it against Kubernetes' schema."""
    service = build(kserve, "V1beta1InferenceService", document, "kserve.yaml")
    predictor = document["spec"]["predictor"]
    types_of = {key: service.spec.predictor.openapi_types[attribute]
                for attribute, key in service.spec.predictor.attribute_map.items()}
    own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
    pod = {key: value for key, value in predictor.items() if key not in own and not types_of[key].startswith("V1beta1")}
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": document["metadata"], "spec": pod},
                                 KUBERNETES, strict=True)


@pytest.mark.parametrize("document", OBJECTS, ids=lambda document: document["kind"])
def test_kubernetes_takes_the_objects(document):
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_mistake_in_an_object_is_seen():
    deployment = copy.deepcopy(OBJECTS[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


@pytest.fixture
def inference_service():
    return yaml.safe_load((ROOT / "torchserve/kserve.yaml").read_text())


def test_kserve_takes_the_inference_service(kserve, inference_service):
    check_inference_service(kserve, inference_service)


@pytest.mark.parametrize("plant", [
    lambda predictor: predictor.update(minReplica=1),
    lambda predictor: predictor.update(maxReplicas="4"),
    lambda predictor: predictor["autoScaling"]["metrics"][0]["external"].pop("target"),
    lambda predictor: predictor["containers"][0].update(readynessProbe={}),
    lambda predictor: predictor.update(terminationGracePeriodSeconds="30"),
])
def test_a_mistake_in_the_inference_service_is_seen(kserve, inference_service, plant):
    plant(inference_service["spec"]["predictor"])
    with pytest.raises((ValueError, kubernetes_validate.ValidationError)):
        check_inference_service(kserve, inference_service)


def test_the_probes_ask_where_the_service_answers():
    environment = dict(re.findall(r"(\w+)=http://0.0.0.0:(\d+)", (ROOT / "torchserve/Dockerfile").read_text()))
    container = OBJECTS[0]["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
    assert ports == {"http": environment["TS_INFERENCE_ADDRESS"], "metrics": environment["TS_METRICS_ADDRESS"],
                     "readiness": environment["READINESS_ADDRESS"]}


def test_what_is_scaled_on_is_defined():
    rules = [rule for group in yaml.safe_load((ROOT / "torchserve/alerts.yaml").read_text())["groups"]
             for rule in group["rules"]]
    name, = (rule["record"] for rule in rules if "record" in rule)
    scaler, = (each for each in OBJECTS if each["kind"] == "HorizontalPodAutoscaler")
    assert scaler["spec"]["metrics"][0]["external"]["metric"]["name"] == name
    assert f"query: {name}" in (ROOT / "torchserve/kserve.yaml").read_text()
