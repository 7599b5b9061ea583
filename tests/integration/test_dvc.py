"""DVC for real: the pipeline, its remotes, versions and experiments, on a tiny corpus."""
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from kws.corpus import synthesis
from kws.tracking.provenance import dvc_hash

pytestmark = pytest.mark.services

OUTPUTS = ("data", "prepared", "models", "reports")
UP_TO_DATE = "Data and pipelines are up to date."


def changed_stages(project):
    return {name for name in json.loads(project.dvc("status", "--json")) if not name.endswith(".dvc")}


def test_a_second_run_does_nothing(copy):
    before = copy.contents(*OUTPUTS)
    assert copy.dvc("repro").count("didn't change, skipping") == 5
    assert copy.contents(*OUTPUTS) == before
    assert copy.git("status", "--porcelain") == ""


@pytest.mark.parametrize("section, values, expected", [
    ("training", {"learning_rate": 0.02}, {"train"}),
    ("augment", {"speed": 0.0}, {"train"}),
    ("features", {"num_mels": 20}, {"prepare", "train"}),
    ("streams", {"steps": 3}, {"train"}),
    ("data", {"clip_seconds": 0.9}, {"prepare", "train"}),
    ("data", {"silence_gain_db": [-40.0, 0.0]}, {"train", "evaluate"}),
    ("tracking", {"experiment": "other"}, set()),
])
def test_a_setting_runs_what_depends_on_it(copy, section, values, expected):
    copy.configure(**{section: values})
    assert changed_stages(copy) == expected


@pytest.mark.parametrize("path, expected", [
    ("kws/model/features.py", {"prepare", "train", "evaluate", "evaluate-streams"}),
    ("kws/training/augment.py", {"train"}), ("configs/arch/nano.yaml", {"train"}),
    ("kws/evaluation/reports/plots.py", {"prepare", "evaluate", "evaluate-streams"}),
    ("configs/arch/small.yaml", set()), ("kws/commands/cli.py", set()), ("kws/tracking/tracker.py", set())])
def test_code_runs_what_depends_on_it(copy, path, expected):
    with open(copy.folder / path, "a") as file:
        file.write("\n# changed\n")
    assert changed_stages(copy) == expected


