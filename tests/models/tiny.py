"""A tiny version of every architecture: the fields that make it compile in seconds."""

RESNET = {"width": 4, "stage_sizes": (1, 1, 1, 1)}
VGG = {"width": 4, "stage_sizes": (1, 1, 1, 1, 1)}
DECODER = {"encoder_name": "resnet18", "encoder_fields": RESNET, "decoder_channels": 8}

# model name: fields; one line for each file of `rsjax.models`, more where a file has more.
TINY = {
    "xception65": {"width": 0.01, "middle_blocks": 0},
    "densenet121": {"stage_sizes": (1, 1, 1, 1), "width": 8, "growth_rate": 4},
    "inception_v3": {
        "mixed": ("Mixed_5b", "Mixed_6a", "Mixed_7a"),
        **{"width": 0.05, "pad": True},
    },
    "resnet18": RESNET,
    "resnet50": RESNET,
    "vgg11": VGG | {"fc_width": 8},
    "vgg11_bn": VGG | {"head": "pool"},
    "xception": {"width": 0.01, "middle_blocks": 0},
    "deeplabv3": DECODER | {"aux_weight": 0.5},
    "deeplabv3plus": DECODER | {"skip_channels": 4},
    "dynamicworld": {"width": 4},
    "fc_densenet56": {"stage_sizes": (1, 1, 1, 1, 1), "width": 8, "growth_rate": 4},
    "fc_siam_diff": {"width": 4},
    "siam_unet": {**DECODER, "decoder_channels": (8, 8, 8, 4, 4), "join": "conc"},
    "fcn": {"encoder_name": "resnet18", "encoder_fields": RESNET},
    "fcn8s": VGG | {"width": 2, "fc_width": 8},
    "segnet": {"encoder_fields": VGG},
    "temporal_unet": {**DECODER, "decoder_channels": (8, 8, 8, 4, 4), "pool": "max"},
    "unet2015": {"width": 4, "depth": 3},
    "unet": {**DECODER, "decoder_channels": (8, 8, 8, 4, 4)},
}
