"""What a browser shows of a page: sizes, colours, and whether anything is outside of the screen."""

import html
import json
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SCREENS = {"phone": 360, "desk": 1280}
SCHEMES = ("light", "dark")

# Shows each page in a frame as wide as a screen, and measures what is seen of it.
MEASURE = """
function channels(color) { return color.match(/[\\d.]+/g).map(Number); }
function light(color) {
  const [r, g, b] = channels(color).map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
}
function ground(element, view) {
  for (let e = element; e; e = e.parentElement) {
    const color = view.getComputedStyle(e).backgroundColor;
    if (channels(color)[3] !== 0) return color;
  }
  return "rgb(255, 255, 255)";
}
function measure(frame) {
  const view = frame.contentWindow, page = frame.contentDocument, found = {contrast: {}, outside: []};
  found.dark = view.matchMedia("(prefers-color-scheme: dark)").matches;
  found.width = page.documentElement.clientWidth;
  found.scrolls = page.documentElement.scrollWidth;
  for (const details of page.querySelectorAll("details")) { details.removeAttribute("name"); details.open = true; }
  found.scrolls_open = page.documentElement.scrollWidth;
  const texts = "h1, h2, h3, p, li > span, li > b, .tiles b, .tiles span, th, td, summary";
  for (const element of page.querySelectorAll(texts)) {
    const style = view.getComputedStyle(element), box = element.getBoundingClientRect();
    const [one, other] = [light(style.color), light(ground(element, view))].sort((a, b) => b - a);
    const name = element.tagName.toLowerCase();
    found.contrast[name] = Math.min(found.contrast[name] ?? 99, (one + .05) / (other + .05));
    if (!element.closest(".scroll") && (box.left < 0 || box.right > view.innerWidth + 1)) found.outside.push(name);
    if (parseFloat(style.fontSize) < 14) found.outside.push(name + " is small");
  }
  found.bars = [...page.querySelectorAll(".bars i i")].map(bar => bar.getBoundingClientRect().width);
  found.columns = [...page.querySelectorAll(".columns > div")].map(column =>
    [...column.children].reduce((sum, block) => sum + block.getBoundingClientRect().height, 0));
  found.curves = [...page.querySelectorAll(".plot path:not(.grid)")].map(curve =>
    [curve.getBoundingClientRect().width, view.getComputedStyle(curve).stroke]);
  found.boards = [...page.querySelectorAll(".board section")].map(section => {
    const box = section.getBoundingClientRect();
    return [section.querySelector("h3").textContent, box.left, box.top, box.right, box.bottom];
  });
  return found;
}
const all = {};
for (const [name, [width, text]] of Object.entries(pages)) {
  const frame = document.body.appendChild(document.createElement("iframe"));
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.onload = () => {
    all[name] = measure(frame);
    document.getElementById("found").textContent = JSON.stringify(all);
  };
  frame.srcdoc = text;
}
"""


def installed() -> str:
    """The browser's command. Nothing is downloaded: where there is none, these tests are skipped, and that is said."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        reason = f"pages are not tested in a browser: none of {', '.join(BROWSERS)} is installed"
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    return found


def look(browser: str, pages: Mapping[str, str], scheme: str, folder: Path) -> dict[str, Any]:
    """What each screen shows of its page. pages: screen, or `spoilt` for a phone's -> HTML. scheme: light or dark."""
    sized = {name: [SCREENS.get(name, SCREENS["phone"]), text] for name, text in pages.items()}
    script = f"const pages = {json.dumps(sized)};".replace("<", "\\u003c") + MEASURE
    path = folder / "around.html"
    around = f'<!doctype html><meta charset="utf-8"><body><output id="found"></output><script>{script}</script>'
    path.write_text(around, encoding="utf-8")
    command = [browser, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    command += [f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"]
    command += ["--window-size=1400,1000", "--virtual-time-budget=4000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    result = re.search(r'<output id="found">(\{.*?\})</output>', done.stdout)
    assert result is not None, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(html.unescape(result[1]))
    assert {each["dark"] for each in found.values()} == {scheme == "dark"}
    return found


def assert_all_is_shown(found: Mapping[str, Any], width: int) -> None:
    """Nothing is cut, too small or too pale, and the page never scrolls sideways; tables scroll by themselves."""
    assert width - 20 <= found["width"] <= width  # less its scroll bar
    assert (found["scrolls"], found["scrolls_open"]) == (found["width"], found["width"])
    assert found["outside"] == []
    assert {name: ratio for name, ratio in found["contrast"].items() if ratio < 4.5} == {}
