"""Give every reader damaged, foreign and hostile files: each is read or refused in one line.

    python tests/campaigns/fuzz.py --files 5000

Bytes are flipped, cut, zeroed, swapped, repeated and set to the largest numbers; files get the
name of another kind; headers declare terabytes, nest deeply or hold pickles. A traceback, a reader
that takes longer than --seconds or dies, more than --megabytes of memory, and a file of our own
that is read as something else than was written are failures: the file is kept, and the exit status
is 1.
"""

import argparse
import gzip
import io
import json
import os
import pickle
import random
import select
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

ROOT = Path(__file__).resolve().parent.parent.parent
READERS = "tests.campaigns.read_files"
OURS = ("checkpoint", "encoder", "cache")  # formats that only we write: never read wrongly
LARGEST = (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x10000, 0xFFFF, 0)


class Worker:
    """A process that reads files, and is replaced when one hangs it or kills it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.process: subprocess.Popen[bytes] | None = None

    def read(self, reader: str, path: Path) -> dict[str, Any]:
        """Return the verdict on a file; its outcome may be `hang` or `died`."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", READERS],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            wait = 120.0  # its imports
        else:
            wait = self.seconds
        process = self.process
        process.stdin.write(f"{reader}\t{path}\n".encode())
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], wait)
        line = process.stdout.readline() if ready else b""
        if line:
            return json.loads(line)
        self.close()
        return {"outcome": "died" if ready else "hang", "text": f"status {process.returncode}"}

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def damaged(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Return what was done to a file's bytes, and the bytes."""
    kind = rng.choice(("flipped", "cut", "zeroed", "swapped", "enlarged", "largest"))
    content, size = bytearray(data), len(data)
    # Half of the damage falls into the first kilobyte, where most headers are.
    reach = min(size, 1024) if rng.random() < 0.5 else size
    at, length = rng.randrange(reach), rng.choice((1, 2, 4, 8, 64, 512))
    if kind == "flipped":
        for _ in range(rng.choice((1, 1, 2, 8, 64))):
            content[rng.randrange(reach)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[rng.choice((at, rng.randrange(size))) :]
    elif kind == "zeroed":
        content[at : at + length] = bytes(min(length, size - at))
    elif kind == "swapped":
        other = rng.randrange(size)
        one, two = content[at : at + length], content[other : other + length]
        content[at : at + len(two)], content[other : other + len(one)] = two, one
    elif kind == "enlarged":
        extra = rng.choice((rng.randbytes(length), bytes(content[at : at + length]) * 50))
        content[at:at] = extra
    else:
        order = rng.choice("<>")
        content[at : at + 4] = struct.pack(f"{order}I", rng.choice(LARGEST))
    return kind, bytes(content)


def hostile() -> Iterator[tuple[str, str, bytes]]:
    """Yield reader, file name and bytes of files that were made to do harm."""

    def npy(shape: str, dtype: str = "<c8", body: bytes = b"") -> bytes:
        header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + body

    def zipped(member: bytes, level: int = zipfile.ZIP_STORED) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", level) as archive:
            archive.writestr("kspace.npy", member)
        return file.getvalue()

    def hdf5(shape: tuple[int, ...], depth: int = 0) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.h5"
            with h5py.File(path, "w") as file:
                file.create_dataset("kspace", shape, "c8", chunks=(1,) * len(shape))
                group = file
                for _ in range(depth):
                    group = group.create_group("g")
            return path.read_bytes()

    class Harm:
        def __reduce__(self) -> Any:
            return (os.system, ("echo harm > /tmp/harm",))

    for reader in ("scan", "slice", "picture", "kernel", "sinogram", "mask", "maps"):
        yield reader, "huge.npy", npy("(1000000, 1000000, 1000)")
        yield reader, "nested.npy", npy("(" * 3000 + ")" * 3000)
        yield reader, "negative.npy", npy("(-1, 40, 40)", body=bytes(999))
        yield reader, "pickle.npy", npy("(1,)", "|O", pickle.dumps([Harm()]))
        yield reader, "huge.npz", zipped(npy("(1000000, 1000000, 1000)"))
        yield reader, "bare_pickle.npy", pickle.dumps(Harm())
        nested: Any = np.ones((40, 36))
        for _ in range(200):
            nested = {"a": nested}
        file = io.BytesIO()
        scipy.io.savemat(file, {"kspace": nested})
        yield reader, "nested.mat", file.getvalue()
    bomb = npy("(256, 512, 512)", body=bytes(256 * 512 * 512 * 8))  # 0.5 GB in 0.5 MB
    yield "scan", "bomb.npz", zipped(bomb, zipfile.ZIP_DEFLATED)
    file = io.BytesIO()
    scipy.io.savemat(file, {"kspace": np.zeros((512, 512, 256))}, do_compression=True)
    yield "scan", "bomb.mat", file.getvalue()
    yield "scan", "huge.h5", hdf5((1, 4, 10**6, 10**6))
    yield "scan", "deep.h5", hdf5((1, 4, 40, 40), depth=3000)
    nii = bytearray(352)
    nii[0:4], nii[344:348] = struct.pack("<i", 348), b"n+1\0"
    nii[40:56] = struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1)
    nii[70:74], nii[76:80] = struct.pack("<2h", 64, 64), struct.pack("<f", 1)
    nii[108:116] = struct.pack("<2f", 352, 1)
    yield "slice", "huge.nii", bytes(nii)
    yield "slice", "huge.nii.gz", gzip.compress(bytes(nii) + bytes(2**28))
    for name in ("encoder", "weights", "checkpoint"):
        yield name, "pickle.pt", pickle.dumps(Harm())
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Harm(), protocol=2))
            archive.writestr("archive/version", "3")
        yield name, "pickle_zip.pt", file.getvalue()
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 16, 2, 0, 0, 0)
    crc = struct.pack(">I", zipfile.crc32(ihdr))
    yield "picture", "huge.png", b"\x89PNG\r\n\x1a\n\0\0\0\r" + ihdr + crc + bytes(60)
    tags = {256: 2**20, 257: 2**20, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 279: 2**31}
    for order, mark in (("<", b"II*\0"), (">", b"MM\0*")):
        for compression in (1, 5, 8):
            entries = sorted((tags | {259: compression}).items())
            body = b"".join(struct.pack(f"{order}HHII", t, 4, 1, v) for t, v in entries)
            start = mark + struct.pack(f"{order}IH", 8, len(entries))
            yield "picture", "huge.tif", start + body + struct.pack(f"{order}I", 8)  # a circle
    sequence = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x08\x00\x15\x11\xff\xff\xff\xff"
    meta = b"\2\0\x10\0UI\x12\x001.2.840.10008.1.2\0"
    yield "slice", "deep.dcm", bytes(128) + b"DICM" + meta + sequence[8:] + sequence * 5000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=5000, help="how many files are made")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--seconds", type=float, default=20, help="longest time for a file")
    parser.add_argument("--megabytes", type=float, default=2500, help="most memory of the reader")
    parser.add_argument(
        "--keep", type=Path, default=Path("fuzz_failures"), help="folder of failures"
    )
    args = parser.parse_args()
    rng, counts, worker = random.Random(args.seed), Counter(), Worker(args.seconds)
    failures, memory, longest = 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-m", READERS, "--seeds", name], cwd=ROOT, check=True)
        seeds = sorted(path for path in folder.iterdir() if path.is_file())
        whole = {}
        for path in seeds:
            if path.suffix != ".hdr":
                found = worker.read(path.name.split("-")[0], path)
                if found["outcome"] != "read":
                    print(f"the whole file {path.name}: {found}")
                    return 1
                whole[path.name] = found["digest"]

        def cases() -> Iterator[tuple[str, str, str, bytes, str]]:
            """Yield what was done, reader, file name, bytes, and the seed's name."""
            for reader, file_name, data in hostile():
                yield "hostile", reader, file_name, data, ""
            while True:
                path = rng.choice(seeds)
                reader = path.name.split("-")[0]
                if rng.random() < 0.1:  # the content of another kind under this name
                    other = rng.choice(seeds)
                    data = other.read_bytes()
                    yield "wrong type", reader, path.name, data, "" if other != path else path.name
                    continue
                kind, data = damaged(path.read_bytes(), rng)
                yield kind, reader, path.name, data, path.name

        for number, (kind, reader, file_name, data, seed) in zip(range(args.files), cases()):
            path = folder / "case" / file_name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            for suffix in (".hdr", ".cfl"):  # the other half of the pair is whole
                half = seeds[0].with_name(path.with_suffix(suffix).name)
                if half.exists() and half.name != file_name:
                    (path.parent / half.name).write_bytes(half.read_bytes())
            is_new, begun = worker.process is None, time.monotonic()
            found = worker.read(reader, path)
            if not is_new:  # a new one waits for its imports
                longest = max(longest, time.monotonic() - begun)
            memory = max(memory, found.get("memory", 0))
            outcome = found["outcome"]
            if outcome == "read" and reader in OURS and found["digest"] != whole.get(seed):
                outcome = "read wrongly"
            if found.get("memory", 0) > args.megabytes:
                outcome = "too much memory"
                worker.close()
            counts[outcome] += 1
            if outcome not in ("read", "refused"):
                failures += 1
                args.keep.mkdir(exist_ok=True)
                kept = args.keep / f"{number:05d}-{reader}-{file_name}"
                kept.write_bytes(data)
                last = found.get("text", "").strip().splitlines()[-1:] or [""]
                print(f"{outcome}: {kind} {reader} {file_name}, kept as {kept}: {last[0][:200]}")
            for file in path.parent.iterdir():
                if file.is_file():
                    file.unlink()
    worker.close()
    words = ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items()))
    print(
        f"{sum(counts.values())} files: {words}; {failures} failures; at most {longest:.1f} s for a "
        f"file and {memory:.0f} MB of memory for all"
    )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
