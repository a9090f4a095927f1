# Copyright (c) torchgeo_discomkd Contributors. All rights reserved.
# Licensed under the MIT License.

"""Send one file under any name, in parts if asked for, each answer after a delay.

Arguments: the file and the delay in seconds. The first line of output is the port.
"""

import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    """Answers HEAD and GET, also of a range of bytes."""

    content = b''
    delay = 0.0

    def do_HEAD(self) -> None:
        self.answer(200, len(self.content))

    def do_GET(self) -> None:
        wanted = re.match(r'bytes=(\d+)-(\d+)', self.headers.get('Range', ''))
        if wanted is None:
            self.answer(200, len(self.content))
            self.wfile.write(self.content)
            return
        first, last = int(wanted[1]), min(int(wanted[2]), len(self.content) - 1)
        self.answer(206, last + 1 - first, f'bytes {first}-{last}/{len(self.content)}')
        self.wfile.write(self.content[first : last + 1])

    def answer(self, code: int, length: int, part: str | None = None) -> None:
        time.sleep(self.delay)
        self.send_response(code)
        self.send_header('Accept-Ranges', 'bytes')
        self.send_header('Content-Length', str(length))
        if part is not None:
            self.send_header('Content-Range', part)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests clean."""


if __name__ == '__main__':
    Handler.content = Path(sys.argv[1]).read_bytes()
    Handler.delay = float(sys.argv[2])
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    sys.stdout.write(f'{server.server_port}\n')
    sys.stdout.flush()
    server.serve_forever()
