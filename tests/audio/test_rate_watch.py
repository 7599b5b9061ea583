"""Another rate than stated is noticed where samples come steadily, as from a device."""
import pytest

from kws.audio.rate_watch import RateWatch


def told(stated, per_second, seconds=60.0, block=0.05):
    watch, found = RateWatch(stated), []
    for number in range(round(seconds / block)):
        found.append(watch.add(round(per_second(number * block) * block), number * block))
    return [rate for rate in found if rate]


@pytest.mark.parametrize("stated, comes, expected", [
    (16000, 44100, [44100]), (16000, 48000, [48000]), (44100, 16000, [16000]), (16000, 44090, [44100]),
    (16000, 13000, [13000]), (16000, 16000, []), (16000, 16016, []), (44100, 44000, [])])
def test_a_steady_rate_is_compared_with_the_stated_one(stated, comes, expected):
    assert told(stated, lambda now: comes) == expected


def test_blocks_that_come_unevenly_are_not_another_rate():
    assert told(16000, lambda now: 16000 if int(now / 5) % 2 else 40000) == []


def test_bursts_of_seconds_are_measured_from_one_to_the_next():
    """A pipe hands over what has gathered in pieces of 64 kB, one right after the other."""
    watch, found = RateWatch(16000), []
    for burst in range(15):
        for piece in range(3):
            found.append(watch.add(29_400, 2.0 * burst + 0.015 * piece))
    assert [rate for rate in found if rate] == [44100]


def test_it_is_told_after_a_quarter_of_a_minute():
    assert told(16000, lambda now: 48000, seconds=14.9) == [] and told(16000, lambda now: 48000, seconds=16) == [48000]


def test_lost_sound_starts_the_measurement_anew():
    watch = RateWatch(16000)
    for second in range(100):
        assert watch.add(10000, float(second)) is None
        if second % 10 == 0:
            watch.restart()
