"""A tiny version of every architecture: the fields that make it compile in seconds."""

RESNET = {"width": 4, "stage_sizes": (1, 1, 1, 1)}

# model name: fields; one line for each file of `rsjax.models`, more where a file has more.
TINY = {
    "resnet18": RESNET,
    "resnet50": RESNET,
}
