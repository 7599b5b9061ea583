"""The house is measured as it is: planted cycles are found, and lengths and shares are those of the files."""
from pathlib import Path

import pytest

import measure_house
from kws.commands.cli import EXIT_BAD_INPUT, EXIT_OK, guard

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def measure(tmp_path):
    """measure({path below the package: code}) -> figures."""
    def figures(**files):
        for name, text in {"tests__test_a": "x = 1\n" * 4, **files}.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return measure_house.figures(measure_house.read(tmp_path / "house"), measure_house.read(tmp_path / "tests"))

    return figures


def test_a_clean_house_has_no_cycle(measure):
    found = measure(house__errors="", house__cellar__a="from house import errors", house__cellar__b="from .a import x",
                    house__attic__c="import house.cellar.b\nfrom ..cellar import a")
    assert (found["cycles of modules"], found["cycles of parts"]) == ("none", "none")
    assert found["imports"] == "4 between modules, 2 between parts"


@pytest.mark.parametrize("line", ["from house.attic import c", "import house.attic.c", "from ..attic.c import thing",
                                  "from ..attic import c", "def later():\n    from house.attic.c import thing"])
def test_a_cycle_of_packages_is_found_where_no_module_is_in_one(measure, line):
    found = measure(house__cellar__a="", house__cellar__b=line, house__attic__c="from house.cellar.a import x")
    assert found["cycles of modules"] == "none"
    assert found["cycles of parts"] == "house.attic <> house.cellar"


def test_a_cycle_of_modules_is_found_however_long(measure):
    found = measure(house__a="from .b import x", house__b="from . import c", house__c="import house.a",
                    house__d="from . import a")
    assert found["cycles of modules"] == "house.a <> house.b <> house.c"


def test_lengths_and_shares(measure):
    found = measure(
        house__a='"""Docs."""\n\n\ndef f(x: int, *rest: int) -> int:\n    """Docs."""\n    return x\n',
        house__b="class C:\n    def g(self, y):\n        return y\n\n    def _h(self) -> None:\n        pass\n\n")
    assert found["code"] == "2 files, 13 lines; 2 parts"
    assert found["files"] == "median 6.5 lines, longest 7 (house.b)"
    assert found["functions"] == "median 2 lines, longest 3 (house.a.f)"
    assert found["annotated"] == "67% of functions"
    assert found["documented"] == "40% of public names"  # a, f; neither b, C nor g
    assert found["tests / code"] == "0.31 lines"


def test_command(tmp_path, capsys):
    assert guard(measure_house.main, [str(ROOT / "kws"), "--tests", str(ROOT / "tests")]) == EXIT_OK
    assert "cycles of modules   none\n" in capsys.readouterr().out
    assert guard(measure_house.main, [str(tmp_path)]) == EXIT_BAD_INPUT
    assert "no Python files" in capsys.readouterr().err
