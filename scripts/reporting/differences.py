"""What makes a run another experiment than the paper's, from the facts that it recorded."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from scripts.reporting.data import Cell, Run, setting_of

IMAGES = 20  # a task (section 4.1)
UPDATES = 4000  # K N of aSeqDIP (section 4.1), and the iterations of six baselines (appendix C.6)
FOUR_THOUSAND = {
    "vanilla_dip", "self_guided_dip", "ref_guided_dip", "tv_dip", "rethinking_dip", "sgld_dip",
}  # fmt: skip
SIDE = {  # with the section; of deblurring and of FFHQ the paper gives no size
    "mri": (320, "section 4.1"), "ct": (512, "section 4.1"), "denoising": (512, "appendix C.6"),
    "inpainting": (512, "appendix C.6"),
}  # fmt: skip
PICTURES = ("denoising", "inpainting", "deblurring")
ASEQDIP = {"K": 2000, "N": 2, "lr": 1e-4, "lambda_ae": 1.0}  # section 4.1
PRIORS = {  # table -> method -> the network whose weights the paper took (appendices C.3, C.6)
    2: {"score_mri": "NCSN++", "mcg": "NCSN++", "dps": "ADM, ImageNet"},
    4: {"dps": "ADM, FFHQ", "ddnm": "ADM, FFHQ"},
}  # fmt: skip
EXPECTED = re.compile(r"(accel|views|sigma|hiar)=([\d.]+)")
SETS = {  # section 4.1, appendix C.3
    "fastmri": "fastMRI", "aapm": "AAPM's low-dose CT", "cbsd68": "CBSD68", "ffhq": "FFHQ",
}  # fmt: skip


def differences(
    cells: list[Cell], number: int | None, data_set: str | None = None, images: int = IMAGES
) -> list[str]:
    """Say in which points the finished runs of a row and column are not the paper's experiment.

    Args:
        cells: those of one row and column.
        number: of the paper's table, None for a figure: the method's settings, which a figure
            varies by design, are not looked at then.
        data_set: which the paper took, of SETS; None for that of Table 2.
        images: how many the paper took.

    Returns:
        Sentences without a full stop, in a fixed order, none twice.
    """
    found: dict[str, None] = {}
    done = [cell for cell in cells if cell.run is not None]
    for cell in done:
        found |= dict.fromkeys(_of_data(cell.run, data_set))
        found |= dict.fromkeys(_of_operator(cell.run, cell.setting))
        found |= dict.fromkeys(_of_method(cell.run, number is not None))
        found |= dict.fromkeys(_of_weights(cell.run, number))
    n = len({cell.item for cell in done})
    if 0 < n < images:
        found[f"{n} image{'s' if n > 1 else ''} in place of {images}"] = None
    return list(found)


def _of_data(run: Run, data_set: str | None) -> Iterator[str]:
    task = run.metrics["task"]
    if task not in ("mri", "ct", *PICTURES):
        yield "a task that the paper does not have"
        return
    usual = {"mri": "fastmri", "ct": "aapm"}.get(task, "cbsd68")
    name = SETS.get(data_set, SETS[usual])
    flags = run.config.get("flags", {})
    if not run.config:
        yield "config.json is missing or damaged, so the settings are not known"
    elif flags.get("data") is None and flags.get("sinogram") is None:
        sample = {
            "mri": "a simulated scan (an abdominal slice inside pydicom, birdcage coils)",
            "ct": "a slice inside pydicom",
        }.get(task, "a photograph inside scikit-image")
        yield f"other images: the embedded sample, {sample}, not {name}"
    elif task == "mri" and ".h5" not in str(run.metrics.get("source")):
        yield f"other images: k-space that is not of a {name} file"
    else:
        yield f"images of the user's choice: the paper's own {IMAGES} of {name} are not named"
    if run.metrics.get("measured"):
        yield "measured data: there is no truth to compare with"
    if task in SIDE and data_set != "ffhq":
        side, where = SIDE[task]
        size = _size(run)
        if size not in (None, (side, side)):
            yield f"{size[1]}x{size[0]} pixels in place of {side}x{side} ({where})"


def _size(run: Run) -> tuple[int, int] | None:
    """Return (width, height) of the reconstruction, None if its picture is missing or damaged."""
    picture = run.picture("result")
    if picture is None:
        return None
    try:
        with Image.open(picture) as image:
            return image.size
    except OSError:
        return None


def _of_operator(run: Run, setting: str) -> Iterator[str]:
    metrics, settings = run.metrics, run.settings
    expected, actual = EXPECTED.search(setting), setting_of(run)
    if expected and "=" in actual and actual.partition(", ")[0] != expected[0]:
        yield f"the run has {actual}"
    blur = str(metrics.get("blur", ""))
    if metrics["task"] == "deblurring" and not blur.startswith("BKSE"):
        yield f"{blur.partition(':')[0] or 'another blur'} in place of BKSE's network"
    if metrics["task"] == "deblurring" and metrics.get("sigma"):
        yield f"noise of sigma {metrics['sigma']:g}; the paper names none"
    if metrics.get("sens_maps", "espirit") != "espirit":
        yield "sensitivity maps of the user"
    if metrics.get("photons") is not None:
        yield f"counting noise of {metrics['photons']:g} photons a ray; the paper has none"
    if settings.get("hu_range") is not None:
        yield "a range of HU of the user's choice becomes 0 to 1, which moves PSNR"
    if settings.get("clip"):
        yield "the noisy picture is clipped to [0, 1]"


def _of_method(run: Run, of_table: bool) -> Iterator[str]:
    """Compare the settings of the method; those of a figure vary by design."""
    metrics, settings = run.metrics, run.settings
    method, own = metrics["method"], settings.get("hyperparameters", {})
    if metrics.get("steps"):
        if metrics.get("quick"):
            yield "--quick: a small network and few updates"
        for name, ours in (("width", 64), ("depth", 3)):
            if settings.get(name, ours) != ours:
                yield f"a network of {name} {settings[name]}; the default is {ours}"
        if settings.get("precision", "fp32") != "fp32":
            yield f"a network that computes in {settings['precision']}"
    stop = metrics.get("stop", "fixed")
    if stop in ("es_wmv", "holdout", "noise"):
        yield f"stopped by the rule {stop}, not after {UPDATES} updates"
    yield from _other_values(settings, {"result": "last", "finish": "none"})
    if method.startswith("aseqdip"):  # eq. (3), which no figure of the paper varies so
        yield from _other_values(settings, {"loss": "squares", "network": "unet"})
    if not of_table:
        return
    if method == "aseqdip":
        yield from _other_values(settings, ASEQDIP)
        if settings.get("z0") == "tv":
            yield "z_0 is the image of total variation; the text has A^H y"
        if metrics["task"] == "ct" and settings.get("z0") == "fbp":
            yield "z_0 is the FBP, as in the public code; the text has A^T y"
        if settings.get("hole_start"):
            yield f"the hole of z_0 starts at {settings['hole_start']:g}, not at y's 0"
    elif method in FOUR_THOUSAND:
        if own.get("steps", UPDATES) != UPDATES:
            yield f"{own['steps']} updates in place of {UPDATES}"
        if method == "tv_dip":
            yield from _other_values(own, {"lambda_tv": 1.0})
    # Of ES-DIP the paper takes the authors' own configuration (appendix C.6).
    elif method == "es_dip" and own.get("steps", UPDATES) < UPDATES:
        yield f"{own['steps']} updates at most, of which its rule chooses one"
    if "lr" in own and own["lr"] == settings.get("lr"):  # aSeqDIP's rate, which was changed
        yield from _other_values(own, {"lr": ASEQDIP["lr"]})


def _of_weights(run: Run, number: int | None) -> Iterator[str]:
    """Compare the weights that were trained elsewhere with the paper's."""
    metrics = run.metrics
    if "varnet" in metrics:
        yield f"weights of {weights(run)}; {metrics['varnet_seen']}"
    if "prior_facts" not in metrics:
        return
    facts, paper = metrics["prior_facts"], PRIORS.get(number, {}).get(metrics["method"], "")
    if "items" in facts:
        n = len(facts["items"])
        yield (
            f"a small prior of the user's own, {weights(run)}, that learned from {n} "
            f"image{'s' if n > 1 else ''}; the paper's learned from thousands"
        )
    elif paper not in facts["network"]:
        yield f"the prior {weights(run)} in place of {paper}"


def weights(run: Run) -> str | None:
    """Name the file of weights that a run was given, None if it was given none."""
    facts = run.metrics.get("prior_facts")
    if facts is not None:
        return (
            f"{facts['file']} ({facts['network']}, {facts['n_params']:,} parameters, SHA-256 "
            f"{facts['sha256'][:12]})"
        )
    return Path(run.metrics["varnet"]).name if "varnet" in run.metrics else None


def _other_values(settings: dict[str, Any], paper: dict[str, float | str]) -> Iterator[str]:
    for name, value in paper.items():
        ours = settings.get(name)
        if isinstance(ours, int | float | str) and ours != value:
            ours, value = (v if isinstance(v, str) else f"{v:g}" for v in (ours, value))
            yield f"{name} {ours} in place of {value}"
