"""Small copies of training data in the exact formats of publication; every text is a placeholder."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Image, Value

from helpers.published import jailbreakv, picture, picture_bytes, table, write
from helpers.published import mm_safetybench as mm_safetybench_pictures
from helpers.published_text import redteam_2k
from helpers.published_text import truthfulqa as truthfulqa_file

CATEGORIES = (
    "animal_abuse", "child_abuse", "controversial_topics,politics", "discrimination,stereotype,injustice",
    "drug_abuse,weapons,banned_substance", "financial_crime,property_crime,theft", "hate_speech,offensive_language",
    "misinformation_regarding_ethics,laws_and_safety", "non_violent_unethical_behavior", "privacy_violation",
    "self_harm", "sexually_explicit,adult_content", "terrorism,organized_crime",
    "violence,aiding_and_abetting,incitement",
)  # fmt: skip
"""BeaverTails' categories of harm."""


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def packed(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def parquet(path: Path, rows: list[dict[str, Any]], features: Features | None = None) -> None:
    """As `push_to_hub` writes it: the features stand in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(path)


def pku_saferlhf(folder: Path) -> None:
    """Three pairs of two requests, one without an unsafe answer, and one whose unsafe answer is blank."""
    pairs = [("[request 1]", False, True), ("[request 1]", False, False), ("[request 2]", True, False)]
    rows = [
        {
            "prompt": prompt, "response_0": f"[answer {n}.0]", "response_1": f"[answer {n}.1]",
            "is_response_0_safe": first, "is_response_1_safe": second, "better_response_id": 0, "safer_response_id": 1,
        }
        for n, (prompt, first, second) in enumerate([*pairs, ("[request 3]", True, True)])
    ]  # fmt: skip
    rows.append(rows[0] | {"prompt": "[request 4]", "response_0": " "})
    for half in ("train", "test"):
        packed(folder / f"pku_saferlhf/round0/30k/{half}.jsonl.xz", lzma.compress(lines(rows)))


def pku_saferlhf_pairs(folder: Path) -> None:
    """Two pairs of one request, one of another; `response` holds the safe answer first."""
    rows = [
        {"response": [f"[safe {n}]", f"[unsafe {n}]"], "prompt": f"[request {request}]"}
        for n, request in enumerate((1, 2, 1))
    ]
    write(folder / "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json", json.dumps(rows))


def beavertails_30k(folder: Path) -> None:
    """A request with three unsafe answers of one category, which two name behind another, and blank ones; one safe."""

    def row(prompt: str, answer: str, *named: str) -> dict[str, Any]:
        flags = {name: name in named for name in CATEGORIES}
        return {"prompt": prompt, "response": answer, "category": flags, "is_safe": not named}

    rows = [
        row("[request 1]", "[a]", "privacy_violation", "self_harm"),
        row("[request 1]", "[b]", "self_harm", "privacy_violation"),
        row("[request 1]", "[c]", "self_harm"),
        row("[request 1]", "[d]"),
        *[row("[request 1]", blank, "privacy_violation") for blank in ("", " ", "\n")],
        row("[request 2]", "[e]"),
    ]
    for half in ("train", "test"):
        packed(folder / f"beavertails_30k/round0/30k/{half}.jsonl.gz", gzip.compress(lines(rows)))


def llm_lat(folder: Path) -> None:
    rows = [{"prompt": f"[request {n}]", "rejected": f"[harm {n}]", "chosen": f"[no {n}]"} for n in (1, 2)]
    rows.append({"prompt": "[request 3]", "rejected": " ", "chosen": "[no]"})
    parquet(folder / "llm_lat/data/train-00000-of-00001.parquet", rows)
    rows = [{"prompt": f"[wish {n}]", "response": f"[help {n}]", "refusal": "[no]"} for n in (1, 2, 3)]
    parquet(folder / "llm_lat_benign/data/train-00000-of-00001.parquet", rows)


def safeunlearning(folder: Path) -> None:
    """A request with two harmful answers and a refusal, and a normal one, in Vicuna's format."""
    format_ = "A chat between a curious user and an artificial intelligence assistant. USER: {} ASSISTANT:"
    rows = [
        {"input": format_.format("[wish]"), "output": "[help]", "type": 0},
        {"id": 0, "input": format_.format("[request]"), "output": "[harm 1]", "type": 1, "span_label": 0},
        {"id": 1, "input": format_.format("[request]"), "output": "[harm 2]", "type": 1, "span_label": 0},
        {"id": 0, "input": format_.format("[request]"), "output": "[no]", "type": 2},
    ]
    write(folder / "safeunlearning/train.json", json.dumps(rows))


def figstep(folder: Path) -> None:
    columns = "dataset,category_id,task_id,category_name,question,instruction"
    rows = [("F", str(n // 50), str(n % 50), "Fraud", f"[q {n}]", "[i]") for n in range(500)]
    table(folder / "figstep/question/safebench.csv", columns, *rows)
    for n in range(500):
        picture(folder / f"figstep/images/query_F_{n // 50}_{n % 50}_6.png")


def jailbreakv_28k(folder: Path) -> None:
    redteam_2k(folder)
    jailbreakv(folder)


def vlguard(folder: Path) -> None:
    """An unsafe picture, and a safe one with both sorts of words."""
    rows = [
        {
            "id": "a", "image": "bad_ads/a.png", "safe": False, "harmful_category": "deception",
            "harmful_subcategory": "s", "instr-resp": [{"instruction": "[see it]", "response": "[no]"}],
        },
        {
            "id": "b", "image": "memes/b.png", "safe": True,
            "instr-resp": [
                {"safe_instruction": "[wish]", "response": "[help]"},
                {"unsafe_instruction": "[harm]", "response": "[no]"},
            ],
        },
    ]  # fmt: skip
    write(folder / "vlguard/train.json", json.dumps(rows))
    picture(folder / "vlguard/train/bad_ads/a.png")
    picture(folder / "vlguard/train/memes/b.png")


def spa_vl(folder: Path) -> None:
    cells = {name: Value("string") for name in ("question", "chosen", "rejected", "class1", "class2", "class3")}
    rows = [
        {
            "image": {"bytes": picture_bytes(), "path": f"{n}.jpg"}, "image_name": f"{n}.jpg",
            "question": f"[about {n}]", "chosen": f"[no {n}]", "rejected": f"[harm {n}]",
            "class1": "Representation & Toxicity Harms", "class2": "x", "class3": "y",
        }
        for n in (1, 2)
    ]  # fmt: skip
    blank = rows[1] | {"question": "[about 3]", "rejected": ""}
    features = Features({"image": Image(), "image_name": Value("string"), **cells})
    for shard in (0, 1):
        parquet(folder / f"spa_vl/data/train-0000{shard}-of-00008.parquet", [rows[shard], blank][: 1 + shard], features)


def safe_eraser(folder: Path) -> None:
    row = {
        "image_path": "./dataset/images/1.jpg", "SDImage_path": "./dataset/sd/1.jpg",
        "unsafe_pairs": [
            {"question": f"[harm {n}]", "model_response": said, "sd_response": "[s]"}
            for n, said in enumerate(("[how 1]", "[how 2]", " "), start=1)
        ],
        **{f"UnharmPair_{kind}{n}": {"Question": f"[{kind} {n}]", "Prediction": "[help]"}
           for kind in ("text", "image") for n in (1, 2)},
    }  # fmt: skip
    write(folder / "safe_eraser/all_train.json", json.dumps([row]))
    picture(folder / "safe_eraser/images/1.jpg")


def truthfulqa(folder: Path) -> None:
    truthfulqa_file(folder)


def alpaca_cleaned(folder: Path) -> None:
    rows = [
        {"output": "[answer]", "input": "", "instruction": "[wish]"},
        {"output": "[answer]", "input": "[a text]", "instruction": "[sum it up]"},
        {"output": "", "input": "", "instruction": "[no answer]"},
    ]
    write(folder / "alpaca_cleaned/alpaca_data_cleaned.json", json.dumps(rows, indent=4))


def ultrachat(folder: Path) -> None:
    rows = [
        {
            "prompt": f"[wish {n}]", "prompt_id": str(n),
            "messages": [
                {"content": f"[wish {n}]", "role": "user"}, {"content": f"[help {n}]", "role": "assistant"},
                {"content": "[more]", "role": "user"}, {"content": "[again]", "role": "assistant"},
            ],
        }
        for n in (1, 2)
    ]  # fmt: skip
    parquet(folder / "ultrachat/data/train_sft-00000-of-00003-a3ecf92756993583.parquet", rows)


def llava_instruct(folder: Path) -> None:
    row = {
        "id": "000000033471", "image": "000000033471.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\n[what is it]"}, {"from": "gpt", "value": "[a bus]"},
            {"from": "human", "value": "[and there]"}, {"from": "gpt", "value": "[a car]"},
        ],
    }  # fmt: skip
    write(folder / "llava_instruct/llava_instruct_150k.json", json.dumps([row]))
    picture(folder / "coco/train2017/000000033471.jpg")


def vqav2(folder: Path) -> None:
    question = {"image_id": 9, "question": "[how many]", "question_id": 9000}
    annotation = {
        "question_type": "how many", "multiple_choice_answer": "2", "image_id": 9, "answer_type": "number",
        "question_id": 9000,
        "answers": [{"answer": "2", "answer_confidence": "yes", "answer_id": k} for k in range(1, 11)],
    }  # fmt: skip
    name = "vqav2/v2_OpenEnded_mscoco_train2014_questions.json"
    write(folder / name, json.dumps({"info": {}, "questions": [question]}))
    name = "vqav2/v2_mscoco_train2014_annotations.json"
    write(folder / name, json.dumps({"info": {}, "annotations": [annotation]}))
    picture(folder / "coco/train2014/COCO_train2014_000000000009.jpg")


def falsereject(folder: Path) -> None:
    row = {"category": 3, "category_text": "Fraud", "cot_response": {"thought": "[t]", "solution": "[s]"}}
    rows = [
        {"prompt": "[wish 1]", **row, "instruct_response": "[help]"},
        {"prompt": "[wish 2]", **row, "instruct_response": None},
    ]
    packed(folder / "falsereject/train.jsonl", lines(rows))


Make = Callable[[Path], None]
EXPECTED: dict[tuple[str, str], tuple[Make, int, int, int, int]] = {
    ("pku_saferlhf", "train"): (pku_saferlhf, 2, 4, 2, 0),
    ("pku_saferlhf", "test"): (pku_saferlhf, 2, 4, 2, 0),
    ("pku_saferlhf_pairs", "train"): (pku_saferlhf_pairs, 2, 3, 3, 0),
    ("beavertails_30k", "train"): (beavertails_30k, 1, 3, 1, 0),
    ("beavertails_30k", "test"): (beavertails_30k, 1, 3, 1, 0),
    ("llm_lat", "harmful"): (llm_lat, 2, 2, 2, 0),
    ("llm_lat", "benign"): (llm_lat, 3, 0, 3, 0),
    ("safeunlearning", "harmful"): (safeunlearning, 1, 2, 1, 0),
    ("safeunlearning", "benign"): (safeunlearning, 1, 0, 1, 0),
    ("jailbreakv_28k", "questions"): (jailbreakv_28k, 3, 0, 0, 0),
    ("jailbreakv_28k", "attacks"): (jailbreakv_28k, 9, 0, 0, 9),
    ("jailbreakv_28k", "mini"): (jailbreakv_28k, 1, 0, 0, 1),
    ("figstep", "questions"): (figstep, 500, 0, 0, 0),
    ("figstep", "pictures"): (figstep, 500, 0, 0, 500),
    ("mm_safetybench", "questions"): (mm_safetybench_pictures, 13, 0, 0, 0),
    ("mm_safetybench", "typo"): (mm_safetybench_pictures, 13, 0, 0, 13),
    ("mm_safetybench", "sd"): (mm_safetybench_pictures, 13, 0, 0, 13),
    ("mm_safetybench", "sd_typo"): (mm_safetybench_pictures, 13, 0, 0, 13),
    ("vlguard", "unsafe_pictures"): (vlguard, 1, 0, 1, 1),
    ("vlguard", "unsafe_words"): (vlguard, 1, 0, 1, 1),
    ("vlguard", "safe"): (vlguard, 1, 0, 1, 1),
    ("vlguard", "unsafe_words_alone"): (vlguard, 1, 0, 1, 0),
    ("spa_vl", "train"): (spa_vl, 2, 2, 2, 2),
    ("safe_eraser", "forget"): (safe_eraser, 2, 2, 0, 2),
    ("safe_eraser", "retain"): (safe_eraser, 4, 0, 4, 4),
    ("truthfulqa", "published"): (truthfulqa, 1, 0, 1, 0),
    ("alpaca_cleaned", "train"): (alpaca_cleaned, 2, 0, 2, 0),
    ("ultrachat", "train"): (ultrachat, 2, 0, 2, 0),
    ("falsereject", "train"): (falsereject, 2, 0, 1, 0),
    ("llava_instruct", "train"): (llava_instruct, 1, 0, 1, 1),
    ("vqav2", "train"): (vqav2, 1, 0, 1, 1),
}  # fmt: skip
"""Source and split → (writes it, requests, harmful answers, known good answers, pictures)."""
