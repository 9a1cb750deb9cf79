"""How quick a report of 10,000 songs is in Chromium: opening it, filtering, searching, sorting.

PYTHONPATH=.:tests python tests/bench/page.py DEMO/report.html

The songs are those of the report, again and again under other names: the rest of the page is real.
"""

import argparse
import json
import re
import tempfile
from pathlib import Path

from browser import PHONE, chromium, opened

from pipelines.terminal.console import console

SONGS = 10_000
LOADS = 5
DATA = re.compile(r'(id="report-data">)(.*?)(</script>)', re.DOTALL)
OPENED_MS = (
    "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))"
)
# The time includes layout, which reading a size forces.
STEP_MS = """step => {
  const started = performance.now();
  new Function(step)();
  document.body.offsetHeight;
  return performance.now() - started;
}"""
CHECK = "const box = document.querySelector(`#songs [%s]`); box.click();"
SEARCH = (
    "const field = document.querySelector('#songs [type=search]'); field.value = '%s';"
    "field.dispatchEvent(new Event('input', { bubbles: true }));"
)
SORT = "document.querySelectorAll('#songs thead button')[%d].click();"
STEPS = {
    "filter by emotion": CHECK % "name=label",
    "filter by what is uncertain, on top": CHECK % "value=uncertain",
    "filter by what looks wrong, on top": CHECK % "value=wrong",
    "first search, which prepares the texts": SEARCH % "track0",
    "a further letter": SEARCH % "track01",
    "sort by track": SORT % 0,
    "sort by confidence": SORT % 3,
}


def grown(html, songs):
    """Return a report with so many songs: its own, again and again under other names."""
    found = DATA.search(html)
    data = json.loads(found[2])
    columns = data["songs"]
    own = len(columns["track"])

    def repeated(values):
        return (values * (songs // own + 1))[:songs]

    for name, values in columns.items():
        if name == "probabilities":
            columns[name] = [repeated(shares) for shares in values]
        elif name != "folders":
            columns[name] = repeated(values)
    columns["track"] = [f"{track} {number // own}" for number, track in enumerate(columns["track"])]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return html[: found.start(2)] + text + html[found.end(2) :]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--songs", type=int, default=SONGS)
    args = parser.parse_args()
    took = {name: [] for name in ("from the click to the first picture", *STEPS)}
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        path = Path(folder, "report.html")
        path.write_text(grown(args.report.read_text(), args.songs))
        for _ in range(LOADS):
            with opened(browser, path) as found:
                first, *steps = took
                took[first].append(found.page.evaluate(OPENED_MS))
                for name in steps:
                    took[name].append(found.page.evaluate(STEP_MS, STEPS[name]))
                assert found.complaints == []
        took["to the first picture on a phone's screen"] = []
        for _ in range(LOADS):
            with opened(browser, path, PHONE) as found:
                took["to the first picture on a phone's screen"].append(
                    found.page.evaluate(OPENED_MS)
                )
        console.print(f"{args.songs:,} songs, {path.stat().st_size / 1e6:.1f} MB, {LOADS} loads")
    for name, times in took.items():
        console.print(f"| {name} | {min(times):.0f} to {max(times):.0f} ms |")


if __name__ == "__main__":
    main()
