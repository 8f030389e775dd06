"""What others add to the project: one of each kind is one entry, and nothing else is touched."""

import json

import torch

from genmed_core import metrics, runtime


def test_a_new_metric_is_one_entry(request):
    def mean_gap(c):
        return (c.real.mean(0) - c.fake.mean(0)).norm().item()

    metrics.register(metrics.Measure("mean_gap", "distance of means", "lower", mean_gap, format=".3f"))
    request.addfinalizer(lambda: metrics.MEASURES.pop("mean_gap"))

    x = torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    report = metrics.sample_report(x[:20], x[20:], n=20)
    assert report["mean_gap"] > 0 and report["floor"]["mean_gap"] > 0
    row = f"| distance of means | {report['floor']['mean_gap']:.3f} | {report['mean_gap']:.3f} |"
    assert row in metrics.report_table({"noise": report}).splitlines()
    metrics.Expectations("04_gan", source="mnist").model(
        "noise", report=report, samples=x[:20], real=x[20:], train_seconds=1, sample_seconds=1, parameters=1)
    (model,) = json.loads((runtime.runs_dir() / "results" / "04_gan.json").read_text())["models"]
    assert model["mean_gap"] == report["mean_gap"] and model["floor"]["mean_gap"] == report["floor"]["mean_gap"]