@pytest.fixture(scope="module")
def ssh(tmp_path_factory, free_port):
    """An OpenSSH server on the loopback interface, with keys of its own: (port, user's key)."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if sshd is None:
        pytest.skip("no sshd; Debian's package openssh-server has it")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it when it runs as root
    shutil.copy(folder / "user.pub", folder / "authorized")
    port = free_port()
    (folder / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\n"
        f"PasswordAuthentication no\nSubsystem sftp internal-sftp\n")
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    assert process.poll() is None, process.stderr.read()
    yield port, folder / "user"
    process.terminate()
    process.wait(10)


def local_remote(request, folder):
    return [], {}


def s3_remote(request, folder):
    endpoint, credentials = request.getfixturevalue("s3")
    return [("url", "s3://kws/store"), ("endpointurl", endpoint)], credentials


def ssh_remote(request, folder):
    port, key = request.getfixturevalue("ssh")
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    return [("url", f"ssh://{user}@127.0.0.1:{port}{folder}/over-ssh"), ("keyfile", str(key)),
            ("allow_agent", "false")], {}


@pytest.mark.parametrize("remote", [local_remote, s3_remote, ssh_remote])
def test_a_clone_pulls_what_was_pushed_and_has_nothing_to_do(copy, tmp_path, request, remote):
    settings, environment = remote(request, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    second = copy.clone(tmp_path / "elsewhere" / "second")
    if not settings:  # the committed remote is a folder beside the project
        (tmp_path / "elsewhere" / "kws-dvc-remote").symlink_to(tmp_path / "kws-dvc-remote")
    for project in (copy, second):
        for key, value in settings:
            project.dvc("remote", "modify", "--local", "local", key, value)
    assert "pushed" in copy.dvc("push", **environment)
    assert not (second.folder / "data").exists()
    second.dvc("pull", **environment)
    assert second.contents(*OUTPUTS) == {
        name: content for name, content in copy.contents(*OUTPUTS).items() if not name.endswith(".run.json")}
    assert UP_TO_DATE in second.dvc("status")
    assert second.dvc("repro").count("didn't change, skipping") == 5
    assert second.git("status", "--porcelain") == ""


def test_two_versions_come_back_bit_for_bit(copy):
    copy.git("tag", "v1")
    first = copy.contents("data", "models")
    for clip in sorted((copy.folder / "data/cat").iterdir())[:6]:
        clip.unlink()
    copy.configure(training={"learning_rate": 0.05})
    copy.dvc("add", "--quiet", "data")
    copy.dvc("repro", "--quiet")
    copy.git("commit", "--quiet", "--all", "--message", "fewer cats")
    copy.git("tag", "v2")
    second = copy.contents("data", "models")
    assert first.keys() - second.keys() and first["models/kws/model.safetensors"] != second[
        "models/kws/model.safetensors"]
    for tag, expected in (("v1", first), ("v2", second), ("v1", first)):
        copy.git("checkout", "--quiet", tag)
        copy.dvc("checkout", "--quiet")
        assert copy.contents("data", "models") == expected
        assert UP_TO_DATE in copy.dvc("status")
    difference = json.loads(copy.dvc("metrics", "diff", "v1", "v2", "--all", "--json"))
    assert "validation.macro_f1" in difference["models/kws/metrics.json"]


def test_an_experiment_is_run_shown_and_kept_apart(copy):
    copy.dvc("exp", "run", "--name", "fast", "-S", "configs/kws.yaml:training.learning_rate=0.03")
    stated = yaml.safe_load((copy.folder / "configs/kws.yaml").read_text())
    assert stated["training"]["learning_rate"] == 0.03
    table = pd.read_csv(io.StringIO(copy.dvc("exp", "show", "--csv", "--no-pager")))
    rates = table.set_index(table["Experiment"].fillna(table["rev"]))["training.learning_rate"]
    assert rates.to_dict() == {"workspace": 0.03, "main": 0.01, "fast": 0.03}
    assert table["accuracy"].between(0, 1).all()
    difference = json.loads(copy.dvc("params", "diff", "--json"))
    assert difference["configs/kws.yaml"]["training.learning_rate"] == {"old": 0.01, "new": 0.03, "diff": 0.03 - 0.01}


def test_the_plots_hold_what_they_promise(copy):
    copy.dvc("plots", "show")
    page = (copy.folder / "dvc_plots/index.html").read_text()
    for text in ("training_loss", "macro_f1", '"spoken": "no"', "curves.png"):
        assert text in page
    answers = pd.read_csv(copy.folder / "reports/evaluation/answers.csv")
    for column in ("spoken", "answered"):
        for label, count in answers[column].value_counts().items():
            assert page.count(f'"{column}": "{label}"') == count
    assert list((copy.folder / "dvc_plots/static").glob("*curves.png"))


def test_data_that_no_remote_has_is_made_anew(copy, tmp_path, monkeypatch, capsys):
    second = copy.clone(tmp_path / "second")
    monkeypatch.chdir(second.folder)
    monkeypatch.syspath_prepend(str(second.folder / "scripts"))
    import restore_data

    def synthesize(speakers):  # the corpus of this project, instead of the default one
        monkeypatch.setattr(restore_data, "synthesize", lambda folder, overwrite: synthesis.synthesize(
            folder, ["yes", "no"], ["bed", "cat"], 2, 1, speakers, overwrite=overwrite))

    expected = restore_data.version()["md5"]
    monkeypatch.setattr(restore_data, "DEFAULT_FILES", restore_data.version()["nfiles"])
    synthesize(speakers=12)
    assert restore_data.main([]) == 0
    assert capsys.readouterr().out == f"data: synthesized, {expected}\n"
    assert second.git("status", "--porcelain") == "" and "up to date" in second.dvc("status", "data.dvc")
    shutil.rmtree("data")
    assert restore_data.main([]) == 0
    assert capsys.readouterr().out == f"data: pulled, {expected}\n"
    assert restore_data.main([]) == 0 and capsys.readouterr().out == ""  # what is there stays
    shutil.rmtree("data")
    shutil.rmtree(".dvc/cache")
    synthesize(speakers=11)
    assert restore_data.main([]) == 0
    assert f"other bytes than data.dvc had ({expected})" in capsys.readouterr().out
    assert restore_data.version()["md5"] == dvc_hash(Path("data")) != expected


def test_the_pipeline_names_its_artefacts(reproduced):
    found = yaml.safe_load((reproduced.folder / "dvc.yaml").read_text())["artifacts"]
    assert {name: (entry["type"], entry["path"]) for name, entry in found.items()} == {
        "speech-commands": ("dataset", "data"), "kws": ("model", "models/kws")}
    fetched = reproduced.run(sys.executable, "-c", "from dvc.api import DVCFileSystem as D; "
                             "print(D('.').isfile('models/kws/model.safetensors'))").stdout
    assert fetched.strip() == "True"
