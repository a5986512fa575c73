"""Lets torchvision's pure-PyTorch parts import beside a CPU build of torch.

The PyPI wheel of torchvision is compiled for the CUDA build of torch; next to a CPU build its compiled
operators do not load and `import torchvision` fails with "operator torchvision::nms does not exist", which
also breaks TRL and every omni class of transformers. Declaring the schemas is enough for the transforms that
the video processor needs. Import this module before anything that may import torchvision; it does nothing
where the compiled operators load.
"""

import importlib.util

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)


def _declare() -> None:
    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    globals()["_library"] = library  # a Library's operators live as long as the object does


if importlib.util.find_spec("torchvision") is not None:
    _declare()
