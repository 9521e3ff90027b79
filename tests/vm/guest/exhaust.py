#!/usr/bin/python3
"""Takes all of one resource from the host, keeps it, and watches until the effects of faults are gone; it needs none of that resource itself.

`exhaust.py pids|descriptors|processors JSON LINE`, where JSON is a list of `{"id": ..., "look": ..., "at": ...}`, and LINE is what a shell runs
before anything is taken. Prints what that has printed, when each effect was gone, in seconds since boot, and the kernel's answers to one more
process, file or moment, each with its count.
"""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

LIMIT = 180
STEP = 0.05
UNPRIVILEGED = 65534


def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write(path, value):
    with open(path, "w") as knob:
        knob.write(value)


def read(path):
    with open(path) as knob:
        return knob.read()


class Pids:
    """Sleeping processes take every process id there is, and more of them each that is given back."""

    KNOB = "/proc/sys/kernel/pid_max"
    FEW = 420

    def __init__(self):
        self.children = []
        self.before = read(self.KNOB)
        write(self.KNOB, str(self.FEW))

    def take(self):
        """Forks until the kernel refuses, and returns its reason."""
        while True:
            try:
                child = os.fork()
            except OSError as error:
                return errno.errorcode[error.errno]
            if child == 0:
                while True:
                    signal.pause()
            self.children.append(child)

    def give_back(self):
        write(self.KNOB, self.before)
        for child in self.children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


class Descriptors:
    """No more files can be opened than are open already, but by those whom the kernel exempts."""

    KNOB = "/proc/sys/fs/file-max"

    def __init__(self):
        self.before = read(self.KNOB)
        write(self.KNOB, "64")

    def take(self):
        """Opens a file as an ordinary user, and returns the kernel's reason to refuse it."""
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(UNPRIVILEGED)
            os.setuid(UNPRIVILEGED)
            try:
                os.open("/proc/version", os.O_RDONLY)
            except OSError as error:
                os._exit(error.errno)
            os._exit(0)
        return errno.errorcode.get(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), "opened")

    def give_back(self):
        write(self.KNOB, self.before)


class Processors:
    """Two processes of the highest priority for each processor never sleep."""

    def __init__(self):
        self.children = []
        for _ in range(2 * os.cpu_count()):
            child = os.fork()
            if child == 0:
                os.setpriority(os.PRIO_PROCESS, 0, -20)
                while True:
                    pass
            self.children.append(child)
        self.busy, self.idle = self.times()

    def times(self):
        times = [int(word) for word in read("/proc/stat").split("\n")[0].split()[1:9]]
        return sum(times) - times[3], times[3]

    def take(self):
        """Says whether the processors were busy since the beginning; two hundredths of the time, and five ticks, may be idle."""
        busy, idle = self.times()
        return "busy" if idle - self.idle <= 0.02 * (busy + idle - self.busy - self.idle) + 5 else "idle"

    def give_back(self):
        for child in self.children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


RESOURCES = {"pids": Pids, "descriptors": Descriptors, "processors": Processors}


def is_refused(address):
    """Whether this host may not send to an address."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(b"x", (address, 9))
        except PermissionError:
            return True
    return False


LOOKS = {
    "exists": os.path.lexists,
    "frozen": lambda path: "frozen 1" in read(path),
    "refused": is_refused,
    "link": lambda prefix: any(name.startswith(prefix) for name in os.listdir("/sys/class/net")),
}


def main():
    watched = json.loads(sys.argv[2])
    # Not before this program has started, which takes its time where the processors are busy: leases run from here on.
    said = subprocess.run(["sh", "-c", sys.argv[3]], check=True, stdout=subprocess.PIPE, text=True).stdout
    resource = RESOURCES[sys.argv[1]]()
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    answer = {"said": said, "idle": [w["id"] for w in watched if not LOOKS[w["look"]](w["at"])], "begin": now(), "answers": {}, "gone": {}}
    try:
        while watched and now() < answer["begin"] + LIMIT:
            reason = resource.take()
            answer["answers"][reason] = answer["answers"].get(reason, 0) + 1
            for one in list(watched):
                if not LOOKS[one["look"]](one["at"]):
                    answer["gone"][one["id"]] = now()
                    watched.remove(one)
            time.sleep(STEP)
    finally:
        resource.give_back()
    print(json.dumps(answer))


main()
