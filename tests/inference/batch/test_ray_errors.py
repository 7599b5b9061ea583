"""What went wrong on a node is told as it would be here."""
import pytest

from kws.errors import DataError
from kws.inference.batch.cluster import _cause

exceptions = pytest.importorskip("ray.exceptions")


@pytest.mark.parametrize("error", [DataError("s3://b/x: cannot be reached", "unreachable"),
                                   FileNotFoundError(2, "No such file or directory", "x"), ZeroDivisionError("by 0")])
@pytest.mark.parametrize("inside", [None, KeyError("of a library")])
def test_what_a_task_raised_is_found_beneath_what_ray_wraps_around_it(error, inside):
    error.__cause__ = inside
    wrapped = exceptions.RayTaskError("label", "a long traceback", error).as_instanceof_cause()
    expected = inside if inside is not None and isinstance(error, ZeroDivisionError) else error
    assert isinstance(wrapped, type(error)) and _cause(wrapped) is expected
