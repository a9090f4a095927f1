# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Run torchgeo_discomkd with ``discomkd`` or ``python -m torchgeo_discomkd``."""

import signal
import sys


def main() -> None:
    """Run a command as the only purpose of this process.

    Ctrl-C ends it with 130 and without a traceback from here on: during imports, too,
    and while Python shuts down.

    Raises:
        SystemExit: As :func:`torchgeo_discomkd.commands.main`.
    """
    try:
        from .commands import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        # what other libraries do at the end shows no traceback either
        if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == '__main__':
    main()
