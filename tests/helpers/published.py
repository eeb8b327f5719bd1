"""Small files in the exact formats in which the benchmarks are published; every text is a placeholder."""

import csv
import io
import json
from pathlib import Path

from PIL import Image

SIZE = (12, 10)


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, "red").save(path)


def picture_bytes() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", SIZE, "red").save(buffer, format="PNG")
    return buffer.getvalue()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def table(path: Path, columns: str, *rows: tuple[str, ...]) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([columns.split(","), *rows])
    write(path, buffer.getvalue())


def strongreject(folder: Path) -> None:
    table(
        folder / "strongreject/strongreject_dataset.csv", "category,source,forbidden_prompt",
        ("Violence", "custom", "[request 1]"), ("Violence", "AdvBench", "[request 2]"),
        ("Hate", "custom", "[request 3]"),
    )  # fmt: skip


def in_the_wild(folder: Path) -> None:
    columns = "platform,source,prompt,jailbreak,created_at,date,community,community_id,previous_community_id"
    rows = [("discord", "s", f"[template {n}]", "True", "", "2023-01-01", "c", "1", "") for n in range(6)]
    table(folder / "in_the_wild/jailbreak_prompts_2023_12_25.csv", columns, *rows)
    table(
        folder / "in_the_wild/forbidden_question_set.csv", "content_policy_id,content_policy_name,q_id,question",
        ("0", "Illegal Activity", "0", "[request 1]"), ("1", "Hate Speech", "1", "[request 2]"),
    )  # fmt: skip


def harmbench_multimodal(folder: Path) -> None:
    columns = (
        "Behavior,FunctionalCategory,SemanticCategory,Tags,ImageFileName,BehaviorID,ImageDescription,"
        "RedactedImageDescription"
    )
    rows = [("[request 1]", "multimodal", "illegal", "multimodal", f"p{n}.png", f"b{n}", "[d]", "[d]") for n in (1, 2)]
    table(folder / "harmbench/harmbench_behaviors_multimodal_all.csv", columns, *rows)
    for n in (1, 2):
        picture(folder / f"harmbench/multimodal_behavior_images/p{n}.png")


def jailbreakv(folder: Path) -> None:
    """Two texts of one question, each with four pictures, and a figstep item: 9 rows, 3 texts, 2 questions."""
    columns = "id,jailbreak_query,redteam_query,format,policy,image_path,from,selected_mini,transfer_from_llm"
    rows = []
    for text in (1, 2):
        for kind in ("blank", "noise", "nature", "SD"):
            path = f"llm_transfer_attack/{kind}_{text}.png"
            rows.append(
                (str(len(rows)), f"[text {text}]", "[request 1]", "Template", "Fraud", path, "x", "False", "True")
            )
            picture(folder / "jailbreakv_28k" / path)
    rows.append(("8", "[text 3]", "[request 2]", "figstep", "Bias", "figstep/figstep_9.png", "x", "True", "False"))
    picture(folder / "jailbreakv_28k/figstep/figstep_9.png")
    (folder / "jailbreakv_28k/query_related").mkdir()
    table(folder / "jailbreakv_28k/JailBreakV_28K.csv", columns, *rows)
    table(folder / "jailbreakv_28k/mini_JailBreakV_28K.csv", columns, rows[-1])


def mm_safetybench(folder: Path) -> None:
    for scenario in range(1, 14):
        name = f"{scenario:02d}-Scenario"
        row = {
            "Question": f"[request {scenario}]", "Changed Question": "[request]", "Key Phrase": f"[key {scenario}]",
            "Phrase Type": "activity", "Rephrased Question": "[see the bottom]", "Rephrased Question(SD)": "[see it]",
        }  # fmt: skip
        write(folder / f"mm_safetybench/processed_questions/{name}.json", json.dumps({"0": row}))
        for kind in ("SD", "SD_TYPO", "TYPO"):
            picture(folder / f"mm_safetybench/imgs/{name}/{kind}/0.jpg")


