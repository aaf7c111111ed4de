"""Sparse-view parallel-beam CT: A = C R, the Radon transform at a few angles."""

import functools
import math
import warnings
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from operators.base import Operator

_NUMPY_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


def _raised_cosine(f: Tensor, mean: float) -> Tensor:
    """Return mean + (1 - mean) cos(2 pi f), off by half a sample, as skimage has it.

    Its Hamming and Hann windows of n samples are symmetric: they reach their maximum between
    two frequencies.
    """
    n = len(f)
    return mean - (1 - mean) * torch.cos(2 * math.pi * (n * f + n / 2) / (n - 1))


# FBP windows over the frequencies f in cycles per bin.
_WINDOWS = {
    "ramp": torch.ones_like,
    "shepp-logan": torch.sinc,
    "cosine": lambda f: torch.cos(math.pi * f),
    "hamming": lambda f: _raised_cosine(f, 0.54),
    "hann": lambda f: _raised_cosine(f, 0.5),
}


def equispaced_angles(n_views: int) -> Tensor:
    """Return n_views angles k pi / n_views over half a turn, its end excluded.

    Args:
        n_views: number of views, at least 1.

    Returns:
        (n_views,) float64 angles in radians.

    Raises:
        ValueError: n_views is below 1.
    """
    if n_views < 1:
        raise ValueError(f"n_views must be at least 1, got {n_views}")
    return torch.arange(n_views, dtype=torch.float64) * math.pi / n_views


# The symmetries of the square, as matrices for (x, y). Negatives are neighbours: -g has the index
# of g, xor 1.
_SYMMETRIES = np.array(
    [
        [[1, 0], [0, 1]], [[-1, 0], [0, -1]],  # the identity and the half turn
        [[1, 0], [0, -1]], [[-1, 0], [0, 1]],  # mirrors
        [[0, 1], [1, 0]], [[0, -1], [-1, 0]],  # transpositions
        [[0, 1], [-1, 0]], [[0, -1], [1, 0]],  # quarter turns
    ]
)  # fmt: skip


class _Rows(NamedTuple):
    """A sparse matrix by rows (CSR): entries offsets[i] to offsets[i + 1] - 1 make row i."""

    offsets: Tensor  # (n_rows + 1,) int32
    columns: Tensor  # (nnz,) int32
    weights: Tensor  # (nnz,) float32 or float64


class _Layout(NamedTuple):
    """How the entries of an (n,) vector lie in an array of more entries, the others zero.

    Both directions only gather, so that the order of each sum is fixed.
    """

    places: Tensor  # (n_copies, n) int32: where an entry's copies lie in the flat array
    sources: Tensor  # (n_rows, n_columns) int32: the entry that lies here, n where none does

    def spread(self, x: Tensor) -> Tensor:
        """Copy the entries of the vector to their places."""
        entries = torch.cat([x, x.new_zeros(1)])
        return entries.index_select(0, self.sources.flatten()).view(self.sources.shape)

    def collect(self, array: Tensor) -> Tensor:
        """Sum each entry's copies: the adjoint of spread."""
        copies = array.flatten().index_select(0, self.places.flatten())
        return copies.view(self.places.shape).sum(dim=0)


class _Projector(NamedTuple):
    """A linear map in factors: spread the input, multiply by a matrix, collect the output."""

    inputs: _Layout
    matrix: _Rows
    outputs: _Layout
    transpose: _Rows  # of the matrix

    def adjoint(self) -> "_Projector":
        return _Projector(self.outputs, self.transpose, self.inputs, self.matrix)


def _diagonal(shape: tuple[int, int]) -> int:
    """Return the pixels on the diagonal of the square around an (H, W) image, rounded up."""
    return math.ceil(math.sqrt(2) * max(shape))


