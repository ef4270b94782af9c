"""Decoding without zarr's event loop, of the codecs that it takes from numcodecs: straight to where rows belong.

Zarr decodes a chunk in a thread of its own while another one waits, and copies it twice. What is here lets go of
Python's lock while it decompresses, so several threads decode at once.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Values = np.ndarray[Any, Any]
Decoder = Callable[[bytes | memoryview, Values], None]

# By zarr's names of codecs: the module and the class. What encoded the bytes says how they are decoded.
_CLASSES = {
    "zstd": ("numcodecs.zstd", "Zstd"),
    "gzip": ("numcodecs.gzip", "GZip"),
    "blosc": ("numcodecs.blosc", "Blosc"),
}


def direct_decoder(codecs: Sequence[Any]) -> Decoder | None:
    """What decodes a chunk into an array, contiguous and of its size; None for codecs that only zarr knows.

    Args:
        codecs: Zarr's description: bytes, compressors, and a CRC-32C of what they leave.
    """
    names = [each["name"] for each in codecs]
    is_known = len(names) == 3 and names[0] == "bytes" and names[1] in _CLASSES and names[2] == "crc32c"
    if not is_known or codecs[0].get("configuration", {}).get("endian") != "little":
        return None
    try:
        module, name = _CLASSES[names[1]]
        codec = getattr(importlib.import_module(module), name)()
        checksum = importlib.import_module("google_crc32c").value
    except ImportError:  # zarr has them from elsewhere, perhaps
        return None

    def decode(contents: bytes | memoryview, out: Values) -> None:
        body = np.frombuffer(contents, "u1")[:-4]
        if checksum(body).to_bytes(4, "little") != contents[-4:]:
            raise ValueError("the checksum is another one")
        codec.decode(body, out=out.reshape(-1).view("u1"))

    return decode
