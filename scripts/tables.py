"""The paper's tables and figures as lists: which settings, which methods, which flags.

scripts/launch.py makes cells of them. What stands here is what differs between a table's cells; all
else is the task script's own default, which is the paper's. `--quick` is then given to the scripts
as well, and pictures and CT slices are made 128x128.
"""

from dataclasses import dataclass
from pathlib import Path

from utils import ct_data, image_data


@dataclass(frozen=True)
class Dataset:
    """What one task is tried on.

    Args:
        name: data/<name>.txt names the images of our tables.
        folders: its names below a data folder that holds several, the first that is there.
        suffixes: which of its files are taken.
        dicom: take files without such a suffix too, if they are DICOM inside.
    """

    name: str
    folders: tuple[str, ...]
    suffixes: tuple[str, ...]
    dicom: bool = False

    def takes(self, path: Path) -> bool:
        """Tell whether a file is taken whatever its suffix."""
        return self.dicom and ct_data.is_dicom(path)


MRI = Dataset("fastmri", ("fastmri", "mri"), (".h5", ".npy", ".npz"))
CT = Dataset("aapm", ("aapm", "ct"), ct_data.SUFFIXES, dicom=True)
CBSD68 = Dataset("cbsd68", ("cbsd68",), image_data.SUFFIXES)
FFHQ = Dataset("ffhq", ("ffhq",), image_data.SUFFIXES)
DATASETS = (MRI, CT, CBSD68, FFHQ)


@dataclass(frozen=True)
class Setting:
    """A column of a table, or a curve of a figure.

    Args:
        name: as in the column `setting` of scripts/paper_tables.csv, where the paper has it.
        label: for people.
        task: which script, aseqdip_<task>.py.
        data: what it runs on.
        flags: those that make the setting.
        size: those that give the paper's size, in place of which --quick has QUICK_SIZE.
        quick: those that --quick has in place of `flags`, None for the same.
        needs: a flag of the launcher, without which it cannot run, as "bkse_weights".
        instead_of: such a flag, with which it is not wanted, being a stand-in.
    """

    name: str
    label: str
    task: str
    data: Dataset
    flags: str
    size: str = ""
    quick: str | None = None
    needs: str | None = None
    instead_of: str | None = None


QUICK_SIZE = {
    "ct": "--resize 128",
    "denoising": "--resize 128",
    "inpainting": "--resize 128",
    "deblurring": "--resize 128",
    "mri": "",  # k-space is taken as it is
}


@dataclass(frozen=True)
class Method:
    """A row of a table.

    Args:
        name: as in --method and in scripts/paper_tables.csv.
        label: for people.
        flags: its own.
        missing: why this repository cannot run it.
        needs: a flag of the launcher, without which it cannot run, as "reference".
        package: a package that it needs and requirements.txt does not have.
    """

    name: str
    label: str
    flags: str = ""
    missing: str | None = None
    needs: str | None = None
    package: str | None = None


@dataclass(frozen=True)
class Curve:
    """A curve: the mean over images of one method at one setting."""

    label: str
    setting: str
    method: str


