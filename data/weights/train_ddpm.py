"""Train chapter 8's U-Net ten times as long as the chapter does, and store its averaged weights as float16.

    python data/weights/train_ddpm.py        about twenty-five minutes on one CPU core; needs real MNIST

Nothing is defined here. The code cells of the chapter run as they stand, down to the one tagged `train`; in its place
the same step is fitted for GENMED_BUDGET (10 unless set) times the chapter's steps. Progress is kept in `runs/`: after
an interruption, run it again. The chapter measures what comes out.
"""

import contextlib
import io
import os

os.environ.setdefault("GENMED_BUDGET", "10")  # before a cell asks for it

from genmed_core import chapters, data, metrics, runtime, train  # noqa: E402

CHAPTER, NAME = "08_ddpm", "ddpm_digits"


def main():
    if data.digits("test").source != "mnist":
        raise SystemExit("these weights are made from MNIST, which is not here: data/README.md says how to get it")
    cells = chapters.cells(runtime.root() / "chapters" / f"{CHAPTER}.py")
    chapter = {"__name__": CHAPTER}
    with contextlib.redirect_stdout(io.StringIO()):
        chapters.run(cells[: chapters.tagged(cells, "train")], chapter, CHAPTER)
    step = chapter["step"]
    history = train.fit(step, runtime.budget(chapter["STEPS"]), title="U-Net", checkpoint=f"{NAME}.pt")
    path = metrics.save_weights(step.ema_model, NAME, made_by="python data/weights/train_ddpm.py", steps=step.count,
                                batch_size=step.batches.batch_size, seconds=round(history.seconds), source="mnist",
                                machine=runtime.machine())
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {metrics.parameter_count(step.model):,} parameters, "
          f"{step.count:,} steps of {step.batches.batch_size}, {history.seconds:.0f} s")


if __name__ == "__main__":
    main()
