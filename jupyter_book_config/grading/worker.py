"""The process that runs one student's answers. It holds no right answer, and its word counts for nothing but outputs.

It is told over stdin what to run, and says over stdout, a line of JSON for each exercise, what came out. The cases are
drawn from a seed that the parent knows too; the parent judges. Where the system lets it, the process shuts itself in.
"""

import ast
import ctypes
import gc
import importlib.util
import json
import linecache
import os
import re
import site
import sys
import traceback
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType, ModuleType
from typing import Any

SECONDS = 10.0  # for a cell, and again for its function: the machine may be busy
NUMBERS = 1_000_000  # that an answer may return
FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile",
             "os.kill", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate",
             "os.chmod", "os.chown", "os.chdir", "ctypes.", "pty.", "signal.", "gc.", "sys._current_frames", "mmap.",
             "shutil.", "tempfile.", "sqlite3.", "syslog.", "winreg.", "urllib.", "http.", "ftplib.", "smtplib.",
             "webbrowser.")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


# --- what is kept of a sheet ----------------------------------------------------------------------------------------


def load_sheet(name: str, path: str) -> ModuleType:
    """A sheet's module from its file."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def without_answers(module: ModuleType) -> dict[str, Any]:
    """The function exercises of a sheet with their cases and what is looked at; all else is wiped from memory."""
    from genmed_core.exercises import FunctionExercise

    kept = {}
    for number, exercise in module.sheet.exercises.items():
        if isinstance(exercise, FunctionExercise):
            kept[number] = FunctionExercise(number, exercise.kind, exercise.stars, exercise.title, oracle=len,
                                            cases=exercise.cases, returns=exercise.returns, observe=exercise.observe)
    for exercise in module.sheet.exercises.values():
        vars(exercise).clear()
    needed = reached([f for exercise in kept.values() for f in (exercise.cases, exercise.observe)], vars(module))
    for name in [name for name in vars(module) if name not in needed and not name.startswith("__")]:
        del vars(module)[name]
    sys.modules.pop(module.__name__, None)
    gc.collect()
    return kept


def reached(functions: Iterable[Callable], names: dict[str, Any]) -> set[str]:
    """The global names that functions use, directly or through each other."""
    found: set[str] = set()
    waiting: list[Any] = list(functions)
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, type):
            waiting += [value for value in vars(thing).values() if isinstance(value, FunctionType)]
        code = thing if isinstance(thing, CodeType) else getattr(thing, "__code__", None)
        if not isinstance(code, CodeType):
            continue
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        for name in set(code.co_names) & set(names) - found:
            found.add(name)
            waiting.append(names[name])
    return found


# --- walls ----------------------------------------------------------------------------------------------------------


def readable(root: str) -> list[str]:
    """What an answer may read: Python, its packages, and of this one all but the sheets."""
    packages = [path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages")]
    places = [sys.prefix, sys.base_prefix, *site.getsitepackages(), *packages, "/usr/lib", "/lib", "/lib64",
              "/usr/share/zoneinfo", "/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo"]
    core = os.path.join(root, "genmed_core")
    for folder, left_out in ((core, "exercises"), (os.path.join(core, "exercises"), "sheets")):
        places += [os.path.join(folder, name) for name in os.listdir(folder) if name != left_out]
    return sorted({os.path.realpath(place) for place in places if os.path.exists(place)})


def limit(memory: int, seconds: int, alone: bool) -> bool:
    """Limits on memory, time and files, from here on; False where the system knows none (Windows)."""
    try:
        import resource
    except ImportError:
        return False
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {"RLIMIT_CPU": int(used.ru_utime + used.ru_stime) + seconds, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0,
              "RLIMIT_NOFILE": 256}
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            limits["RLIMIT_AS"] = int(file.read().split()[0]) * resource.getpagesize() + memory
    if alone:  # else it would count the instructor's own processes too
        limits["RLIMIT_NPROC"] = 64
    for name, most in limits.items():
        resource.setrlimit(getattr(resource, name), (most, most))
    return sys.platform == "linux"


def landlock(places: list[str]) -> bool:
    """Let the kernel refuse all files but these, all programs and all TCP (Linux 5.13 or newer); False elsewhere."""
    if sys.platform != "linux":
        return False
    kernel = ctypes.CDLL(None, use_errno=True)
    version = kernel.syscall(444, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    rights = (1 << {1: 13, 2: 14}.get(version, 15 if version < 5 else 16)) - 1
    wanted = (ctypes.c_uint64 * 3)(rights, 3, 3)  # files; TCP; signals and sockets without a file
    rules = kernel.syscall(444, wanted, ctypes.c_size_t(8 if version < 4 else 16 if version < 6 else 24), 0)
    for place in places:
        fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
        may = 0b1100 if os.path.isdir(place) else 0b0100 | 0b0010 * (place == "/dev/null")
        rule = may.to_bytes(8, sys.byteorder) + fd.to_bytes(4, sys.byteorder)
        kernel.syscall(445, rules, 1, rule, 0)
        os.close(fd)
    kernel.prctl(38, 1, 0, 0, 0)  # no new privileges
    done = kernel.syscall(446, rules, 0)
    os.close(rules)
    return done == 0


def watch(places: list[str]) -> None:
    """Let Python itself refuse files, processes, sockets and the like. Not a wall, but everywhere, and it says why."""
    inside = tuple(place + os.sep for place in places)
    sheets = os.path.join("genmed_core", "exercises", "sheets")

    def refuse(event: str, arguments: tuple) -> None:
        if event.startswith(FORBIDDEN):
            raise PermissionError(f"an answer that is graded may not use {event}")
        if event in ("open", "os.listdir", "os.scandir"):
            path = arguments[0]
            if isinstance(path, int) or path is None:
                return
            place = os.path.realpath(os.fsdecode(path))
            if event == "open" and place != os.devnull and writes(*arguments[1:3]):
                raise PermissionError("an answer that is graded may not write files")
            if sheets in place or not (place in places or place.startswith(inside)):
                raise PermissionError("an answer that is graded may not read files")

    def writes(mode: str | None, flags: int | None) -> bool:
        return bool(set(mode or "") & set("wax+")) or bool((flags or 0) & WRITING)

    sys.addaudithook(refuse)


# --- answers --------------------------------------------------------------------------------------------------------


def tried(job: dict[str, Any], exercise: Any, names: dict[str, Any]) -> dict[str, Any]:
    """What one answer cell gives: outputs for the cases, a plain value, or why there is neither."""
    import torch

    from genmed_core.exercises import Verdict
    from genmed_core.exercises.answers import BadAnswer, time_limit

    names.pop(job["name"], None)
    try:
        with time_limit(SECONDS):
            execute(job["code"], f"<answer {job['number']}>", names)
    except BadAnswer as problem:
        return {"state": "wrong", "message": str(problem)}
    except BaseException as error:  # SystemExit too
        return {"state": "wrong", "message": stopped(error)}
    if job["name"] not in names:
        return {"state": "open", "message": f"Its cell does not define `{job['name']}`."}
    if exercise is None:
        return {"value": plain(names[job["name"]])}
    cases = exercise.draw(torch.Generator().manual_seed(job["seed"]))
    found = exercise.tried(names[job["name"]], cases, SECONDS)
    if isinstance(found, Verdict):
        return {"state": found.state, "message": found.message.removeprefix(exercise.wrong("").message)}
    if sum(value.numel() for case in found for value in case.values()) > NUMBERS:
        return {"state": "wrong", "message": "It returns far more numbers than are asked for."}
    return {"outputs": [{name: {"shape": list(value.shape), "values": value.flatten().tolist()}
                         for name, value in case.items()} for case in found]}


def execute(code: str, name: str, names: dict[str, Any]) -> None:
    """Run a cell's code, without the lines that speak to IPython; tracebacks know its lines."""
    code = re.sub(r"^\s*[%!].*$", "pass", code, flags=re.M)
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    exec(compile(code, name, "exec"), names)


