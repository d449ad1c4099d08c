"""What a measurement was taken on."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pillow", "lightning-fabric", "torchcam", "grad-cam", "weakseg")


def cpu_flags() -> set[str]:
    """Instruction sets that Linux names of the first core; empty elsewhere."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def has_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16 itself (AVX-512 BF16 or AMX)."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16"})


def describe(command: str) -> dict[str, Any]:
    """Machine, versions, date and command, for the head of a report."""
    import torch

    model = next((x.partition(":")[2].strip() for x in _lines("/proc/cpuinfo") if x.startswith("model name")), "")
    memory = next((int(x.split()[1]) for x in _lines("/proc/meminfo") if x.startswith("MemTotal")), 0)
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "cpu": model or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_gib": round(memory / 2**20, 1),
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16_in_hardware": has_bfloat16(),
        "load_average_before": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
