"""A model's frozen layers split over processes (FSDP2): each holds a part, and gathers a layer while it runs.

Only the decoder's layers are split, because they hold most of the weights. Embeddings, norm and head stay whole, so
that the output head and tied weights work unchanged; so does the small adapter, whose gradients the trainer averages,
whatever the launcher.
"""

from collections.abc import Sequence

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from unsay.errors import UserError
from unsay.models.vlm import VLM
from unsay.processes import Processes
from unsay.records import Example


def check_shardable(vlm: VLM, examples: Sequence[Example]) -> None:
    """Assert that a training on these examples can be split.

    Raises:
        UserError: pictures, which would make processes run layers at different times, or 4-bit weights.
    """
    if any(example.image is not None for example in examples):
        raise UserError(
            "training examples with pictures cannot be trained on a model that is split over processes: launch with "
            "the ddp configuration, or train on text"
        )
    if getattr(vlm.base, "is_quantized", False):
        raise UserError("model_settings.quantisation: 4 bits cannot be split over processes: launch with ddp")


def shard(vlm: VLM, processes: Processes, device: torch.device) -> None:
    """Split the decoder's layers, in place and for good; every process calls this alike.

    From here on all processes must run the same layers in the same order (`VLM.uniform`).

    Args:
        vlm: the model with its adapter, whole, on the CPU or on `device`.
        processes: those that share it.
        device: of this process's part, of the adapter and of the parts that stay whole.
    """
    mesh = init_device_mesh(device.type, (processes.world,))
    adapter = {p for name, p in vlm.decoder.named_parameters() if "lora_" in name}
    for layer in vlm.layers:
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=adapter & set(layer.parameters()))
    split = {p for layer in vlm.layers for p in layer.parameters()}
    fully_shard(vlm.decoder, mesh=mesh, ignored_params=adapter | (set(vlm.decoder.parameters()) - split))
    for module in (vlm.decoder, vlm.lm_head):
        for parameter in set(module.parameters()) - (split - adapter):
            parameter.data = parameter.data.to(device)
        for owner in module.modules():
            for name, buffer in owner.named_buffers(recurse=False):
                setattr(owner, name, buffer.to(device))
    vlm.uniform = True