def stopped(error: BaseException) -> str:
    """What went wrong in an answer cell, and where."""
    line = error.lineno if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1].lineno
    text = error.msg if isinstance(error, SyntaxError) else str(error).split("\n")[0]
    return f"Its cell stopped with {type(error).__name__}{': ' * bool(text)}{text} (line {line})."


def plain(answer: Any) -> Any:
    """A letter or a number as JSON has it; None for none yet."""
    from genmed_core.exercises.answers import BadAnswer, Unanswered, tensor

    if answer is None or answer is ...:
        return None
    if isinstance(answer, str):
        return str(answer)[:60]
    try:
        found = tensor(answer)
        if not isinstance(answer, bool) and found.numel() == 1:
            return float(found)
    except (BadAnswer, Unanswered):
        pass
    return f"a {type(answer).__name__}"


def imports(code: str, names: dict[str, Any], answers: Iterable[str]) -> None:
    """Execute the imports of a chapter's first cell that any answer may use, and nothing else of it."""
    used = set(re.findall(r"\w+", " ".join(answers)))  # a chapter imports much that takes seconds to load
    wanted = [node for node in ast.parse(code).body if isinstance(node, ast.Import | ast.ImportFrom)]
    for node in wanted:
        node.names = [alias for alias in node.names if (alias.asname or alias.name).partition(".")[0] in used]
    exec(compile(ast.Module([node for node in wanted if node.names], []), "<imports>", "exec"), names)


def warm() -> None:
    """Let torch read now what it reads once."""
    import torch

    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    torch.conv2d(x, torch.randn(4, 3, 3, 3)).mean().backward()
    torch.linalg.solve(torch.eye(3), torch.ones(3))


def main() -> None:
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    request = json.load(sys.stdin)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    def say(**what: Any) -> None:
        said.write(json.dumps(what) + "\n")
        said.flush()

    try:
        sys.path.insert(0, request["root"])
        import genmed_core  # noqa: F401  (before torch)

        exercises = without_answers(load_sheet("sheet_of_the_chapter", request["sheet"]))
        names: dict[str, Any] = {"__name__": "__main__"}
        imports(request["imports"], names, [job["code"] for job in request["jobs"]])
        warm()
        places = readable(request["root"])
        walls = {"limits": limit(request["memory"], request["seconds"], request["alone"]), "files": landlock(places)}
        watch(places)
    except Exception:
        return say(failed=traceback.format_exc())
    say(ready=walls)
    for job in request["jobs"]:
        say(number=job["number"], **tried(job, exercises.get(job["number"]), names))


if __name__ == "__main__":
    main()
