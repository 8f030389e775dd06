"""Running one student's answers in a process of its own, from the outside: how it is begun, heard and ended."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

WORKER = Path(__file__).resolve().parent / "worker.py"
ROOT = WORKER.parent.parent.parent
UNSHARE = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"]  # no network; one death ends all
TRIES = 4  # answers that end their process, one after the other; what stands below them is run in another


class SandboxError(RuntimeError):
    """The process could not be begun; this is no student's fault."""


@dataclass(frozen=True)
class Limits:
    """What an answer may use: seconds for one exercise, and for beginning; bytes beside Python's own, and told."""

    seconds: float = 40
    start: float = 300
    memory: int = 2 * 2**30
    said: int = 50_000_000


@dataclass(frozen=True)
class Job:
    """One answer to run: the exercise's number, the name that its check asks for, the cell's code, the cases' seed."""

    number: str
    name: str
    code: str
    seed: int


Reply = dict[str, Any]


def replies(jobs: Sequence[Job], sheet: Path, imports: str, limits: Limits) -> tuple[dict[str, Reply], dict[str, bool]]:
    """What came of each answer, by number, and which walls there were. SandboxError where nothing could be begun."""
    found: dict[str, Reply] = {}
    waiting, walls = list(jobs), {"network": bool(unshare())}
    for _ in range(TRIES):
        if not waiting:
            break
        with _Process(waiting, sheet, imports, limits) as process:
            walls |= process.begin()
            ended = process.listen(found)
        waiting = [job for job in waiting if job.number not in found]
        if waiting:
            found[waiting.pop(0).number] = {"state": "wrong", "message": ended}
    for job in waiting:
        found[job.number] = {"state": "wrong", "message": f"It was not run: {TRIES} answers before it ended their "
                                                          "process."}
    return found, walls


@cache
def unshare() -> list[str]:
    """The words that put a command into a network and a list of processes of its own; none where that fails."""
    try:
        works = subprocess.run([*UNSHARE, "true"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    return UNSHARE if works else []


class _Process:
    """A worker; leaving the context ends it and all that it began."""

    def __init__(self, jobs: Sequence[Job], sheet: Path, imports: str, limits: Limits) -> None:
        seconds = int(limits.seconds * (len(jobs) + 1))
        self.request = json.dumps({
            "root": str(ROOT), "sheet": str(sheet), "imports": imports, "memory": limits.memory, "seconds": seconds,
            "alone": bool(unshare()) and os.geteuid() != 0, "jobs": [vars(job) for job in jobs]})
        self.limits = limits
        self.lines: queue.Queue[bytes] = queue.Queue()

    def __enter__(self) -> "_Process":
        self.folder = tempfile.TemporaryDirectory()
        kept = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
        places = dict.fromkeys(("HOME", "TMPDIR", "TEMP", "USERPROFILE", "GENMED_RUNS"), self.folder.name)
        self.process = subprocess.Popen(
            [*unshare(), sys.executable, "-I", "-B", str(WORKER)], cwd=self.folder.name, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**kept, **places, "PATH": os.defpath, "LANG": "C.UTF-8", "GENMED_OFFLINE": "1", "GENMED_THREADS": "1",
                 "OMP_NUM_THREADS": "1"})
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(self.process.pid)], capture_output=True)
        self.process.wait()
        self.folder.cleanup()

    def _read(self) -> None:
        """Pass on its lines; an empty one is its end, and an unended one is too long."""
        left = self.limits.said
        while left > 0:
            line = self.process.stdout.readline(left)
            left -= len(line)
            self.lines.put(line)
            if not line.endswith(b"\n"):
                return
        self.lines.put(b"")

    def begin(self) -> dict[str, bool]:
        """Send the work; which walls the worker could put up."""
        try:
            self.process.stdin.write(self.request.encode())
            self.process.stdin.close()
            first = json.loads(self.lines.get(timeout=self.limits.start) or b'{"failed": "it ended at once"}')
        except queue.Empty:
            first = {"failed": f"it had not after {self.limits.start:g} seconds; is the machine busy?"}
        except (OSError, ValueError) as problem:
            first = {"failed": repr(problem)}
        if "ready" not in first:
            raise SandboxError(f"The process that runs answers could not begin: {first['failed']}")
        return first["ready"]

    def listen(self, found: dict[str, Reply]) -> str:
        """Enter its replies into `found`; returns why no more came."""
        while True:
            try:
                line = self.lines.get(timeout=self.limits.seconds)
            except queue.Empty:
                return (f"It was stopped after {self.limits.seconds:g} seconds: is there a loop that does not end, or "
                        "a training?")
            if not line:
                return ("It ended the process that runs answers: by exit(), or by using more time or memory than "
                        "there was.")
            try:
                reply = json.loads(line)
                found[str(reply.pop("number"))] = reply
            except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
                return "What it returned cannot be read."
