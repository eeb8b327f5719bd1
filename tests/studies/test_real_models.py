"""Studies of other models than the pocket VLM: settings of each model, another base, and some arms at a time."""

import pytest
import yaml

from helpers.published_sources import CATEGORIES
from unsay.errors import UserError
from unsay.methods import default_settings
from unsay.presets import preset
from unsay.studies.settings import DEMO, StudySettings, packaged, parse_study, read_study
from unsay.studies.study_plan import adjusted, part, plan_study, quickened, rebased

OTHER = "llava-hf/llava-1.5-7b-hf"
FITTED = [name for name in packaged() if read_study(name).base == DEMO]
"""Packaged studies that were fitted to the pocket VLM."""


def study(**more):
    return StudySettings.model_validate(
        {
            "base": {"train": {"steps": 20, "learning_rate": 0.001}},
            "models": ["pocket", "org/other"],
            "arms": {"a": {}, "b": {"settings": {"train": {"learning_rate": 0.5}}}},
            **more,
        }
    )


def configs(made):
    """By model and arm, at equal steps."""
    return {(v.model, v.arm): made.config(v, made.study.seeds[0]) for v in made.variants if v.rule == "steps"}


def test_settings_of_a_model_lie_over_the_studys_and_under_an_arms():
    own = {"org/other": {"train": {"learning_rate": 0.1, "batch": {"forget": 3}}, "device": "cuda"}}
    made = plan_study(study(settings={"train": {"learning_rate": 0.01}}, model_settings=own))
    found = configs(made)
    rates = {key: config.train.learning_rate for key, config in found.items()}
    assert rates == {("pocket", "a"): 0.01, ("pocket", "b"): 0.5, ("org/other", "a"): 0.1, ("org/other", "b"): 0.5}
    assert found["org/other", "b"].train.batch.forget == 3
    assert found["pocket", "b"].train.batch.forget != 3
    assert (made.base_config("org/other").device, made.base_config("pocket").device) == ("cuda", "cpu")


def test_a_study_without_settings_of_models_is_what_it_was():
    plain, empty = plan_study(study()), plan_study(study(model_settings={}))
    assert configs(plain) == configs(empty)
    assert [plain.base_config(model) for model in plain.study.models] == [
        empty.base_config(model) for model in empty.study.models
    ]


def test_quick_and_the_command_line_go_before_settings_of_a_model():
    own = {"org/other": {"device": "cuda", "train": {"batch": {"forget": 8}, "learning_rate": 0.1}}}
    quick = {"settings": {"train": {"batch": {"forget": 2}}, "evaluation": {"limit": 3}}}
    made = plan_study(adjusted(study(model_settings=own, quick=quick), quick=True, device="cuda:1"))
    config = configs(made)["org/other", "a"]
    assert (config.train.batch.forget, config.train.learning_rate) == (2, 0.1)
    assert (config.evaluation.limit, config.device) == (3, "cuda:1")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"org/others": {}}, "model_settings.org/others: unknown model; models: pocket, org/other"),
        ({"pocket": {"evaluation": {"suites": ["advbench"]}}}, "evaluation.suites: is the same for all models"),
        ({"pocket": {"evaluation": {"judge": "rules"}}}, "evaluation.judge: is the same for all models"),
        (
            {"pocket": {"train": {"steps": 3}}},
            "train.steps: is the same for all models; set it in the study's `budget`",
        ),
        ({"pocket": {"seed": 3}}, "seed: is the same for all models; set it in the study's `seeds`"),
    ],
)
def test_what_no_model_has_for_itself_is_refused(own, said):
    values = study().model_dump(mode="json") | {"model_settings": own}
    with pytest.raises(UserError) as found:
        parse_study(yaml.safe_dump(values), "mine.yaml")
    assert said in str(found.value)
    assert str(found.value).startswith("mine.yaml: ")


def test_an_unknown_setting_of_a_model_is_named_with_it():
    with pytest.raises(UserError, match=r"study, model_settings\.pocket: trian: unknown key"):
        plan_study(study(model_settings={"pocket": {"trian": {}}}))
    made = plan_study(study(model_settings={"pocket": {"evaluation": {"generation": {"max_new_tokens": 7}}}}))
    assert configs(made)["pocket", "a"].evaluation.generation.max_new_tokens == 7


def test_examples_of_a_model_are_relative_to_the_study_file(tmp_path):
    values = study(model_settings={"pocket": {"data": {"examples": "rows.jsonl"}}}).model_dump(mode="json")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    found = configs(plan_study(read_study(str(tmp_path / "mine.yaml"))))["pocket", "a"].data.examples
    assert found == (tmp_path / "rows.jsonl").resolve()


