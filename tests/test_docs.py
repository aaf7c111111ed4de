"""The pages' examples are files that run."""

import torch
from conftest import ROOT

from docs import your_own_operator


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
