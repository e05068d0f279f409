"""The page in a real browser: its script runs, draws, and follows slider, sample and address."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from impindiff.report import write_report

MakeRun = Callable[..., Path]
Load = Callable[..., str]

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
]

# Added to a copy of the page: does what a reader does and notes what is then to be seen.
_PROBE = """
addEventListener("load", () => {
  const section = document.querySelector("#forecast");
  const [slider, select, play] = [".time", ".sample", ".play"].map((q) => section.querySelector(q));
  const picture = (drawing) => {
    if (drawing.tagName === "path") return drawing.getAttribute("d");
    const { data } = drawing.getContext("2d").getImageData(0, 0, drawing.width, drawing.height);
    return [...new Uint32Array(data.buffer)].join();
  };
  const look = () => ({
    pictures: [...section.querySelectorAll("[data-role]")].map(picture),
    moment: section.querySelector(".moment").textContent,
    spoken: slider.getAttribute("aria-valuetext"),
    percent: section.querySelector(".frame-error").textContent,
    ticks: [...section.querySelectorAll("[data-scale=error] span")].map((tick) => tick.textContent),
  });
  const seen = { start: look() };
  slider.value = 1;
  slider.dispatchEvent(new Event("input"));
  seen.moved = look();
  select.value = 1;
  select.dispatchEvent(new Event("change"));
  seen.sample = look();
  const drawing = section.querySelector("[data-role=forecast]");
  const box = (drawing.ownerSVGElement ?? drawing).getBoundingClientRect();
  (drawing.ownerSVGElement ?? drawing).dispatchEvent(new PointerEvent("pointermove",
    { clientX: box.left + 1, clientY: box.bottom - 1 }));
  seen.pointed = section.querySelector(".pointed").textContent;
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  play.click();
  seen.playing = play.getAttribute("aria-label");
  setTimeout(() => {
    seen.end = { ...look(), button: play.getAttribute("aria-label") };
    document.body.dataset.seen = JSON.stringify(seen);
  }, 4000);
});
"""


@pytest.fixture(scope="module")
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip(
        "no Chromium on this machine (looked for chromium, chromium-browser, google-chrome)"
    )


@pytest.fixture
def load(browser: str, tmp_path: Path) -> Load:
    """Open a page at an address fragment; its document as text once its script is through."""

    def run(page: Path, fragment: str = "", width: int = 1200) -> str:
        address = page.as_uri() + fragment
        flags = [*_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
        command = [browser, *flags, "--dump-dom", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr[-2000:]
        # Script errors and whatever the content security policy blocked.
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        complaints = [line for line in said if "Canvas2D: Multiple readback" not in line]
        assert not complaints, complaints
        return done.stdout

    return run


def _with_script(page: Path, script: str) -> Path:
    """A copy of a page that allows and runs one more script."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = page.read_text(encoding="utf-8")
    text = text.replace("script-src '", f"script-src 'sha256-{digest}' '", 1)
    copy = page.with_name("probed.html")
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return copy


def _probed(run: Path, load: Load, width: int = 1200) -> dict[str, Any]:
    page = _with_script(write_report(run), _PROBE)
    found = re.search(r'data-seen="([^"]*)"', load(page, width=width))
    assert found, "the probe did not finish"
    return json.loads(html.unescape(found[1]))


@pytest.mark.thorough
def test_maps_are_drawn_and_follow_the_reader(make_run: MakeRun, load: Load):
    seen = _probed(make_run(), load)
    start, moved, sample, end = (seen[name] for name in ("start", "moved", "sample", "end"))
    assert len(start["pictures"]) == 3
    assert all(len(set(picture.split(","))) > 10 for picture in start["pictures"])
    assert (start["moment"], moved["moment"]) == ("t = 0.2\u00a0s", "t = 0.05\u00a0s")
    assert moved["spoken"] == "t = 0.05\u00a0s, a training time"
    assert start["percent"] == "1\u00a0% (L1)"
    for before, after in ((start, moved), (moved, sample)):
        for old, new in zip(before["pictures"], after["pictures"], strict=True):
            assert old != new
    assert len(start["ticks"]) > 1
    assert re.match(
        r"At x = \u22120\.9\d+, y = \u22120\.8\d+: data \S+\u00a0mol, forecast", seen["pointed"]
    )
    assert seen["playing"] == "Pause"
    assert (end["moment"], end["button"]) == ("t = 0.2\u00a0s", "Play through time")
    assert not seen["wide"]


@pytest.mark.thorough
def test_curves_are_drawn_and_follow_the_reader(make_run: MakeRun, load: Load):
    seen = _probed(make_run(cells=(40,)), load, width=500)
    assert all(picture.count("L") == 39 for picture in seen["start"]["pictures"])
    assert seen["start"]["pictures"] != seen["moved"]["pictures"]
    assert not seen["wide"]


