#!/usr/bin/python3
"""Runs the suite's commands, one after the other, read from a virtio port: it needs no network, no agent, and no writable disk."""

import base64
import json
import os
import signal
import subprocess
import time

NAME = "fracas.control"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "NO_COLOR": "1",
    "DEBIAN_FRONTEND": "noninteractive",
}


def find_port():
    folder = "/sys/class/virtio-ports"
    while True:
        for port in os.listdir(folder) if os.path.isdir(folder) else []:
            with open(f"{folder}/{port}/name") as name:
                if name.read().strip() == NAME:
                    return os.open(f"/dev/{port}", os.O_RDWR)
        time.sleep(0.1)


def read_lines(port):
    rest = b""
    while True:
        chunk = os.read(port, 65536)
        if not chunk:
            # Nobody is connected outside.
            time.sleep(0.1)
            continue
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def send(port, answer):
    data = json.dumps(answer).encode() + b"\n"
    while data:
        try:
            data = data[os.write(port, data):]
        except OSError:
            time.sleep(0.1)


def be_ordinary():
    """A command is no better protected from the kernel's memory killer than others are."""
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("0")


def encode(data):
    return base64.b64encode(data).decode()


def run(request):
    process = subprocess.Popen(
        request["argv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env=ENVIRONMENT,
        start_new_session=True,
        preexec_fn=be_ordinary,
    )
    try:
        stdout, stderr = process.communicate(base64.b64decode(request["stdin"]), request["limit"])
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        return {"error": f"did not end within {request['limit']} s", "stdout": encode(stdout), "stderr": encode(stderr)}
    return {"code": process.returncode, "stdout": encode(stdout), "stderr": encode(stderr)}


def main():
    port = find_port()
    with open("/proc/sys/kernel/random/boot_id") as boot_id:
        send(port, {"hello": boot_id.read().strip()})
    for line in read_lines(port):
        try:
            request = json.loads(line)
        except ValueError:
            # The rest of what was under way at a reset.
            continue
        try:
            answer = run(request)
        except OSError as error:
            answer = {"error": str(error)}
        send(port, {"id": request["id"], **answer})


main()
