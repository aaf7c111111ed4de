"""The door of every script: flags, device, and errors as one line."""

import dataclasses
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
import tyro

from utils import processor
from utils.arrays import stem
from utils.errors import InputError, require
from utils.files import files_of
from utils.flags import read_flags
from utils.methods import ASEQDIP, flag
from utils.precision import Precision

ArgsT = TypeVar("ArgsT", bound="RunArgs")


# fmt: off
@dataclass
class RunArgs:
    """What every script can be told about a run; a script's Args add its data and its method."""

    # Choice of method
    method: str = "aseqdip"  # one, several with commas between, or all of {methods}
    set: tuple[str, ...] = ()  # settings of the other methods, as lambda_tv=0.1 or tv_dip.lr=0.001
    prior: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()  # diffusion network that the methods with a learned prior take, may be given several times
    preset: Literal["paper", "public", "best", "quick"] = "paper"  # other defaults: public for the settings of the authors' public script, best for the best image (docs/best.md), quick for best with less, in three minutes on a CPU
    quick: bool = False  # short for --preset quick
    # Folder of data
    images: int | None = None  # how many files of a folder, by name; without it all of them
    list: Path | None = None  # names of the files of a folder that come first, one on each line
    # Stopping and result
    stop: Literal["fixed", "es_wmv", "holdout", "noise"] = "fixed"  # after all updates, where the iterates vary least, where measurements kept back fit best, or where the misfit is down to that of the noise
    hold_out: float = 0.05  # share of the measurements that --stop holdout keeps back
    tau: float = 1.0  # --stop noise: the updates end where the misfit is tau times the norm of the noise
    result: Literal["last", "average"] = "last"  # what an iterative method ends with: its last image, or the average over its images
    finish: Literal["none", "consistency"] = "none"  # a last step that brings the result nearer to the measurements, by how far each is to be trusted
    # Seeds and machine
    seed: int = 0  # of the network's weights
    data_seed: int = 0  # of the simulated measurements: masks, noise, kernels
    device: str = "auto"  # auto, cpu, cuda or cuda:INDEX
    precision: Precision = "fp32"  # of the network: fp32 exact; tf32 (on CUDA), bf16 quicker; auto: bf16 where it is quicker here
    deterministic: bool = False  # the same bits each time on CUDA too, slower
    # Output
    out: Path = Path("results")  # root of all results
    run: str | None = None  # name of the run's folder; without it a hash of the settings
    fresh: bool = False  # do the run again, throwing away what its folder holds
    log_every: int = 10  # input updates between two rows of log.csv

    # No flags: the fields that a flag gave, or that differ from their defaults, and those for aSeqDIP
    # alone, but for what utils.methods.takes tells.
    changed: ClassVar[tuple[str, ...]] = ()
    only_aseqdip: ClassVar[tuple[str, ...]] = ("loss", "lambda_ae")
# fmt: on


def parse_args(
    args_type: type[ArgsT],
    presets: dict[str, dict[str, Any] | Callable[[ArgsT], dict[str, Any]]],
    description: str,
    argv: Sequence[str] | None = None,
    others: Callable[[ArgsT], Collection[str]] | None = None,
) -> ArgsT:
    """Read the command line into a script's Args.

    Args:
        args_type: dataclass with every default.
        presets: the defaults that each --preset but paper replaces, or a function that chooses
            them by the flags; flags given beside it still win.
        description: what --help prints above the flags.
        argv: the flags; without it those of this process.
        others: names the task's methods besides aSeqDIP, for --help.

    Returns:
        The filled dataclass. Exits with status 2 on an unknown flag or a value of a wrong type.
    """

    def read(default: ArgsT) -> ArgsT:
        return read_flags(default, argv, description, methods)

    words = sys.argv[1:] if argv is None else argv
    refuse_empty(words)
    default = args_type()
    methods = () if others is None else (*ASEQDIP, *others(default))
    args = read(default)
    if args.quick or args.preset != "paper":
        if args.quick and args.preset not in ("paper", "quick"):
            print(
                f"error: --quick is --preset quick; omit it or --preset {args.preset}",
                file=sys.stderr,
            )
            raise SystemExit(2)
        name = "quick" if args.quick else args.preset
        if name not in presets:
            print(
                f"error: --preset {name}: this task has paper, {', '.join(presets)} only",
                file=sys.stderr,
            )
            raise SystemExit(2)
        preset = presets[name]
        default = args_type(**(preset(args) if callable(preset) else preset) | dict(preset=name))
        args = read(default)
        args.preset = name
    for f in dataclasses.fields(args):  # `lr: float = 1` at the top is what --lr 1 is: 1.0
        value = getattr(args, f.name)
        if f.type in (float, float | None) and value is not None:
            setattr(args, f.name, float(value))
        if isinstance(value, Path) and value.parts[:1] and value.parts[0].startswith("~"):
            setattr(args, f.name, value.expanduser())  # of --data=~/x, which no shell expands
        if f.type in (tuple[float, float], tuple[float, float] | None) and value is not None:
            setattr(args, f.name, tuple(float(v) for v in value))
    flags = {word.partition("=")[0].replace("_", "-") for word in words} - {"--preset"}
    args.changed = tuple(
        f.name
        for f in dataclasses.fields(args)
        if getattr(args, f.name) != getattr(default, f.name) or flag(f.name) in flags
    )
    return args


