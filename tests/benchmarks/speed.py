"""Every chapter's training step, the textbook's loop and a plain PyTorch loop, side by side -> speed_<device>.json.

    make bench                                        about eight minutes on two free cores
    make bench-gpu                                    a few minutes on a machine with a CUDA GPU
    python tests/benchmarks/speed.py --rounds 2 --seconds 0.1 --output FILE       a quick look
    python tests/benchmarks/speed.py --parts growth --add                         one part anew, the others kept

All contestants of a chapter run in turn, round after round, so that another process slows all of them alike. Rates are
image-steps (images times optimiser steps) per second, medians over the rounds with the lowest and the highest; ratios
are medians of the rounds' own ratios. The rivals run in a process without this project's settings (rivals.py), with as
many threads as torch takes and with one, and the better of the two counts; ours counts in the better of float32 and
bfloat16, and both are told. Ours chooses its own threads.
"""

import argparse
import contextlib
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

from genmed_core import data, diffusion, kernels, runtime  # isort: skip  (before torch: it sets how threads wait)

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent))
import rivals  # noqa: E402
import steps  # noqa: E402

HERE = Path(__file__).resolve().parent
ROUNDS, SECONDS = 5, 0.25
GROWTH = {("batch", "VAE"): (16, 64, 256, 1024, 4096), ("batch", "U-Net"): (4, 16, 64, 256),
          ("side", "VAE"): (14, 28, 56, 112), ("side", "U-Net"): (16, 32, 64, 96), ("sampling", "U-Net"): (5, 20, 80)}
PARTS = ("chapters", "contention", "tried", "growth", "book's training")
ON_GPU = ("chapters", "growth", "book's training")  # the other parts ask what a processor does
SETTLE = 0.4  # s that a step is given to find its threads, before it is timed
CHAPTERS_BATCH = {"vae": 512}  # where the chapter itself trains with another batch than the textbook


def result_file(device):
    return HERE / f"speed_{torch.device(device).type}.json"


def image_set(name, digits):
    """What a lesson trains on. A step does not look at what a picture shows, so digits stand in for X-rays."""
    if name == "digits":
        return digits
    labels = digits.labels[:2048] % 4
    if name == "latents":
        images = torch.randn(len(labels), *steps.SHAPES[name], generator=torch.Generator().manual_seed(0))
    else:
        images = nn.functional.interpolate(digits.images[:2048].float(), steps.SHAPES[name][1:]).byte()
    return SimpleNamespace(images=images, labels=labels)


# --- contestants: each is run(seconds) -> image-steps per second -----------------------------------------------------


