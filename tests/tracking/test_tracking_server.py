"""What must hold of docker/mlflow, whose images no test pulls; tests/integration runs the same server without them."""
import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path("docker/mlflow")
SERVICES = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
DOCKERFILE = (FOLDER / "Dockerfile").read_text()


@pytest.mark.parametrize("package", ["mlflow", "psycopg2-binary"])
def test_the_server_has_the_version_of_its_clients(package):
    pin = re.search(rf"^{package}==\S+", Path("requirements.txt").read_text(), re.MULTILINE).group()
    assert pin in DOCKERFILE.split()


def test_images_are_pinned_and_the_server_is_no_root():
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    assert len(images) == 3 and all(re.search(r":\w*[\d.]+", image) for image in images)
    assert "USER mlflow" in DOCKERFILE


def test_passwords_come_from_outside_and_are_asked_for():
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key or "SECRET" in key:
                assert re.fullmatch(r"\$\{(POSTGRES|MINIO)_PASSWORD(:\?.+)?\}", value), (name, key)
    assert ":?" in SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert ":?" in SERVICES["minio"]["environment"]["MINIO_ROOT_PASSWORD"]
    example = (FOLDER / "example.env").read_text()
    assert {"POSTGRES_PASSWORD=", "MINIO_PASSWORD="} <= set(example.splitlines())


def test_only_the_server_is_reached_and_only_from_this_machine_unless_told():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"server"}
    (port,) = SERVICES["server"]["ports"]
    assert port.startswith("${MLFLOW_LISTEN:-127.0.0.1}:")


def test_runs_and_artefacts_outlive_the_containers():
    volumes = {volume.split(":")[0] for name in ("postgres", "minio") for volume in SERVICES[name]["volumes"]}
    assert volumes == set(yaml.safe_load((FOLDER / "compose.yaml").read_text())["volumes"])
    environment = SERVICES["server"]["environment"]
    assert environment["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://")
    assert environment["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://mlflow"
    assert "--serve-artifacts" in DOCKERFILE
