import base64
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from kws.evaluation.reports.page import Section, write_page


def page(tmp_path, *sections, title="Title"):
    write_page(tmp_path / "page.html", title, sections)
    return (tmp_path / "page.html").read_text()


def figure():
    drawn = Figure(figsize=(2.0, 1.0))
    drawn.subplots().plot([0, 1], [1, 0])
    return drawn


def test_a_page_is_self_contained(tmp_path):
    html = page(tmp_path, Section("A", "text", [figure(), figure()], pd.DataFrame({"x": [1]})), Section("B"))
    images = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert len(images) == 2 and base64.b64decode(images[0]).startswith(b"\x89PNG")
    assert not re.search(r"(?:src|href)=\"(?!data:)", html) and "<script" not in html and "http" not in html
    assert html.startswith("<!DOCTYPE html>") and "prefers-color-scheme: dark" in html
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_everything_from_outside_is_escaped(tmp_path):
    bad = "<script>alert('x')</script>&\""
    html = page(tmp_path, Section(bad, bad, [figure()], pd.DataFrame({bad: [bad]})), title=bad)
    assert "<script" not in html and html.count("&lt;script&gt;") == 7  # title, h1, h2, p, alt, th, td


def test_numbers_are_readable_and_right_aligned(tmp_path):
    table = pd.DataFrame({"name": ["a"], "count": [12345], "share": [0.123456789], "flag": [True], "none": [None]})
    html = page(tmp_path, Section("A", table=table))
    assert '<td class="number">12,345</td>' in html and '<td class="number">0.1235</td>' in html
    assert "<td>a</td>" in html and "True" in html and "<td>None</td>" in html


@pytest.mark.parametrize("table", [pd.DataFrame(), pd.DataFrame({"a": []}), pd.DataFrame({"a": [np.nan]})],
                         ids=["nothing", "no rows", "not a number"])
def test_thin_tables(tmp_path, table):
    assert "<table>" in page(tmp_path, Section("A", table=table))


def test_laid_out_text_keeps_its_lines(tmp_path):
    html = page(tmp_path, Section("A", "one  two\nthree"), Section("B", "a sentence"))
    assert "<pre>one  two\nthree</pre>" in html and "<p>a sentence</p>" in html


def test_half_characters_of_file_names_do_not_stop_the_page(tmp_path):
    table = pd.DataFrame({"path": pd.Series(["a\udcff.wav"], dtype=object)})
    assert "a?.wav" in page(tmp_path, Section("A", table=table))


def test_equal_content_gives_equal_bytes(tmp_path):
    assert page(tmp_path, Section("A", "t", [figure()])) == page(tmp_path, Section("A", "t", [figure()]))
