"""Links between GPUs, and how long one all-reduce takes over them.

Bandwidths are the makers' figures, which no program reaches in full; so the times are lower bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rmeeto.checks import whole_number
from rmeeto.errors import ConfigError, UnknownName

# What NCCL itself reckons with for a ring of large messages, in seconds a hop (NVIDIA/nccl, src/graph/tuning.cc,
# hwLat and baseLat of version 2.2x, protocol "Simple"): between GPUs by NVLink, by PCIe, between nodes; and per call.
NVLINK_HOP, PCIE_HOP, NETWORK_HOP, CALL = 3.4e-6, 5.7e-6, 14e-6, 8.4e-6
# What Linux's TCP adds to a hop at the least (Larsen et al., Architectural breakdown of end-to-end latency in a TCP/IP
# network, 2009).
TCP = 10e-6


@dataclass(frozen=True)
class Link:
    """A way from one GPU to the next, or from one node to the next.

    bytes_per_second: in one direction; of a GPU inside a node, of one network adapter between nodes.
    hop_seconds: from one to the next, whatever the size.
    """

    name: str
    bytes_per_second: float
    hop_seconds: float


INSIDE = {
    link.name: link
    for link in (
        # H100: 900 GB/s in both directions together (NVIDIA H100 datasheet)
        Link("nvlink", 450e9, NVLINK_HOP),
        # A100: 600 GB/s in both directions together (NVIDIA A100 datasheet)
        Link("nvlink-a100", 300e9, NVLINK_HOP),
        # 16 lanes of 32 and of 16 GT/s, 128 of 130 bits are data (PCI Express Base Specification 5.0 and 4.0)
        Link("pcie5", 63.0e9, PCIE_HOP),
        Link("pcie4", 31.5e9, PCIE_HOP),
    )
}
"""Links between the GPUs of a node, by name."""

BETWEEN = {
    link.name: link
    for link in (
        # NDR, HDR and EDR carry 400, 200 and 100 Gbit/s per port (InfiniBand Trade Association, roadmap)
        Link("infiniband", 50e9, NETWORK_HOP),
        Link("infiniband-hdr", 25e9, NETWORK_HOP),
        Link("infiniband-edr", 12.5e9, NETWORK_HOP),
        # by TCP; the number is Gbit/s (IEEE 802.3)
        Link("ethernet-100", 12.5e9, NETWORK_HOP + TCP),
        Link("ethernet-25", 3.125e9, NETWORK_HOP + TCP),
        Link("ethernet-10", 1.25e9, NETWORK_HOP + TCP),
        Link("ethernet-1", 0.125e9, NETWORK_HOP + TCP),
    )
}
"""Links between nodes, by name."""


@dataclass(frozen=True)
class Machines:
    """Nodes of equal GPUs.

    gpus: of each node. nodes: their number. inside: the link between a node's GPUs. between: the link between nodes.
    adapters: network adapters of each node, used at once. network_bytes_per_second: that leave a node, if they were
    measured; they stand in for the link's and the adapters'.

    Raises:
        ConfigError: a number below one. UnknownName: a link that is not in the tables.
    """

    gpus: int
    nodes: int = 1
    inside: str = "nvlink"
    between: str = "infiniband"
    adapters: int = 1
    network_bytes_per_second: float | None = None

    def __post_init__(self) -> None:
        for name in ("gpus", "nodes", "adapters"):
            whole_number("plan for many GPUs", name, getattr(self, name))
        if self.network_bytes_per_second is not None and not 0 < self.network_bytes_per_second < math.inf:
            raise ConfigError(
                "plan for many GPUs",
                given=f"{self.network_bytes_per_second:g} bytes per second between nodes",
                why="a bandwidth is above 0",
            )
        for kind, name, known in (
            ("link inside a node", self.inside, INSIDE),
            ("link between nodes", self.between, BETWEEN),
        ):
            if name not in known:
                raise UnknownName(kind, name, known)

    @property
    def devices(self) -> int:
        """GPUs in all."""
        return self.gpus * self.nodes

    def __str__(self) -> str:
        gpus = "1 GPU" if self.gpus == 1 else f"{self.gpus} GPUs"
        return gpus if self.nodes == 1 else f"{self.nodes} × {gpus}"


def all_reduce_seconds(size: float, machines: Machines) -> float:
    """How long the sum of ``size`` bytes over all GPUs takes, every GPU having it afterwards.

    Rings inside the nodes give each GPU the sum of its part of the bytes, rings between the nodes complete it, and
    rings inside hand it out. A ring of n sends 2 (n − 1) / n of its bytes over each link, in 2 (n − 1) hops
    (Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, 2009). A node's adapters
    share what leaves it.
    """
    if machines.devices == 1:
        return 0.0
    inside, between = INSIDE[machines.inside], BETWEEN[machines.between]
    network = machines.network_bytes_per_second or machines.adapters * between.bytes_per_second
    return (
        CALL
        + ring_seconds(size, machines.gpus, inside.bytes_per_second, inside.hop_seconds)
        + ring_seconds(size, machines.nodes, network, between.hop_seconds)
    )


def ring_seconds(size: float, members: int, bytes_per_second: float, hop_seconds: float) -> float:
    """A ring's all-reduce of ``size`` bytes; none for one member."""
    return 2 * (members - 1) * (size / members / bytes_per_second + hop_seconds)
