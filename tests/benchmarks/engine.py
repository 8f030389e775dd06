"""Milliseconds of the browser's engine, on one core of this machine in headless Chromium.

    python tests/benchmarks/engine.py
    python tests/benchmarks/engine.py --onnx node_modules/onnxruntime-web/dist

The second also measures onnxruntime-web on the same U-Net (npm install onnxruntime-web; pip install onnx): WebAssembly,
one thread.  It is left out of the project's own dependencies: the head of engine.js says why.
"""

import argparse
import base64
import functools
import http.server
import os
import sys
import tempfile
import threading
import warnings
from pathlib import Path

import genmed_core  # noqa: F401  (before torch)

# isort: split
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import engine_node  # noqa: E402
import widget_page  # noqa: E402

from genmed_core import diffusion, metrics, nets, runtime, widgets  # noqa: E402

PASSES = """async ([source, graph, weights, inputs, n]) => {
  const { startEngine } = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const bytes = Uint8Array.from(atob(weights), (c) => c.charCodeAt(0)), engine = startEngine(), times = [];
  const net = engine.load(graph, new DataView(bytes.buffer));
  for (let i = 0; i < n + 10; i++) {
    const began = performance.now();
    await net.run(inputs);
    times.push(performance.now() - began);
  }
  engine.close();
  return times.slice(10);
}"""
ONNX = """async ([inputs, n]) => {
  const ort = await import("/ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1;
  const session = await ort.InferenceSession.create("/unet.onnx"), times = [], feeds = {};
  for (const [name, [type, shape, values]] of Object.entries(inputs)) {
    const data = type === "int64" ? BigInt64Array.from(values.map(BigInt)) : Float32Array.from(values);
    feeds[name] = new ort.Tensor(type, data, shape);
  }
  for (let i = 0; i < n + 10; i++) {
    const began = performance.now();
    await session.run(feeds);
    times.push(performance.now() - began);
  }
  return times.slice(10);
}"""


def full(network):
    """Random weights everywhere, where some layers begin at zero."""
    torch.manual_seed(0)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.05)
    return network.eval()


def told(name, times):
    times = sorted(times)
    middle = times[len(times) // 2]
    print(f"{name:44} {middle:7.1f} ms in the middle, {times[0]:7.1f} at best, n = {len(times)}", flush=True)


def passes(page, name, network, n=40, **inputs):
    """Times of one pass of a network in a worker."""
    program = widgets.compile_network(network, max_bytes=8_000_000, **{k: x[:1] for k, x in inputs.items()})
    flat = {k: x.flatten().tolist() for k, x in inputs.items()}
    weights = base64.b64encode(program.weights).decode()
    told(name, page.evaluate(PASSES, [widgets.ENGINE, program.graph, weights, flat, n]))


def film(browser, folder, name, explorer, n=5):
    """Times of a whole film in the widget: every step drawn."""
    page = widget_page.show(browser, folder / "film.html", explorer)
    times = []
    for _ in range(n):
        page.wait_for_selector("canvas[data-seconds]")
        times.append(1000 * page.evaluate("""() => {
            const { dataset } = document.querySelectorAll("canvas")[1], { seconds } = dataset;
            delete dataset.seconds;
            return Number(seconds); }"""))
        page.get_by_role("slider", name="seed", exact=True).press("ArrowRight")
    told(name, times)
    page.context.close()


def onnx(browser, folder, dist, unet, inputs):
    """The same U-Net in onnxruntime-web, and whether it runs where no WebAssembly may be compiled."""
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (folder / name).symlink_to((dist / name).resolve())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(unet, tuple(inputs.values()), folder / "unet.onnx", input_names=list(inputs), dynamo=False)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self):
            if self.path.startswith("/strict"):
                self.send_header("Content-Security-Policy", "script-src 'self' blob: 'unsafe-inline'")
            super().end_headers()

        def log_message(self, *arguments):
            pass

    for name in ("plain.html", "strict.html"):
        (folder / name).write_text("<!doctype html><title>ONNX</title>")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kinds = {torch.int64: "int64", torch.float32: "float32"}
    feeds = {k: [kinds[x.dtype], list(x.shape), x.flatten().tolist()] for k, x in inputs.items()}
    for name in ("plain", "strict"):
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/{name}.html")
        try:
            told(f"onnxruntime-web, {name} page", page.evaluate(ONNX, [feeds, 40]))
        except Exception as error:
            print(f"onnxruntime-web, {name} page: {str(error).splitlines()[0][:200]}")
    sizes = [(folder / name).stat().st_size for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs",
                                                         "ort-wasm-simd-threaded.wasm")]
    print(f"onnxruntime-web: {sum(sizes) / 1e6:.1f} MB of scripts; engine.js: {len(widgets.ENGINE) / 1e6:.3f} MB")
    server.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", type=Path, help="the folder dist of onnxruntime-web")
    parser.add_argument("--core", type=int, help="the only processor core to run on")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    print(runtime.machine())
    from playwright.sync_api import sync_playwright

    unet = metrics.load_weights(nets.UNet(), "ddpm_digits").eval()
    latent = full(nets.UNet(4, widths=(64, 96), patch=1, classes=4))
    vae = full(engine_node.chapter_class("09_ldm_cxr", "Residual", "RadiographVAE", LATENT=4)())
    x, z, t, y = torch.randn(2, 1, 28, 28), torch.randn(2, 4, 16, 16), torch.tensor([500, 500]), torch.tensor([3, 3])
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        folder, browser = Path(folder), widget_page.launch(driver)
        page = browser.new_page()
        passes(page, "U-Net of digits, one image", unet, x=x[:1], t=t[:1], y=y[:1])
        passes(page, "U-Net of digits, with and without label", unet, x=x, t=t, y=y)
        passes(page, "U-Net of latents, with and without label", latent, n=15, x=z, t=t, y=y)
        passes(page, "decoder of latents, 64 px", vae.decode, n=15, z=z[:1])
        passes(page, "decoder of digits, 28 px", nets.ConvVAE().eval().decoder, z=torch.randn(1, 16))
        schedule = diffusion.Schedule.cosine()
        film(browser, folder, "a guided digit, 25 steps", widgets.DiffusionExplorer(
            unet, schedule, class_names=range(10), predicts="v", guidance=2.0))
        film(browser, folder, "a guided film of 64 px, 25 steps, decoded", widgets.DiffusionExplorer(
            latent, schedule, shape=(4, 16, 16), class_names=range(4), predicts="v", clip=None, guidance=2.0, order=2,
            decoder=vae.decode, int8=True), n=3)
        if options.onnx:
            onnx(browser, folder, options.onnx, unet, {"x": x[:1], "t": t[:1], "y": y[:1]})


if __name__ == "__main__":
    main()
