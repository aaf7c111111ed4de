"""Graph replay: with a stand-in for CUDA everywhere, and on CUDA itself where there is one."""

import pytest
import torch

from models.unet import ComplexNet, UNet
from operators.mri import MultiCoilMRI
from utils import graphs
from utils.graphs import WARM_UP, Graphed
from utils.optim import Output, Update, adam, sqnorm

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


class LikeCuda(torch.Tensor):
    """A CPU tensor that says it is on CUDA."""

    is_cuda = True


class Replayed(Graphed):
    """Graphed with a graph that runs the function on the captured memory, as a GPU would."""

    def call_aside(self, z):
        return self.function(z)

    def capture(self, z):
        self.z = z.clone()
        self.outputs = ()

        def replay():
            outputs = self.function(self.z)
            self.outputs = self.outputs or tuple(torch.empty_like(o) for o in outputs)
            for memory, output in zip(self.outputs, outputs, strict=True):
                memory.copy_(output)

        self.replay = replay


@pytest.fixture(autouse=True)
def enabled(monkeypatch):
    monkeypatch.setattr(Graphed, "enabled", True)
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "here")


def images(n, device="cpu"):
    noise = torch.Generator().manual_seed(7)
    return [torch.rand(1, 2, 16, 16, generator=noise).to(device) for _ in range(n)]


def make_update(device="cpu", graph=True):
    net = UNet(2, 2, 4, 2, 0.1, torch.Generator().manual_seed(0)).to(device)
    (y,) = images(1, device)

    def objective(z):
        x = net(z)
        data_term, autoencoding_term = sqnorm(x, y), sqnorm(x, z)
        return x, {"loss": data_term + autoencoding_term, "data_term": data_term}

    return net, Update(objective, adam(net.parameters(), 1e-2), graph)


def trace(net, update, inputs):
    """Return all that steps and outputs give; read when all are done, as a log does."""
    output = Output(net)
    found = []
    for z in inputs:
        x = update(z)
        found.append((x, *update.terms.values(), output(x)))
    return [torch.stack([t.double().sum() for t in row]) for row in found]


def test_replays_give_what_calls_give_and_leave_it_alone(monkeypatch):
    inputs = images(WARM_UP + 5)
    expected = trace(*make_update(graph=False), inputs)
    monkeypatch.setattr("utils.optim.Graphed", Replayed)
    found = trace(*make_update(), [z.as_subclass(LikeCuda) for z in inputs])
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a, b.as_subclass(torch.Tensor))


def test_only_the_calls_after_the_warm_up_are_replayed(monkeypatch):
    calls, captures = [], []
    monkeypatch.setattr(Replayed, "call_aside", lambda self, z: calls.append(z) or (z,))
    capture = Replayed.capture
    monkeypatch.setattr(Replayed, "capture", lambda self, z: captures.append(z) or capture(self, z))
    graphed = Replayed(lambda z: (2 * z,))
    for z in images(WARM_UP + 3):
        assert torch.equal(*graphed(z)[:1], 2 * z)  # on the CPU
    assert not calls and not captures
    for z in images(WARM_UP + 3):
        graphed(z.as_subclass(LikeCuda))
    assert len(calls) == WARM_UP and len(captures) == 1
    monkeypatch.setattr(Graphed, "enabled", False)
    graphed.function = lambda z: (3 * z,)
    assert torch.equal(graphed(z.as_subclass(LikeCuda))[0], 3 * z)


def test_what_cannot_be_captured_runs_as_it_is_and_says_so_once(monkeypatch, capsys):
    def refuse(self, z):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(Replayed, "capture", refuse)
    streams = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "here")
    monkeypatch.setattr(torch.cuda, "set_stream", streams.append)
    one, two = Replayed(lambda z: (2 * z,)), Replayed(lambda z: (2 * z,))
    for z in images(WARM_UP + 3):
        for graphed in (one, two):
            assert torch.equal(graphed(z.as_subclass(LikeCuda))[0], 2 * z)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "stream is capturing); each kernel is launched" in lines[0]
    assert streams == ["here"]


def test_a_graph_refuses_another_shape():
    graphed = Replayed(lambda z: (2 * z,))
    for z in images(WARM_UP + 1):
        graphed(z.as_subclass(LikeCuda))
    with pytest.raises(ValueError, match="was called with"):
        graphed(torch.zeros(1, 2, 16, 8).as_subclass(LikeCuda))


@needs_cuda
@pytest.mark.parametrize("task", ["pictures", "mri"])
def test_on_cuda_a_graph_gives_the_bits_of_its_kernels(task, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        found = []
        for graph in (False, True):
            if task == "pictures":
                found.append(trace(*make_update("cuda", graph), images(9, "cuda")))
                continue
            noise = torch.Generator().manual_seed(3)
            maps = torch.randn(4, 32, 30, dtype=torch.complex64, generator=noise)
            A = MultiCoilMRI(maps, torch.rand(32, 30, generator=noise) < 0.4).to("cuda")
            y = A(torch.randn(1, 1, 32, 30, dtype=torch.complex64, generator=noise).cuda())
            net = ComplexNet(UNet(2, 2, 4, 2, 0.1, torch.Generator().manual_seed(0))).cuda()

            def objective(z, net=net, A=A, y=y):
                x = net(z)
                return x, {"loss": sqnorm(A(x), y) + sqnorm(x, z)}

            monkeypatch.setattr(Graphed, "enabled", graph)
            update, output = Update(objective, adam(net.parameters(), 1e-2), graph), Output(net)
            z, sums = A.pinv(y), []
            for _ in range(9):
                update(z)
                z = output(z)
                sums.append(torch.stack([z.abs().double().sum(), update.terms["loss"].double()]))
            found.append(sums)
        for a, b in zip(*found, strict=True):
            assert torch.equal(a, b)
        assert Graphed.enabled
    finally:
        torch.use_deterministic_algorithms(False)


@needs_cuda
def test_on_cuda_an_objective_that_waits_for_the_device_is_not_captured(capsys):
    _, update = make_update("cuda")
    objective = update.objective

    def waiting(z):
        x, terms = objective(z)
        terms["loss"].item()
        return x, terms

    update.objective = waiting
    for z in images(6, "cuda"):
        update(z)
    assert "no CUDA graph can be made" in capsys.readouterr().err
    assert not graphs.Graphed.enabled
