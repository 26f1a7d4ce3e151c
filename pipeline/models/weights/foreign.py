"""What a file is that cannot be read as weights: told by its first bytes, each with what to do."""

from __future__ import annotations

#: first bytes -> (what it is, what to do)
BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a git-lfs pointer: the weights themselves were not fetched",
        "In its repository run: git lfs pull",
    ),
    (
        b"\x89HDF",
        "an HDF5 file, as Keras writes it",
        "Convert it to the PyTorch architecture that it belongs to, and save the state dict.",
    ),
    (b"GGUF", "a GGUF file, quantised for other engines", "Take the weights that it was made from."),
    (
        b"\x93NUMPY",
        "one NumPy array (.npy), without names",
        "Save the arrays by name, as the state dict of the architecture.",
    ),
    (b"\x1f\x8b", "a gzip archive", "Unpack it (tar xzf, or gunzip), and give the weights file in it."),
    (b"BZh", "a bzip2 archive", "Unpack it (tar xjf), and give the weights file in it."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it (tar xJf), and give the weights file in it."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it, and give the weights file in it."),
    (b"Rar!", "a RAR archive", "Unpack it, and give the weights file in it."),
    (b"(\xb5/\xfd", "a zstd archive", "Unpack it (zstd -d), and give the weights file in it."),
    (b"\xff\xd8\xff", "a JPEG picture", "Give the weights file."),
    (b"\x89PNG", "a PNG picture", "Give the weights file."),
    (b"\x08\x03\x12", "an ONNX file", "Take the weights that it was exported from."),
    (b"\x08\x04\x12", "an ONNX file", "Take the weights that it was exported from."),
    (b"\x08\x07\x12", "an ONNX file", "Take the weights that it was exported from."),
    (b"\x08\x08\x12", "an ONNX file", "Take the weights that it was exported from."),
)
WEB_PAGE = (
    "a web page, not the weights behind it",
    "Take the link of the file itself: on the Hugging Face hub /resolve/ in place of /blob/.",
)
TAR = ("a tar archive", "Unpack it (tar xf), and give the weights file in it.")


def known_as(head: bytes) -> tuple[str, str] | None:
    """What a file is that begins so, and what to do; None where it is not known."""
    if head[257:262] == b"ustar":
        return TAR
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:15].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return WEB_PAGE
    return next(((what, advice) for begins, what, advice in BEGINNINGS if head.startswith(begins)), None)


def zip_known_as(names: list[str], location: str) -> tuple[str, str]:
    """What a zip archive is that torch did not write, by the names in it."""
    if any(name.endswith(".npy") for name in names):
        return (
            "a NumPy archive (.npz), as JAX training writes it",
            "timm converts those of its architectures: python -c \"import timm, torch; m = timm.create_model('NAME'); "
            f"m.load_pretrained({location!r}); torch.save(m.state_dict(), 'weights.pth')\"",
        )
    if any("/data/weights/" in name for name in names):
        return (
            "a program that torch.export wrote",
            'Keep its tensors: python -c "import torch; '
            f"torch.save(torch.export.load({location!r}).state_dict, 'weights.pth')\"",
        )
    if any(name.endswith(".keras") or name == "metadata.json" for name in names):
        return "a Keras archive", "Convert it to the PyTorch architecture that it belongs to."
    return f"a zip archive ({', '.join(names[:3]) or 'empty'})", "Unpack it, and give the weights file in it."