class OtherProcess:
    """rivals.py at work: one process for all rivals, without this project's settings but for those of `env`."""

    def __init__(self, digits, device, **env):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "images.pt"
        sets = {name: image_set(name, digits) for name in steps.SHAPES}
        torch.save({name: {"images": found.images, "labels": found.labels} for name, found in sets.items()}, path)
        ours = ("OMP_", "GOMP_", "MALLOC_", "GENMED_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | env
        self.process = subprocess.Popen([sys.executable, str(HERE / "rivals.py"), str(path), device.type], env=env,
                                        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.threads = self._answer()["threads"]

    def _answer(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError("the rivals' process has ended: see its message above")

    def ask(self, **asked):
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def contestant(self, loop, chapter, threads=0, batch=None):
        """-> run(seconds), or None where the loop is absent (diffusers not installed)."""
        asked = {"loop": loop, "chapter": chapter, "threads": threads, "batch": batch}
        if "absent" in self.ask(**asked, seconds=0.05):
            return None

        def run(seconds):
            answer = self.ask(**asked, seconds=seconds)
            return answer["images"] / answer["seconds"]

        return run

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.folder.cleanup()


def our_nll(logits, x):
    return kernels.bernoulli_nll(logits, x).sum()


@functools.cache
def norm_scale(n, device):
    """The weights of a layer norm, which divides by n where the textbook's formula has n - 1."""
    return torch.full((n,), steps.SIGMA * ((n - 1) / n) ** 0.5, device=device)


def by_layer_norm(out):
    """What the textbook standardises and scales by hand, in one operation."""
    n = out.shape[1]
    return nn.functional.layer_norm(out, (n,), norm_scale(n, out.device), eps=0.0)


def ours_ways(device, bf16=True, **others):
    return steps.Ways(**({"nll": our_nll, "fused": True, "together": True, "standardise": by_layer_norm,
                          "jumps": torch.device(device).type == "cuda",
                          "amp": lambda: runtime.autocast(device, bf16)} | others))


def training(lesson, digits, device, **options):
    """The lesson as a TrainStep."""
    def logged(player, name):
        def loss_fn(batch):
            parts = player.loss(batch.x, batch.y)
            return sum(parts[1:], parts[0]), {f"{name}{k}": part.detach() for k, part in enumerate(parts)}

        return loss_fn

    updates = [kernels.Update(logged(p, f"loss{n}."), p.optimizer, repeats=p.repeats, after=p.after)
               for n, p in enumerate(lesson.players)]
    found = image_set(lesson.data, digits)
    images = 255 * (found.images > 128).byte() if lesson.binary else found.images
    batches = kernels.Batches(images, found.labels, batch_size=lesson.batch, device=device)
    return kernels.TrainStep(updates, batches=batches, model=lesson.model, ema=lesson.ema, **options)


def contestant(lesson, step):
    """-> run(seconds) of a TrainStep, in chunks long enough that starting one costs nothing."""
    per_step = rivals.image_steps(lesson) // lesson.walk
    step.run(2 * lesson.walk)
    settled = time.perf_counter() + SETTLE
    while step.device.type == "cpu" and time.perf_counter() < settled:
        step.run(lesson.walk)
    begin = time.perf_counter()
    step.run(lesson.walk)
    step.read_logs()
    chunk = max(1, round(0.03 / (time.perf_counter() - begin))) * lesson.walk

    def chunked():
        step.run(chunk)
        step.read_logs()  # waits for the device

    def run(seconds):
        done = rivals.timed(chunked, chunk * per_step, seconds, step.device)
        return done["images"] / done["seconds"]

    return run


def ours(name, digits, device, bf16=True, batch=None, **options):
    lesson = steps.lesson(name, device, ours_ways(device, bf16, batch=batch))
    return contestant(lesson, training(lesson, digits, device, **options))


# --- measuring ------------------------------------------------------------------------------------------------------


def interleaved(runs, rounds, seconds):
    """{name: run} -> {name: rate of every round}, one round of each in turn."""
    rates = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(0.05)  # the last one's threads may still spin
            run(seconds / 4)  # and this one's may sleep, its memory lie far away
            rates[name].append(run(seconds))
    return rates


def summary(rates):
    return {"median": statistics.median(rates), "low": min(rates), "high": max(rates)}


def best(rates, *names):
    """The name of the contestant with the highest median among those given."""
    return max((n for n in names if n in rates), key=lambda n: statistics.median(rates[n]))


def ratio(rates, above, below):
    return statistics.median(a / b for a, b in zip(rates[above], rates[below]))


def contestants(name, digits, device, others):
    """The loops that one chapter's figures come from."""
    runs = {}
    loops = [*(["book"] if name in steps.IN_THE_BOOK else []), "plain"]
    for loop in loops:
        runs[loop] = others.contestant(loop, name)
        if others.threads > 1 and device.type == "cpu":
            runs[f"{loop}, 1 thread"] = others.contestant(loop, name, threads=1)
    for bf16 in ([True, False] if runtime.has_fast_bf16() else [False]):
        label = "ours, bf16" if bf16 else "ours, fp32"
        runs[label] = ours(name, digits, device, bf16)
        if name in CHAPTERS_BATCH:
            batch = CHAPTERS_BATCH[name]
            runs[f"{label}, batch {batch}"] = ours(name, digits, device, bf16, batch)
    if name == "ddpm":
        for loop in ("diffusers", "diffusers, bf16")[: 2 if runtime.has_fast_bf16() else 1]:
            runs[loop] = others.contestant(loop, name)
    return {label: run for label, run in runs.items() if run is not None}


def flops_of(name, digits, device, batch=None):
    """Floating-point operations of one image-step in matrix products and convolutions, forward and backward."""
    lesson = steps.lesson(name, device, ours_ways(device, bf16=False, batch=batch))
    step = training(lesson, digits, device, mode="eager")
    step.run(1)
    with FlopCounterMode(display=False) as counter:
        step.run(1)
    return counter.get_total_flops() / (rivals.image_steps(lesson) // lesson.walk)


def chapter(name, digits, device, others, rounds, seconds):
    """One chapter's row: rates, ratios, and how far its step is from what the machine can multiply."""
    rates = interleaved(contestants(name, digits, device, others), rounds, seconds)
    mine = best(rates, "ours, bf16", "ours, fp32")
    row = {"batch": steps.lesson(name, "cpu", steps.PLAIN).batch, "rates": {k: summary(v) for k, v in rates.items()},
           "ours": mine, "flops per image-step": flops_of(name, digits, device), "ratios": {},
           "time": where_the_time_goes(name, digits, device, mine.endswith("bf16"))}
    row["flop/s"] = row["flops per image-step"] * row["rates"][mine]["median"]
    for loop in ("book", "plain", "diffusers"):
        rival = [label for label in rates if label.startswith(loop)]
        if rival:
            row["ratios"][loop] = ratio(rates, mine, best(rates, *rival))
            row["ratios"][f"{loop}, fp32"] = ratio(rates, "ours, fp32", best(rates, *rival))
    if name in CHAPTERS_BATCH:
        batch = CHAPTERS_BATCH[name]
        large = best(rates, *(label for label in rates if label.endswith(f"batch {batch}")))
        row["chapter's batch"] = {"batch": batch, "ours": large,
                                  "book": ratio(rates, large, best(rates, "book", "book, 1 thread")),
                                  "flop/s": row["flops per image-step"] * row["rates"][large]["median"]}
    return row


def matmul_rate(dtype, device, threads=None, size=1536, repeats=6):
    """The most floating-point operations a second that this machine multiplies square matrices with."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    fastest = float("inf")
    for _ in range(repeats):
        begin = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        fastest = min(fastest, time.perf_counter() - begin)
    torch.set_num_threads(before)
    return 2 * size**3 / fastest


def peaks(device):
    size = 8192 if device.type == "cuda" else 1536
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        if name == "fp32" or runtime.has_fast_bf16():
            found[name] = matmul_rate(dtype, device, size=size)
            if device.type == "cpu":
                found[f"{name}, 1 thread"] = matmul_rate(dtype, device, 1, size)
    return found


KINDS = {"products": ("mm", "addmm", "bmm", "baddbmm", "linear", "conv", "attention"), "noise": ("normal", "rand"),
         "optimiser": ("adam", "rmsprop", "optimizer")}


def where_the_time_goes(name, digits, device, bf16, count=20):
    """Shares of a step's time: matrix products and convolutions, drawing noise, optimiser, all other operations.

    From torch's profiler, on one thread, so that nothing overlaps; the time between operations is not in it.
    """
    lesson = steps.lesson(name, device, ours_ways(device, bf16))
    step = training(lesson, digits, device, mode="eager", threads=1)
    step.run(lesson.walk)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step.run(count)
    spent = dict.fromkeys([*KINDS, "other operations"], 0.0)
    for event in profiler.key_averages():
        words = event.key.lower()
        kind = next((k for k, marks in KINDS.items() if any(m in words for m in marks)), "other operations")
        spent[kind] += event.self_cpu_time_total / 1e6
    return {kind: s / sum(spent.values()) for kind, s in spent.items()}


# --- growth ---------------------------------------------------------------------------------------------------------


def growth(digits, device, rounds, seconds):
    """Milliseconds of a step as batch, image side and sampling steps grow: {panel: {curve: [[x, ms], ...]}}."""
    def step_ms(name, batch=None, images=digits, **sizes):
        ways = ours_ways(device, batch=batch)
        torch.manual_seed(0)
        lesson = steps.LESSONS[name](device, ways, **sizes)
        run, count = contestant(lesson, training(lesson, images, device)), rivals.image_steps(lesson)
        return lambda: 1000 * count / run(seconds)

    def resized(side):
        few = digits.images[:2048].float()
        return data.ImageSet(nn.functional.interpolate(few, (side, side)).byte(), digits.labels[:2048], digits.classes,
                             digits.source)

    runs = {("batch", "VAE", b): step_ms("vae", b) for b in GROWTH["batch", "VAE"]}
    runs |= {("batch", "U-Net", b): step_ms("ddpm", b) for b in GROWTH["batch", "U-Net"]}
    runs |= {("side", "VAE", s): step_ms("vae", 256, resized(s), pixels=s * s) for s in GROWTH["side", "VAE"]}
    runs |= {("side", "U-Net", s): step_ms("ddpm", 16, resized(s)) for s in GROWTH["side", "U-Net"]}
    runs |= {("sampling", "U-Net", n): sampling_ms(n, device) for n in GROWTH["sampling", "U-Net"]}
    times = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            times[key].append(run())
    curves = {}
    for (panel, curve, x), found in times.items():
        curves.setdefault(panel, {}).setdefault(curve, []).append([x, statistics.median(found)])
    return curves


def sampling_ms(count, device, images=16):
    """-> run(): milliseconds for `images` digits in `count` DDIM steps."""
    net, schedule = steps.unet().to(device), diffusion.Schedule.cosine(steps.T_DDPM)
    y = torch.arange(images, device=device) % 10

    @torch.no_grad()
    def denoiser(x, t, y):
        with runtime.autocast(device):
            return net(x, t, y)

    def run():
        begin = time.perf_counter()
        x = diffusion.sample(denoiser, (images, 1, 28, 28), schedule.to(device), steps=count, y=y, predicts="v",
                             clip=(-1, 1), device=device)
        x.sum().item()  # waits for the device
        return 1000 * (time.perf_counter() - begin)

    return run


# --- a competing process ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def busy_core():
    """Inside, another process keeps the first core busy."""
    pinned = f"os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})" if sys.platform == "linux" else ""
    code = f"import os\n{pinned}\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    time.sleep(0.1)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def contention(chapters, digits, device, others, rounds, seconds):
    """How many times slower each loop becomes when another process wants one core: {chapter: {loop: factor}}.

    Ours is made anew each time, and every loop is given a moment before it is timed: the figures are for a training
    that goes on beside the other process.
    """
    makers = {}
    for name, row in chapters.items():
        rival = "book" if name in steps.IN_THE_BOOK else "plain"
        makers[name, "ours"] = functools.partial(ours, name, digits, device, row["ours"].endswith("bf16"))
        makers[name, rival] = functools.partial(others.contestant, rival, name)
    quiet, busy = {key: [] for key in makers}, {key: [] for key in makers}
    for _ in range(rounds):
        for rates, state in ((quiet, contextlib.nullcontext()), (busy, busy_core())):
            with state:
                for key, make in makers.items():
                    run = make()
                    run(SETTLE / 2)
                    rates[key].append(run(seconds))
    lost = {}
    for (name, loop), rates in quiet.items():
        lost.setdefault(name, {})[loop] = statistics.median(rates) / statistics.median(busy[name, loop])
    return lost


# --- what each setting gives ----------------------------------------------------------------------------------------


def memory_as_usual(digits, device):
    """rivals.py for a step of ours whose memory glibc handles as it does unless told: it returns large freed blocks.

    In a process of its own, because memory that a process once kept stays with it. Any MALLOC_ variable makes
    `startup.keep_freed_memory` stand back; this one asks for what glibc does on two cores anyway.
    """
    kept = {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ}
    return OtherProcess(digits, device, MALLOC_ARENA_MAX="16", **kept)


def tried(digits, device, others, rounds, seconds):
    """Rates of steps with one thing changed: {step: {what: {"rate": summary, "ratio": against the step as it is}}}."""
    def vae(bf16=True, ways=None, batch=512, **options):
        lesson = steps.lesson("vae", device, ours_ways(device, bf16, batch=batch, **(ways or {})))
        return contestant(lesson, training(lesson, digits, device, **options))

    def ddpm(bf16=True, **options):
        lesson = steps.lesson("ddpm", device, ours_ways(device, bf16))
        return contestant(lesson, training(lesson, digits, device, **options))

    def unfused_attention():
        run = ddpm()

        def inside(seconds):
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                return run(seconds)

        return inside

    def channels_last():
        lesson = steps.lesson("ddpm", device, ours_ways(device))
        lesson.model.to(memory_format=torch.channels_last)
        return contestant(lesson, training(lesson, digits, device))

    def diffusion_step(**ways):
        lesson = steps.lesson("diffusion", device, ours_ways(device, **ways))
        return contestant(lesson, training(lesson, digits, device))

    usual = memory_as_usual(digits, device)
    cores, begin = torch.get_num_threads(), time.perf_counter()
    compiled = vae(mode="compile", threads=cores)
    took = time.perf_counter() - begin - SETTLE
    large = vae(batch=2048, mode="compile", threads=cores)
    groups = {"VAE, batch 512": {
        "as it is": vae(), "in float32": vae(False), "torch's cross-entropy": vae(ways={"nll": steps.plain_nll}),
        "optimiser not fused": vae(ways={"fused": False}), "1 thread": vae(threads=1),
        f"{cores} threads": vae(threads=cores), "batch 2,048": vae(batch=2048),
        "freed memory returned": usual.contestant("ours", "vae", batch=512), "torch.compile": compiled,
        "batch 2,048, torch.compile": large,
        "plain loop, tensor indexing": others.contestant("plain", "vae", batch=512),
        "plain loop, TensorDataset and DataLoader": others.contestant("dataloader", "vae", batch=512)},
        "U-Net, batch 32": {"as it is": ddpm(), "in float32": ddpm(False), "channels last": channels_last(),
                            "attention not fused": unfused_attention(), "1 thread": ddpm(threads=1)},
        "Simple diffusion": {"as it is": diffusion_step(), "in float32": diffusion_step(bf16=False),
                             "last line written out": diffusion_step(standardise=steps.plain_standardise)}}
    found = {"seconds to compile the VAE's loss": took}
    for group, runs in groups.items():
        rates = interleaved(runs, rounds, seconds)
        found[group] = {what: {"rate": summary(rates[what]), "ratio": ratio(rates, what, "as it is")} for what in runs}
    usual.close()
    return found


# --- the textbook's whole training ------------------------------------------------------------------------------------


def books_training(digits, device, epochs=50, images=60_000):
    """Seconds for as many steps of the VAE as the textbook trains: 50 epochs of 60,000 digits, in batches of 256."""
    lesson = steps.lesson("vae", device, ours_ways(device))
    step, count = training(lesson, digits, device), epochs * images // lesson.batch
    seconds = {}
    for what, n in (("before the first steps", 16), ("training", count)):
        begin = time.perf_counter()
        step.run(n)
        step.read_logs()  # waits for the device
        seconds[what] = time.perf_counter() - begin
    return {"steps": count, "batch": lesson.batch, "mode": step.mode, "seconds": seconds}


# --- all of it ------------------------------------------------------------------------------------------------------


def measure(rounds=ROUNDS, seconds=SECONDS, chapters=tuple(steps.CHAPTERS), parts=PARTS, keep=lambda table: None,
            table=None):
    """The parts asked for, added to `table`; keep(table) is called whenever one has been added."""
    device, digits, begin = runtime.device(), data.digits("train"), time.perf_counter()
    others = OtherProcess(digits, device)
    table = {"chapters": {}, "took": 0.0, "peak": peaks(device), **(table or {}), "machine": runtime.machine(),
             "data": digits.source, "n": rounds, "seconds": seconds, "rivals' threads": others.threads}
    few = max(2, rounds - 2)
    measured = {"contention": lambda: contention(table["chapters"], digits, device, others, few, seconds),
                "tried": lambda: tried(digits, device, others, rounds, seconds),
                "growth": lambda: growth(digits, device, few, seconds / 2),
                "book's training": lambda: books_training(digits, device)}
    if device.type == "cuda":
        parts = [part for part in parts if part in ON_GPU]
    try:
        for name in chapters if "chapters" in parts else ():
            table["chapters"][name] = row = chapter(name, digits, device, others, rounds, seconds)
            table["peak"] = {k: max(v, table["peak"][k]) for k, v in peaks(device).items()}
            print(f"{steps.CHAPTERS[name]:26s} {row['rates'][row['ours']]['median']:9,.0f} image-steps/s  "
                  + "  ".join(f"{k} {v:.2f}" for k, v in row["ratios"].items()), flush=True)
            keep(table)
        for part in (p for p in PARTS if p in parts and p in measured):
            table[part] = measured[part]()
            keep(table)
    finally:
        others.close()
    table["took"] += time.perf_counter() - begin
    table["chapters"] = {name: table["chapters"][name] for name in steps.CHAPTERS if name in table["chapters"]}
    keep(table)
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--chapters", nargs="*", default=list(steps.CHAPTERS))
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--add", action="store_true", help="keep what the file has of other parts and chapters")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    output = arguments.output or result_file(runtime.device())
    before = json.loads(output.read_text()) if arguments.add and output.exists() else None
    table = measure(arguments.rounds, arguments.seconds, arguments.chapters, arguments.parts, table=before,
                    keep=lambda table: output.write_text(json.dumps(table, indent=1) + "\n"))
    print(f"{output.name} written after {table['took']:.0f} s")


if __name__ == "__main__":
    main()
