"""What a server listens on: a port, a port that several processes share, or a socket file.

grpc reports neither why a port is unavailable nor that another server shares it, so both are checked here first.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kanserve.errors import ConflictError, InputError
from kanserve.serve.settings import LONGEST_SOCKET_PATH


def address(host: str, port: int) -> str:
    """The address in the form that clients use."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_free(host: str, port: int) -> None:
    """Raise ConflictError if the port is in use, InputError if the port or host cannot be used."""
    reasons = [_why_not(family, address) for family, address in _places(host, port)]
    if errno.EADDRINUSE in reasons:
        raise ConflictError(f"Port {port} of {host} is in use. Choose another port, or stop what listens there.")
    if 0 not in reasons:
        raise InputError(f"Cannot listen on port {port} of {host}: {os.strerror(reasons[0])}.")


def bind(host: str, port: int, shared: bool) -> list[socket.socket]:
    """Bind a socket to each address of a host, all on one port, which may be `shared` with other processes. Raises
    ConflictError if it is taken."""
    made: list[socket.socket] = []
    try:
        for family, place in _places(host, port):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind((place[0], port, *place[2:]))
            except OSError as error:
                listener.close()
                if error.errno == errno.EADDRINUSE:
                    raise
                continue  # the host may also resolve to an address that this machine does not have
            made.append(listener)
            port = listener.getsockname()[1]
    except OSError:
        for listener in made:
            listener.close()
        made = []
    if not made:
        raise ConflictError(f"Cannot listen on {address(host, port)}. Choose another port, or stop what listens there.")
    return made


def bind_file(path: str) -> socket.socket:
    """Bind a socket file that only this user may open. Raises ConflictError or InputError."""
    check_file(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # a chmod afterwards would leave it open to others for a moment
    try:
        listener.bind(path)
    except OSError:
        listener.close()
        raise InputError(f"Cannot listen on the socket file {path!r}. Give a path in a folder of yours.") from None
    finally:
        os.umask(mask)
    return listener


def check_file(path: str) -> None:
    """Remove the socket file of an ended server. Raises ConflictError if one still listens, or it is no socket."""
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise InputError(f"The path of a socket file may have {LONGEST_SOCKET_PATH} bytes; {path!r:.80} has more.")
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"Cannot listen on the socket file {path!r}: {error.strerror}.") from None
    if not stat.S_ISSOCK(kind):
        raise ConflictError(f"{path!r} is there already, and is not a socket. Choose another path.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                os.unlink(path)
            return
        except OSError as error:
            raise ConflictError(f"The socket file {path!r} cannot be used: {error.strerror or error}.") from None
    raise ConflictError(f"A server listens on the socket file {path!r}. Choose another, or stop that server.")


@contextmanager
def reserve_port(host: str, port: int) -> Iterator[int]:
    """Hold a port, so that no other server takes it while processes that share it come and go."""
    check_free(host, port)
    held: list[socket.socket] = []
    try:
        for family, bindable in _places(host, port):
            holder = socket.socket(family, socket.SOCK_STREAM)
            held.append(holder)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with suppress(OSError):  # the host may also resolve to an address that this machine does not have
                holder.bind((bindable[0], port, *bindable[2:]))
                port = holder.getsockname()[1]
        yield port
    finally:
        for holder in held:
            holder.close()


def hang_up(port: int, path: str = "") -> None:
    """Shut down every connection accepted on a port or a socket file. What was sent still arrives, and waiting clients
    see at once that the connection is closed."""
    for number in _descriptors():
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            connection = socket.socket(fileno=os.dup(number))  # a duplicate, since grpc may close its own meanwhile
        except OSError:  # closed in the meantime
            continue
        with connection, suppress(OSError):
            here = connection.getsockname()
            # Listening sockets are left to grpc.
            ours = here == path if path else isinstance(here, tuple) and here[1] == port
            if ours and not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                connection.shutdown(socket.SHUT_RDWR)


def _descriptors() -> list[int]:
    try:
        return [int(number) for number in os.listdir("/dev/fd")]
    except OSError:  # a system without /dev/fd
        return []


def _places(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    """Resolve a host and a port to address families and addresses for binding. Raises InputError if there are none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, OverflowError, UnicodeError):
        raise InputError(f"The host {host!r:.80} has no address. Give one of this machine, as 127.0.0.1.") from None
    return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]  # of these families


def _why_not(family: int, place: tuple[str, int]) -> int:
    """The errno with which binding an address fails; 0 if it works."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As grpc does: an address whose last connections are in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0
