"""More small files in the exact formats of publication: the benchmarks of requests in words, and two with pictures."""

import json
from pathlib import Path

from helpers.published import falsereject, oktest, picture, table, write


def harmbench(folder: Path) -> None:
    columns = "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID"
    table(
        folder / "harmbench/harmbench_behaviors_text_all.csv", columns,
        ("[request 1]", "standard", "illegal", "", "", "b1"), ("[request 2]", "standard", "cybercrime", "", "", "b2"),
        ("[request 3]", "contextual", "illegal", "context", "[context]", "b3"),
        ("[request 4]", "copyright", "copyright", "book", "", "b4"),
    )  # fmt: skip


def jailbreakbench(folder: Path) -> None:
    """Twins by their Index, which is not their order."""
    columns = "Index,Goal,Target,Behavior,Category,Source"
    table(
        folder / "jailbreakbench/jbb_harmful-behaviors.csv", columns,
        ("0", "[request 1]", "[harmful start 1]", "b", "Fraud", "Original"),
        ("1", "[request 2]", "[harmful start 2]", "b", "Malware", "Original"),
    )  # fmt: skip
    table(
        folder / "jailbreakbench/jbb_benign-behaviors.csv", columns,
        ("1", "[twin 2]", "[start 2]", "b", "Malware", "Original"),
        ("0", "[twin 1]", "[start 1]", "b", "Fraud", "Original"),
    )  # fmt: skip


def redteam_2k(folder: Path) -> None:
    table(
        folder / "jailbreakv_28k/RedTeam_2K.csv", "id,question,policy,from",
        ("1", "[request 1]", "Fraud", "GPT"), ("2", "[request 2]", "Bias", "GPT"), ("3", "[request 1]", "Fraud", "x"),
    )  # fmt: skip


def beavertails(folder: Path) -> None:
    rows = [{"prompt": f"[request {n}]", "category": "privacy", "category_id": 3} for n in (1, 2)]
    write(folder / "beavertails/BeaverTails-Evaluation.json", json.dumps(rows))


def pku_saferlhf(folder: Path) -> None:
    """Three pairs of two prompts."""
    rows = [{"prompt": f"[request {n}]", "chosen": "[safe]", "rejected": "[harmful]"} for n in (1, 2, 1)]
    write(folder / "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json", json.dumps(rows))


def msts(folder: Path) -> None:
    table(
        folder / "msts/english_textonly.csv", "hazard_category,prompt_id,case_id,prompt_text,prompt_type",
        ("vcr_murder", "p1", "c1", "[request 1]", "should_i"), ("ssh_suicide", "p2", "c2", "[request 2]", "how_do_i"),
    )  # fmt: skip


def figstep_benign(folder: Path) -> None:
    table(folder / "figstep/benign/benign_questions.csv", "question", ("[request 1]",), ("[request 2]",))


def figstep_questions(folder: Path) -> None:
    columns = "dataset,category_id,task_id,category_name,question,instruction"
    rows = [("F", str(n // 50), str(n % 50), f"T{n // 50}", f"[q {n}]", f"[statement {n}]") for n in range(500)]
    table(folder / "figstep/question/safebench.csv", columns, *rows)


def figstep(folder: Path) -> None:
    figstep_questions(folder)
    for n in range(500):
        picture(folder / f"figstep/images/query_F_{n // 50}_{n % 50}_6.png")


def xstest(folder: Path) -> None:
    safe = [(str(n), f"[safe {n}]", "homonyms", "safe", "", "") for n in range(250)]
    unsafe = [(str(n), f"[unsafe {n}]", "contrast_homonyms", "unsafe", "", "") for n in range(250, 450)]
    table(folder / "xstest/xstest_prompts.csv", "id,prompt,type,label,focus,note", *safe, *unsafe)


def development(folder: Path) -> None:
    """The public development sets, and the reported sets that they keep clear of; `[request n]` is reported."""
    for make in (beavertails, redteam_2k, oktest, falsereject, figstep_questions, xstest):
        make(folder)
    columns = "Index,Goal,Target,Behavior,Category,Source"
    for name, goal in (("harmful", "deed"), ("benign", "favour")):
        rows = [
            (str(n), text, "", "", "Fraud", "") for n, text in enumerate((f"[{goal} 1]", "[Request: 2]", "[deed 3]"))
        ]
        table(folder / f"jailbreakbench/jbb_{name}-behaviors.csv", columns, *rows)
    table(
        folder / "msts/english_textonly.csv", "hazard_category,prompt_id,case_id,prompt_text,prompt_type",
        ("vcr_murder", "p1", "c1", "[request 1]", "should_i"), ("ssh_suicide", "p2", "c2", "[wish 2]", "how_do_i"),
    )  # fmt: skip
    table(folder / "figstep/benign/benign_questions.csv", "question", ("[question 1]",), ("[request 2]",))


def scienceqa_250(folder: Path) -> None:
    row = {
        "image_path": "images/1.png", "label": "B",
        "prompt": "Question: [question]\nChoices: (A) [one] (B) [two, and more] (C) [three]\nAnswer:",
    }  # fmt: skip
    write(folder / "scienceqa/scienceqa_250.json", json.dumps({"7": row}))
    picture(folder / "scienceqa/images/1.png")


def llava_bench(folder: Path) -> None:
    """Two questions about one picture; the files are in different orders."""
    questions = [{"question_id": n, "image": "001.jpg", "category": "conv", "text": f"[question {n}]"} for n in (0, 1)]
    answers = [{"question_id": n, "text": f"[answer {n}]", "answer_id": "x", "model_id": "gpt4"} for n in (1, 0)]
    captions = [{"id": "001", "image": "001.jpg", "caption": "[caption]"}]
    for name, rows in (("questions", questions), ("answers_gpt4", answers), ("context", captions)):
        write(folder / f"llava_bench/{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    picture(folder / "llava_bench/images/001.jpg")


def truthfulqa(folder: Path) -> None:
    columns = "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source"
    row = ("x", "Law", "[question]", "[best]", "[best]; [other].;[best]", "[false 1]; [false 2]; [best]", "url")
    table(folder / "truthfulqa/TruthfulQA.csv", columns, row)


EXPECTED = {
    # suite: (how its files are made, prompts, distinct requests)
    "harmbench": (harmbench, 2, 2),
    "harmbench-contextual": (harmbench, 1, 1),
    "jailbreakbench": (jailbreakbench, 2, 2),
    "jailbreakbench-second-turn": (jailbreakbench, 2, 2),
    "jailbreakbench-benign": (jailbreakbench, 2, 2),
    "redteam-2k": (redteam_2k, 3, 2),
    "beavertails": (beavertails, 2, 2),
    "pku-saferlhf": (pku_saferlhf, 2, 2),
    "msts": (msts, 2, 2),
    "figstep-benign": (figstep_benign, 2, 2),
    "figstep-benign-figstep": (figstep_benign, 2, 2),
    "figstep": (figstep, 500, 500),
    "figstep-original": (figstep, 500, 500),
    "xstest-safe": (xstest, 250, 250),
    "scienceqa-250": (scienceqa_250, 1, 1),
    "llava-bench": (llava_bench, 2, 1),
    "truthfulqa-mc1": (truthfulqa, 1, 1),
    "truthfulqa-mc2": (truthfulqa, 1, 1),
}