def altered(args: ArgsT, **values: Any) -> ArgsT:
    """Return a copy of args with other values; it still knows which flags the user gave."""
    other = dataclasses.replace(args, **values)
    other.changed = args.changed
    return other


def refuse_empty(words: Sequence[str]) -> None:
    """End with status 2 at a flag whose value is empty, such as that of an unset shell variable.

    As a path, an empty value would be the current folder.
    """
    for before, word in zip(["", *words], words):
        empty = word == "" or (word.startswith("--") and word.endswith("="))
        if empty:
            flag = word.removesuffix("=") or before
            print(f"error: {flag}: got an empty value; give one, or omit the flag", file=sys.stderr)
            raise SystemExit(2)


def inputs(
    args: RunArgs, suffixes: tuple[str, ...], also: Callable[[Path], bool] = lambda path: False
) -> Iterator[Path | None]:
    """Check args, and iterate over args.data, each file of it if it is a folder, or None for the embedded sample.

    Args:
        args: the script's Args.
        suffixes: which files of a folder are taken, in the order of their names, as ".png".
        also: tells which files without such a suffix are taken too.

    Raises:
        InputError: a value in args cannot be, or the folder holds no such file.
    """
    check_method(args)
    require(
        args.data is None or "sample" not in args.changed,
        "--sample: it names an embedded image, and --data a file; omit one of them",
    )
    files: list[Path | None] = [None] if args.data is None else [args.data]
    if args.data is not None and args.data.is_dir():
        files = [*choose_files(args.data, suffixes, also, args.images, args.list)]
    else:
        require(
            args.images is None and args.list is None,
            "--images, --list: they choose files of a folder; give --data one",
        )

    def told() -> Iterator[Path | None]:
        for number, file in enumerate(files, start=1):
            if len(files) > 1:
                print(f"== {number} of {len(files)}: {file}")
            yield file

    return told()


def choose_files(
    folder: Path,
    suffixes: tuple[str, ...],
    also: Callable[[Path], bool],
    number: int | None,
    list_file: Path | None,
) -> list[Path]:
    """Choose files of a folder: those that a list names, then the others by name.

    Args:
        folder, suffixes, also: as for files_of.
        number: how many at most, None for all; of a list so many names count.
        list_file: a name on each line, with or without suffix, comments after #; of what is no
            name of a file, the first word. None for none.

    Raises:
        InputError: there is no file, or no such list.
    """
    require(
        number is None or number >= 1, f"--images {number}: expected a whole number of at least 1"
    )
    files = files_of(folder, suffixes, also)
    if list_file is None:
        return files[:number]
    require(list_file.is_file(), f"--list {list_file}: expected a text file; there is none")
    try:
        text = list_file.read_text(encoding="utf-8")
    except ValueError as error:
        raise InputError(f"--list {list_file}: not a text file; expected names") from error
    known = {name for f in files for name in (f.name, f.stem, stem(f))}
    lines = filter(None, (line.partition("#")[0].strip() for line in text.splitlines()))
    names = [line if line in known else line.split()[0] for line in lines]
    names = [*dict.fromkeys(names)][:number]
    of_name = {name: [f for f in files if name in (f.name, f.stem, stem(f))] for name in names}
    lacking = [name for name, found in of_name.items() if not found]
    if lacking:
        print(
            f"note: {folder}: {len(lacking)} of the {len(names)} names in {list_file} are missing "
            f"({_shortened(lacking)}); the first other files are used instead"
        )
    listed = [*dict.fromkeys(file for found in of_name.values() for file in found)]
    return (listed + [file for file in files if file not in listed])[:number]


