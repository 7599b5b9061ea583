import os

import pytest

from kws.errors import ConfigError
from kws.training.processes.environment import Processes, check_alone, forget_others, processes

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
            "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def set_environment(monkeypatch):
    for name in (*TORCHRUN, "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return lambda values: [monkeypatch.setenv(name, value) for name, value in values.items()]


def test_what_torchrun_sets_is_read(set_environment):
    set_environment(TORCHRUN)
    assert processes() == Processes(rank=1, count=4, local_rank=1, on_this_machine=2, is_joined=True)
    assert not processes().is_first and not processes().is_first_here


@pytest.mark.parametrize("values", [
    {}, {"WORLD_SIZE": "1"}, {"RANK": "1"}, {"LOCAL_RANK": "0"}, {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"},
    {"WORLD_SIZE": ""}, {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}, {"OMPI_COMM_WORLD_SIZE": "1"}], ids=str)
def test_with_a_part_of_it_a_process_is_alone_and_libraries_see_none(set_environment, values):
    set_environment(values)
    assert processes() == Processes() and processes().is_first
    forget_others()
    assert not set(values) & set(os.environ)


@pytest.mark.parametrize("values, told", [
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE: found 2, without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT"),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE: found 'two'; expected a number"),
    ({**TORCHRUN, "RANK": "4"}, "RANK: found 4; expected 0 to WORLD_SIZE - 1 = 3")], ids=str)
def test_processes_that_cannot_find_each_other_are_an_error(set_environment, values, told):
    set_environment(values)
    with pytest.raises(ConfigError) as caught:
        processes()
    assert told in str(caught.value)


def test_a_job_of_one_process_is_refused_among_several(set_environment):
    check_alone("kws teach")
    set_environment({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"})
    check_alone("kws teach")
    set_environment(TORCHRUN)
    with pytest.raises(ConfigError, match="found 4 processes; kws teach takes one"):
        check_alone("kws teach")
