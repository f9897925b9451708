"""Runs a function in several processes that find each other as torchrun's do, for the tests."""

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def in_processes(world: int, folder: Path, work: Callable[..., Any], *arguments: Any) -> list[Any]:
    """``work(*arguments)`` in ``world`` processes: what each gave or raised, None if it was killed.

    ``work`` must be a function of a module. folder: a place for their answers.
    """
    # Forked from a server that has imported torch once: a fresh process would need seconds, and
    # a fork of pytest itself would carry its threads along.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sparse_rcnn_lab.training.fit"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = [folder / f"answer_{world}_{rank}" for rank in range(world)]
    for file in files:
        file.unlink(missing_ok=True)
    processes = [
        context.Process(target=_child, args=(rank, world, port, file, work, arguments))
        for rank, file in enumerate(files)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
            raise AssertionError("a process hangs")
    return [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]


def _child(
    rank: int, world: int, port: int, file: Path, work: Callable[..., Any], arguments: Any
) -> None:
    os.environ.update(
        RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_RANK=str(rank),
        LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        GLOO_SOCKET_IFNAME="lo",
    )
    torch.set_num_threads(1)
    try:
        answer = work(*arguments)
    except Exception as error:
        traceback.print_exc()
        answer = (type(error).__name__, str(error))
    file.write_bytes(pickle.dumps(answer))
