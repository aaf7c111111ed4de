"""The stopping rules against direct computations of their formulas; resuming; the callback."""

import io

import numpy as np
import pytest
import torch
from test_operators_blur import make_camera

from operators.pixels import Identity
from utils.callback import Callback
from utils.holdout import hold_out
from utils.stopping import AtNoise, ExponentialVariance, HeldOut, Rule, RunningVariance, Stopping

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def sequence(n, dtype=torch.float64, shape=(1, 2, 7, 5), calm=40):
    """Make images that move fast at first, least around step `calm`, and then ever faster."""
    target, jitter = noise(*shape, dtype=dtype), noise(n, *shape, seed=1, dtype=dtype)
    steps = np.arange(1, n + 1)
    width = 0.02 + 0.3 * np.abs(steps - calm) / calm
    return [target * (1 - 0.9**k) + w * jitter[k - 1] for k, w in zip(steps, width)]


def window_variances(images, W):
    """Compute VAR_t by its definition in double precision, infinity before W images."""
    images = torch.stack(images).numpy().astype(np.complex128)
    values = [np.inf] * (W - 1)
    for t in range(W - 1, len(images)):
        window = images[t - W + 1 : t + 1]
        values.append(np.mean(np.abs(window - window.mean(axis=0)) ** 2))
    return np.array(values)


def exponential_variances(images, alpha):
    """Compute EMV_t and the averages by their definition."""
    images = torch.stack(images).numpy().astype(np.complex128)
    average, variance = images[0], 0.0
    values, averages = [0.0], [average]
    for x in images[1:]:
        delta = x - average
        average = average + alpha * delta
        variance = (1 - alpha) * (variance + alpha * (np.abs(delta) ** 2).sum())
        values.append(variance)
        averages.append(average)
    return np.array(values), averages


def decide(values, patience):
    """Apply the authors' rule to the values of steps 1, 2, ...: the best step and the last one."""
    lowest, best, waited = np.inf, len(values), 0
    for k, value in enumerate(values, start=1):
        if value < lowest:
            lowest, best, waited = value, k, 0
        elif lowest < np.inf:
            waited += 1
            if waited >= patience:
                return best, k
    return best, None


def show(rule, images, start=1):
    """Show images to a rule; return its values and the step at which it stopped, None if never."""
    values, stopped = [], None
    for k, x in enumerate(images, start):
        rule.see(k, x)
        values.append(rule.value)
        stopped = k if rule.stop and stopped is None else stopped
    return np.array(values), stopped


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def rules():
    A = Identity((2, 7, 5))
    held = hold_out(A, 0.2, torch.Generator().manual_seed(0))
    return [
        lambda: RunningVariance(window=12, patience=25),
        lambda: ExponentialVariance(alpha=0.2, patience=25, skip=8),
        lambda: HeldOut(A, 0.9 * noise(1, 2, 7, 5), held),
    ]


# Values and decisions


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_running_variance_is_its_formula(dtype):
    images, W, patience = sequence(150, dtype), 12, 25
    expected = window_variances(images, W)
    best, last = decide(expected, patience)
    assert W < best < last < len(images)
    rule = RunningVariance(W, patience)
    values, stopped = show(rule, images)
    assert np.isinf(values[: W - 1]).all()
    np.testing.assert_allclose(values[W - 1 : last], expected[W - 1 : last], rtol=1e-9)
    assert (rule.best_step, stopped) == (best, last)
    assert torch.equal(rule.best, images[best - 1]) and rule.best.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exponential_variance_is_its_formula(dtype):
    images, skip, patience = sequence(150, dtype), 8, 25
    expected, averages = exponential_variances(images, alpha=0.2)
    judged = np.where(np.arange(len(images)) > skip, expected, np.inf)  # iterations from 0
    best, last = decide(judged, patience)
    assert skip + 1 < best < last < len(images)
    rule = ExponentialVariance(0.2, patience, skip)
    values, stopped = show(rule, images)
    assert np.isinf(values[: skip + 1]).all() and values[skip + 1] < np.inf
    np.testing.assert_allclose(values[skip + 1 : last], expected[skip + 1 : last], rtol=1e-9)
    assert (rule.best_step, stopped) == (best, last)
    assert rule.best.dtype == dtype
    tolerance = 1e-6 if dtype in (torch.float32, torch.complex64) else 1e-12
    np.testing.assert_allclose(rule.best.numpy(), averages[best - 1], atol=tolerance)


