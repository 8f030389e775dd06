"""Device, threads, seeds, budget: what the environment variables do, and what they answer to nonsense."""

import ast
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from genmed_core import chapters, places, runtime, startup

ROOT = Path(__file__).resolve().parent.parent


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


def test_the_first_cells_imports_say_nothing_and_bring_no_torchvision():
    """It takes seconds to import, and only a download and CIFAR-10's files need it."""
    trees = [ast.parse(chapters.cells(path)[0].source) for path in sorted((ROOT / "chapters").glob("[0-9]*.py"))]
    imports = [node for tree in trees for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    first, *rest = dict.fromkeys(map(ast.unparse, imports))
    assert first == "import genmed_core" and len(rest) > 20
    code = "\n".join([first, *rest, "import sys", "print('torch' in sys.modules, 'torchvision' in sys.modules)"])
    assert fresh_python(code, GENMED_THREADS="1")[0] == "True False"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_kept_for_the_next_tensors():
    code = """import genmed_core, torch, resource
def rounds(n):
    for _ in range(n):
        held = [*(x.exp() for _ in range(8)), large.neg()]  # 24 MB, as a backward pass holds its activations, and 49
        del held
x, large = torch.rand(1024, 784), torch.rand(16, 1024, 784)
rounds(5)
begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(50)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin)"""
    faults = int(fresh_python(code)[0])
    assert faults < 3000, faults  # a sixth of one round's 18,000 pages; mapped anew they would be 900,000


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


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5", "100000"])
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


@pytest.mark.parametrize("text", ["fast", "0", "-2", "nan", "inf", "1e-300", "1e7"])
def test_a_wrong_budget_is_named(monkeypatch, text):
    monkeypatch.setenv("GENMED_BUDGET", text)
    with pytest.raises(runtime.SettingError, match="GENMED_BUDGET=.*give a positive number"):
        runtime.budget(10)


def test_the_seed_can_be_set_from_outside(monkeypatch):
    assert runtime.chapter_seed(3) == 3
    monkeypatch.setenv("GENMED_SEED", "7")
    assert runtime.chapter_seed(3) == 7


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "99999999999999999999", str(2**63)])
def test_a_wrong_seed_is_named(monkeypatch, text):
    monkeypatch.setenv("GENMED_SEED", text)
    with pytest.raises(runtime.SettingError, match=f"GENMED_SEED='{text}': give a whole number from 0 to 9223"):
        runtime.chapter_seed(3)


def test_the_largest_seed_that_is_offered_works(monkeypatch):
    monkeypatch.setenv("GENMED_SEED", str(2**63 - 1))
    runtime.seed_everything(runtime.chapter_seed(3))
    torch.Generator().manual_seed(runtime.chapter_seed(3) + 1)
    for seed in (2**63, -1):
        with pytest.raises(ValueError, match=f"seed={seed}: give a whole number"):
            runtime.seed_everything(seed)


def test_an_empty_variable_is_as_unset(monkeypatch):
    """A container's tool hands on variables that nobody has set as empty ones."""
    for name in runtime.SETTINGS:
        monkeypatch.setenv(name, " ")
        assert runtime.setting(name, "as unset") == "as unset"
    assert runtime.runs_dir() == runtime.root() / "runs" and runtime.budget(7) == 7
    assert runtime.chapter_seed(3) == 3 and runtime.threads_asked() is None
    assert runtime.device().type in ("cpu", "cuda")


