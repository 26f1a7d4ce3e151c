"""CoaT and CoaT-Lite: serial blocks per scale, in CoaT also parallel blocks with one FFN for three scales.

`mlp2`, `mlp3` and `mlp4` of a parallel block are the same object: one site, called once per scale.
"""

from pipeline.models.families.family import Family

COAT = Family(
    name="coat",
    classes=("timm.models.coat.CoaT",),
    ffn=r"serial_blocks[1-4]\.\d+\.mlp|parallel_blocks\.\d+\.mlp2",
    attention=r"serial_blocks[1-4]\.\d+\.factoratt_crpe|parallel_blocks\.\d+\.factoratt_crpe[2-4]",
    attention_kinds=(("FactorAttnConvRelPosEnc", "factorised"),),
    prefix=lambda model: ("class",),  # every stage puts its own class token in front
    timm_modules=("coat",),
)
