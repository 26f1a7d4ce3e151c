"""Classes from folders: `cat/0.png`, `train/cat/0.png`, `cat/images/0.png`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from pipeline.images.naming import counted, some

CONTAINERS = frozenset(["images", "image", "imgs", "img", "jpegs", "jpeg", "jpg", "png", "pictures", "photos"])
"""A folder of such a name is no class where it is all that its folder holds: Tiny-ImageNet's `n01443537/images`."""

SPLITS = frozenset(["train", "training", "val", "valid", "validation", "test", "testing", "dev"])
"""A folder of such a name is no class where all folders beside it have such names too."""


@dataclass(frozen=True)
class FolderClasses:
    """The class of each image that has one, by its path; and what should be said of the others, "" for nothing."""

    labels: Mapping[str, str]
    remark: str = ""


def folder_classes(images: Collection[str]) -> FolderClasses:
    """The class of each image is the folder it lies in, where there are at least two, and more images in than beside.

    Images beside the folders, and directly in folders of splits, have no class.
    """
    tree = _Tree(images)
    labels = {path: tree.class_of(path) for path in images}
    labelled = {path: label for path, label in labels.items() if label}
    loose = sorted(path for path, label in labels.items() if label == "")
    if len(set(labelled.values())) < 2:
        return FolderClasses({})
    if len(loose) >= len(labelled):
        return FolderClasses(
            {},
            f"sub-folders are not taken for classes: {counted(len(loose), 'image')} of {len(labels):,} in none of "
            f"them ({some(loose)})",
        )
    without = sorted(path for path, label in labels.items() if not label)
    if not without:
        return FolderClasses(labelled)
    lie = "lies" if len(without) == 1 else "lie"
    return FolderClasses(labelled, f"{counted(len(without), 'image')} {lie} in no class folder: {some(without)}")


class _Tree:
    """Which folders lie in each folder, and which hold images themselves."""

    def __init__(self, images: Collection[str]) -> None:
        self.holding = {path.rpartition("/")[0] for path in images}
        self.inside: dict[str, set[str]] = {}
        for folder in self.holding:
            while folder:
                above, _, name = folder.rpartition("/")
                self.inside.setdefault(above, set()).add(name.casefold())
                folder = above

    def class_of(self, path: str) -> str | None:
        """The class of an image: "" for one beside all folders, None for one that is in a split and in no class."""
        folder = path.rpartition("/")[0]
        while folder:
            above, _, name = folder.rpartition("/")
            beside = self.inside[above]
            if name.casefold() in SPLITS and beside <= SPLITS:
                return None
            if name.casefold() not in CONTAINERS or len(beside) > 1 or above in self.holding:
                return name
            folder = above
        return ""
