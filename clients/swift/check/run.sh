#!/usr/bin/env bash
# Compiles the Swift files on Linux, with stand-ins for what only Apple's SDK has, and runs guard and
# receipts against a server that notes what it gets. Needs swiftc (Debian 13: apt install swiftlang)
# and Python.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
swiftc -emit-module -parse-as-library -module-name UserNotifications \
    "$here/UserNotifications.swift" -o UserNotifications.swiftmodule
swiftc -typecheck -warnings-as-errors -swift-version 5 -I . "$here"/../*.swift "$here/Shim.swift"
swiftc -warnings-as-errors -swift-version 6 -o check "$here"/../Postrider*.swift "$here/Shim.swift" "$here/main.swift"
python3 - > heard <<'PYTHON' &
from http.server import BaseHTTPRequestHandler, HTTPServer
class Notes(BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["content-length"])).decode(), flush=True)
        self.send_response(200); self.end_headers()
    def log_message(self, *rest): pass
server = HTTPServer(("127.0.0.1", 0), Notes)
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
server=$!
until [ -s heard ]; do read -rt 0.05 <> <(:) || true; done
mkdir group
left=$(./check group "http://127.0.0.1:$(head -1 heard)/v1/receipts")
[ "$left" = "[]" ] || { echo "receipts were left: $left"; exit 1; }
python3 - <<'PYTHON'
import json
sent = json.loads(open("heard").read().splitlines()[1])["receipts"]
told = sorted((it["id"], it["token"], it["kind"]) for it in sent)
assert told == [("7", "t", "displayed"), ("8", "u", "clicked")], told
assert all(isinstance(it["at"], int) for it in sent), sent
PYTHON
echo "the Swift files compile and do as they say"
