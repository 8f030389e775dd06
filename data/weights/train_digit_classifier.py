"""Train the reader of digits that judges generated samples, and store it as float16.

    python data/weights/train_digit_classifier.py        about four minutes on two CPU cores; needs real MNIST

It learns from MNIST and stroke digits together, grey and binarised, shifted by up to two pixels, so that it
reads what the chapters draw whichever data they were trained on. Prints its accuracy on held-out digits.
"""

import genmed_core  # noqa: F401  (first: sets how OpenMP threads wait)
import torch
from torch.nn import functional as F

from genmed_core import data, kernels, metrics, nets, runtime, train

SEED, STEPS, BATCH = 0, 2_000, 256
torch.manual_seed(SEED)
device = runtime.device()

mnist = data.digits("train", source="mnist")
strokes = data.digits("train", source="embedded")
images = torch.cat([mnist.images, strokes.images])
labels = torch.cat([mnist.labels, strokes.labels])


def augment(x):
    """Shift every image a little and binarise half of them: generators are trained on both."""
    x = nets.shift_augment(x, pixels=2)
    return torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5, (x > 0.5).float(), x)


model = nets.DigitClassifier().to(device)
batches = kernels.Batches(images, labels, batch_size=BATCH, seed=SEED, transform=augment)
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.02)


def loss_fn(batch):
    with runtime.autocast(device):
        logits = model(batch.x)
    loss = F.cross_entropy(logits.float(), batch.y)
    return loss, {"accuracy": (logits.argmax(1) == batch.y).float().mean()}


step = kernels.TrainStep(loss_fn, optimizer, batches=batches, model=model, seed=SEED,
                         schedule=kernels.cosine_decay(0.1))
train.fit(step, runtime.budget(STEPS), title="digit classifier")
path = metrics.save_weights(model, "digit_classifier")
print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB, {metrics.parameter_count(model):,} parameters")
for source in ("mnist", "embedded"):
    test = data.digits("test", source=source)
    for name, x in (("grey", test.images / 255), ("binarised", (test.images > 127).float())):
        accuracy = (metrics.read_digits(x.float()).argmax(1) == test.labels).float().mean().item()
        print(f"{source:9s} {name:10s} test accuracy {100 * accuracy:.2f} %")
