"""`helm test`: the service returns a unit vector, or with ``--closed`` a 401 without a key."""

import json
import sys
import urllib.error
import urllib.request

base, closed = sys.argv[1], "--closed" in sys.argv
with urllib.request.urlopen(f"{base}/readyz", timeout=30) as answer:
    print("readyz:", answer.read().decode())
headers = {"Content-Type": "application/json"}
request = urllib.request.Request(f"{base}/embed", b'{"inputs": "a text"}', headers)
try:
    with urllib.request.urlopen(request, timeout=60) as answer:
        (vector,) = json.load(answer)
except urllib.error.HTTPError as error:
    if not (closed and error.code == 401):
        raise SystemExit(f"embed: {error.code} {error.read().decode()}") from error
    print("embed: 401 without a key, as it should be")
else:
    length = sum(component**2 for component in vector) ** 0.5
    if closed or abs(length - 1) > 1e-3:
        raise SystemExit(f"embed: answered without a key ({closed=}), length {length}")
    print(f"embed: {len(vector)} dimensions, length {length:.6f}")
