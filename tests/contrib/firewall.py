"""A firewall's API that stores nothing: every request becomes a line of JSON in a file, and is answered as told.

firewall.py FOLDER: FOLDER holds cert.pem and key.pem; port, requests and answers/<path with dashes> are written and read
there.
"""

import http.server
import json
import pathlib
import ssl
import sys

FOLDER = pathlib.Path(sys.argv[1])
ANSWERS = {
    "/api/core/backup/backups/this": {"items": [{"id": "config-1795219200.1234.xml"}]},
    "/api/firewall/alias/import": {"existing": 1, "new": 0, "status": "ok"},
    "/api/firewall/alias/reconfigure": {"status": "ok"},
}


class Firewall(http.server.BaseHTTPRequestHandler):
    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        request = {
            "method": self.command,
            "path": self.path,
            "authorization": self.headers.get("Authorization"),
            "type": self.headers.get("Content-Type"),
            "body": self.rfile.read(length).decode(),
        }
        with open(FOLDER / "requests", "a", encoding="utf-8") as log:
            log.write(json.dumps(request) + "\n")
        told = FOLDER / "answers" / self.path.strip("/").replace("/", "-")
        status, body = 200, ANSWERS.get(self.path)
        if told.exists():
            body = json.loads(told.read_text())
            status = body.pop("http", 200)
        if body is None:
            status, body = 404, {"errorMessage": "Endpoint not found"}
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Firewall)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(FOLDER / "cert.pem", FOLDER / "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
(FOLDER / "port.new").write_text(str(server.server_address[1]))
(FOLDER / "port.new").rename(FOLDER / "port")
server.serve_forever()