@dataclass(frozen=True)
class Panel:
    """One set of axes of a figure of PSNR over weight updates."""

    title: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper.

    Args:
        title: for people.
        settings, methods: each method runs at each setting.
        panels: of a figure over the updates.
        pictures: compare the methods' images, as the paper's Figure 5.
        images: how many the paper took.
        note: what the paper leaves open and was decided here, or what else a reader must know.
    """

    title: str
    settings: tuple[Setting, ...]
    methods: tuple[Method, ...]
    panels: tuple[Panel, ...] = ()
    pictures: bool = False
    images: int = 20
    note: str = ""


def _diffusion(name: str, label: str, trained_on: str) -> Method:
    return Method(name, label, missing=f"needs a score network trained on {trained_on}")


# The methods of Table 2, each in the paper's order, then the classical ones that it does not have.
ASEQDIP = Method("aseqdip", "aSeqDIP")
ASEQDIP_LAMBDA0 = Method("aseqdip_lambda0", "aSeqDIP, lambda 0")
SELF_GUIDED = Method("self_guided_dip", "Self-Guided DIP")
VANILLA = Method("vanilla_dip", "Vanilla DIP")
TV_DIP = Method("tv_dip", "TV-DIP")
ES = Method("es_dip", "ES-DIP")
SGLD = Method("sgld_dip", "SGLD-DIP")
RETHINKING = Method("rethinking_dip", "Rethinking DIP")
REF_GUIDED = Method("ref_guided_dip", "Ref-Guided DIP (prior data)", needs="reference")
DPS = _diffusion("dps", "DPS", "ImageNet")
TV = Method("tv", "TV")

MRI_METHODS = (
    _diffusion("score_mri", "Score-MRI", "fastMRI"),
    REF_GUIDED, TV_DIP, ES, VANILLA, SELF_GUIDED, ASEQDIP,
    Method("zero_filled", "zero-filled"),
    Method("cg_sense", "CG-SENSE"),
    Method("l1_wavelet", "l1-wavelet"),
    TV,
)  # fmt: skip
CT_METHODS = (
    _diffusion("mcg", "MCG", "AAPM"),
    Method("fbp", "FBP", flags="--set fbp.filter_name=ramp fbp.cutoff=1"),
    REF_GUIDED, VANILLA, SELF_GUIDED, ASEQDIP,
    Method("sart", "SART"),
    TV,
)  # fmt: skip
DENOISING_METHODS = (
    DPS, VANILLA, SGLD, TV_DIP, RETHINKING, ES, SELF_GUIDED, ASEQDIP,
    TV,
    Method("nlm", "non-local means"),
    Method("wavelet", "wavelet"),
    Method("bm3d", "BM3D", package="bm3d"),
)  # fmt: skip
INPAINTING_METHODS = (
    DPS, VANILLA, SGLD, TV_DIP, ES, SELF_GUIDED, ASEQDIP,
    Method("biharmonic", "biharmonic"),
    TV,
)  # fmt: skip
DEBLURRING_METHODS = (DPS, SGLD, SELF_GUIDED, ASEQDIP)
FFHQ_METHODS = (
    _diffusion("dps", "DPS", "FFHQ"),
    _diffusion("ddnm", "DDNM", "FFHQ"),
    ASEQDIP,
)


def _mri(accel: int) -> Setting:
    return Setting(f"accel={accel}", f"{accel}x", "mri", MRI, f"--accel {accel}")


def _ct(views: int, name: str) -> Setting:
    return Setting(name, f"{views} views", "ct", CT, f"--views {views}", "--resize 512")


def _denoising(sigma: int) -> Setting:
    return Setting(
        f"sigma={sigma}", f"sigma {sigma}", "denoising", CBSD68, f"--sigma {sigma}", "--resize 512"
    )


def _inpainting(hiar: float) -> Setting:
    return Setting(
        f"hiar={hiar}", f"HIAR {hiar}", "inpainting", CBSD68, f"--hiar {hiar}", "--resize 512"
    )


def _deblurring(data: Dataset, prefix: str, size: str) -> tuple[Setting, Setting]:
    """Make the paper's blur, and the stand-in that runs where its weights are missing."""
    bkse = Setting(
        f"{prefix}bkse", "BKSE blur", "deblurring", data, "--blur bkse", size, needs="bkse_weights"
    )
    camera = Setting(
        f"{prefix}camera", "camera blur, a stand-in for BKSE", "deblurring", data, "--blur camera",
        size, instead_of="bkse_weights",
    )  # fmt: skip
    return bkse, camera


def _schedules() -> tuple[tuple[Setting, ...], tuple[Panel, ...]]:
    """Make Figure 10: four tasks, each with three ways to divide the weight updates."""
    tasks = {
        "MRI, 4x": _mri(4),
        "CT, 18 views": _ct(18, "views=18"),
        "denoising, sigma 15": _denoising(15),
        "inpainting, HIAR 0.1": _inpainting(0.1),
    }
    settings, panels = [], []
    for title, base in tasks.items():
        curves = []
        for N in (1, 2, 4):
            K, quick_K = 4000 // N, 500 // N
            name = f"{base.task} N={N}"
            settings.append(
                Setting(
                    name, f"{title}, N {N}", base.task, base.data,
                    f"{base.flags} --N {N} --K {K}", base.size,
                    quick=f"{base.flags} --N {N} --K {quick_K}",
                )
            )  # fmt: skip
            curves.append(Curve(f"N = {N}", name, "aseqdip"))
        panels.append(Panel(title, tuple(curves)))
    return tuple(settings), tuple(panels)


def _lambda(value: float) -> Setting:
    flags = f"--accel 4 --lambda-ae {value:g}"
    return Setting(
        f"lambda={value:g}", f"lambda {value:g}", "mri", MRI, f"{flags} --K 5000",
        quick=f"{flags} --K 125",
    )  # fmt: skip


def _curves(setting: Setting, methods: tuple[Method, ...]) -> tuple[Curve, ...]:
    return tuple(Curve(method.label, setting.name, method.name) for method in methods)