@pytest.mark.parametrize("name", runtime.SETTINGS)
def test_a_wrong_value_is_answered_with_name_value_and_what_works(monkeypatch, name):
    monkeypatch.setenv(name, "~nobody-of-this-name/\x01")
    read = runtime.device if name == "GENMED_DEVICE" else lambda: runtime.setting(name)
    with pytest.raises(runtime.SettingError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith(f"{name}='~nobody-of-this-name/\\x01'") and "\n" not in message
    assert runtime.SETTINGS[name].works in message and message.endswith("or leave it unset.")


@pytest.mark.parametrize(("text", "on"), [("1", True), ("yes", True), ("TRUE", True), ("0", False), ("off", False)])
def test_a_switch_is_on_or_off(monkeypatch, text, on):
    monkeypatch.setenv("GENMED_OFFLINE", text)
    assert runtime.setting("GENMED_OFFLINE", False) is on


@pytest.mark.parametrize("name, meant", [
    ("GENMED_BUGDET", "GENMED_BUDGET"), ("GENMED_SEEDS", "GENMED_SEED"), ("genmed_data", "GENMED_DATA"),
    ("GENMED_SITE_UNTIL", None), ("GENMED_DATA_SOURCE", None)])
def test_a_misspelt_setting_is_named_with_the_nearest(monkeypatch, capsys, name, meant):
    monkeypatch.setattr(startup.os, "environ", {name: "1"})
    startup.notice_misspelt_settings()
    assert capsys.readouterr().out == (f"note: nothing reads {name}; did you mean {meant}?\n" if meant else "")


@pytest.mark.parametrize("name", ["GENMED_RUNS", "GENMED_DATA"])
def test_a_path_is_the_same_folder_wherever_the_code_runs(monkeypatch, tmp_path, name):
    """`~` is expanded, a relative path taken from the project's folder: a kernel works in chapters/."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    for working in (runtime.root(), runtime.root() / "chapters", tmp_path):
        monkeypatch.chdir(working)
        expected = {"~/a b": tmp_path / "a b", "mine": ROOT / "mine", str(tmp_path): tmp_path, "": None}
        for text, folder in expected.items():
            monkeypatch.setenv(name, text)
            assert runtime.setting(name) == folder
    monkeypatch.setenv("GENMED_RUNS", "~/a b")
    assert runtime.runs_dir() == tmp_path / "a b"


def test_readme_says_of_each_setting_what_the_core_says():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| `GENMED_")]
    expected = [f"| `{name}` | {setting.effect}" for name, setting in runtime.SETTINGS.items()]
    assert len(rows) == len(expected) and all(map(str.startswith, rows, expected)), expected


def test_a_package_installed_elsewhere_takes_the_project_it_works_in(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "site-packages" / "genmed_core" / "runtime.py"))
    monkeypatch.delenv("GENMED_RUNS")
    monkeypatch.delenv("GENMED_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert runtime.root() == tmp_path and runtime.runs_dir() == tmp_path / "runs"
    monkeypatch.chdir(ROOT / "chapters")
    assert runtime.root() == ROOT and places.data_folder() == ROOT / "data"


def test_seeds_repeat_all_generators():
    import random

    import numpy as np

    draws = []
    for _ in range(2):
        runtime.seed_everything(5)
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1]


@pytest.mark.parametrize("wanted", ["tpu9", "cuda:99", "meta"])
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


@pytest.fixture
def a_gpu(monkeypatch):
    """Stands for torch.cuda on a machine with a GPU; says by emulation that it has bfloat16, as a T4 does."""
    monkeypatch.setattr(runtime, "_found", {})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    return monkeypatch


def test_emulated_bf16_does_not_count_as_fast(a_gpu):
    assert not runtime.has_fast_bf16("cuda:0")
    a_gpu.setattr(runtime, "_found", {})
    a_gpu.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)  # an A100
    assert runtime.has_fast_bf16("cuda")


@pytest.mark.parametrize("avx", [True, False])
def test_the_processor_of_a_machine_with_a_gpu_answers_for_itself(a_gpu, avx):
    a_gpu.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: not avx)
    a_gpu.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    a_gpu.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    a_gpu.setenv("GENMED_DEVICE", "cpu")
    assert runtime.has_fast_bf16() is runtime.has_fast_bf16("cpu") is avx
    assert runtime.has_fast_bf16("cuda") is not avx, "each kind of device keeps its own answer"
    line = runtime.machine()
    assert ("no fast bf16" in line) is not avx, "and the machine is described by what trains"


def test_a_processor_that_cannot_be_asked_takes_float32(monkeypatch):
    monkeypatch.setattr(runtime, "_found", {})
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not runtime.has_fast_bf16("cpu") and not runtime.has_fast_bf16("mps")


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