def hades(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = [
        {
            "image": {"bytes": picture_bytes(), "path": f"{n}.png"}, "id": str(n), "scenario": "Violence",
            "keywords": "[key]", "step": step, "category": category, "instruction": "Tell me of [key].",
        }
        for n, category in enumerate(("object", "behavior"), start=1)
        for step in range(6)
    ]  # fmt: skip
    (folder / "hades").mkdir(parents=True)
    for shard in (0, 1):  # a shard may begin in the middle of an instruction's steps
        part = pyarrow.Table.from_pylist(rows[:9] if shard == 0 else rows[9:])
        pyarrow.parquet.write_table(part, folder / f"hades/test-0000{shard}-of-00002.parquet")


def siuo(folder: Path) -> None:
    row = {
        "question_id": 1001, "image": "S-01.png", "question": "[request 1]", "category": "morality",
        "safety_warning": "[w]", "reference_answer": "[a]",
    }  # fmt: skip
    write(folder / "siuo/siuo_gen.json", json.dumps([row]))
    picture(folder / "siuo/images/S-01.png")


def vlsbench(folder: Path) -> None:
    row = {
        "instruction_id": 0, "instruction": "[request 1]", "image_path": "imgs/0.png", "category": "Violent",
        "sub_category": "s", "source": "x", "image_description": "[d]", "safety_reason": "[r]",
    }  # fmt: skip
    write(folder / "vlsbench/data.json", json.dumps([row, {**row, "image_path": "imgs/1.png"}]))
    picture(folder / "vlsbench/imgs/0.png")
    picture(folder / "vlsbench/imgs/1.png")


def vlguard(folder: Path) -> None:
    rows = [
        {"id": "a", "image": "bad_ads/a.png", "safe": False, "instr-resp": [{"instruction": "[r]", "response": "[a]"}]},
        {
            "id": "b", "image": "memes/b.png", "safe": True,
            "instr-resp": [
                {"safe_instruction": "[r 2]", "response": "[a]"}, {"unsafe_instruction": "[r 3]", "response": "[a]"},
            ],
        },
    ]  # fmt: skip
    write(folder / "vlguard/test.json", json.dumps(rows))
    picture(folder / "vlguard/test/bad_ads/a.png")
    picture(folder / "vlguard/test/memes/b.png")


def mssbench(folder: Path) -> None:
    chat = {
        "safe_image_path": "1.jpg", "unsafe_image_path": "2.jpg", "intent": "[i]", "unsafe_image": "[d]",
        "Type": "property damage", "queries": ["[request 1]", "[request 2]"],
    }  # fmt: skip
    write(folder / "mssbench/combined.json", json.dumps({"chat": [chat], "embodied": []}))
    picture(folder / "mssbench/chat/1.jpg")
    picture(folder / "mssbench/chat/2.jpg")


def jailbreak_in_pieces(folder: Path) -> None:
    row = {"prompt": "[p]", "request": "[request 1]", "image": "a.png", "category": "c", "image_type": "ocr"}
    write(folder / "jailbreak_in_pieces/rows.jsonl", json.dumps(row) + "\n")
    picture(folder / "jailbreak_in_pieces/a.png")


def or_bench(folder: Path) -> None:
    table(folder / "or_bench/or-bench-hard-1k.csv", "prompt,category", ("[request 1]", "deception"), ("[r 2]", "hate"))


def oktest(folder: Path) -> None:
    table(folder / "oktest/OKTest.csv", "prompt", ("[request 1]\n",), ("[request 2]\n",))


def falsereject(folder: Path) -> None:
    row = {"id": 0, "category": 3, "category_text": "Fraud", "instruct_response": None, "cot_response": None}
    rows = [{**row, "prompt": f"[errand {n}]"} for n in range(6)]
    write(folder / "falsereject/FalseReject_test.json", json.dumps(rows))


def mossbench(folder: Path) -> None:
    row = {
        "image": "images/1.png", "short description": "[d]", "question": "[request 1]", "pid": "1",
        "description": "[d]", "metadata": {"over": "type 1", "human": 0, "child": 1, "syn": 1, "ocr": 0, "harm": [7]},
    }  # fmt: skip
    write(folder / "mossbench/information.json", json.dumps({"1": row}))
    picture(folder / "mossbench/images/1.png")


def vqav2(folder: Path) -> None:
    questions = [{"image_id": 42, "question": "[question]", "question_id": 420000 + n} for n in (0, 1)]
    annotations = [
        {
            "question_type": "what", "multiple_choice_answer": "yes", "image_id": 42, "answer_type": "yes/no",
            "question_id": 420000 + n,
            "answers": [{"answer": "yes", "answer_confidence": "yes", "answer_id": k} for k in range(1, 11)],
        }
        for n in (0, 1)
    ]  # fmt: skip
    write(
        folder / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
        json.dumps({"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "questions": questions}),
    )
    write(
        folder / "vqav2/v2_mscoco_val2014_annotations.json",
        json.dumps({"info": {}, "data_subtype": "val2014", "annotations": annotations}),
    )
    picture(folder / "coco/val2014/COCO_val2014_000000000042.jpg")


def textvqa(folder: Path) -> None:
    row = {
        "question": "[question]", "image_id": "003a8ae2ef43b901", "image_classes": ["Cassette"], "image_width": 9,
        "answers": ["a"] * 10, "question_tokens": ["x"], "question_id": 34602, "set_name": "val",
    }  # fmt: skip
    content = {"dataset_name": "textvqa", "dataset_type": "val", "dataset_version": "0.5.1", "data": [row]}
    write(folder / "textvqa/TextVQA_0.5.1_val.json", json.dumps(content))
    picture(folder / "textvqa/train_images/003a8ae2ef43b901.jpg")


def pope(folder: Path) -> None:
    name = "COCO_val2014_000000310196.jpg"
    for split in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": n, "image": name, "text": f"[question {n}]", "label": label}
            for n, label in enumerate(("yes", "no"), start=1)
        ]
        write(folder / f"pope/coco_pope_{split}.json", "".join(json.dumps(row) + "\n" for row in rows))
    picture(folder / f"coco/val2014/{name}")


def mme(folder: Path) -> None:
    from unsay.suites.scorers import MME_COGNITION, MME_PERCEPTION

    root = folder / "mme/MME_Benchmark_release_version"
    for number, subtask in enumerate((*MME_PERCEPTION, *MME_COGNITION)):
        pair = "[question one] Please answer yes or no.\tYes\n[question two] Please answer yes or no.\tNo\n"
        if number % 2:  # both layouts of the release
            write(root / subtask / "questions_answers_YN/0001.txt", pair)
            picture(root / subtask / "images/0001.png")
        else:
            write(root / subtask / "0001.txt", pair)
            picture(root / subtask / "0001.jpg")


def scienceqa(folder: Path) -> None:
    row = {
        "question": "[question]", "choices": ["[one]", "[two]"], "answer": 1, "hint": "[hint]", "image": "image.png",
        "task": "closed choice", "grade": "grade2", "subject": "natural science", "topic": "t", "category": "c",
        "skill": "s", "lecture": "", "solution": "", "split": "test",
    }  # fmt: skip
    rows = {"1": row, "2": {**row, "image": None}, "3": {**row, "split": "train"}}
    write(folder / "scienceqa/problems.json", json.dumps(rows))
    picture(folder / "scienceqa/test/1/image.png")


def mm_vet(folder: Path) -> None:
    row = {
        "imagename": "v1_0.png", "question": "[question]", "answer": "x=1<AND>y=2", "imagesource": "u",
        "capability": ["ocr", "math"],
    }  # fmt: skip
    write(folder / "mm-vet/mm-vet.json", json.dumps({"v1_0": row}))
    picture(folder / "mm-vet/images/v1_0.png")


def mmlu(folder: Path) -> None:
    for number in range(57):
        write(folder / f"mmlu/data/test/subject_{number}_test.csv", '"[question, one]",[a],[b],[c],[d],C\n')


EXPECTED = {
    # suite: (how its files are made, prompts, distinct requests)
    "strongreject": (strongreject, 3, 3),
    "in-the-wild": (in_the_wild, 8, 2),
    "in-the-wild-system": (in_the_wild, 8, 2),
    "harmbench-multimodal": (harmbench_multimodal, 2, 2),
    "jailbreakv-28k": (jailbreakv, 9, 2),
    "jailbreakv-mini": (jailbreakv, 1, 1),
    "mm-safetybench": (mm_safetybench, 13, 13),
    "mm-safetybench-typo": (mm_safetybench, 13, 13),
    "mm-safetybench-sd": (mm_safetybench, 13, 13),
    "mm-safetybench-sd-typo": (mm_safetybench, 13, 13),
    "hades": (hades, 2, 1),
    "siuo": (siuo, 1, 1),
    "vlsbench": (vlsbench, 2, 2),
    "vlguard-unsafe-image": (vlguard, 1, 1),
    "vlguard-unsafe-words": (vlguard, 1, 1),
    "vlguard-safe": (vlguard, 1, 1),
    "mssbench-unsafe": (mssbench, 2, 2),
    "mssbench-safe": (mssbench, 2, 2),
    "jailbreak-in-pieces": (jailbreak_in_pieces, 1, 1),
    "or-bench-hard": (or_bench, 2, 2),
    "oktest": (oktest, 2, 2),
    "falsereject": (falsereject, 6, 6),
    "mossbench": (mossbench, 1, 1),
    "vqav2": (vqav2, 2, 1),
    "textvqa": (textvqa, 1, 1),
    "pope": (pope, 6, 1),
    "mme": (mme, 28, 14),
    "scienceqa": (scienceqa, 1, 1),
    "mm-vet": (mm_vet, 1, 1),
    "mmlu": (mmlu, 57, 57),
}
