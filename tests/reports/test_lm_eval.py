"""lm-eval itself on a checkpoint as it is exported; its results stand in the report."""

import json
import os
import subprocess
import sys

from helpers import tiny
from tests.models.test_models import acting
from unsay.config import RunConfig, write_config
from unsay.models import load
from unsay.reports.imports import import_results, imported
from unsay.run.export import export

TASK = """\
task: toy_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc}}]
metadata: {{version: 1}}
"""


def test_lm_eval_runs_on_an_exported_checkpoint(tiny_folder, tmp_path):
    run = tmp_path / "run"
    write_config(run / "config.yaml", RunConfig(model=str(tiny_folder)))
    tiny.save_trained(acting(load(str(tiny_folder))), run)
    export(run, tmp_path / "merged", merge=True)
    rows = tmp_path / "rows.jsonl"
    asked = [("Snow is", ["cold", "loud"], 0), ("A cat says", ["seven", "meow"], 1)]
    rows.write_text(
        "".join(json.dumps(dict(zip(("question", "choices", "answer"), row, strict=True))) + "\n" for row in asked)
    )
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "toy.yaml").write_text(TASK.format(rows=rows))
    options = {
        "--model": "hf-multimodal", "--model_args": f"pretrained={tmp_path / 'merged'},dtype=float32",
        "--include_path": str(tmp_path / "tasks"), "--tasks": "toy_words", "--device": "cpu", "--batch_size": "1",
        "--output_path": str(tmp_path / "results"),
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "lm_eval", *(word for option in options.items() for word in option)],
        check=True, env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    (results,) = (tmp_path / "results").rglob("results*.json")
    import_results(run, results)
    (row,) = [row for row in imported(run) if row.metric == "acc"]
    assert row.harness.startswith("lm-eval 0.")
    assert (row.task, row.n, row.shots) == ("toy_words", 2, 0)
    assert row.value in {0.0, 0.5, 1.0}