@pytest.mark.thorough
def test_the_page_as_written_opens_at_the_time_and_sample_of_its_address(
    make_run: MakeRun, load: Load
):
    def louder(dataset: xr.Dataset) -> xr.Dataset:
        for name in ("concentration", "concentration_truth"):
            dataset[name][1] *= 10
        return dataset

    page = write_report(make_run(edit=louder))
    document = load(page, "#time=0.11&sample=6")
    # The second sample has the larger scale.
    assert re.search(
        r'data-scale="forecast"[^>]*>(<span[^>]*>[^<]*</span>)*<span[^>]*>20<', document
    )
    assert re.search(r'class="moment"[^>]*>t = 0\.1&nbsp;s<', document)
    assert "beyond the training times</span>" in document


@pytest.mark.thorough
@pytest.mark.parametrize("width", [1200, 500])
def test_headline_figures_do_not_run_into_each_other(make_run: MakeRun, load: Load, width: int):
    tiny = {"time": [0.0, 0.2], "relative_l1_percent": [0, 1e-5], "relative_l2_percent": [0, 1e-5]}
    wide = {"rmse": 123.4e-12, "chi2_per_reading": None, "count": 8}
    summary = {
        "fields": {"concentration": tiny, "velocity": tiny},
        "readings": {"probe": wide | {"held_back": wide}, "gauge": wide | {"held_back": wide}},
        "reading_units": {"probe": "kg/m2/s"},
    }
    page = write_report(make_run(summary=summary))
    probe = """
    const figures = [...document.querySelectorAll(".cards strong")];
    document.body.dataset.wide = figures.map((one) => one.scrollWidth > one.clientWidth).join();
    """
    found = re.search(r'data-wide="([^"]*)"', load(_with_script(page, probe), width=width))
    assert found and set(found[1].split(",")) == {"false"}


@pytest.mark.thorough
def test_a_reading_tells_small_changes_of_large_values_apart(make_run: MakeRun, load: Load):
    def warm(dataset: xr.Dataset) -> xr.Dataset:
        exact = dataset["concentration_truth"].astype(float)
        return dataset.assign(
            concentration_truth=290 + 0.001 * exact, concentration=290.0001 + 0.001 * exact
        )

    seen = _probed(make_run(edit=warm), load)
    data, forecast, error = re.findall(r"[a-z]+ ([\u2212\d.]+)\u00a0mol", seen["pointed"])
    assert float(forecast) - float(data) == pytest.approx(1e-4, abs=3e-5)
    assert float(error) == pytest.approx(1e-4, abs=3e-5)


@pytest.mark.thorough
def test_curves_leave_the_frame_and_lone_points_are_dots(make_run: MakeRun, load: Load):
    def wild(dataset: xr.Dataset) -> xr.Dataset:
        dataset["concentration"][:, :, 10:20] += 50
        dataset["concentration_truth"][:, :, 25] = np.nan
        dataset["concentration_truth"][:, :, 27] = np.nan
        return dataset

    seen = _probed(make_run(cells=(40,), edit=wild), load, width=500)
    forecast, data = seen["start"]["pictures"][:2]
    heights = [float(part) for part in re.findall(r"[ML]\S+ (\S+?)(?=[MLh]|$)", forecast)]
    assert min(heights) < -1 and 0 < heights[0] < 1
    assert forecast.count("h0") == 0 and data.count("h0") == 1 and data.count("M") == 3


_STRETCHED = {"square": (1, 1), "tower": (1, 40), "strip": (40, 1)}


@pytest.mark.thorough
@pytest.mark.many
@pytest.mark.parametrize("width", [1200, 500])
@pytest.mark.parametrize("shape", [*_STRETCHED, "curve"])
def test_labels_of_axes_stay_on_the_page_and_apart(
    make_run: MakeRun, load: Load, shape: str, width: int
):
    """Values about 290 that vary by a millionth, in coordinates of a country's map."""
    cells = (24, 12) if shape in _STRETCHED else (24,)

    def far_off(dataset: xr.Dataset) -> xr.Dataset:
        exact = dataset["concentration_truth"].astype(float)
        dataset = dataset.assign(
            concentration_truth=290 + 1e-6 * exact, concentration=290 + 1.0001e-6 * exact
        )
        sizes = dict(zip("xy", _STRETCHED.get(shape, (1,)), strict=False))
        return dataset.assign_coords({name: 5e5 + dataset[name] * k for name, k in sizes.items()})

    probe = """
    const section = document.querySelector("#forecast"), box = section.getBoundingClientRect();
    const labels = [...section.querySelectorAll(".axis span")].filter((one) => one.offsetParent);
    const boxes = labels.map((one) => one.getBoundingClientRect());
    const bad = labels.filter((one, i) => boxes[i].left < box.left || boxes[i].right > box.right + 8
      || boxes.some((other, j) => j < i && other.left < boxes[i].right - 1
        && boxes[i].left < other.right - 1 && other.top < boxes[i].bottom - 1
        && boxes[i].top < other.bottom - 1));
    document.body.dataset.bad = bad.map((one) => one.textContent).join();
    document.body.dataset.count = labels.length;
    """
    page = _with_script(write_report(make_run(cells=cells, edit=far_off)), probe)
    found = load(page, width=width)
    assert re.findall(r'data-bad="([^"]*)"', found) == [""]
    assert int(re.findall(r'data-count="(\d+)"', found)[0]) > 4
