"""What the PyTorch programs of this folder share: threads and device."""
import os

import torch


def use_threads():
    """As many threads as THREADS says, 2 if it is not set."""
    torch.set_num_threads(int(os.environ.get("THREADS", "2")))


def place():
    """The device that DEVICE names, and what goes before the names of its results; as in the Rust side."""
    name = os.environ.get("DEVICE", "flex")
    if name in ("flex", "cpu"):
        return torch.device("cpu"), ""
    device = torch.device(name)
    return device, f"{device.type}:{device.index or 0} "


def finish(device):
    """Waits for what was given to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
