"""lm-eval itself on a checkpoint as it is exported, in words and with pictures; its results stand in the report."""

import json
import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from helpers import tiny
from tests.models.test_models import acting
from unsay.config import RunConfig, write_config
from unsay.models import load
from unsay.reports.imports import import_results, imported
from unsay.run.export import export

WORDS = """\
task: toy_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/words.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}]
metadata: {{version: 1}}
"""
PICTURES = """\
task: toy_pictures
dataset_path: imagefolder
dataset_kwargs: {{data_dir: {folder}/pictures}}
test_split: train
output_type: generate_until
doc_to_image: [image]
doc_to_text: "<image> {{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{max_gen_toks: 3, until: ["\\n"]}}
metric_list: [{{metric: exact_match}}]
metadata: {{version: 1}}
"""


def write_tasks(folder: Path) -> None:
    """Two tasks with two items each, in lm-eval's own format; the second shows a picture."""
    (folder / "tasks").mkdir()
    (folder / "tasks/words.yaml").write_text(WORDS.format(folder=folder))
    (folder / "tasks/pictures.yaml").write_text(PICTURES.format(folder=folder))
    write_lines(
        folder / "words.jsonl",
        [
            {"question": "Snow is", "choices": ["cold", "loud"], "answer": 0},
            {"question": "A cat says", "choices": ["seven", "meow"], "answer": 1},
        ],
    )
    (folder / "pictures").mkdir()
    colours = ("red", "blue")
    for colour in colours:
        Image.new("RGB", (32, 32), colour).save(folder / f"pictures/{colour}.png")
    asked = [{"file_name": f"{name}.png", "question": "Which colour is it?", "answer": name} for name in colours]
    write_lines(folder / "pictures/metadata.jsonl", asked)


def write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_lm_eval_runs_on_an_exported_checkpoint(tiny_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_config(run / "config.yaml", RunConfig(model=str(tiny_folder)))
    tiny.save_trained(acting(load(str(tiny_folder))), run)
    export(run, tmp_path / "merged", merge=True)
    write_tasks(tmp_path)
    options = {
        "--model": "hf-multimodal", "--model_args": f"pretrained={tmp_path / 'merged'},dtype=float32",
        "--include_path": str(tmp_path / "tasks"), "--tasks": "toy_words,toy_pictures", "--device": "cpu",
        "--batch_size": "1", "--output_path": str(tmp_path / "results"),
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "lm_eval", *(word for option in options.items() for word in option),
         "--apply_chat_template"],
        check=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    (results,) = (tmp_path / "results").rglob("results*.json")
    import_results(run, results)
    rows = {(row.task, row.metric): row for row in imported(run)}
    for name in (("toy_words", "acc"), ("toy_pictures", "exact_match")):
        assert rows[name].harness.startswith("lm-eval 0.")
        assert (rows[name].n, rows[name].shots) == (2, 0)
        assert rows[name].value in {0.0, 0.5, 1.0}