def _shortened(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def check_method(args: Any) -> None:
    """Raise InputError for a value that no run can have; the fields are those of every Args."""
    for name, low in (("K", 1), ("N", 1), ("width", 1), ("depth", 1), ("log_every", 1)):
        value = getattr(args, name)
        flag = name.replace("_", "-")
        require(value >= low, f"--{flag} {value}: expected a whole number of at least {low}")
    for name in ("lr", "init_std", "tau"):
        value = getattr(args, name)
        flag = name.replace("_", "-")
        require(0 < value < math.inf, f"--{flag} {value}: expected a number above 0")
    require(0 <= args.lambda_ae < math.inf, f"--lambda-ae {args.lambda_ae}: expected 0 or more")
    for name in ("seed", "data_seed"):
        value = getattr(args, name)
        flag = name.replace("_", "-")
        require(0 <= value < 2**63, f"--{flag} {value}: expected a whole number from 0 to 2^63 - 1")
    require(0 < args.hold_out <= 0.5, f"--hold-out {args.hold_out}: expected above 0, at most 0.5")
    require(
        args.stop == "holdout" or "hold_out" not in args.changed,
        f"--hold-out {args.hold_out}: for --stop holdout only",
    )
    require(
        args.stop == "noise" or "tau" not in args.changed,
        f"--tau {args.tau}: for --stop noise only",
    )
    require(0 <= args.ema_decay < 1, f"--ema-decay {args.ema_decay}: expected a number in [0, 1)")


def check_size(shape: tuple[int, int], depth: int) -> None:
    """Raise InputError unless an image leaves at least 2x2 pixels below all poolings."""
    require(
        min(shape) >= 2 ** (depth + 1),
        f"--depth {depth}: too deep for {shape[0]}x{shape[1]} pixels; lower it",
    )


def set_up_device(args: RunArgs) -> torch.device:
    """Choose the device and set PyTorch's precision, determinism, threads and memory for it.

    Float32 stays float32, but for tf32: then convolutions take it, and nothing else. The device
    and the precision are told in one line.

    Args:
        args: `device` is `auto` (CUDA when there is one), `cpu`, `cuda` or `cuda:INDEX`;
            `deterministic` asks for algorithms that give the same bits each time on CUDA;
            a `precision` of `auto` becomes bf16 where that is quicker on this device, else fp32.

    Raises:
        InputError: the name is unknown, there is no such device, or it has not that precision.
    """
    name = args.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    require(
        re.fullmatch(r"cpu|cuda(:[0-9]+)?", name) is not None,
        f"--device {name}: expected auto, cpu, cuda or cuda:INDEX",
    )
    kind, _, index = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count()
        require(
            int(index or 0) < count,
            f"--device {name}: PyTorch {torch.__version__} sees {count} CUDA devices here; "
            "use --device cpu or install a CUDA build of PyTorch",
        )
    require(
        args.precision != "tf32" or kind == "cuda",
        "--precision tf32: needs a GPU; use fp32 on the CPU, or --device cuda",
    )
    device = torch.device(name)
    if kind == "cpu":
        processor.choose_threads()
        processor.keep_memory()
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    why = ""
    if args.precision == "auto":
        speedup = processor.bfloat16_speedup(device)
        args.precision = "bf16" if speedup >= processor.FASTER else "fp32"
        why = f" (here bf16 is {speedup:.1f} times as fast as fp32)"
    if args.precision == "tf32":
        torch.backends.cudnn.conv.fp32_precision = "tf32"
    if args.deterministic:
        # cuBLAS reads this when its first handle is made, which is after this point.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads it
        torch.backends.cudnn.benchmark = False
    say_once(f"{processor.device_name(device)}, precision {args.precision}{why}")
    return device


@functools.cache
def say_once(line: str) -> None:
    """Print a line, unless this process has printed it before."""
    print(line, flush=True)
