"""Bandwidths of links between GPUs and the speed of one GPU: what predicted times are computed from. Data only.

Peak figures. Real transfers reach less: a copy over NVLink 4 reached 380 of its 450 GB/s,
https://github.com/NVIDIA/nccl/issues/1264.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Link:
    """What connects a GPU to the others."""

    name: str
    bytes_per_second: float
    """That a GPU can send, in one direction."""
    source: str


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """The links of a group of ranks."""

    name: str
    inside: Link
    """Within a node."""
    between: Link
    """From node to node."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The GPU that predictions are made for."""

    name: str
    peak: float
    """Dense matrix products, FLOP/s."""
    dtype: str
    """Number format of `peak`."""
    utilisation: float
    """Share of `peak` that a denoiser reaches: an assumption."""
    source: str

    @property
    def sustained(self) -> float:
        """FLOP/s that a denoiser is assumed to reach."""
        return self.peak * self.utilisation


NODE = 8
"""GPUs of a node."""

LATENCY = 10e-6
"""Seconds that a collective takes beside its bytes: an assumption."""

NVLINK = Link(
    name="NVLink 4",
    bytes_per_second=450e9,
    source="https://github.com/NVIDIA/nccl/issues/1264: 450 GB/s one way, of the 900 GB/s that NVIDIA names",
)
PCIE_5 = Link(
    name="PCIe 5 x16",
    bytes_per_second=63.0e9,
    source="https://truenas.com/docs/references/performance/interconnectdatarates/: 63,015 MB/s one way",
)
PCIE_4 = Link(
    name="PCIe 4 x16",
    bytes_per_second=31.5e9,
    source="https://truenas.com/docs/references/performance/interconnectdatarates/: 31,508 MB/s one way",
)
GIGABITS_400 = Link(name="400 Gb/s", bytes_per_second=50e9, source="its name: 400 / 8; one network port a GPU")
GIGABITS_100 = Link(name="100 Gb/s", bytes_per_second=12.5e9, source="its name: 100 / 8; one network port a GPU")

LINKS = (NVLINK, PCIE_5, PCIE_4, GIGABITS_400, GIGABITS_100)

UNIFORM = tuple(Wiring(name=link.name, inside=link, between=link) for link in LINKS)
"""Every rank reached over the same link."""

NODES = Wiring(name=f"nodes of {NODE}", inside=NVLINK, between=GIGABITS_400)
"""NVLink inside of a node, a 400 Gb/s port a GPU between nodes."""

H100 = Gpu(
    name="H100 SXM",
    peak=989e12,
    dtype="bfloat16",
    # HunyuanVideo, 117 frames of 1280x768 in 945 s on an H100 (https://arxiv.org/abs/2502.04507), is 0.6 by the FLOPs
    # of `geometry`; models with fewer tokens reach less.
    utilisation=0.5,
    source="https://archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html: half of its 1,979, with sparsity",
)
