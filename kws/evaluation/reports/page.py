"""Self-contained HTML pages of text, tables and pictures: one file, no scripts, nothing to fetch."""
from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Sequence

import jinja2
import pandas as pd
from matplotlib.figure import Figure

from kws.files.atomic import atomic_file

_DPI = 110

# Everything that comes from outside (file names, labels) is escaped: a name may look like HTML.
_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                           undefined=jinja2.StrictUndefined).from_string("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --text: #1d1f21; --page: #fbfbfa; --line: #d9d9d4; --quiet: #f0f0ec; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dfdfda; --page: #191a1c; --line: #3b3d40; --quiet: #25272a; }
  img { filter: brightness(.9); }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
       max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
pre { font-size: .85rem; background: var(--quiet); padding: .8rem; overflow-x: auto; }
.wide { overflow-x: auto; max-height: 32rem; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
thead th { position: sticky; top: 0; background: var(--quiet); }
img { max-width: 100%; height: auto; background: #fff; border-radius: .3rem; margin: .4rem 0; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
{% for section in sections %}
<section>
<h2>{{ section.heading }}</h2>
{% if section.is_layout %}<pre>{{ section.text }}</pre>{% elif section.text %}<p>{{ section.text }}</p>{% endif +%}
{% for image in section.images %}
<img src="data:image/png;base64,{{ image }}" alt="{{ section.heading }}, picture {{ loop.index }}">
{% endfor %}
{% if section.table is not none %}
<div class="wide"><table>
<thead><tr>
{%- for name, is_number in section.columns %}
<th{% if is_number %} class="number"{% endif %}>{{ name }}</th>{% endfor -%}
</tr></thead>
<tbody>
{% for row in section.table %}
<tr>
{%- for cell, is_number in row %}
<td{% if is_number %} class="number"{% endif %}>{{ cell }}</td>{% endfor -%}
</tr>
{% endfor %}
</tbody>
</table></div>
{% endif %}
</section>
{% endfor %}
</body>
</html>
""")


@dataclass(frozen=True)
class Section:
    """A part of a page: heading, then text, pictures, table, each if given.

    Args:
        heading: in words.
        text: a paragraph; text of several lines is shown as it is laid out.
        figures: matplotlib figures, shown one below the other.
        table: shown without its index; floats with four significant digits.
    """

    heading: str
    text: str = ""
    figures: Sequence[Figure] = ()
    table: Optional[pd.DataFrame] = None


def write_page(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write a page, whole or not at all; everything is in the one file."""
    page = _PAGE.render(title=title, sections=[_rendered(section) for section in sections])
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")  # a file's name may hold half a character


def _rendered(section: Section) -> dict[str, object]:
    rendered: dict[str, object] = {"heading": section.heading, "text": section.text, "table": None,
                                   "is_layout": "\n" in section.text,
                                   "images": [_png(figure) for figure in section.figures]}
    if section.table is not None:
        is_number = [pd.api.types.is_numeric_dtype(dtype) for dtype in section.table.dtypes]
        rendered["columns"] = list(zip(section.table.columns, is_number, strict=True))
        rendered["table"] = [list(zip(map(_cell, row), is_number, strict=True))
                             for row in section.table.itertuples(index=False)]
    return rendered


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _png(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    return base64.b64encode(content.getvalue()).decode("ascii")
