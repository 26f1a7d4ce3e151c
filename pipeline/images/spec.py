"""From what a user writes to the source it names."""

from atlas_schema.errors import BadConfig
from pipeline.images.choice import refuse_choice, split_choice
from pipeline.images.naming import is_text, printable
from pipeline.images.stored import FORMS, Found, stored_source
from pipeline.images.world import IMAGES, World


def source_of(spec: str) -> Found:
    """The source a spec names, not yet read, and what lies beside it and is not read.

    BadConfig or NothingThere, which say what is expected.
    """
    if not is_text(spec):
        raise BadConfig(f"{printable(spec)}: this name is not UTF-8, and an atlas has to write it down: rename it.")
    if not spec.strip() or "\0" in spec:
        raise BadConfig(f"the probe set has no name. Expected {FORMS}.")
    name, choice = split_choice(spec)
    if _is_hub(name):
        from pipeline.images.hub import hub_source  # here: `datasets` takes a second to import

        return hub_source(name, choice), ()
    if name == "zoo" or name.startswith("zoo:"):
        refuse_choice(choice, spec, "scenes of the zoo")
        return World(_count(name)), ()
    return stored_source(name, choice)


def name_of(spec: str) -> str:
    """A short name for people: zoo, the folder's or file's own name, the dataset's."""
    spec = split_choice(spec)[0]
    if spec == "zoo" or spec.startswith("zoo:"):
        return "zoo"
    if _is_hub(spec):
        spec = spec.split(":")[1]
    return spec.rstrip("/").rpartition("/")[2] or spec


def _is_hub(spec: str) -> bool:
    return spec.startswith("hf:") and not spec.startswith("hf://")


def _count(spec: str) -> int:
    count = str(IMAGES) if spec == "zoo" else spec.removeprefix("zoo:")
    if not count.isdecimal() or not 1 <= int(count) <= 10**6:
        raise BadConfig(f"{spec}: expected zoo, or zoo:N with N from 1 to 1000000 scenes, such as zoo:500.")
    return int(count)
