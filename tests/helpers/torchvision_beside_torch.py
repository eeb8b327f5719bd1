"""A pytest plugin: torchvision's Python code beside a torch that its compiled operators do not fit.

Most families' processors resize pictures with `torchvision.transforms`, which is plain Python over torch. The wheel's
compiled part (boxes, image files) fits one build of torch only, and refuses to be imported beside another, such as a
CPU build. None of it is used here, so its operators are declared by name, and the rest is the real thing.
"""

import os
import sys

import torch

FOLDER = "UNSAY_TEST_TORCHVISION"
"""Environment variable: the folder that holds the package."""

if os.environ.get(FOLDER):
    sys.path.append(os.environ[FOLDER])
    _declared = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _declared.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
