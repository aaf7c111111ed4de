"""What makes a run another experiment than the paper's, from the facts that it recorded."""

import re
from typing import Any

from PIL import Image, UnidentifiedImageError

from scripts.reporting.data import Cell, Run, setting_of

IMAGES = 20  # a task (section 4.1)
UPDATES = 4000  # K N of aSeqDIP (section 4.1), and the iterations of six baselines (appendix C.6)
FOUR_THOUSAND = {
    "vanilla_dip", "self_guided_dip", "ref_guided_dip", "tv_dip", "rethinking_dip", "sgld_dip",
}  # fmt: skip
# Of deblurring and of FFHQ the paper gives no size.
SIDE = {"mri": 320, "ct": 512, "denoising": 512, "inpainting": 512}
WHERE_SIDE = {"mri": "section 4.1", "ct": "section 4.1"}  # of others appendix C.6
PICTURES = ("denoising", "inpainting", "deblurring")
ASEQDIP = {"K": 2000, "N": 2, "lr": 1e-4, "lambda_ae": 1.0}  # section 4.1
DAMPING = {"damping": 1.0}  # eq. (4), which no figure of the paper varies
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
    for cell in cells:
        if cell.run is None:
            continue
        texts = _of_data(cell.run, data_set) + _of_operator(cell.run, cell.setting)
        found |= dict.fromkeys(texts + _of_method(cell.run, number is not None))
    n = len({cell.item for cell in cells if cell.run is not None})
    if 0 < n < images:
        found[f"{n} image{'s' if n > 1 else ''} in place of {images}"] = None
    return list(found)


def _of_data(run: Run, data_set: str | None) -> list[str]:
    task = run.metrics["task"]
    if task not in ("mri", "ct", *PICTURES):
        return ["a task that the paper does not have"]
    found = []
    sized = data_set != "ffhq"
    usual = {"mri": "fastmri", "ct": "aapm"}.get(task, "cbsd68")
    data_set = SETS.get(data_set, SETS[usual])
    if not run.config:
        found.append("config.json is missing or damaged, so the settings are not known")
    elif run.config["flags"].get("data") is None and run.config["flags"].get("sinogram") is None:
        sample = {
            "mri": "a simulated scan (an abdominal slice inside pydicom, birdcage coils)",
            "ct": "a slice inside pydicom",
        }.get(task, "a photograph inside scikit-image")
        found.append(f"other images: the embedded sample, {sample}, not {data_set}")
    elif task == "mri" and ".h5" not in str(run.metrics.get("source")):
        found.append(f"other images: k-space that is not of a {data_set} file")
    else:
        found.append(
            f"images of the user's choice: the paper's own {IMAGES} of {data_set} are not named"
        )
    if run.metrics.get("measured"):
        found.append("measured data: there is no truth to compare with")
    shape = _shape(run)
    side = SIDE.get(task) if sized else None
    if None not in (shape, side) and shape != (side, side):
        where = WHERE_SIDE.get(task, "appendix C.6")
        found.append(f"{shape[0]}x{shape[1]} pixels in place of {side}x{side} ({where})")
    return found


def _shape(run: Run) -> tuple[int, int] | None:
    """Return (height, width) of the reconstruction, None if its picture is missing or damaged."""
    path = run.picture("result")
    if path is None:
        return None
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except (OSError, UnidentifiedImageError):
        return None


def _of_operator(run: Run, setting: str) -> list[str]:
    metrics, settings = run.metrics, run.settings
    found = []
    expected, actual = EXPECTED.search(setting), setting_of(run)
    if expected and "=" in actual and actual != expected[0]:
        found.append(f"the run has {actual}")
    blur = str(metrics.get("blur", ""))
    if metrics["task"] == "deblurring" and not blur.startswith("BKSE"):
        found.append(f"{blur.partition(':')[0] or 'another blur'} in place of BKSE's network")
    if metrics.get("sens_maps", "espirit") != "espirit":
        found.append("sensitivity maps of the user")
    if metrics.get("photons") is not None:
        found.append(f"counting noise of {metrics['photons']:g} photons a ray; the paper has none")
    if settings.get("hu_range") is not None:
        found.append("a range of HU of the user's choice becomes 0 to 1, which moves PSNR")
    if settings.get("clip"):
        found.append("the noisy picture is clipped to [0, 1]")
    return found


def _of_method(run: Run, of_table: bool) -> list[str]:
    """Compare the settings of the method; those of a figure vary by design."""
    metrics, settings = run.metrics, run.settings
    found = []
    iterative = bool(metrics.get("steps"))
    if metrics.get("quick") and iterative:
        found.append("--quick: a small network and few updates")
    if iterative and run.settings:
        for name, ours in (("width", 64), ("depth", 3)):
            if settings.get(name, ours) != ours:
                found.append(f"a network of {name} {settings[name]}; the default is {ours}")
        if settings.get("precision", "fp32") != "fp32":
            found.append(f"a network that computes in {settings['precision']}")
    if settings.get("stop", "fixed") != "fixed":
        found.append(f"stopped by the rule {settings['stop']}, not after {UPDATES} updates")
    method, own = metrics["method"], settings.get("hyperparameters", {})
    if method.startswith("aseqdip"):
        found += _other_values(settings, DAMPING)
    if not of_table:
        return found
    if method == "aseqdip":
        found += _other_values(settings, ASEQDIP)
        if metrics["task"] == "ct" and settings.get("z0") == "fbp":
            found.append("z_0 is the FBP, as in the public code; the text has A^T y")
        if settings.get("hole_start"):
            found.append(f"the hole of z_0 starts at {settings['hole_start']:g}, not at y's 0")
    elif method in FOUR_THOUSAND:
        if own.get("steps", UPDATES) != UPDATES:
            found.append(f"{own['steps']} updates in place of {UPDATES}")
        if method == "tv_dip":
            found += _other_values(own, {"lambda_tv": 1.0})
    # Of ES-DIP the paper takes the authors' own configuration (appendix C.6).
    elif method == "es_dip" and own.get("steps", UPDATES) < UPDATES:
        found.append(f"{own['steps']} updates at most, of which its rule chooses one")
    if "lr" in own and own["lr"] == settings.get("lr"):  # aSeqDIP's rate, which was changed
        found += _other_values(own, {"lr": ASEQDIP["lr"]})
    return found


def _other_values(settings: dict[str, Any], paper: dict[str, float]) -> list[str]:
    return [
        f"{name} {settings[name]:g} in place of {value:g}"
        for name, value in paper.items()
        if isinstance(settings.get(name), int | float) and settings[name] != value
    ]
