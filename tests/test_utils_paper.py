"""The paper's figures, against numbers read off its pages."""

import pytest

from utils.paper import TABLES, figures_beside, paper_figures


@pytest.mark.parametrize(
    ("table", "setting", "method", "psnr", "psnr_std", "ssim", "minutes"),
    [
        (2, "accel=4", "aseqdip", 34.08, 0.41, 0.929, 2.2),
        (2, "sigma=30", "rethinking_dip", 28.67, 0.25, 0.887, 2.5),
        (2, "hiar=0.25", "es_dip", 21.89, 0.28, 0.745, 1.25),
        (2, "bkse", "sgld_dip", 19.80, 0.43, 0.720, 3.24),
        (3, "accel=4", "e2e_varnet_8000", 34.89, None, None, None),
        (4, "ffhq_box_hiar=0.25", "aseqdip", 22.3, None, None, None),
    ],
)
def test_figures_are_those_of_the_printed_tables(
    table, setting, method, psnr, psnr_std, ssim, minutes
):
    (found,) = figures_beside(paper_figures(), table, setting, method)
    assert (found.psnr, found.psnr_std, found.ssim, found.minutes) == (
        psnr, psnr_std, ssim, minutes,
    )  # fmt: skip


def test_every_cell_of_the_three_tables_is_there_once():
    figures = paper_figures()
    keys = [(f.table, f.task, f.setting, f.method) for f in figures]
    assert len(set(keys)) == len(keys)
    # Counted on the paper's pages: MRI 7, CT 6, denoising 8, inpainting 7 rows of two settings,
    # deblurring 4 of one; Table 3 has 3 rows, Table 4 four tasks of 3.
    assert [sum(f.table == t for f in figures) for t in (2, 3, 4)] == [2 * 28 + 4, 3, 12]
    assert all(0 < f.ssim < 1 for f in figures if f.ssim is not None)


def test_the_settings_of_one_table_tell_its_tasks_apart():
    tasks = {}
    for figure in paper_figures():
        tasks.setdefault((figure.table, figure.setting), set()).add(figure.task)
    assert all(len(found) == 1 for found in tasks.values())


def test_methods_with_prior_data_are_told_apart():
    prior = {f.method for f in paper_figures() if not f.data_independent}
    assert prior == {
        "score_mri", "ref_guided_dip", "mcg", "dps", "ddnm", "e2e_varnet_8000", "e2e_varnet_3000",
    }  # fmt: skip


@pytest.mark.parametrize("setting", ["views=18", "views=30", "column 1"])
def test_both_columns_of_ct_stand_beside_each_number_of_views(setting):
    found = figures_beside(paper_figures(), 2, setting, "fbp")
    assert [(f.setting, f.psnr) for f in found] == [("column 1", 22.92), ("column 2", 19.52)]


def test_what_the_paper_does_not_print_has_no_figure():
    figures = paper_figures()
    assert figures_beside(figures, 2, "sigma=25", "aseqdip") == []
    assert figures_beside(figures, None, "sigma=15", "aseqdip") == []
    assert figures_beside(figures, 2, "bkse", "vanilla_dip") == []


def test_the_file_names_its_source():
    first, second = TABLES.read_text().splitlines()[:2]
    assert first.startswith("# Tables 2, 3 and 4") and "NeurIPS 2024" in first
    assert second.startswith("# ")