@pytest.mark.parametrize("name", FITTED)
def test_no_other_model_is_trained_with_the_demos_settings(name):
    with pytest.raises(UserError) as found:
        plan_study(adjusted(read_study(name), model=OTHER))
    assert str(found.value).startswith(f"study: model '{OTHER}': the base is `demo`")
    assert "--base" in str(found.value)
    plan_study(adjusted(read_study(name), model="pocket", base="demo"))
    own = {OTHER: {"train": {"learning_rate": 0.0001}}}
    plan_study(read_study(name).model_copy(update={"models": (OTHER,), "model_settings": own}))


@pytest.mark.parametrize("small", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("name", FITTED)
def test_with_another_base_nothing_that_was_fitted_to_the_pocket_is_left(name, small):
    base = preset("llava-1.5-7b")
    made = plan_study(adjusted(read_study(name), base="llava-1.5-7b", quick=small))
    assert made.study.models == (OTHER,)
    asked = plan_study(adjusted(read_study(name), quick=small)).base_config("pocket").evaluation.suites
    for (_, arm), config in configs(made).items():
        train = config.train
        assert (config.device, config.model_settings) == (base.device, base.model_settings)
        assert train.learning_rate == base.train.learning_rate
        assert (train.max_prompt_tokens, train.max_answer_tokens) == (
            base.train.max_prompt_tokens, base.train.max_answer_tokens,
        )  # fmt: skip
        assert config.data.answer_tokens == base.data.answer_tokens
        assert config.evaluation.generation == base.evaluation.generation
        assert config.evaluation.suites == asked
        if not small:
            assert (train.batch, train.steps) == (base.train.batch, base.train.steps)
            assert train.checkpoint_every == base.train.checkpoint_every
        assert (train.stop.max_probe_kl is None) == (name == "methods"), arm  # how it compares is the study's own


@pytest.mark.parametrize("name", ["paper", "methods"])
def test_weights_that_arms_share_with_the_reference_follow_the_base(name, tmp_path):
    base = preset("llava-1.5-7b")
    weights = base.method_settings | {"retain_weight": 2.5, "refuse_weight": 1.25, "decision_weight": 0.5}
    values = base.model_copy(update={"method_settings": weights}).model_dump(mode="json", exclude={"train": {"seed"}})
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(values))
    found = {
        arm: config
        for (_, arm), config in configs(plan_study(rebased(read_study(name), str(tmp_path / "mine.yaml")))).items()
    }
    assert found["textual-unlearning"].method_settings == weights
    for arm, config in found.items():
        if config.method in ("rmu", "circuit-breaker", "gradient-ascent", "task-vector", "rep-select"):
            assert config.method_settings == default_settings(config.method).model_dump(mode="json")
        elif arm == "safe-unlearning":
            paper = default_settings(arm).model_dump(mode="json")
            assert config.method_settings == paper | {"retain_weight": 2.5, "decision_weight": 0.5}
        elif arm != "textual-unlearning-raw":
            assert (config.method_settings["retain_weight"], config.method_settings["decision_weight"]) == (2.5, 0.5), (
                arm
            )
            assert config.method_settings.get("refuse_weight", 1.25) == 1.25


def test_the_model_of_a_base_counts_where_none_is_named(tmp_path):
    (tmp_path / "mine.yaml").write_text("model: org/mine\ntrain: {steps: 7}\n")
    path = str(tmp_path / "mine.yaml")
    assert adjusted(read_study("samples"), base=path).models == ("org/mine",)
    assert adjusted(read_study("samples"), base=path, model="org/named").models == ("org/named",)
    assert adjusted(read_study("paper"), base=path).models == ("org/mine",)  # its own was fitted to the demo
    assert rebased(study(), path).models == ("pocket", "org/other")
    assert configs(plan_study(rebased(study(), path)))["pocket", "a"].train.steps == 7


def test_a_base_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--base: unknown 'llava'; known are .*llava-1\.5-7b"):
        rebased(read_study("methods"), "llava")
    with pytest.raises(UserError, match="no such file"):
        rebased(read_study("methods"), str(tmp_path / "none.yaml"))
    (tmp_path / "npo.yaml").write_text("method: npo\n")
    with pytest.raises(UserError, match=r"it trains with npo, the study's own base with textual-unlearning"):
        rebased(read_study("methods"), str(tmp_path / "npo.yaml"))


