"""The scoreboard: gathered from what chapters recorded, and its page and figures drawn from the stored rows alone."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks import scoreboard
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "jupyter_book_config"))
import notebooks  # noqa: E402

ROWS = json.loads(scoreboard.JSON.read_text(encoding="utf-8"))["rows"]


def row(chapter="04_gan", name="GAN", source="mnist", seed=0, **changes):
    floor = {"fd": 5.0, "kid": 0.1, "recall": 0.9, "coverage": 0.95, "similarity": 0.2, "similarity_in_class": 0.4}
    figures = {"fd": 20.0 + seed, "fd_ratio": 4.0, "kid": 2.0, "recall": 0.5, "coverage": 0.6, "similarity": 0.3,
               "similarity_in_class": 0.5, "train_seconds": 60.0 + seed, "sample_seconds": 0.001, "parameters": 1000.0}
    head = {"chapter": chapter, "source": source, "seed": seed, "machine": "a machine", "name": name, "n": 2000,
            "note": "", "binarised": False}
    return head | figures | {"floor": floor} | changes


def record(path, seed, models, budget=1.0, chapter="04_gan", source="mnist"):
    path.parent.mkdir(parents=True, exist_ok=True)
    taken = ("chapter", "source", "seed", "machine")
    path.write_text(json.dumps({"chapter": chapter, "source": source, "budget": budget, "machine": "a machine",
                                "seed": seed, "records": [],
                                "models": [{k: v for k, v in m.items() if k not in taken} for m in models]}))


# --- the stored page ---------------------------------------------------------------------------------------------


def test_the_page_is_what_the_stored_rows_make():
    text = scoreboard.PAGE.read_text(encoding="utf-8")
    assert scoreboard.fill(text, ROWS) == text, "run `python tests/benchmarks/scoreboard.py page --from-json`"


@pytest.mark.parametrize("source", scoreboard.SOURCES)
def test_the_figures_show_the_stored_rows_and_the_page_shows_the_figures(source):
    models, text = scoreboard.models_of(ROWS, source), scoreboard.PAGE.read_text(encoding="utf-8")
    for kind in ("cost", "variety"):
        path = scoreboard.FIGURES / f"scoreboard-{source}-{kind}.svg"
        assert path.exists() == bool(models) == (f"(figures/{path.name})" in text)
        if models:
            assert scoreboard.stamp_of(models) in path.read_text(encoding="utf-8")
            assert path.stat().st_size < 200_000


WITHOUT_A_MODEL = {  # that draws from nothing, as those of the scoreboard do
    "10_translation",  # its outputs are of patients whom it is given
    "capstone"}  # a project: its models are the readers'


def test_every_chapter_records_a_model():
    for source in notebooks.sources():
        if source.stem in WITHOUT_A_MODEL:
            continue
        assert scoreboard.to_recording(source), f"{source.name} has no cell that calls expect.model"


def test_every_row_names_its_chapter_and_was_made_with_seeds_of_its_own():
    stems = {p.stem for p in notebooks.sources()}
    keys = [(r["chapter"], r["name"], r["source"], r["seed"]) for r in ROWS]
    assert len(set(keys)) == len(keys) and {r["chapter"] for r in ROWS} <= stems
    assert all(r["fd"] > 0 and r["floor"]["fd"] > 0 and r["train_seconds"] > 0 for r in ROWS)
    assert not any(re.search(r"(?<![\w.$])/(home|root|work|tmp|Users)/", json.dumps(r)) for r in ROWS)


@pytest.mark.parametrize("source", scoreboard.SOURCES)
def test_samples_are_shown_where_no_patient_can_be_seen(source):
    path, text = scoreboard.FIGURES / f"scoreboard-{source}-samples.png", scoreboard.PAGE.read_text(encoding="utf-8")
    assert path.exists() == (f"(figures/{path.name})" in text)
    assert not (source == "database" and path.exists()), "their samples are not audited one by one"
    assert not path.exists() or path.stat().st_size < 400_000


# --- how it is made ----------------------------------------------------------------------------------------------


def test_gathering_replaces_what_was_run_again_and_skips_a_cut_budget(tmp_path):
    record(tmp_path / "scoreboard" / "04_gan-auto-1" / "results" / "04_gan.json", "1", [row(fd=11.0)])
    record(tmp_path / "scoreboard" / "04_gan-auto-0" / "results" / "04_gan.json", "0", [row(fd=12.0)])
    record(tmp_path / "results" / "04_gan.json", None, [row(fd=13.0)])  # the notebook's own, seed 0
    record(tmp_path / "results" / "05_cgan.json", None, [row(name="CGAN")], budget=0.1, chapter="05_cgan")
    old = [row(seed=1, name="an old name"), row(seed=2, fd=14.0)]
    rows = scoreboard.gather(old, tmp_path)
    assert [(r["name"], r["seed"], r["fd"]) for r in rows] == [("GAN", 0, 13.0), ("GAN", 1, 11.0), ("GAN", 2, 14.0)]


def test_a_table_has_floors_first_and_mean_and_deviation_over_seeds():
    rows = [row(seed=s) for s in range(3)] + [row("02_vae", "VAE", binarised=True, note="cut", n=2000)]
    models = scoreboard.models_of(rows, "mnist")
    first, second = (t.splitlines() for t in scoreboard.tables(models).split("\n\n"))
    assert first[0] == "| model | FD ↓ | × floor ↓ | KID ↓ | recall ↑ | coverage ↑ |"
    assert second[0] == "| model | MS-SSIM in class | training, s | ms an image | parameters |"
    assert first[2].startswith("| *real, grey* | 5.0 | 1.00 |") and first[3].startswith("| *real, black and white* |")
    assert "| [GAN](04_gan.ipynb) | 21\xa0±\xa01 | 4.0 |" in first[4] and second[4].endswith("| 60 | 1.00 | 1,000 |")
    assert "| [VAE](02_vae.ipynb) | 20 |" in first[5]
    assert "seeds 0, 1, 2; VAE: seed 0. 2,000 samples each. VAE: cut." in scoreboard.remarks(models)


def test_a_models_family_is_what_its_name_says_else_the_part_of_the_book_its_chapter_stands_in():
    known = {"autoencoder": "autoencoders", "CVAE": "autoencoders", "WGAN-GP": "adversaries",
             "Latent diffusion": "diffusion"}
    assert {name: scoreboard.family("09_ldm_cxr", name) for name in known} == known
    assert scoreboard.family("08_ddpm", "Flow matching") == "diffusion"
    assert scoreboard.family("10_flows", "Flow matching") == "other"
    models = {("10_flows", "Flow matching"): [], ("04_gan", "GAN"): []}
    looks = scoreboard.looks(models)
    assert list(looks) == ["adversaries", "other"] and looks["adversaries"] != looks["other"]


def test_x_rays_have_a_table_of_their_own_with_fine_detail():
    rows = [row("09_ldm_cxr", name, "phantom", detail=0.9) for name in ("VAE", "LDM")]
    del rows[0]["similarity_in_class"]
    text = scoreboard.tables(scoreboard.models_of(rows + [row()], "phantom"))
    assert "| fine detail |" in text and "| MS-SSIM of any two |" in text and "read as asked" not in text
    rows[0]["read_accuracy"] = 0.9
    assert "| read as asked ↑ |" in scoreboard.tables(scoreboard.models_of(rows, "phantom"))
    assert len(scoreboard.models_of(rows + [row()], "phantom")) == 2


def test_the_figures_are_the_same_every_time(tmp_path):
    models = scoreboard.models_of([row(seed=s) for s in range(2)] + [row("02_vae", "VAE")], "mnist")
    for draw in (scoreboard.cost_figure, scoreboard.variety_figure):
        for name in ("a.svg", "b.svg"):
            scoreboard.svg(draw(models), tmp_path / name, "rows 0")
        assert (tmp_path / "a.svg").read_text() == (tmp_path / "b.svg").read_text()


def test_a_picture_needs_the_samples_of_every_model_and_takes_none_of_a_cut_budget(tmp_path):
    models = [row(name="GAN"), row(name="LSGAN")]
    results = tmp_path / "scoreboard" / "04_gan-auto-1" / "results"
    record(results / "04_gan.json", "1", models)
    (results / "04_gan").mkdir()
    strip = np.tile(np.arange(28, dtype=np.uint8)[:, None], (1, 28 * 16))

    def figure():
        return scoreboard.samples_figure("mnist", scoreboard.models_of(models, "mnist"), scoreboard.strips(tmp_path))

    for name in ("real", "GAN"):
        Image.fromarray(strip).save(results / "04_gan" / f"{name}.png")
    assert figure() is None, "LSGAN has no picture"
    Image.fromarray(strip).save(results / "04_gan" / "LSGAN.png")
    assert [ax.texts[0].get_text() for ax in figure().axes] == ["real images", "GAN", "LSGAN"]
    assert figure().axes[1].images[0].get_array().shape == (28, 28 * 12)
    record(results / "04_gan.json", "1", models, budget=0.1)
    assert figure() is None


def test_a_run_ends_at_the_recording_cell_and_is_not_repeated_until_the_code_changes(tmp_path, capsys):
    source = tmp_path / "04_gan.py"
    text = ('# %%\nimport os, json, pathlib\nclass expect:\n    model = print\nresults = pathlib.Path('
            'os.environ["GENMED_RUNS"]) / "results"\nresults.mkdir(exist_ok=True)\n# %%\nexpect.model("m")\n'
            '(results / "04_gan.json").write_text(os.environ["GENMED_SEED"])\n# %%\nraise SystemExit("too far")\n')
    source.write_text(text)
    assert scoreboard.run(source, 3) and scoreboard.run(source, 3)
    source.write_text(text.replace("expect.model", "raise ValueError; expect.model"))
    assert not scoreboard.run(source, 3)
    captured = capsys.readouterr()
    assert [line.split(": ")[1] for line in captured.out.splitlines()] == ["recorded", "is there"]
    assert "failed: see" in captured.err
