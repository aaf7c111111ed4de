"""The pages' examples are files that run."""

import json
import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from docs import your_own_operator
from utils.metrics import image_metrics


def test_the_page_on_operators_shows_what_the_file_holds():
    page = (ROOT / "docs" / "your_own_operator.md").read_text()
    shown = page.split("```python\n")[1].split("```")[0].strip()
    assert shown in (ROOT / "docs" / "your_own_operator.py").read_text()


def test_an_operator_of_one_s_own_is_reconstructed(tmp_path):
    psnr = your_own_operator.main(K=2, out=tmp_path / "picture.png")
    assert set(psnr) == {"input", "aSeqDIP"} and psnr["input"] > 20
    assert (tmp_path / "picture.png").stat().st_size > 10000


def test_its_adjoint_is_exact_and_its_norm_is_1():
    A = your_own_operator.Downsample((3, 24, 16), factor=4)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 24, 16, dtype=torch.float64, generator=generator)
    y = torch.randn(2, 3, 6, 4, dtype=torch.float64, generator=generator)
    left, right = (A(x) * y).sum(), (x * A.adjoint(y)).sum()
    assert abs(left - right) < 1e-10 * x.norm() * y.norm()
    torch.testing.assert_close(A(A.pinv(y)), y)
    matrix = torch.func.jacrev(A)(x[:1]).reshape(3 * 6 * 4, 3 * 24 * 16)
    assert abs(torch.linalg.matrix_norm(matrix, ord=2).item() - 1) < 1e-10


def test_the_notebook_is_the_page_on_python_and_runs(tmp_path, monkeypatch):
    cells = json.loads((ROOT / "docs" / "python.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    page = (ROOT / "docs" / "python.md").read_text()
    shown = [block.split("```")[0].strip() for block in page.split("```python\n")[1:]]
    assert shown == [block for block in code if "matplotlib" not in block]
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in code:
        exec(compile(block, "python.ipynb", "exec"), names)
    found = image_metrics(names["x_split"], torch.from_numpy(names["clean"]))["psnr"]
    assert names["watch"].curve[-1] > 22 and found > 22  # the noisy array has 20.6 dB
    assert names["image"].shape == (128, 128) and np.iscomplexobj(names["image"])
    direct, slice_ = names["problem"].A.pinv(names["problem"].y), names["phantom"]
    assert names["attenuation"].shape == slice_.shape  # five inputs are too few: the FBP is right
    assert np.corrcoef(names["problem"].array(direct).ravel(), slice_.ravel())[0, 1] > 0.8


PAGES = sorted([ROOT / "README.md", ROOT / "data" / "README.md", *(ROOT / "docs").glob("*.md")])


def anchors(page):
    """Return the anchors that a page's headings make."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.replace(" ", "-") for head in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in links:
        path, _, anchor = link.partition("#")
        if not path.startswith("http"):
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_the_first_page_can_be_read_in_a_minute():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= 150 and len(text) <= 9000


def test_captions_say_what_the_runs_of_their_pictures_found():
    checked = 0
    for page in PAGES:
        # A picture, an empty line, and a caption up to the next empty line.
        for name, caption in re.findall(
            r"\(\S*images/(\w+)\.png\)\n\n(.+?)(?:\n\n|\Z)", page.read_text(), flags=re.DOTALL
        ):
            record = ROOT / "docs" / "images" / f"{name}.json"
            told = re.findall(r"(\d+\.\d\d) dB", caption)
            if record.exists() and told:
                found = json.loads(record.read_text())
                known = {f"{v:.2f}" for k, v in found.items() if k.startswith("psnr_") and v}
                assert set(told) <= known, f"{page.name}: {name}"
                checked += len(told)
    assert checked >= 2


def test_pictures_are_small_and_in_true_colour():
    for picture in (ROOT / "docs" / "images").glob("*.png"):
        if picture.with_suffix(".json").exists():  # those of scripts/readme_pictures.sh
            assert picture.stat().st_size <= 300 * 1024, picture.name
            with Image.open(picture) as image:
                assert image.mode == "RGB", picture.name