def test_the_defaults_are_the_authors():
    wmv, emv = RunningVariance(), ExponentialVariance()
    assert (wmv.window, wmv.patience) == (100, 1000)
    assert (emv.alpha, emv.patience, emv.skip) == (0.1, 1000, 100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_the_running_variance_does_not_drift(dtype):
    shape, W, n = (1, 1, 4, 5), 100, 10_000
    jitter, target = noise(n, *shape, seed=3, dtype=dtype), noise(*shape, dtype=dtype)
    # A large level, and a variance that falls by eight powers of ten.
    images = [100 + target + 10 ** (-4 * k / n) * jitter[k] for k in range(n)]
    rule = RunningVariance(W, n)
    values, _ = show(rule, images)
    some = np.r_[W - 1 : n : 97, n - 50 : n]
    expected = [window_variances(images[t - W + 1 : t + 1], W)[-1] for t in some]
    np.testing.assert_allclose(values[some], expected, rtol=1e-9)


def test_equal_values_are_no_new_minimum():
    rule = RunningVariance(window=2, patience=3)
    a, b = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
    _, stopped = show(rule, [a, b, a, b, a, b])
    assert (rule.best_step, stopped, rule.lowest) == (2, 5, 0.25)


def test_a_new_minimum_starts_the_waiting_anew():
    rule = RunningVariance(window=2, patience=3)
    levels = [0.0, 4.0, 0.0, 4.0, 3.0, 6.0, 9.0, 12.0, 15.0]
    _, stopped = show(rule, [torch.full((1, 1, 2, 2), level) for level in levels])
    assert (rule.best_step, stopped, rule.best.mean()) == (5, 8, 3.0)


def test_held_out_measurements_pick_the_image_that_predicts_them():
    shape = (3, 12, 11)
    A = make_camera(shape)  # not linear
    x_true = noise(1, *shape, seed=4).abs()
    y = A(x_true)
    held = hold_out(A, 0.2, torch.Generator().manual_seed(5))
    errors = [0.3, 0.1, 0.02, 0.05, 0.01, 0.2, 0.5]
    images = [x_true + error * noise(1, *shape, seed=6) for error in errors]
    # This one fits all but what is held out.
    fitting = torch.where(held, y + 1, y)
    rule = HeldOut(A, y, held)
    values, stopped = show(rule, images)
    expected = [((A(x) - y)[:, held] ** 2).sum().item() for x in images]
    np.testing.assert_allclose(values, expected, rtol=1e-12)
    assert rule.best_step == 5 and torch.equal(rule.best, images[4]) and stopped is None
    assert not rule.stop
    other = HeldOut(Identity(shape), y, held)
    show(other, [y + 0.1, fitting])
    assert other.best_step == 1


def test_held_out_measurements_leave_no_graph_and_no_trace():
    A = Identity((1, 4, 4))
    y, held = noise(1, 1, 4, 4), torch.eye(4, dtype=torch.bool)[None]
    rule = HeldOut(A, y, held)
    rule.see(1, y.clone().requires_grad_().detach())
    assert rule.value == 0.0 and not rule.best.requires_grad
    for wrong in (held[0], held.float(), torch.zeros_like(held)):
        with pytest.raises(ValueError, match="selection of measurements|False everywhere"):
            HeldOut(A, y, wrong)
    with pytest.raises(ValueError, match="measurement y"):
        HeldOut(A, y[0], held)


def test_without_a_minimum_the_latest_image_is_kept():
    images = sequence(20)
    wmv, emv = RunningVariance(window=30, patience=5), ExponentialVariance(patience=5, skip=30)
    assert wmv.best is None
    for rule in (wmv, emv):
        _, stopped = show(rule, images)
        assert rule.best_step == 20 and stopped is None
    assert torch.equal(wmv.best, images[-1])
    _, averages = exponential_variances(images, 0.1)
    np.testing.assert_allclose(emv.best.numpy(), averages[-1], atol=1e-12)


@pytest.mark.parametrize("make", rules())
def test_the_images_may_be_overwritten_after_they_were_seen(make):
    images = sequence(60)
    calm, reused = make(), make()
    buffer = torch.empty_like(images[0])
    for k, x in enumerate(images, start=1):
        calm.see(k, x)
        buffer.copy_(x)
        reused.see(k, buffer)
    assert torch.equal(calm.best, reused.best) and calm.value == reused.value


@pytest.mark.parametrize("make", rules()[:2])
def test_after_its_decision_a_rule_changes_no_more(make):
    images = sequence(150)
    rule = make()
    _, stopped = show(rule, images)
    assert stopped is not None
    early = make()
    show(early, images[:stopped])
    for name, value in rule.state_dict().items():
        other = early.state_dict()[name]
        assert torch.equal(value, other) if torch.is_tensor(value) else value == other


def test_settings_out_of_range_are_refused():
    for make, match in [
        (lambda: RunningVariance(window=1), "window must be at least 2, got 1"),
        (lambda: RunningVariance(patience=0), "patience must be at least 1, got 0"),
        (lambda: ExponentialVariance(patience=0), "patience"),
        (lambda: ExponentialVariance(alpha=0.0), "alpha must lie between 0 and 1, got 0"),
        (lambda: ExponentialVariance(alpha=1.0), "alpha"),
        (lambda: ExponentialVariance(skip=-1), "skip must be at least 0, got -1"),
    ]:
        with pytest.raises(ValueError, match=match):
            make()


# Resuming


@pytest.mark.parametrize("cut", [1, 5, 12, 30, 47, 90])
@pytest.mark.parametrize("make", rules())
def test_a_resumed_rule_goes_on_to_the_bit(make, cut):
    images = sequence(110, torch.float32) if cut % 2 else sequence(110)
    if isinstance(make(), HeldOut):
        images = [x.double() for x in images]
    whole, first, second = make(), make(), make()
    values, stopped = show(whole, images)
    show(first, images[:cut])
    state = through_a_file(first.state_dict())
    second.load_state_dict(state)
    show(first, images[cut:], start=cut + 1)  # what was saved is not touched by the first going on
    later, stopped_later = show(second, images[cut:], start=cut + 1)
    assert np.array_equal(values[cut:], later)
    assert stopped_later == (stopped if stopped is None else max(stopped, cut + 1))
    assert torch.equal(whole.best, second.best) and whole.best_step == second.best_step


def test_a_loaded_state_is_not_shared():
    images = sequence(30)
    first, second = RunningVariance(window=5), RunningVariance(window=5)
    show(first, images[:9])
    second.load_state_dict(first.state_dict())
    show(first, images[9:], start=10)
    alone = RunningVariance(window=5)
    show(alone, images[:9])
    assert np.array_equal(show(alone, images[9:])[0], show(second, images[9:])[0])


def test_a_state_before_the_first_image_can_be_saved():
    for make in rules():
        rule = make()
        rule.load_state_dict(through_a_file(rule.state_dict()))
        rule.see(1, noise(1, 2, 7, 5))
        assert rule.best_step == 1


# The callback


class Watcher(Callback):
    """Remember what a method tells; restore a state as a run does; open and close its steps."""

    def __init__(self, saved=None, done=0, last=None):
        self.saved, self.done, self.last = saved, done, last
        self.events, self.records, self.checkpoints = [], [], []

    def start(self, z0=None, **state):
        self.state = state
        if self.saved is not None:
            state["rule"].load_state_dict(self.saved)
        return z0 if self.last is None else self.last

    def outer(self, n):
        self.steps = self._steps(n)  # a reference, so that it is not closed by losing the last one
        return self.steps

    def _steps(self, n):
        self.events.append("open")
        try:
            yield from range(self.done + 1, n + 1)
            self.events.append("all steps done")
        finally:
            self.events.append("close")

    def record(self, k, x, terms):
        self.records.append((k, x, terms))
        self.checkpoints.append(through_a_file(self.state["rule"].state_dict()))


class After(Rule):
    """Stop after n images."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def _judge(self, x):
        self.stop = self.best_step + 1 >= self.n
        return -self.best_step, x


def run(callback, images, n):
    """Be a method: return the steps made."""
    made = []
    callback.start(None, net="a network")
    for k in callback.outer(n):
        made.append(k)
        callback.record(k, images[k - 1], {"loss": torch.tensor(float(k))})
    return made


def test_everything_is_passed_on_and_the_rule_is_part_of_the_state():
    images, watcher, rule = sequence(10), Watcher(), RunningVariance(window=3)
    assert run(Stopping(rule, watcher), images, 10) == list(range(1, 11))
    assert watcher.state == {"net": "a network", "rule": rule}
    assert [k for k, _, _ in watcher.records] == list(range(1, 11))
    assert all(x is images[k - 1] and terms["loss"] == k for k, x, terms in watcher.records)
    # The rule has seen the image when the record comes.
    assert [c["n_seen"] for c in watcher.checkpoints] == list(range(1, 11))
    assert watcher.events == ["open", "all steps done", "close"]
    z0 = torch.zeros(1)
    assert Stopping(rule, watcher).start(z0) is z0
    assert Stopping(rule).start(z0) is z0


def test_the_rule_ends_the_steps_and_closes_the_other_callback():
    images = sequence(50)
    for n_images in (1, 7):
        watcher = Watcher()
        assert run(Stopping(After(n_images), watcher), images, 50) == list(range(1, n_images + 1))
        assert watcher.events == ["open", "close"]
    assert run(Stopping(After(7)), images, 5) == [1, 2, 3, 4, 5]
    watcher = Watcher()
    assert run(Stopping(After(7), watcher), images, 7) == list(range(1, 8))
    assert watcher.events == ["open", "all steps done", "close"]


def test_a_run_that_had_stopped_makes_no_step_when_it_is_resumed():
    images, watcher = sequence(150), Watcher()
    rule = RunningVariance(window=12, patience=25)
    made = run(Stopping(rule, watcher), images, 150)
    assert made[-1] < 150
    again = Watcher(watcher.checkpoints[-1], done=made[-1], last=images[made[-1] - 1])
    resumed = RunningVariance(window=12, patience=25)
    assert run(Stopping(resumed, again), images, 150) == []
    assert again.events == ["open", "close"] and again.records == []
    assert torch.equal(resumed.best, rule.best) and resumed.best_step == rule.best_step


@pytest.mark.parametrize("cut", [3, 30, 60])
def test_an_interrupted_run_stops_where_an_undisturbed_one_does(cut):
    images, watcher, rule = sequence(150), Watcher(), RunningVariance(window=12, patience=25)
    made = run(Stopping(rule, watcher), images, 150)
    assert cut < made[-1]
    saved = watcher.checkpoints[cut - 1]
    again = Watcher(saved, done=cut, last=images[cut - 1])
    resumed = RunningVariance(window=12, patience=25)
    assert run(Stopping(resumed, again), images, 150) == made[cut:]
    assert torch.equal(resumed.best, rule.best)


def test_a_loaded_rule_moves_to_the_device_of_the_images():
    images, watcher, rule = sequence(9), Watcher(), RunningVariance(window=3)
    run(Stopping(rule, watcher), images, 9)
    resumed = RunningVariance(window=3)
    Stopping(resumed, Watcher(watcher.checkpoints[-1], last=torch.empty(2, device="meta"))).start()
    held = (resumed.best, resumed.images, resumed.mean)
    assert all(tensor.device.type == "meta" for tensor in held)


@pytest.mark.parametrize("cut", [1, 4, 6])
def test_the_noise_ends_the_steps_where_the_misfit_falls_to_it(cut):
    A = Identity((1, 2, 2))
    y = torch.full((1, 1, 2, 2), 3.0)  # ||x - y|| is 2 |3 - value|
    images = [torch.full_like(y, value) for value in (2.8, 2.8, -1.0, 1.0, 2.1, 2.6, 2.9, 3.0)]
    watcher, rule = Watcher(), AtNoise(A, y, 1.0)
    # The start fits the noise, so it does not count. At 2.6 the misfit is 0.8.
    assert run(Stopping(rule, watcher), images, 8) == [1, 2, 3, 4, 5, 6]
    assert rule.stop and rule.value == pytest.approx(0.8, abs=1e-6) and rule.best is None
    again = Watcher(watcher.checkpoints[cut - 1], done=cut, last=images[cut - 1])
    assert run(Stopping(AtNoise(A, y, 1.0), again), images, 8) == list(range(cut + 1, 7))
    # Nor need a misfit be larger before.
    assert run(Stopping(AtNoise(A, y, 1.0)), images[:2] + images[5:], 5) == [1, 2, 3]
    for wrong in (0.0, float("nan")):
        with pytest.raises(ValueError, match="a limit above 0"):
            AtNoise(A, y, wrong)
    with pytest.raises(ValueError, match="decay in"):
        AtNoise(A, y, 1.0, decay=1.0)


@pytest.mark.parametrize("cut", [2, 5])
def test_the_noise_ends_the_steps_by_the_average_where_that_is_the_result(cut):
    A, decay = Identity((1, 2, 2)), 0.8
    y = torch.full((1, 1, 2, 2), 3.0, dtype=torch.float64)
    values = np.array([0.0, 1.0, 2.8, 2.9, 3.1, 2.9, 3.0, 3.0, 3.0, 3.0])
    weights = [decay ** np.arange(k, -1, -1) for k in range(len(values))]
    averages = [np.average(values[: k + 1], weights=w) for k, w in enumerate(weights)]
    made = next(k for k, average in enumerate(averages, 1) if 2 * abs(3 - average) <= 1.0)
    assert 5 < made < len(values)  # much later than the first image alone
    images = [torch.full_like(y, value) for value in values]
    watcher, rule = Watcher(), AtNoise(A, y, 1.0, decay)
    assert run(Stopping(rule, watcher), images, 10) == list(range(1, made + 1))
    assert rule.value == pytest.approx(2 * abs(3 - averages[made - 1]), rel=1e-12)
    again = Watcher(watcher.checkpoints[cut - 1], done=cut, last=images[cut - 1])
    steps = run(Stopping(AtNoise(A, y, 1.0, decay), again), images, 10)
    assert steps == list(range(cut + 1, made + 1))


def test_a_failing_method_closes_the_other_callback():
    watcher = Watcher()
    steps = Stopping(After(9), watcher).outer(9)
    next(steps)
    with pytest.raises(RuntimeError):
        steps.throw(RuntimeError())
    assert watcher.events == ["open", "close"]
