import pickle

import pytest

from kws.errors import AudioError, ConfigError, DataError, KwsError, ModelError


@pytest.mark.parametrize("error", [
    KwsError("m", "c"), AudioError("m", "empty_audio"), DataError("m"), ModelError("m", "c"),
    ConfigError("f.yaml", ["a: b", "c: d"]),
], ids=lambda error: type(error).__name__)
def test_errors_cross_process_borders_whole(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.code) == (type(error), str(error), error.code)


def test_a_configuration_error_lists_its_problems():
    error = ConfigError("f.yaml", ["a: b", "c: d"])
    assert str(error) == "f.yaml: 2 problems\n  a: b\n  c: d"
    assert str(ConfigError("f.yaml", ["a: b"])) == "f.yaml: a: b"
    assert error.problems == ("a: b", "c: d")