FIG4_METHODS = (ASEQDIP, ASEQDIP_LAMBDA0, SELF_GUIDED, VANILLA)
FIG8_METHODS = (ASEQDIP, SELF_GUIDED, ES, RETHINKING, TV_DIP, SGLD, VANILLA)
FIG10_SETTINGS, FIG10_PANELS = _schedules()

TABLES = {
    "table2_mri": Table("Table 2, MRI", (_mri(4), _mri(8)), MRI_METHODS),
    "table2_ct": Table("Table 2, CT", (_ct(18, "column 1"), _ct(30, "column 2")), CT_METHODS),
    "table2_denoising": Table(
        "Table 2, denoising", (_denoising(15), _denoising(30)), DENOISING_METHODS
    ),
    "table2_inpainting": Table(
        "Table 2, inpainting", (_inpainting(0.1), _inpainting(0.25)), INPAINTING_METHODS
    ),
    "table2_deblurring": Table(
        "Table 2, deblurring", _deblurring(CBSD68, "", "--resize 512"), DEBLURRING_METHODS,
        note="The paper does not give the size; 512x512 as for the other tasks.",
    ),
    "table3": Table(
        "Table 3, against a supervised network", (_mri(4),),
        (
            *(
                Method(f"e2e_varnet_{n}", f"E2E VarNet, {n} scans",
                       missing=f"needs a network trained on {n} fastMRI scans")
                for n in (8000, 3000)
            ),
            ASEQDIP,
        ),
    ),
    "table4": Table(
        "Table 4, FFHQ",
        (
            Setting("ffhq", "denoising, sigma 15", "denoising", FFHQ, "--sigma 15"),
            Setting("ffhq_random_97pct_missing", "inpainting, 97 % missing at random",
                    "inpainting", FFHQ, "--mask random --missing 0.97"),
            *_deblurring(FFHQ, "ffhq_", ""),
            Setting("ffhq_box_hiar=0.25", "inpainting, box, HIAR 0.25", "inpainting", FFHQ,
                    "--hiar 0.25"),
        ),
        FFHQ_METHODS,
        note="The paper gives neither the size nor the noise: the files' own size, sigma 15.",
    ),
    "fig4": Table(
        "Figure 4, PSNR over the updates", (_mri(4), _ct(18, "views=18")), FIG4_METHODS,
        panels=(
            Panel("MRI, 4x", _curves(_mri(4), FIG4_METHODS)),
            Panel("CT, 18 views", _curves(_ct(18, "views=18"), FIG4_METHODS)),
        ),
    ),
    "fig8": Table(
        "Figure 8, denoising over the updates", (_denoising(30),), FIG8_METHODS,
        panels=(Panel("denoising, sigma 30", _curves(_denoising(30), FIG8_METHODS)),),
        note="The paper does not give the noise; sigma 30, whose runs Table 2 has too.",
    ),
    "fig9": Table(
        "Figure 9, lambda over the updates", tuple(_lambda(v) for v in (0.5, 1, 2)), (ASEQDIP,),
        panels=(
            Panel("MRI, 4x", tuple(
                Curve(f"lambda = {v:g}", f"lambda={v:g}", "aseqdip") for v in (0.5, 1, 2)
            )),
        ),
    ),
    "fig10": Table(
        "Figure 10, updates for each input", FIG10_SETTINGS, (ASEQDIP,), panels=FIG10_PANELS,
        note="The paper does not say at which settings; the first of each task.",
    ),
    "visuals_mri": Table(
        "Figures 5, 11 and 12, MRI", (_mri(4), _mri(8)),
        (REF_GUIDED, VANILLA, SELF_GUIDED, ASEQDIP), pictures=True, images=1,
    ),
    "visuals_ct": Table(
        "Figures 5, 13 and 14, CT", (_ct(18, "views=18"), _ct(30, "views=30")),
        (REF_GUIDED, VANILLA, SELF_GUIDED, ASEQDIP), pictures=True, images=1,
    ),
    "visuals_denoising": Table(
        "Figures 5 and 16, denoising", (_denoising(25),),
        (DPS, RETHINKING, ES, SELF_GUIDED, ASEQDIP), pictures=True, images=1,
    ),
    "visuals_inpainting": Table(
        "Figures 5 and 15, inpainting", (_inpainting(0.1), _inpainting(0.25)),
        (DPS, SGLD, ES, SELF_GUIDED, ASEQDIP), pictures=True, images=1,
    ),
    "visuals_deblurring": Table(
        "Figures 5 and 17, deblurring", _deblurring(FFHQ, "ffhq_", ""),
        (FFHQ_METHODS[0], SGLD, SELF_GUIDED, ASEQDIP), pictures=True, images=1,
    ),
}  # fmt: skip