@pytest.mark.parametrize(
    ("fitted", "said"),
    [
        ({"left_out": ["settings.train.stpe"]}, "fitted.left_out: settings.train.stpe: is not set in this study"),
        ({"shared": ["c"]}, "fitted.shared: unknown arm 'c'"),
    ],
)
def test_what_was_fitted_must_be_there(fitted, said):
    values = study().model_dump(mode="json") | {"fitted": fitted}
    with pytest.raises(UserError, match=said):
        parse_study(yaml.safe_dump(values), "mine.yaml")


def names(made):
    return [variant.name for variant in made.variants]


def test_some_arms_are_runs_of_the_whole_study():
    whole = study(models=["pocket"], arms={"a": {}, "b": {"settings": {"method": "npo"}}, "c": {}}, reference="a")
    made = plan_study(part(whole, ["c", "b"]))
    assert (names(made), made.reference) == (["b@steps", "c@steps"], "b")
    every = configs(plan_study(whole))
    assert all(every[key] == config for key, config in configs(made).items())


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"equal": ["steps", "tokens"], "steps": 9}, ["a@steps", "b@steps", "b@tokens"]),
        ({"equal": ["seconds"], "at_steps": 4}, ["a@steps", "a@seconds", "b@seconds"]),
        ({"equal": ["steps", "tokens"], "tokens": 500}, ["b@steps", "b@tokens"]),
    ],
)
def test_the_reference_comes_along_where_it_measures_a_budget(budget, expected):
    whole = study(models=["pocket"], budget=budget)
    made = plan_study(part(whole, ["b"]))
    assert names(made) == expected
    assert set(expected) <= set(names(plan_study(whole)))


def test_arms_of_a_grid_and_of_quick_can_be_chosen():
    whole = study(models=["pocket"], grid={"methods": ["npo", "dpo"]}, quick={"only": ["npo", "a"]})
    assert names(plan_study(adjusted(whole, arms=" dpo, a,"))) == ["dpo@steps", "a@steps"]
    assert names(plan_study(adjusted(whole, arms="npo", quick=True))) == ["npo@steps"]
    with pytest.raises(UserError, match="--arms: unknown arm 'dpo'; arms: npo, a"):
        adjusted(whole, arms="dpo", quick=True)
    with pytest.raises(UserError, match="--arms: expected names like npo,dpo"):
        adjusted(whole, arms=",")
    assert quickened(whole).arms.keys() == {"npo", "a"}


@pytest.mark.parametrize("smaller", [{"arms": "npo"}, {"quick": True}])
def test_the_study_that_a_part_writes_can_be_read_again(smaller):
    made = adjusted(read_study("methods"), **smaller)
    assert parse_study(yaml.safe_dump(made.model_dump(mode="json")), "study.yaml") == made


def test_the_papers_study_has_its_models_data_and_judge_and_every_arm_the_same_steps():
    made = plan_study(read_study("paper-exact"))
    found = configs(made)
    assert {model for model, _ in found} == {OTHER, "llava-hf/llava-v1.6-mistral-7b-hf"}
    sources = {
        arm: [choice.source for choice in config.data.refuse or config.data.forget]
        for (_, arm), config in found.items()
    }
    assert sources == {
        "textual-unlearning": ["pku_saferlhf"], "text-sft": ["pku_saferlhf"],
        "multimodal-unlearning": ["jailbreakv_28k"], "multimodal-sft": ["vlguard"],
    }  # fmt: skip
    assert {config.train.steps for config in found.values()} == {1000}
    assert {config.evaluation.judge for config in found.values()} == {"llama-guard-3"}
    assert found[OTHER, "multimodal-sft"].method == "refusal-sft"
    assert all(row.source for row in made.study.published)
    small = configs(plan_study(adjusted(read_study("paper-exact"), quick=True)))
    assert {config.evaluation.judge for config in small.values()} == {"probe"}


def test_coverage_has_equally_many_requests_in_every_arm_and_beavertails_names_of_harm():
    found = configs(plan_study(read_study("coverage")))
    named = {arm: config.data.recipe.categories for (_, arm), config in found.items()}
    assert {config.data.forget[0].rows for config in found.values()} == {300}
    assert {arm: 14 if names is None else len(names) for arm, names in named.items()} == {
        "all": 14, "seven": 7, "two": 2, "one": 1, "without-privacy": 13,
    }  # fmt: skip
    assert {name for names in named.values() for name in names or ()} == set(CATEGORIES)
    assert set(named["one"]) < set(named["two"]) < set(named["seven"])
