"""A network that is cut off, for tests of what may not reach it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def no_network() -> Iterator[list[str]]:
    """Every attempt to reach another machine is noted and fails."""
    attempts: list[str] = []

    def refuse(name: str) -> Callable[..., None]:
        def attempt(*args: object, **kwargs: object) -> None:
            attempts.append(name)
            raise OSError(f"{name}: the network is cut off")

        return attempt

    with pytest.MonkeyPatch.context() as patch:
        for name in ("getaddrinfo", "create_connection"):
            patch.setattr(socket, name, refuse(name))
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse(name))
        yield attempts
