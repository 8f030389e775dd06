"""Device, threads, seeds, budget: what the environment variables do, and what they answer to nonsense."""

import os
import platform
import subprocess
import sys
import time

import pytest
import torch

from genmed_core import runtime


def fresh_python(code, **environment):
    """Run code in a new interpreter without this one's thread settings: -> stdout, stderr."""
    base = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "GENMED_"))}
    run = subprocess.run([sys.executable, "-c", code], env=base | environment, capture_output=True, text=True)
    return run.stdout.strip(), run.stderr


def test_threads_wait_passively_and_follow_the_setting():
    code = "import genmed_core, os, torch; print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads(), "
    code += "os.environ.get('GOMP_SPINCOUNT'))"
    out, _ = fresh_python(code, GENMED_THREADS="1")
    assert out == "PASSIVE 1 10000"
    out, _ = fresh_python(code, GENMED_THREADS="1", OMP_WAIT_POLICY="ACTIVE")
    assert out == "ACTIVE 1 None", "who chose to spin goes on spinning"


def test_a_reader_who_set_the_wait_policy_keeps_it():
    out, _ = fresh_python("import genmed_core, os; print(os.environ['OMP_WAIT_POLICY'])", OMP_WAIT_POLICY="ACTIVE")
    assert out == "ACTIVE"


def test_importing_torch_first_is_noticed():
    out, _ = fresh_python("import torch, genmed_core")
    assert "import genmed_core first" in out
    assert fresh_python("import genmed_core, torch")[0] == ""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_for_the_next_tensors():
    code = """import genmed_core, torch, resource
def rounds(n):
    for _ in range(n):
        held = [x.exp() for _ in range(8)]  # 24 MB, as a backward pass holds its activations
        del held
x = torch.rand(1024, 784)
rounds(5)
begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(50)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin)"""
    faults = int(fresh_python(code)[0])
    assert faults < 3000, faults  # half of one round's 6,144 pages; given back and mapped anew it would be 300,000


@pytest.mark.parametrize(("threads", "counts"), [("1", False), ("2", True), (None, True)])
def test_the_clock_of_one_thread_does_not_count_what_others_take(monkeypatch, threads, counts):
    monkeypatch.setenv("GENMED_DEVICE", "cpu")
    monkeypatch.setenv("GENMED_THREADS", threads) if threads else monkeypatch.delenv("GENMED_THREADS", raising=False)
    begin = runtime.clock()
    time.sleep(0.2)  # the processor is somebody else's
    assert (runtime.clock() - begin > 0.19) == counts
    begin = runtime.clock()
    sum(i * i for i in range(300_000))
    assert runtime.clock() - begin > 0.001, "its own work always counts"


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5"])
def test_a_wrong_thread_count_is_named(value):
    _, err = fresh_python("import genmed_core", GENMED_THREADS=value)
    assert f"GENMED_THREADS='{value}': give a whole number" in err


@pytest.mark.parametrize("text, steps", [("1", 300), ("10", 3000), ("0.1", 30), ("0.0001", 1)])
def test_the_budget_multiplies_steps(monkeypatch, text, steps):
    monkeypatch.setenv("GENMED_BUDGET", text)
    assert runtime.budget(300) == steps


@pytest.mark.parametrize(("text", "count"), [("10", 2000), ("1", 2000), ("0.1", 200), ("0.001", 20)])
def test_a_quick_look_draws_fewer_samples_and_patience_no_more(monkeypatch, text, count):
    monkeypatch.setenv("GENMED_BUDGET", text)
    assert runtime.sample_count(2000) == count and runtime.sample_count(5) == 5


@pytest.mark.parametrize("text", ["", "fast", "0", "-2", "nan", "inf"])
def test_a_wrong_budget_is_named(monkeypatch, text):
    monkeypatch.setenv("GENMED_BUDGET", text)
    with pytest.raises(runtime.SettingError, match="GENMED_BUDGET=.*give a positive number"):
        runtime.budget(10)


def test_the_seed_can_be_set_from_outside(monkeypatch):
    assert runtime.chapter_seed(3) == 3
    monkeypatch.setenv("GENMED_SEED", "7")
    assert runtime.chapter_seed(3) == 7
    monkeypatch.setenv("GENMED_SEED", "x")
    with pytest.raises(runtime.SettingError, match="GENMED_SEED='x'"):
        runtime.chapter_seed(3)


def test_seeds_repeat_all_generators():
    import random

    import numpy as np

    draws = []
    for _ in range(2):
        runtime.seed_everything(5)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]


@pytest.mark.parametrize("wanted", ["tpu9", "cuda:99"])
def test_a_device_that_is_not_here_is_named(monkeypatch, wanted):
    monkeypatch.setenv("GENMED_DEVICE", wanted)
    with pytest.raises(runtime.SettingError, match=f"GENMED_DEVICE='{wanted}' cannot be used here"):
        runtime.device()


def test_the_device_can_be_chosen(monkeypatch):
    monkeypatch.setenv("GENMED_DEVICE", "cpu")
    assert runtime.device() == torch.device("cpu")


def test_autocast_uses_bf16_exactly_where_the_processor_has_it():
    a = torch.ones(4, 4)
    with runtime.autocast("cpu"):
        fast = (a @ a).dtype
    assert fast == (torch.bfloat16 if runtime.has_fast_bf16() else torch.float32)
    with runtime.autocast("cpu", enabled=False):
        assert (a @ a).dtype == torch.float32


def test_a_compiler_sees_through_the_autocast():
    """A context that it cannot follow would have it compile the loss anew at every step."""
    runtime.has_fast_bf16()
    product = torch.compile(lambda x: _autocast_product(x), backend="eager", fullgraph=True)
    assert torch.equal(product(torch.ones(2, 2)), _autocast_product(torch.ones(2, 2)))


def _autocast_product(x):
    with runtime.autocast("cpu"):
        return x @ x


def test_the_machine_line_names_versions_and_threads():
    line = runtime.machine()
    assert torch.__version__.split("+")[0] in line and "thread" in line and "\n" not in line


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "result.json"
    with runtime.whole_file(path) as part:
        part.write_text("first")
    with pytest.raises(OSError, match="No space left"), runtime.whole_file(path) as part:
        part.write_text("half of the sec")
        raise OSError(28, "No space left on device")
    with pytest.raises(KeyboardInterrupt), runtime.whole_file(path) as part:
        part.write_text("half of the thi")
        raise KeyboardInterrupt
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_raises_an_oserror(tmp_path):
    (tmp_path / "file").write_text("a file, so nothing can be made inside it")
    with pytest.raises(OSError), runtime.whole_file(tmp_path / "file" / "result.json") as part:
        part.write_text("never")
