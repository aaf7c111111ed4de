"""The report's page of real runs, in a real browser."""

import json
import re
import shutil

import numpy as np
import pytest
import skimage.data
from chromium import Browser
from PIL import Image
from reports import TINY, report, write_run
from running import call, squeezed

import aseqdip_denoising
from baselines import find
from utils.figures import percent


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Return a folder with real runs on two pictures, without a plan."""
    out = tmp_path_factory.mktemp("real")
    (out / "pictures").mkdir()
    for name, left in (("face", 190), ("flag", 0)):
        pixels = skimage.data.astronaut()[60:92, left : left + 32]
        Image.fromarray(pixels).save(out / "pictures" / f"{name}.png")
    methods = ["--method", "aseqdip,aseqdip_lambda0,tv"]
    arguments = ["--sigma", "15", "--out", out / "results", *TINY]
    with pytest.MonkeyPatch.context() as patch:
        data = ["--data", out / "pictures"]
        assert call(patch, aseqdip_denoising, *data, *methods, *arguments) == 0
        data = ["--data", out / "pictures" / "face.png", "--measured"]
        assert call(patch, aseqdip_denoising, *data, *arguments) == 0
    assert report(out) == 0
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def test_real_runs_make_a_whole_page(real):
    text = squeezed((real / "report" / "report.md").read_text())
    page = (real / "report" / "index.html").read_text()
    for method in ("aseqdip", "aseqdip_lambda0", "tv"):
        values = []
        for path in (real / "results" / "denoising" / method).glob("*/*/metrics.json"):
            found = json.loads(path.read_text())
            values += [] if found["measured"] else [found["psnr_final"]]
            misfit = f"misfit {percent(found['misfit_final'])}"
            assert (misfit in page) == found["measured"]
            assert (f"no truth to compare with; {misfit}" in text) == found["measured"]
        assert len(values) == 2
        shown = f"| {np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} |"
        section = text[text.index("### sigma 15") :]
        (line,) = [
            x
            for x in section.splitlines()
            if x.startswith(f"| {find(method).label} (") and "±" in x
        ]
        assert re.sub(", (second )?best", "", line).count(shown) == 1
    assert "no truth to compare with" in page and "### measured, no truth" in text
    # Truth, direct reconstruction and three methods of two pictures, all but the truth with a map;
    # direct reconstruction and result of the measured one.
    assert "weight updates</text>" in page and page.count("data:image/jpeg") == 2 * (2 * 5 - 1) + 2
    assert not re.search(r'(?:src|href)="(?!data:|#)|url\((?!#)', page)
    versions = json.loads(next((real / "results").glob("denoising/tv/*/*/config.json")).read_text())
    assert versions["commit"][:10] in page and f"torch {versions['versions']['torch']}" in page


@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_its_window_and_asks_for_nothing(real, browser, width):
    page = real / "report" / "index.html"
    browser.open(page, width)
    assert browser.value("document.documentElement.clientWidth") == width
    assert browser.value("document.documentElement.scrollWidth") == width
    assert browser.value("document.body.scrollWidth") <= width
    loaded = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length"
    assert browser.value(loaded) == browser.value("document.images.length") > 0
    assert browser.value("[...document.images].every(i => i.alt.length > 10)")
    sizes = "[...document.querySelectorAll('td, figcaption, p, label')].map(e => parseFloat("
    assert min(browser.value(f"{sizes}getComputedStyle(e).fontSize))")) >= 11
    assert browser.complaints() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {page.as_uri()}


def visible(selector):
    return f"[...document.querySelectorAll('{selector}')].filter(e => e.checkVisibility())"


IMAGE = "[...document.querySelectorAll('.image.chosen')].pop()"
PANES = f"[...{IMAGE}.querySelectorAll('.pane img')]"
BOXES = f"JSON.stringify({PANES}.map(i => {{ const b = i.getBoundingClientRect(), p = i.parentNode.getBoundingClientRect(); return [b.x - p.x, b.y - p.y, b.width].map(v => v / p.width); }}))"


def box(browser):
    """Return left, top and width that all pictures of the last image have, in widths of a pane."""
    found = np.array(json.loads(browser.value(BOXES)))
    assert np.ptp(found, axis=0).max() < 0.01
    return tuple(float(value) for value in found[0].round(1))


def test_touch_and_keys_change_the_image_that_is_shown(real, browser):
    browser.open(real / "report" / "index.html", 400)
    choices = "document.querySelectorAll('fieldset label')"
    names = f"{visible('.image')}.map(e => e.getAttribute('aria-label')).join()"
    first = browser.value(names)
    browser.tap(f"{choices}[1]")
    second = browser.value(names)
    assert "face" in first and "flag" not in first
    assert second == first.replace("15, face", "15, flag")
    browser.press("ArrowLeft")
    assert browser.value(names) == first
    assert browser.value(f"{visible('h4')}.length") == 1  # a choice names the others


def test_one_zoom_moves_over_all_methods_and_their_error_maps(real, browser):
    browser.open(real / "report" / "index.html", 400)
    panes = f"{IMAGE}.querySelectorAll('.pane')"
    assert browser.value(f"{IMAGE}.querySelectorAll('.pane.error').length") == 4  # truth has none
    assert box(browser) == (0, 0, 1)
    picture = browser.picture()
    browser.tap(f"{panes}[0]")
    assert box(browser) == (-1.5, -1.5, 4) and browser.picture() != picture
    browser.drag(f"{panes}[2]", -50)
    moved = box(browser)
    assert moved[0] < -1.5 and moved[1:] == (-1.5, 4)
    browser.value(f"{IMAGE}.querySelector('[data-sets=y]').focus(), 0")
    for _ in range(5):
        browser.press("ArrowRight")
    assert box(browser)[1] < -1.5
    browser.tap(f"{panes}[0]")
    assert box(browser) == (0, 0, 1)
    browser.tap(f"{IMAGE}.querySelector('[data-sets=errors]')")
    assert browser.value(f"{visible('.image.chosen .error')}.length") == 0


def test_curves_are_switched_off_and_on(real, browser):
    browser.open(real / "report" / "index.html", 1400)
    box = "document.querySelectorAll('[data-curve]')[1]"
    parts = f"[...document.querySelectorAll('[id^=' + {box}.dataset.curve + '-]')]"
    seen = f"{parts}.filter(e => getComputedStyle(e).display !== 'none').length"
    others = "[...document.querySelectorAll('.chart g[id*=curve-0-]')].every(e => getComputedStyle(e).display !== 'none')"
    assert browser.value(seen) == 3  # line, band, upright line
    browser.value(f"{box}.click()")
    assert browser.value(seen) == 0 and browser.value(others)
    browser.value(f"{box}.click()")
    assert browser.value(seen) == 3


def test_every_control_has_a_name(real, browser):
    browser.open(real / "report" / "index.html", 1400)
    assert browser.value("document.querySelectorAll('input').length") > 5
    assert browser.value(
        "[...document.querySelectorAll('input')].every(i => i.labels[0].innerText.trim())"
    )


def test_print_and_no_script_show_all_pictures(real, browser, tmp_path):
    browser.open(real / "report" / "index.html", 1400)
    visible = "[...document.images].filter(i => i.checkVisibility()).length"
    total = browser.value("document.images.length")
    assert browser.value(visible) < total
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.value(visible) == total
    browser.call("Emulation.setEmulatedMedia", media="")
    page = (real / "report" / "index.html").read_text()
    (tmp_path / "bare.html").write_text(re.sub(r"<script>.*</script>", "", page, flags=re.S))
    browser.open(tmp_path / "bare.html", 1400)
    assert browser.value(visible) == total


def test_dark_and_light_are_both_legible(real, browser):
    browser.open(real / "report" / "index.html", 1400)
    for scheme in ("light", "dark"):
        browser.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        ground = luminance(browser.value("getComputedStyle(document.body).backgroundColor"))
        for selector in ("td", ".notes", ".paper", "nav a", ".place", ".shot figcaption"):
            element = f"document.querySelector('{selector}')"
            text = luminance(browser.value(f"getComputedStyle({element}).color"))
            high, low = max(text, ground), min(text, ground)
            # By the Web Content Accessibility Guidelines, level AA.
            assert (high + 0.05) / (low + 0.05) >= 4.5, selector
        assert (ground > 0.5) == (scheme == "light")
        chart = [
            luminance(browser.value(f"getComputedStyle(document.querySelector('{e}')).{what}"))
            for e, what in ((".chart", "backgroundColor"), (".chart text", "fill"))
        ]
        assert chart == [1, 0]


def luminance(colour):
    """Return the relative luminance of a CSS colour (WCAG 2.1)."""
    levels = np.array([int(n) for n in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_an_empty_page_and_one_of_problems_work_in_a_browser(real, browser, tmp_path):
    folder = write_run(tmp_path, item="x" * 120)
    shutil.copy(folder / "config.json", folder / "metrics.json")
    assert report(tmp_path) == 0
    browser.open(tmp_path / "report" / "index.html", 400)
    assert browser.value("document.documentElement.scrollWidth") == 400
    assert browser.complaints() == []


def test_a_table_that_is_too_wide_scrolls_and_the_page_does_not(browser, tmp_path):
    for sigma in range(15, 45, 5):
        write_run(tmp_path, name=str(sigma), sigma=float(sigma))
    assert report(tmp_path) == 0
    browser.open(tmp_path / "report" / "index.html", 800)
    table = "document.querySelector('.wide:has(.results)')"
    assert browser.value(f"{table}.scrollWidth > {table}.clientWidth + 100")
    assert browser.value("document.documentElement.scrollWidth") == 800
    browser.open(tmp_path / "report" / "index.html", 400)  # there, it is stacked
    assert browser.value(f"{table}.scrollWidth === {table}.clientWidth")
