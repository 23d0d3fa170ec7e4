"""What a file is whose name promises something else: downloads go wrong in a few well-known ways."""

from pathlib import Path

_LOOKED_AT = 4096
_LFS = b"version https://git-lfs.github.com/spec/"
_BOM = b"\xef\xbb\xbf"
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))


def what_it_is(path: Path) -> str:
    """Words on a file that is not what its name says, and how to mend it; "" where its first bytes do not tell.

    To be put after "..., ": "it is a git-lfs pointer and not the file itself: run 'git lfs pull' in its folder".
    """
    try:
        with path.open("rb") as file:
            head = file.read(_LOOKED_AT)
        size = path.stat().st_size
    except OSError:
        return ""
    start = head.removeprefix(_BOM).lstrip().lower()
    if not size:
        return "it is empty: get it again"
    if start.startswith(_LFS):
        return f"it is a git-lfs pointer of {size} bytes and not the file itself: run 'git lfs pull' in its folder"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "it is a web page, such as a login or an error: get the file itself, where needed with your account"
    if start.startswith((b'{"error"', b"entry not found", b"access to model")):
        return "it is the error message of a download: get the file itself, where needed with your account"
    return _kind_of_weights(path, head, size)


def is_safetensors(path: Path) -> bool:
    """Whether a file is of that format, whatever its name is."""
    try:
        with path.open("rb") as file:
            return _is_safetensors(file.read(_LOOKED_AT))
    except OSError:
        return False


def _kind_of_weights(path: Path, head: bytes, size: int) -> str:
    name = path.suffix.lower()
    if _is_safetensors(head) and name not in (".safetensors", ".sft"):
        return "it is a safetensors file: give it a name that ends in .safetensors"
    if head.startswith(b"PK\x03\x04"):
        if not _has_zip_end(path, size):
            return "it is a zip file (as torch writes) that was cut short: get it again"
        if name in (".safetensors", ".sft"):
            return "it is a zip file, as torch writes: give it a name that ends in .pt"
    if head.startswith(_PICKLES) and not _is_safetensors(head) and name in (".safetensors", ".sft"):
        return "it is a pickle, as torch writes: give it a name that ends in .pt"
    if head.startswith(b"GGUF"):
        return "it is a GGUF file, which is not read: get it as safetensors"
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!")):
        return "it is an archive: unpack it"
    return ""


def _is_safetensors(head: bytes) -> bool:
    """Eight bytes of the header's length, then a JSON object."""
    return len(head) > 8 and head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < 2**32


def _has_zip_end(path: Path, size: int) -> bool:
    """Whether the directory with which every zip file ends is there (its comment has at most 65,535 bytes)."""
    with path.open("rb") as file:
        file.seek(max(0, size - 65_557))
        return b"PK\x05\x06" in file.read()
