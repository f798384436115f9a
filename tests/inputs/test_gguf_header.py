"""GGUF files of a stranger: every count in the header is compared before the gguf package believes it."""

from __future__ import annotations

import re
import struct
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavespeed_runner.errors import ConfigError
from wavespeed_runner.inputs.files import InputError
from wavespeed_runner.inputs.gguf_header import check_gguf_header, count_spare_bytes
from wavespeed_runner.inputs.gguf_places import BLOCKS
from wavespeed_runner.models.weights.checkpoint import inspect_checkpoint

U8, U32, TEXT, ARRAY = 0, 4, 8, 9


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def array(kind: int, count: int, content: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + content


def pair(kind: int, value: bytes, name: bytes = b"a") -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def tensor(name: bytes, *sides: int, kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, offset)


def header(*parts: bytes, tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + b"".join(parts)


NESTED = b"".join(array(ARRAY, 1) for _ in range(9))
HOSTILE: dict[str, tuple[bytes, str]] = {
    "endless array": (header(pair(ARRAY, array(U32, 2**62)), keys=1), "arrays of 4611686018427387904 entries"),
    "long array": (header(pair(ARRAY, array(U8, 10**9)), keys=1), "arrays of 1000000000 entries"),
    "whole array": (header(pair(ARRAY, array(U8, 300_000, bytes(300_000))), keys=1), "arrays of 300000 entries"),
    "many arrays": (
        header(*[pair(ARRAY, array(U8, 50_000, bytes(50_000)), b"%d" % i) for i in range(5)], keys=5),
        "arrays of 250000 entries",
    ),
    "nested": (header(pair(ARRAY, NESTED), keys=1), "arrays inside each other; at most 4 levels"),
    "array of texts": (header(pair(ARRAY, array(TEXT, 10, text(b"a"))), keys=1), "cut off inside its header"),
    "keys": (header(keys=300_000), "its header claims 300000 keys; at most 10000"),
    "tensors": (header(tensors=200_000), "its header claims 200000 tensors; at most 20000"),
    "long text": (header(pair(TEXT, struct.pack("<Q", 2**63)), keys=1), "a text of 9223372036854775808 bytes"),
    "long name": (header(struct.pack("<Q", 2**40), keys=1), "a text of 1099511627776 bytes"),
    "dimensions": (header(text(b"a") + struct.pack("<I", 2**32 - 1), tensors=1), "a tensor of 4294967295 dimensions"),
    "numbers": (header(tensor(b"a", 2**40, 2**40), tensors=1), "numbers, more than 65 bytes hold"),
    "the same place": (header(*[tensor(b"a", 1000)] * 100, bytes(1000), tensors=100), "100000 numbers, more than"),
    "unknown type": (header(pair(13, b""), keys=1), "a value of the unknown type 13"),
    "version": (header(version=1), "its version is 1; read are 2 and 3"),
    "big-endian": (header(version=3 << 24), "its version is 50331648; read are 2 and 3, little-endian"),
    "cut off": (header()[:10], "cut off inside its header"),
    "empty": (b"", "not in the GGUF format"),
    "other": (b"PK\3\4" * 9, "not in the GGUF format"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_header_claims_is_compared_first(tmp_path: Path, name: str) -> None:
    content, words = HOSTILE[name]
    file = tmp_path / "x.gguf"
    file.write_bytes(content)
    began = time.process_time()
    with pytest.raises(ConfigError, match=rf"^model\.repo={re.escape(str(file))}: .*{re.escape(words)}.*; download"):
        inspect_checkpoint(str(file))
    assert time.process_time() - began < 0.3


def test_a_header_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(header(*[pair(TEXT, text(bytes(2**20)), b"%d" % i) for i in range(17)], keys=17))
    with pytest.raises(InputError, match="a header of more than 16777216 bytes"):
        check_gguf_header(file)


def test_what_published_files_hold_passes(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    sides = pair(ARRAY, array(U32, 3, bytes(12)), b"comfy.gguf.orig_shape.a")
    words = pair(ARRAY, array(TEXT, 2, text(b"a") + text(b"b")), b"tokens")
    keys = [pair(TEXT, text(b"flux"), b"general.architecture"), pair(U32, bytes(4), b"b"), sides, words]
    tensors = [tensor(b"w", 64, 32, kind=8), tensor(b"b", offset=64 * 34)]
    file.write_bytes(pad(header(*keys, *tensors, keys=4, tensors=2)) + bytes(64 * 34 + 4))
    inspect_checkpoint(str(file))
    assert count_spare_bytes(file) == 0


def pad(head: bytes, alignment: int = 32) -> bytes:
    return head + bytes(-len(head) % alignment)


def place(*tensors: bytes, data: int = 64, keys: tuple[bytes, ...] = ()) -> bytes:
    """A file with tensors in this many bytes of data."""
    return pad(header(*keys, *tensors, tensors=len(tensors), keys=len(keys))) + bytes(data)


ALIGNMENT = b"general.alignment"
MISPLACED: dict[str, tuple[bytes, str]] = {
    "wraps": (place(tensor(b"w", 8, offset=2**64 - 32)), "the tensor w ends at byte 184467440737095"),
    "beyond": (place(tensor(b"w", 8, offset=64)), "the tensor w ends at byte 160, and the file has 128: it is cut off"),
    "cut off": (place(tensor(b"v", 8), tensor(b"w", 8, offset=32))[:-1], "the tensor w ends at byte"),
    "unaligned": (place(tensor(b"w", 8, offset=7)), "the tensor w begins at 7, no multiple of 32"),
    "overlaps": (place(tensor(b"v", 9), tensor(b"w", 8, offset=32)), "the tensors v and w lie in the same place"),
    "the same": (place(tensor(b"v", 8), tensor(b"w", 8)), "the tensors v and w lie in the same place"),
    "twice": (place(tensor(b"v", 8), tensor(b"v", 8, offset=32)), "the tensor v stands in it twice"),
    "type": (place(tensor(b"w", 8, kind=26)), "the tensor w has numbers of the type 26, which diffusers does not read"),
    "blocks": (place(tensor(b"w", 33, kind=8), data=999), "the tensor w has rows of 33 numbers, which fill no blocks"),
    "key": (place(keys=(pair(U32, bytes(4)), pair(TEXT, text(b"x")))), "the key a stands in its header twice"),
    "own key": (place(keys=(pair(U32, bytes(4), b"GGUF.kv_count"),)), "the key GGUF.kv_count stands in its header"),
    "name": (place(keys=(pair(U32, bytes(4), b"\xff\xfe"),)), "a name in its header is not UTF-8"),
    "tensor's name": (place(tensor(b"\xff", 8)), "a name in its header is not UTF-8"),
    **{
        f"alignment {number}": (
            place(keys=(pair(U32, struct.pack("<I", number), ALIGNMENT),)),
            "general.alignment in its header is no power of 2",
        )
        for number in (0, 1, 4, 24, 2**31)
    },
    "alignment's type": (place(keys=(pair(TEXT, text(b"32"), ALIGNMENT),)), "general.alignment in its header is no"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISPLACED)
def test_tensors_lie_in_the_file_and_each_by_itself(tmp_path: Path, name: str) -> None:
    content, words = MISPLACED[name]
    file = tmp_path / "x.gguf"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^model\.repo={re.escape(str(file))}: .*{re.escape(words)}.*; download"):
        inspect_checkpoint(str(file))


def test_an_alignment_of_its_own_counts(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    keys = pair(U32, struct.pack("<I", 64), ALIGNMENT)
    tensors = tensor(b"v", 8), tensor(b"w", 8, offset=64)
    file.write_bytes(pad(header(keys, *tensors, tensors=2, keys=1), 64) + bytes(96))
    assert check_gguf_header(file) == {"v": [8], "w": [8]}


def test_what_belongs_to_no_tensor_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    for data, spare in ((36, 0), (64, 0), (65, 1), (4064, 4000)):  # a tensor of 36 bytes, filled up to 64
        file.write_bytes(place(tensor(b"w", 9), data=data))
        assert count_spare_bytes(file) == spare


def test_blocks_are_those_of_the_gguf_package() -> None:
    gguf = pytest.importorskip("gguf")
    utils = pytest.importorskip("diffusers.quantizers.gguf.utils")
    kinds = gguf.GGMLQuantizationType
    read = {kinds.F32, kinds.F16, *utils.SUPPORTED_GGUF_QUANT_TYPES}
    assert {int(kind): gguf.GGML_QUANT_SIZES[kind] for kind in read} == BLOCKS


@given(st.binary(max_size=200), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_anything_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, a: int, b: int) -> None:
    file = tmp_path_factory.getbasetemp() / "any.gguf"
    file.write_bytes(header(content, tensors=a, keys=b))
    with suppress(InputError):
        check_gguf_header(file)
