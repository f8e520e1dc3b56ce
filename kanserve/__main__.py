"""`kanserve` and `python -m kanserve` are the command line."""

import gc
import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until a command has its own handler: a KeyboardInterrupt while modules are imported would be a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.argv[1:2] != ["serve"]:
        from kanserve.cli import app

        app.main()
    # A server should start quickly, so the code for training, exporting and plotting is not imported, and no garbage is
    # collected before the server replaces this process.
    gc.disable()
    from kanserve.errors import KanserveError

    try:
        from kanserve.cli.commands import serve as serve_command

        sys.exit(serve_command.main(sys.argv[2:]))
    except KanserveError as error:  # a package is missing
        print(f"kanserve: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