def _sample(angle: np.ndarray, t: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y at bin t and step s, all from the centre."""
    cos, sin = np.cos(angle), np.sin(angle)
    return t * cos + s * sin, s * cos - t * sin


def _ray_rows(angle: float, t: np.ndarray, s: np.ndarray, radius: int) -> scipy.sparse.csr_array:
    """Sample the rays t of one view at the steps s, in a square of pixels.

        A[t, (y, x)] = sum_s tri(x(t, s) - x) tri(y(t, s) - y),   tri(d) = max(0, 1 - |d|)

    x and y are whole numbers from -radius to radius; tri tri is the pixel's share in the
    bilinear interpolation at the sample.
    """
    side = 2 * radius + 1
    x, y = _sample(angle, t[:, None], s)  # (n_rays, n_steps)
    rays, steps = np.nonzero((abs(x) < radius + 1) & (abs(y) < radius + 1))
    x, y = x[rays, steps, None, None], y[rays, steps, None, None]  # (n_samples, 1, 1)
    near_x = np.floor(x) + [[0, 1]]  # (n_samples, 1, 2)
    near_y = np.floor(y) + [[0], [1]]  # (n_samples, 2, 1)
    weights = (1 - abs(near_x - x)) * (1 - abs(near_y - y))  # (n_samples, 2, 2)
    kept = (weights > 0) & (abs(near_x) <= radius) & (abs(near_y) <= radius)
    pixels = ((near_y + radius) * side + near_x + radius)[kept].astype(np.int32)
    rays = np.broadcast_to(rays[:, None, None], kept.shape)[kept].astype(np.int32)
    entries = scipy.sparse.coo_array((weights[kept], (rays, pixels)), shape=(len(t), side**2))
    # By way of the columns: there the entries, which lie ray by ray, need no sorting.
    return entries.tocsc().tocsr()


def _orbits(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find for each view its base: an earlier view, or itself, that a symmetry g turns into it.

        u(view) = g u(base),   u = (cos angle, -sin angle), the direction of the detector

    g and -g give the same view, with its bins reversed. Two views of one angle have two bases.

    Returns:
        The base of each view, and the index of g in _SYMMETRIES, both (n_angles,).
    """
    u = np.stack([np.cos(angles), -np.sin(angles)], axis=1)  # (n_angles, 2)
    images = np.einsum("gij,aj->agi", _SYMMETRIES, u)  # (n_angles, 8, 2)
    free = np.zeros(images.shape[:2], dtype=bool)
    bases, symmetries = np.zeros((2, len(u)), dtype=int)
    for view in range(len(u)):
        fits = free & (abs(images - u[view]).max(axis=2) <= 1e-12)
        if not fits.any():
            free[view] = True
            fits[view, 0] = True
        base, g = np.argwhere(fits)[0]
        free[base, [g, g ^ 1]] = False
        bases[view], symmetries[view] = base, g
    return bases, symmetries


def _base_rays(
    shape: tuple[int, int], angles: np.ndarray, n_det: int
) -> tuple[scipy.sparse.csr_array, np.ndarray, np.ndarray]:
    """Sample the rays that the symmetries of the square turn into all others.

    These are the bins t >= 0 of the bases: the half turn makes bin -t of bin t.

    Returns:
        The matrix of these base rays, in an odd square of pixels around pixel (H//2, W//2); and
        for each ray of the sinogram the row of its base ray, and the index of the g that moves
        the base ray to it, both (n_angles, n_det).
    """
    height, width = shape
    radius, n_half, n_steps = max(shape) // 2, n_det // 2 + 1, _diagonal(shape)
    t, steps = np.arange(n_det) - n_det // 2, np.arange(-(n_steps // 2), n_steps // 2 + 1)
    bases, symmetries = _orbits(angles)
    bases, orbits = np.unique(bases, return_inverse=True)
    blocks = [_ray_rows(angle, np.arange(n_half), steps, radius) for angle in angles[bases]]
    base_rays = orbits[:, None] * n_half + abs(t)
    symmetries = symmetries[:, None] ^ (t < 0)
    if n_steps % 2 == 0:
        # skimage's rays lack the last of these steps. Where it would see the image, in a corner,
        # symmetry fails: such a ray is its own base.
        x, y = _sample(angles[:, None], t, steps[-1])
        own = (-(width // 2) - 1 < x) & (x < width - width // 2)
        own &= (-(height // 2) - 1 < y) & (y < height - height // 2)
        base_rays[own] = len(bases) * n_half + np.arange(own.sum())
        symmetries[own] = 0
        for view in np.flatnonzero(own.any(axis=1)):
            blocks.append(_ray_rows(angles[view], t[own[view]], steps[:-1], radius))
    return scipy.sparse.vstack(blocks), base_rays, symmetries


@functools.lru_cache(maxsize=1)
def _build_projector(
    shape: tuple[int, int], angles: tuple[float, ...], n_det: int, dtype: torch.dtype
) -> _Projector:
    """Build the Radon transform from a matrix for an eighth of the pixels.

    The symmetries g of the square, turns by 90 degrees and mirrors, move pixels to pixels and
    rays to rays: pixel p weighs in ray r what g p weighs in ray g r. Of the up to eight pixels
    that they move to each other, an orbit, the sector holds one. Each pixel of the image is
    g^-1 q for one q in the sector and one g; so

        y[r] = sum_g (M X)[g r, g],   X[q, g] = x[g^-1 q],   M[r, q] = weight of q in r.

    M has the columns of the sector only, and X has eight. M's rows are all rays of an orbit:
    those of the views at k 90 degrees +- angle. n equispaced views fill their orbits if n is
    even. If n is odd half of M X belongs to no ray of y; of unrelated angles, three quarters.

    The last result is kept, so that a folder of slices builds it once.

    Args:
        shape: (H, W) of the image.
        angles: angles in radians.
        n_det: number of detector bins.
        dtype: float32 or float64, of the weights; they are computed in float64.
    """
    radius = max(shape) // 2
    side = 2 * radius + 1

    def index(xy: np.ndarray) -> np.ndarray:
        """Return the index in the square of pixels (..., 2, n)."""
        return (xy[..., 1, :] + radius) * side + xy[..., 0, :] + radius

    square, base_rays, symmetries = _base_rays(shape, np.array(angles), n_det)
    n_base_rays = square.shape[0]
    group = _SYMMETRIES  # (8, 2, 2)
    pixels = np.indices((side, side)).reshape(2, -1)[::-1] - radius
    sector = np.flatnonzero(index(group @ pixels).min(axis=0) == np.arange(side**2))

    # M's row (g, base) is ray g base. It sees of q what the base sees of g^-1 q.
    seen = index(group.transpose(0, 2, 1) @ pixels[:, sector])  # (8, n_sector)
    square = square.astype(_NUMPY_DTYPES[dtype]).tocsc()
    matrix = scipy.sparse.vstack([square[:, g_inverse_q] for g_inverse_q in seen], format="csr")

    # X's column g: the pixels that g moves to the sector. A pixel on an axis, which more than
    # one moves there, is in the first of their columns.
    height, width = shape
    pixels = np.indices(shape).reshape(2, -1)[::-1] - [[width // 2], [height // 2]]
    images = index(group @ pixels)  # (8, H W)
    pixel_rows = np.searchsorted(sector, images.min(axis=0))
    pixel_places = (pixel_rows * 8 + images.argmin(axis=0))[None]

    # Ray r = h base of y is the sum of (M X)[g r, g], in row (g h, base).
    products = group[:, None] @ group  # (8, 8, 2, 2)
    product = (products[:, :, None] == group).all(axis=(3, 4)).argmax(axis=2)
    ray_rows = product[:, symmetries.ravel()] * n_base_rays + base_rays.ravel()
    ray_places = ray_rows * 8 + np.arange(8)[:, None]
    return _Projector(
        _layout(pixel_places, (len(sector), 8)),
        _rows(matrix),
        _layout(ray_places, (matrix.shape[0], 8)),
        _rows(matrix.T.tocsr()),
    )


def _layout(places: np.ndarray, shape: tuple[int, int]) -> _Layout:
    """Return the layout with these (n_copies, n) places, all different, in an array."""
    n = places.shape[1]
    sources = np.full(shape, n, dtype=np.int32)
    sources.flat[places] = np.arange(n)
    return _Layout(torch.from_numpy(places.astype(np.int32)), torch.from_numpy(sources))


def _rows(csr: scipy.sparse.csr_array) -> _Rows:
    return _Rows(*map(torch.from_numpy, (csr.indptr, csr.indices, csr.data)))


def _ordered_rows_sum(rows: _Rows, x: Tensor) -> Tensor:
    """Multiply the (n_in, n_columns) matrix x, each row summed in an order that never changes."""
    products = rows.weights[:, None] * x.index_select(0, rows.columns)
    # unsafe: the checks that it leaves out make the host wait for the device.
    return torch.segment_reduce(products, "sum", offsets=rows.offsets, unsafe=True)


def _rows_product(rows: _Rows, x: Tensor) -> Tensor:
    """Multiply the (n_in, n_columns) matrix x; the same bits at each call on one device.

    MKL's product is much the faster on the CPU. cuSPARSE's does not promise an order of its
    sums, and atomic additions have none.
    """
    if x.device.type != "cpu" or not torch.backends.mkl.is_available():
        return _ordered_rows_sum(rows, x)
    with warnings.catch_warnings():
        # Said once a process whenever such a tensor is made; a user can do nothing about it.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        matrix = torch.sparse_csr_tensor(
            *rows, size=(len(rows.offsets) - 1, len(x)), check_invariants=False
        )
    return matrix @ x


class _LinearMap(torch.autograd.Function):
    """Apply a projector to each vector of (B, n); its adjoint is the derivative's."""

    @staticmethod
    def forward(x: Tensor, projector: _Projector) -> Tensor:
        inputs, matrix, outputs, _ = projector
        y = x.new_empty(len(x), outputs.places.shape[1])
        for y_item, x_item in zip(y, x, strict=True):
            y_item.copy_(outputs.collect(_rows_product(matrix, inputs.spread(x_item))))
        return y

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: Tensor) -> None:
        _, ctx.projector = inputs

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return _LinearMap.apply(grad, ctx.projector.adjoint()), None


def fourier_filter(n_det: int, name: str, cutoff: float = 1.0) -> Tensor:
    """Return the filter of FBP: the ramp's Fourier transform H, times a window W.

        2 H(f) W(f / cutoff) for |f| <= cutoff / 2,   0 above,   f in cycles per bin

        h(0) = 1/4,   h(n) = -1 / (pi n)^2 for odd n,   h(n) = 0 for even n

    So a cut-off below 1 squeezes the window, and leaves the ramp as it is.

    Args:
        n_det: number of detector bins.
        name: window: ramp (none), shepp-logan, cosine, hamming or hann.
        cutoff: highest frequency that passes, as a share of the Nyquist frequency 1/2, in (0, 1].

    Returns:
        (size,) float64, frequency 0 first; size is the power of two that is at least 2 n_det,
        and at least 64, so that the convolution does not wrap.

    Raises:
        ValueError: there is no such window, or cutoff is not as above.

    Reference:
        Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), chapter 3,
        eq. 61. Differs from the book: the window, and the factor 2, as in skimage.
    """
    if name not in _WINDOWS:
        raise ValueError(f"filter_name must be one of {', '.join(_WINDOWS)}; got {name}")
    if not 0 < cutoff <= 1:
        raise ValueError(f"cutoff must lie in (0, 1], got {cutoff}")
    size = max(64, 2 ** math.ceil(math.log2(2 * n_det)))
    f = torch.fft.fftfreq(size, dtype=torch.float64)
    n = size * f
    kernel = torch.where(n % 2 == 1, -1 / (math.pi * n) ** 2, 0)
    kernel[0] = 1 / 4
    window = torch.where(f.abs() <= cutoff / 2, _WINDOWS[name](f / cutoff), 0)
    return 2 * torch.fft.fft(kernel).real * window


class Radon(Operator):
    """Project an image along parallel rays: A x = C R x, with R the Radon transform.

        (A x)[angle, bin] = sum_step x(row, col),   col - W//2 = cos t + sin s,
        t = bin - n_det//2,  s = step - D//2,       row - H//2 = -sin t + cos s

    The image is interpolated bilinearly and is zero outside; a ray is sampled at D =
    ceil(sqrt(2) max(H, W)) unit steps, so y is a line integral in units of x times pixel. C
    selects the views at `angles`. This is the discretisation of skimage.transform.radon with
    circle=False, as a sparse matrix: so the adjoint is exact.

    The matrix is stored, with its transpose, for the part of the square that its symmetries
    move to the rest; the more views they turn into each other, the smaller it is. In float32 at
    512 x 512, on one core: 30 equispaced views take 39 MB, built in 0.5 s; 31, an odd number,
    78 MB and 0.9 s; 30 unrelated angles 149 MB and 1.8 s; 180 equispaced views 227 MB and 3 s,
    through 560 MB. Operators of one geometry share it, and the last stays in memory until
    another is built.

    Args:
        shape: (H, W) of the image.
        angles: (n_angles,) float64 angles in radians.
        n_det: number of detector bins, one pixel wide; bin n_det//2 is the ray through pixel
            (H//2, W//2). None: D, which holds the whole image. Rays beyond are not measured.
        filter_name: window of pinv's filter: ramp, shepp-logan, cosine, hamming or hann.
        dtype: float32 or float64, of the weights. A later .double() does not add the digits
            that float32 has not.

    Raises:
        ValueError: an argument is not as above, or the matrix could pass 2^31 - 1 non-zeros.

    Reference:
        aSeqDIP (Alkhouri et al., NeurIPS 2024), section 2.1. Differs from the paper: nothing.
    """

    assumes = "the angles, the centre, the axes or sigma"

    def __init__(
        self,
        shape: tuple[int, int],
        angles: Tensor,
        n_det: int | None = None,
        filter_name: str = "ramp",
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"shape must be (H, W) of at least one pixel, got {tuple(shape)}")
        if angles.ndim != 1 or len(angles) == 0 or angles.dtype != torch.float64:
            raise ValueError(
                "angles must be float64 radians of shape (n_angles,), at least one, "
                f"got {angles.dtype} {tuple(angles.shape)}"
            )
        if not angles.isfinite().all():
            raise ValueError(f"angles must be finite, got {angles.tolist()}")
        shape = tuple(shape)
        n_det = _diagonal(shape) if n_det is None else n_det
        if n_det < 1:
            raise ValueError(f"n_det must be at least 1, got {n_det}")
        if dtype not in _NUMPY_DTYPES:
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        # A pixel meets at most three bins a view. A base ray has 8 rows of 8 columns, and there
        # are at most two base rays a bin.
        n_indices = len(angles) * max(3 * (max(shape) + 1) ** 2, 2 * 64 * n_det)
        if n_indices >= 2**31:
            raise ValueError(
                f"the matrix may have {n_indices} non-zeros, expected less than 2^31 = {2**31}: "
                "take fewer views, pixels or bins"
            )
        filter = fourier_filter(n_det, filter_name)
        super().__init__(in_shape=(1, *shape), out_shape=(1, len(angles), n_det))
        # Not a buffer: .float() would round it.
        self.angles = angles.detach().cpu().clone()
        projector = _build_projector(shape, tuple(angles.tolist()), n_det, dtype)
        for part, tensors in projector._asdict().items():
            for name, tensor in tensors._asdict().items():
                self.register_buffer(f"{part}_{name}", tensor, persistent=False)
        self.register_buffer("filter", filter.to(dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute A x.

        Args:
            x: (B, 1, H, W) image of the operator's dtype.

        Returns:
            (B, 1, n_angles, n_det) line integrals, in units of x times pixel.
        """
        self.check_image(x)
        self._check_dtype("image x", x)
        y = _LinearMap.apply(x.flatten(start_dim=1), self._projector())
        return y.unflatten(1, self.out_shape)

    def adjoint(self, y: Tensor) -> Tensor:
        """Compute A^H y.

        Args:
            y: (B, 1, n_angles, n_det) sinogram of the operator's dtype.

        Returns:
            (B, 1, H, W) image: the unfiltered back-projection.
        """
        self.check_measurement(y)
        self._check_dtype("measurement y", y)
        x = _LinearMap.apply(y.flatten(start_dim=1), self._projector().adjoint())
        return x.unflatten(1, self.in_shape)

    def pinv(self, y: Tensor) -> Tensor:
        """Compute the filtered back-projection, approximate however many the views.

        Args:
            y: (B, 1, n_angles, n_det) sinogram of the operator's dtype.

        Returns:
            (B, 1, H, W) image.

        Reference:
            As skimage.transform.iradon with circle=False.
        """
        return self.filtered_back_projection(y, self.filter)

    def filtered_back_projection(self, y: Tensor, filter: Tensor) -> Tensor:
        """Filter each projection and smear it back over the image.

            x(row, col) = pi / (2 n_angles) sum_angle (h * y)[angle, cos dx - sin dy]

        h is the filter; (dy, dx) leads from pixel (H//2, W//2) to the pixel; between bins the
        filtered projection is interpolated linearly, beyond the detector it is zero. The
        weights are those of equispaced angles.

        Args:
            y: (B, 1, n_angles, n_det) sinogram of the operator's dtype.
            filter: its Fourier transform as fourier_filter gives it, of the same dtype.

        Returns:
            (B, 1, H, W) image.
        """
        self.check_measurement(y)
        self._check_dtype("measurement y", y)
        _, height, width = self.in_shape
        _, n_angles, n_det = self.out_shape
        spectrum = torch.fft.fft(y[:, 0], n=len(filter)) * filter
        filtered = torch.fft.ifft(spectrum).real[..., : n_det + 1]  # its last bin weighs nothing
        dy = torch.arange(height, dtype=torch.float64, device=y.device)[:, None] - height // 2
        dx = torch.arange(width, dtype=torch.float64, device=y.device) - width // 2
        x = y.new_zeros(len(y), height, width)
        for projections, angle in zip(filtered.unbind(dim=1), self.angles.tolist(), strict=True):
            position = math.cos(angle) * dx - math.sin(angle) * dy + n_det // 2  # (H, W)
            lower = position.floor().clamp(0, n_det - 1)
            fraction = (position - lower).to(y.dtype)
            lower = lower.long()
            values = torch.lerp(projections[:, lower], projections[:, lower + 1], fraction)
            x = x + values * ((position >= 0) & (position <= n_det - 1))
        return x[:, None] * (math.pi / (2 * n_angles))

    def norm(self, n_iter: int = 30) -> float:
        """Estimate ||A||_2 by power iteration on A^H A, from below.

        The start is all ones: A has no negative entries, so neither has its first singular
        vector, and the two are never orthogonal.

        Args:
            n_iter: number of iterations, at least 1.

        Returns:
            The estimate, in pixels.

        Raises:
            ValueError: n_iter is below 1.
        """
        if n_iter < 1:
            raise ValueError(f"n_iter must be at least 1, got {n_iter}")
        x = self.filter.new_ones(1, *self.in_shape)
        for _ in range(n_iter):
            x = self.adjoint(self(x / x.norm()))
        return math.sqrt(x.norm())

    def _projector(self) -> _Projector:
        return _Projector(
            _Layout(self.inputs_places, self.inputs_sources),
            _Rows(self.matrix_offsets, self.matrix_columns, self.matrix_weights),
            _Layout(self.outputs_places, self.outputs_sources),
            _Rows(self.transpose_offsets, self.transpose_columns, self.transpose_weights),
        )

    def _check_dtype(self, what: str, tensor: Tensor) -> None:
        if tensor.dtype != self.filter.dtype:
            raise ValueError(
                f"{type(self).__name__}: expected {what} of dtype {self.filter.dtype}, "
                f"got {tensor.dtype}; convert it, or the operator with .to(dtype)"
            )
