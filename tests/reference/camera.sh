#!/usr/bin/env bash
# What ffmpeg and Pillow send as a camera would: the streams in tests/reference/camera/. Needs ffmpeg and, as PYTHON, a
# Python with Pillow.
#
#     PYTHON=python3 tests/reference/camera.sh
#
# - pipe.mjpeg: JPEG files one after the other, of ffmpeg's test source.
# - multipart.mpjpeg: the same within a multipart stream whose boundary is `ffmpeg`.
# - listen.http: all that ffmpeg answers as a server of one client, in chunks, with its header.
# - thumbnail.jpg: a file of Pillow's, progressive, with restart markers and, within its EXIF segment, another JPEG file.
set -euo pipefail
cd "$(dirname "$0")/camera"
source=(-loglevel error -y -f lavfi -i testsrc=size=32x24:rate=5 -frames:v 5 -c:v mjpeg -q:v 8 -flags +bitexact)
ffmpeg "${source[@]}" -f image2pipe pipe.mjpeg
ffmpeg "${source[@]}" -f mpjpeg multipart.mpjpeg
ffmpeg "${source[@]}" -f mpjpeg -listen 1 http://127.0.0.1:18923/camera &
server=$!
"${PYTHON:-python3}" - <<'PYTHON'
import io, socket, time
from PIL import Image

while True:
    try:
        client = socket.create_connection(("127.0.0.1", 18923))
        break
    except OSError:
        time.sleep(0.05)
client.sendall(b"GET /camera HTTP/1.1\r\nHost: 127.0.0.1:18923\r\nConnection: close\r\n\r\n")
with open("listen.http", "wb") as file:
    while bytes_ := client.recv(65536):
        file.write(bytes_)

image = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
small = io.BytesIO()
image.resize((16, 12)).save(small, "JPEG")
exif = Image.Exif()
exif[0x927C] = small.getvalue()
image.save("thumbnail.jpg", "JPEG", progressive=True, restart_marker_rows=1, exif=exif.tobytes())
PYTHON
wait "$server" || true
