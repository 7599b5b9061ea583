import logging

from kws.data.problems import Problem, describe_errors, log_warnings


def problems(count, severity="error", code="empty_audio"):
    return [Problem(severity, code, f"{number}.wav", f"{number}.wav: 0 bytes") for number in range(count)]


def test_few_errors_are_all_listed():
    text = describe_errors([*problems(2), *problems(5, "warning")], "data", "reports/data.json")
    assert text.splitlines() == ["data: 2 error(s) in the recordings; nothing was prepared", "  0.wav: 0 bytes",
                                 "  1.wav: 0 bytes"]


def test_many_errors_are_counted_and_the_rest_is_elsewhere():
    lines = describe_errors(problems(1234), "data", "out/data.json").splitlines()
    assert lines[0].startswith("data: 1,234 error(s)") and len(lines) == 12
    assert lines[-1] == "  ... and 1,224 more, all of them in out/data.json"


def test_a_thousand_warnings_are_one_line_per_kind(caplog):
    with caplog.at_level(logging.WARNING):
        log_warnings([*problems(1000, "warning", "silent"), *problems(1, "warning", "clipped"), *problems(3)])
    assert [record.getMessage() for record in caplog.records] == [
        "warning: silent, 1000 times: 0.wav: 0 bytes; also 1.wav, 2.wav ...", "warning: clipped: 0.wav: 0 bytes"]
