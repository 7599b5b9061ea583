import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil
import pytest
from torch.distributed import HashStore

from kws.errors import ConfigError, DataError, ModelError
from kws.training.processes import peers
from kws.training.processes.environment import Processes
from kws.training.processes.peers import ALONE, Peers, differences

BROKEN = RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:51220")


@pytest.fixture
def two():
    """Two processes of one training, here two threads, with the store that they share."""
    store = HashStore()
    return [Peers(Processes(rank, 2, 0, 1, is_joined=True), store) for rank in range(2)]


@pytest.fixture(autouse=True)
def little_patience(monkeypatch):
    monkeypatch.setattr(peers, "_FAREWELL", 5.0)


def together(*calls):
    """What the calls returned, or raised, when they ran at the same time."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
    return [future.exception() or future.result() for future in futures]


def test_equal_facts_are_agreed_on_as_often_as_asked(two):
    for facts in ({"seed": 0, "labels": ["yes", "no"]}, None, {"seed": 1}):
        assert together(*(partial(peer.agree, facts) for peer in two)) == [None, None]


def test_one_that_trains_something_else_ends_all_with_the_same_line(two):
    told = together(lambda: two[0].agree({"seed": 0, "kws": "1.0"}), lambda: two[1].agree({"seed": 1, "kws": "1.0"}))
    host = socket.gethostname()
    assert {str(error) for error in told} == {
        f"process 1 on {host} differs from process 0 on {host}: seed is 1, was 0. Give all machines the same "
        "configuration, prepared store and versions"}
    assert all(isinstance(error, DataError) and error.code == "other_process" for error in told)


@pytest.mark.parametrize("failed", [0, 1])
def test_the_error_of_one_is_told_to_the_other(two, failed):
    error = DataError("prepared/kws: no prepared store there", "no_store")
    calls = [lambda: two[1 - failed].agree({"seed": 0}), lambda: two[failed].explain(error)]
    told, own = together(*calls)
    assert own is error
    assert str(told) == f"process {failed} on {socket.gethostname()}: {error}"


@pytest.mark.parametrize("failed", [0, 1])
def test_a_fault_of_the_program_is_told_with_its_kind_and_ends_all_once_they_know(two, failed):
    def fail():
        two[failed].explain(KeyError("x"))
        return two[failed]._store.check(["1/0/read", "1/1/read"])

    began = time.monotonic()
    told, all_know = together(two[1 - failed].agree, fail)
    assert str(told).endswith("KeyError: 'x'")
    assert all_know and time.monotonic() - began < peers._FAREWELL


def test_one_that_does_not_come_is_named(two, monkeypatch):
    monkeypatch.setattr(peers, "_PATIENCE", 0.2)
    with pytest.raises(DataError, match="process 1 of this training did not answer within 0 s"):
        two[0].agree()


def test_a_broken_connection_says_how_to_go_on(two):
    assert "start all processes again, with --resume" in str(two[0].explain(BROKEN))


def test_a_broken_connection_is_explained_by_what_the_other_said(two, monkeypatch):
    monkeypatch.setattr(peers, "_FAREWELL", 0.1)  # nobody listens during the training
    two[1].explain(ModelError("training diverged", "diverged"))
    assert str(two[0].explain(BROKEN)).endswith("training diverged")


def test_one_process_asks_nobody():
    ALONE.agree({"seed": 0})
    ALONE.connect()
    assert ALONE.explain(BROKEN) is BROKEN


@pytest.fixture
def torchrun(monkeypatch):
    """Set what torchrun sets for the second of two machines, whose first one is at an address."""
    def set_environment(address, port=29500):
        monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
        for name, value in {"RANK": 1, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": address,
                            "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))

    return set_environment


def own_address():
    for name, addresses in psutil.net_if_addrs().items():
        for found in addresses:
            if found.family == socket.AF_INET and not found.address.startswith("127."):
                return name, found.address
    pytest.skip("this machine has the loopback interface only")


def test_a_first_machine_that_is_not_there_is_said(torchrun, monkeypatch):
    name, address = own_address()
    with socket.socket() as probe:
        probe.bind((address, 0))
        torchrun(address, probe.getsockname()[1])
    monkeypatch.setattr(peers, "_PATIENCE", 1.0)
    with pytest.raises(ConfigError, match=f"{address}:.* does not answer"), peers.joined():
        pass
    assert os.environ["GLOO_SOCKET_IFNAME"] == name  # not that of the machine's own name


@pytest.mark.parametrize("address, told", [
    ("127.0.0.1", "is the loopback interface here"), ("no-such-host.invalid", "cannot be reached")])
def test_an_address_that_leads_nowhere_is_refused(torchrun, address, told):
    torchrun(address)
    with pytest.raises(ConfigError, match=told), peers.joined():
        pass


def test_differences_are_short():
    assert differences({"a": 1, "labels": ["x"] * 99}, {"a": 1, "labels": None}) == [
        f"labels is {', '.join(['x'] * 99)[:77]}..., was nothing"]
