"""What a run is cautioned of beside its numbers stands in its scores as that, and fails no evaluation that is done."""

import json

from tests.models.test_models import acting
from unsay import api
from unsay.config import parse_config
from unsay.errors import UserError
from unsay.models import load, save_adapter
from unsay.records import Phase
from unsay.scoring import read_scores


def test_a_model_that_is_gone_when_all_is_answered_costs_no_evaluation(tiny_folder, tmp_path, monkeypatch):
    """Its cache may have been cleared; and a comparison says it, too."""

    def gone(model):
        raise UserError(f"{model}: its configuration cannot be read")

    monkeypatch.setattr("unsay.run.cautions.bare", gone)
    monkeypatch.delattr("unsay.judges.rules.RulesJudge.accuracy", raising=False)
    questions = tmp_path / "mine.jsonl"
    questions.write_text(json.dumps({"id": "1", "prompt": "[words]", "image": None, "kind": "attack"}) + "\n")
    settings = parse_config(
        f"model: {tiny_folder}\nevaluation: {{judge: rules, suites: [], generation: {{max_new_tokens: 4}}}}\n", "test"
    )
    save_adapter(acting(load(str(tiny_folder))), tmp_path / "lora")
    api.evaluate(settings, tmp_path / "run", adapter=tmp_path / "lora", suite_file=questions)
    warnings = read_scores(tmp_path / "run" / "scores.json").warnings
    (said,) = [row for row in warnings if row.phase is not None]
    assert said.text.startswith("It is not known whether the adapter changes the vision side of the model, too")
    assert (said.severe, said.phase) == (False, Phase.AFTER)
    assert str(tiny_folder) not in said.text
    both = api.compare(f"{tmp_path / 'run'}:before", tmp_path / "run", tmp_path / "out")
    assert [row.text.endswith(f"lora: {said.text}") for row in both.warnings if row.phase is not None] == [True]
