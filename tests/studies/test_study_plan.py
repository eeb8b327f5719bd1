"""Study files: which runs they ask for, with which settings, and what is wrong with bad ones."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.methods import METHODS, default_settings
from unsay.presets import preset
from unsay.studies.settings import (
    StudyDirectory,
    StudySettings,
    folder_name,
    merge_settings,
    packaged,
    parse_study,
    read_study,
)
from unsay.studies.study_plan import CEILING, adjusted, plan_study, quickened
from unsay.suites import find_suite


def study(**more):
    return StudySettings.model_validate(
        {"base": {"train": {"steps": 20}}, "arms": {"a": {}, "b": {"settings": {"method": "refusal-sft"}}}, **more}
    )


def published(**more):
    return {"arm": "a", "measure": "attack_success", "value": "2 %", "about": "a model", "source": "a paper", **more}


def runs(planned):
    return [(variant.name, variant.rules) for variant in planned.variants]


def test_a_grid_is_every_method_with_every_modality():
    made = plan_study(study(grid={"methods": ["textual-unlearning", "refusal-sft"]}, arms={"own": {}}))
    assert runs(made) == [
        ("textual-unlearning@steps", ("steps",)),
        ("refusal-sft@steps", ("steps",)),
        ("own@steps", ("steps",)),
    ]
    assert [made.config(variant, 0).method for variant in made.variants] == [
        "textual-unlearning", "refusal-sft", "textual-unlearning",
    ]  # fmt: skip
    assert made.reference == "textual-unlearning"


def test_a_grid_of_modalities_names_them():
    grid = {"methods": ["refusal-sft"], "modalities": ["text", "typographic", {"text": 0.5, "image": 0.5}]}
    made = plan_study(study(grid=grid, arms={}))
    assert [variant.arm for variant in made.variants] == [
        "refusal-sft-text", "refusal-sft-typographic", "refusal-sft-text+image",
    ]  # fmt: skip
    assert [made.config(variant, 0).data.modality for variant in made.variants[:2]] == ["text", "typographic"]


def test_models_methods_and_seeds_multiply():
    made = plan_study(study(models=["pocket", "org/Other-1B"], seeds=[0, 1]))
    assert [(v.model, v.arm) for v in made.variants] == [
        ("pocket", "a"), ("pocket", "b"), ("org/Other-1B", "a"), ("org/Other-1B", "b"),
    ]  # fmt: skip
    assert made.config(made.variants[2], 1).model == "org/Other-1B"
    assert made.config(made.variants[2], 1).train.seed == 1
    assert StudyDirectory("s").run("org/Other-1B", "a@steps", 1).as_posix() == "s/arms/Other-1B/a@steps/seed-1"


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({"equal": ["steps"]}, [("a@steps", ("steps",)), ("b@steps", ("steps",))]),
        (  # one run of the reference serves all three; everyone else has a run for each
            {"equal": ["steps", "tokens", "seconds"]},
            [("a@steps", ("steps", "tokens", "seconds")), ("b@steps", ("steps",)), ("b@tokens", ("tokens",)),
             ("b@seconds", ("seconds",))],
        ),
        (  # the reference is measured although steps are not asked for
            {"equal": ["tokens"]}, [("a@steps", ("tokens",)), ("b@tokens", ("tokens",))],
        ),
        (  # a number binds the reference too
            {"equal": ["tokens"], "tokens": 500}, [("a@tokens", ("tokens",)), ("b@tokens", ("tokens",))],
        ),
        (  # what it used half-way is no budget that the whole reference met
            {"equal": ["seconds"], "at_steps": 10},
            [("a@steps", ()), ("a@seconds", ("seconds",)), ("b@seconds", ("seconds",))],
        ),
    ],
)  # fmt: skip
def test_each_rule_is_a_run_of_its_own_and_the_reference_is_shared(budget, expected):
    assert runs(plan_study(study(budget=budget))) == expected


def test_the_reference_comes_first_whatever_its_place():
    assert [variant.arm for variant in plan_study(study(reference="b")).variants] == ["b", "a"]


def test_budgets_become_settings_of_the_training():
    made = plan_study(study(budget={"equal": ["steps", "tokens", "seconds"], "steps": 12}))
    by_name = {variant.name: variant for variant in made.variants}
    steps = made.config(by_name["b@steps"], 0).train
    tokens = made.config(by_name["b@tokens"], 0, 5000).train
    seconds = made.config(by_name["b@seconds"], 0, 7.5).train
    assert (steps.steps, steps.max_tokens, steps.max_seconds) == (12, None, None)
    assert (tokens.steps, tokens.max_tokens, tokens.max_seconds) == (12 * CEILING, 5000, None)
    assert (seconds.steps, seconds.max_tokens, seconds.max_seconds) == (12 * CEILING, None, 7.5)


def test_settings_are_merged_by_section_and_mixtures_are_replaced_whole():
    under = {"train": {"steps": 5, "retain_mix": {"plain": 1.0}, "batch": {"forget": 2}}, "seed": 1}
    over = {"train": {"retain_mix": {"magpie": 0.5}, "batch": {"retain": 3}}}
    assert merge_settings(under, over) == {
        "train": {"steps": 5, "retain_mix": {"magpie": 0.5}, "batch": {"forget": 2, "retain": 3}},
        "seed": 1,
    }


def test_settings_of_a_method_do_not_reach_another():
    base = {"method": "textual-unlearning", "method_settings": {"forget_weight": 0.7, "retain_weight": 1.5}}
    same = merge_settings(base, {"method_settings": {"retain_weight": 2.0}})
    assert same["method_settings"] == {"forget_weight": 0.7, "retain_weight": 2.0}
    other = RunConfig.model_validate(
        merge_settings(base, {"method": "refusal-sft", "method_settings": {"refuse_weight": 3}})
    )
    assert other.method_settings == {**default_settings("refusal-sft").model_dump(), "refuse_weight": 3.0}


def test_settings_of_a_judge_do_not_reach_another():
    base = {"evaluation": {"judge": "endpoint", "judge_settings": {"url": "http://localhost:1/v1", "model": "m"}}}
    other = RunConfig.model_validate(merge_settings(base, {"evaluation": {"judge": "rules", "limit": 3}})).evaluation
    assert (other.judge, other.judge_settings, other.limit) == ("rules", {"fluency": False}, 3)
    for same in ({"judge": "endpoint"}, {"limit": 3}):
        assert merge_settings(base, {"evaluation": same})["evaluation"] == {**base["evaluation"], **same}
    own = {"judge": "rules", "judge_settings": {"fluency": True}}
    assert merge_settings(base, {"evaluation": own})["evaluation"] == own
    assert merge_settings({"evaluation": own}, {"evaluation": {"judge": "probe"}})["evaluation"] == {"judge": "probe"}


def test_quick_makes_a_study_smaller():
    small = quickened(
        study(
            seeds=[0, 1, 2],
            settings={"evaluation": {"limit": 40}},
            quick={"seeds": [0], "steps": 4, "only": ["b"], "settings": {"evaluation": {"judge": "rules"}}},
        )
    )
    made = plan_study(small)
    assert runs(made) == [("b@steps", ("steps",))]
    config = made.config(made.variants[0], 0)
    assert (small.seeds, config.train.steps, config.evaluation.limit, config.evaluation.judge) == ((0,), 4, 40, "rules")


def test_quick_makes_every_budget_smaller():
    budget = {"equal": ["tokens", "seconds"], "steps": 36, "tokens": 70000, "seconds": 90.0, "at_steps": 18}
    few = {"steps": 8, "tokens": 900, "seconds": 2.5, "at_steps": 4}
    assert quickened(study(budget=budget, quick=few)).budget.model_dump() == {"equal": ("tokens", "seconds"), **few}
    assert quickened(study(budget=budget)).budget.model_dump() == {**budget, "equal": ("tokens", "seconds")}


@pytest.mark.parametrize(
    ("quick", "said"),
    [
        ({"steps": 8}, "study: budget.at_steps: 18 is more than quick.steps, 8; give a lower quick.at_steps"),
        (
            {"steps": 8, "at_steps": 9},
            "study: quick.at_steps: 9 is more than quick.steps, 8; give a lower quick.at_steps",
        ),
    ],
)
def test_half_way_of_more_steps_than_quick_has_is_refused(quick, said):
    with pytest.raises(UserError) as found:
        quickened(study(budget={"equal": ["tokens"], "at_steps": 18}, quick=quick))
    assert str(found.value) == said


def test_the_command_line_has_the_last_word():
    made = adjusted(study(seeds=[0, 1]), model="folder/mine", seeds="3, 5", device="cuda:1")
    assert (made.models, made.seeds) == (("folder/mine",), (3, 5))
    assert plan_study(made).config(plan_study(made).variants[0], 3).device == "cuda:1"
    for wrong, needle in (
        ("x", "whole numbers"), ("1,1", "given twice"), ("0,-1", "at least 0"), (str(2**63), r"below 2\*\*63"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=needle):
            adjusted(study(), seeds=wrong)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected a study"),
        ("[1]", "expected a study"),
        ("1: 2", "expected a study"),
        ("title: x", "a study needs arms"),
        ("arms: {A b: {}}", "arms: a name has lower-case letters, digits and . + _ - only, 60 at most"),
        ("arms: {no: {}}", "arms: YAML reads a name as false and not as a word: quote it"),
        ("arms: {a: }", "arms.a: expected `key: value` lines, or {}"),
        ("arms: {a: {}}\nmodels: x", "models: expected a list: [a, b]"),
        ("arms: {a: {}}\nseed: 3", "seed: unknown key"),
        ("arms: {a: {}}\nseeds: [1, 1]", "mine.yaml: seeds: has the same value twice"),
        ("arms: {a: {}}\nbudget: {equal: [euros]}", "budget.equal.0"),
        ("arms: {a: {}}\nbudget: {steps: 0}", "budget.steps"),
        ("arms: {a: {}}\nseeds: [0, -1]", "seeds.1: Input should be greater than or equal to 0"),
        ("arms: {a: {}}\nquick: {seeds: [9223372036854775808]}", "quick.seeds.0: Input should be less than"),
        ("arms: [\n", ":2: not YAML"),
        ("when: 2020-13-45", "not readable YAML"),
    ],
)
def test_a_bad_study_file_is_named(text, said):
    with pytest.raises(UserError) as found:
        parse_study(text, "mine.yaml")
    assert str(found.value).startswith("mine.yaml")
    assert said in str(found.value)
    assert "\n" not in str(found.value)


@given(st.text())
def test_any_text_is_a_study_or_one_line(text):
    try:
        parse_study(text, "mine.yaml")
    except UserError as error:
        assert str(error).startswith("mine.yaml")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"reference": "c"}, "reference: unknown arm 'c'; arms: a, b"),
        ({"arms": {"a": {"settings": {"method": "magic"}}}}, "arm 'a': method: unknown 'magic'"),
        ({"arms": {"a": {"settings": {"trian": {}}}}}, "arm 'a': trian: unknown key"),
        ({"base": "none"}, "preset: unknown 'none'"),
        ({"grid": {"methods": ["a"]}}, "the grid has an arm of that name"),
        ({"models": ["x/m", "y/m"]}, "same last part"),
        ({"settings": {"device": "gpu"}}, "base or settings: device: 'gpu' cannot be used here: "),
        ({"base": {"train": {"stepss": 3}}}, "base or settings: train.stepss: unknown key"),
        ({"arms": {"a": {"title": "One"}, "b": {"title": "One"}}}, "arms.b: 'One' is also the title of arm 'a'"),
        ({"published": [published(arm="c")]}, "published.0.arm: unknown arm 'c'; arms: a, b"),
        ({"published": [published(), published(measure="asr")]}, "published.1.measure: unknown 'asr'; known: "),
        ({"published": [published(measure="advbench")]}, "published.0.measure: unknown 'advbench'"),
        ({"arms": {"a": {}, "b": {"settings": {"device": "cuda:x"}}}}, "arm 'b': device: 'cuda:x' cannot be used here"),
        ({"arms": {"a": {"settings": {"method_settings": 3}}}}, "arm 'a': method_settings"),
        ({"arms": {"a": {"settings": {"train": None}}}}, "arm 'a': train: "),
        ({"settings": {"train": 5}}, "base or settings: train: "),
        (
            {"settings": {"evaluation": {"responder": {"url": "http://localhost:1/v1", "model": "m"}}}},
            "arm 'a': evaluation.responder: a server cannot answer for an arm",
        ),
    ],
)
def test_bad_arms_are_named_before_anything_is_run(more, said):
    with pytest.raises(UserError) as found:
        plan_study(study(**more))
    assert said in str(found.value)


def test_the_model_is_the_bases_where_the_study_names_none():
    assert study().models == ("pocket",)
    assert study(base={"model": "org/mine"}).models == ("org/mine",)
    assert study(base="demo").models == (preset("demo").model,) == ("pocket-1",)
    assert study(base="demo", models=["pocket"]).models == ("pocket",)


def test_an_arm_that_quick_names_must_be_there():
    with pytest.raises(UserError, match=r"quick\.only: unknown arm 'c'"):
        quickened(study(quick={"only": ["c"]}))
    with pytest.raises(UserError, match=r"quick\.only: leaves out the reference, 'a'; add it"):
        quickened(study(reference="a", quick={"only": ["b"]}))


def test_published_numbers_go_with_their_arms():
    some = study(published=[published(), published(arm="b"), published(arm="original")])
    assert [row.arm for row in adjusted(some, arms="b").published] == ["b", "original"]
    assert plan_study(adjusted(some, arms="b")).reference == "b"


def test_one_problem_of_a_list_is_said_once():
    with pytest.raises(UserError) as found:
        parse_study("arms: {a: {}}\nseeds: [-1]", "mine.yaml")
    assert str(found.value) == "mine.yaml: seeds.0: Input should be greater than or equal to 0"


@pytest.mark.parametrize("small", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("name", packaged())
def test_every_packaged_study_is_valid(name, small):
    made = plan_study(quickened(read_study(name)) if small else read_study(name))
    assert made.variants
    assert made.study.title
    for variant in made.variants:
        made.config(variant, made.study.seeds[0], 1000)


def test_the_packaged_studies_are_those_of_the_issue():
    assert set(packaged()) == {"paper", "paper-exact", "methods", "coverage", "samples", "mixture", "robust"}
    rules = plan_study(read_study("paper")).variants
    assert {variant.arm for variant in rules} == {
        "textual-unlearning", "multimodal-unlearning", "text-sft", "multimodal-sft",
    }  # fmt: skip
    assert len(rules) == 1 + 3 * 3


@pytest.mark.parametrize("small", [False, True], ids=["full", "quick"])
def test_fine_tuning_is_the_reference_without_its_forget_term(small):
    made = plan_study(quickened(read_study("paper")) if small else read_study("paper"))
    methods = {v.arm: (made.config(v, 0).method, made.config(v, 0).method_settings) for v in made.variants}
    reference = methods["textual-unlearning"][1]
    assert reference == preset("demo").method_settings
    assert methods["multimodal-unlearning"] == ("textual-unlearning", reference)
    shared = {name: reference[name] for name in default_settings("refusal-sft").model_dump()}
    tuned = {name: found for name, found in methods.items() if name.endswith("-sft")}
    assert set(tuned) == ({"text-sft"} if small else {"text-sft", "multimodal-sft"})
    assert all(found == ("refusal-sft", shared) for found in tuned.values())


@pytest.mark.parametrize("small", [False, True], ids=["full", "quick"])
def test_every_method_has_the_references_anchors_and_its_weight_on_refusals(small):
    made = plan_study(quickened(read_study("methods")) if small else read_study("methods"))
    configs = {variant.arm: made.config(variant, 0) for variant in made.variants}
    raw = configs.pop("textual-unlearning-raw")
    assert {name: config.method for name, config in configs.items()} == {name: name for name in configs}
    elsewhere = {"rep-select"}  # in `robust`, whose question is its own
    packaged = {name for name, entry in METHODS.items() if entry.version is not None} - elsewhere
    assert set(configs) < packaged if small else set(configs) == packaged
    reference = preset("demo").method_settings
    assert configs["textual-unlearning"].method_settings == reference
    for name, config in configs.items():
        if name in ("rmu", "circuit-breaker"):
            continue  # their `retain_weight` is that of a distance between hidden states
        own = default_settings(name).model_dump(mode="json")
        shared = {"retain_weight", "decision_weight", "refuse_weight"} & set(own)
        assert {key: config.method_settings[key] for key in shared} == {key: reference[key] for key in shared}, name
        if name not in ("textual-unlearning", "safe-unlearning"):
            assert config.method_settings == {**own, **{key: reference[key] for key in shared}}, name
    ours = configs["safe-unlearning"].method_settings
    paper = default_settings("safe-unlearning").model_dump()
    ratios = [weights["forget_weight"] / weights["refuse_weight"] for weights in (ours, paper)]
    assert ratios[0] == pytest.approx(ratios[1])
    assert raw.method == "textual-unlearning"
    assert raw.method_settings == {**default_settings("textual-unlearning").model_dump(), "forget_cap": None}
    assert {config.train.stop.max_probe_kl for config in (raw, *configs.values())} == {None}  # collapse is shown


@pytest.mark.parametrize("small", [False, True], ids=["full", "quick"])
def test_the_mixture_is_chosen_on_development_suites_and_sees_no_harmful_picture(small):
    made = plan_study(quickened(read_study("mixture")) if small else read_study("mixture"))
    assert made.study.base == "demo"
    configs = {variant.arm: made.config(variant, 0) for variant in made.variants}
    for config in configs.values():
        assert all(suite.startswith("dev-") and find_suite(suite) is not None for suite in config.evaluation.suites)
        assert config.data.modality == "text"
    assert configs["textual-unlearning"].method_settings == preset("demo").method_settings
    weights = {name: config.method_settings["decision_weight"] for name, config in configs.items()}
    demo = preset("demo").method_settings
    ours = demo["decision_weight"]
    assert (weights.pop("decision-half"), weights.pop("decision-double")) == (ours / 2, ours * 2)
    assert set(weights.values()) == {ours}
    assert {config.method_settings["retain_weight"] for config in configs.values()} == {demo["retain_weight"]}
    assert configs["npo-refusals"].method_settings["refuse_weight"] == demo["refuse_weight"]


def test_an_unknown_study_says_what_there_is(tmp_path):
    with pytest.raises(
        UserError, match="unknown 'papers'; known are coverage, methods, mixture, paper-exact, paper, robust"
    ):
        read_study("papers")
    with pytest.raises(UserError, match="no such file"):
        read_study(str(tmp_path / "none.yaml"))


def test_examples_in_a_study_file_are_relative_to_it(tmp_path):
    path = tmp_path / "mine.yaml"
    arms = {"a": {}, "b": {"settings": {"data": {"examples": "other.jsonl"}}}}
    quick = {"settings": {"data": {"examples": "few.jsonl"}}}
    path.write_text(yaml.safe_dump({"base": {"data": {"examples": "rows.jsonl"}}, "arms": arms, "quick": quick}))
    read = read_study(str(path))
    for chosen, names in ((read, ("rows.jsonl", "other.jsonl")), (quickened(read), ("few.jsonl", "other.jsonl"))):
        made = plan_study(chosen)
        assert [str(made.config(variant, 0).data.examples) for variant in made.variants] == [
            str(tmp_path.resolve() / name) for name in names
        ]


@pytest.mark.parametrize(
    ("model", "name"), [("pocket", "pocket"), ("org/Model-7B", "Model-7B"), ("/a/b c/", "b-c"), ("/", "model")]
)
def test_folders_of_models(model, name):
    assert folder_name(model) == name


@pytest.mark.parametrize(
    ("settings", "needle"),
    [
        ({"model": "org/other"}, "model: is the same for all arms; set it in the study's `models`"),
        ({"seed": 3}, "seed: is the same for all arms; set it in the study's `seeds`"),
        ({"evaluation": {"judge": "rules"}}, "evaluation: is the same for all arms; set it in the study's `settings`"),
        ({"train": {"steps": 9}}, r"train\.steps: is the same for all arms; set it in the study's `budget`"),
        ({"train": {"max_tokens": 9}}, r"train\.max_tokens: is the same"),
        ({"train": {"max_seconds": 9.0}}, r"train\.max_seconds: is the same"),
    ],
)
def test_what_the_arms_have_in_common_no_arm_changes(settings, needle):
    with pytest.raises(UserError, match=f"arm 'b': {needle}"):
        plan_study(study(arms={"a": {}, "b": {"settings": settings}}))


@pytest.mark.parametrize(
    ("more", "needle"),
    [
        ({"settings": {"train": {"max_tokens": 500}}}, r"train\.max_tokens: set budget\.tokens of the study instead"),
        ({"budget": {"steps": 5, "at_steps": 6}}, r"budget\.at_steps: 6 is more than budget\.steps, 5"),
        ({"budget": {"at_steps": 21}}, r"budget\.at_steps: 21 is more than train\.steps, 20"),
        ({"grid": {"methods": ["npo", "npo"]}}, "grid: two arms are npo"),
        (
            {"grid": {"methods": ["npo"], "modalities": [{"text": 0.8, "image": 0.2}, {"text": 0.5, "image": 0.5}]}},
            r"grid: two arms are npo-text\+image",
        ),
        ({"grid": {"methods": ["npo"]}, "arms": {"npo": {}}}, r"arms\.npo: the grid has an arm of that name"),
    ],
)
def test_a_study_that_would_not_compare_what_it_says_is_refused(more, needle):
    with pytest.raises(UserError, match=needle):
        plan_study(study(**more))


def test_an_arm_with_the_name_of_a_grid_of_one_modality_and_an_ending_is_another():
    made = plan_study(study(grid={"methods": ["npo"]}, arms={"npo-text": {}}))
    assert [variant.arm for variant in made.variants] == ["npo", "npo-text"]


@pytest.mark.parametrize("more", [{"arms": {"original": {}}}, {"quick": {"seeds": [0, 0]}}])
def test_names_and_seeds_that_stand_for_something_else_are_refused(more):
    with pytest.raises(UserError, match=r"is the name of the original model|quick\.seeds: has the same value twice"):
        parse_study(yaml.safe_dump({"arms": {"a": {}}, **more}), "study.yaml")
