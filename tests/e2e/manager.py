# SPDX-License-Identifier: Apache-2.0
"""manager.py - the part of systemd that keeps descriptors for a service (sd_notify, FDSTORE=1), so that
a service can be started again with them, or with others in their place."""
import array
import contextlib
import fcntl
import os
import queue
import socket
import subprocess
import tempfile
import threading
import time

from harness import equal

PARKED = 500  # descriptors on their way to a child: above any that it could find taken


class Manager:
    """Descriptors by name, as the service said; `removed` are the names it did not want any more."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="octarc-manager-")
        self.path = os.path.join(self.folder.name, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.kept, self.removed = {}, []
        self.heard, self.asked = queue.Queue(), 0
        self.slow = 0  # seconds that it takes to let a descriptor go
        self.thread = threading.Thread(target=self.listen)  # a service waits where nobody hears it
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.say("END=1")
        self.thread.join()
        self.drop(*self.kept)
        self.socket.close()
        self.folder.cleanup()

    def say(self, text):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text.encode(), self.path)

    def drop(self, *names):
        for name in names:
            for fd in self.kept.pop(name, []):
                os.close(fd)

    def put(self, name, fd):
        """As if the service had; the descriptor is taken over."""
        self.kept.setdefault(name, []).append(fd)

    def hear(self):
        """All that was said so far."""
        self.asked += 1
        self.say("ASKED=%d" % self.asked)
        equal(self.heard.get(timeout=60), str(self.asked))
        return self

    def listen(self):
        said = {}
        while "END" not in said:
            fds = array.array("i")
            text, more, _, _ = self.socket.recvmsg(8192, 1024)
            for level, kind, data in more:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(data)
            said = dict(line.split("=", 1) for line in text.decode().splitlines() if "=" in line)
            if "BARRIER" in said:  # whoever waits sees that all before was heard
                for fd in fds:
                    os.close(fd)
            if "FDSTORE" in said:
                assert said["FDPOLL"] == "0" and len(fds) == 1, text
                self.put(said["FDNAME"], fds[0])
            if "ASKED" in said:
                self.heard.put(said["ASKED"])
            if "FDSTOREREMOVE" in said:
                time.sleep(self.slow)
                self.removed.append(said["FDNAME"])
                self.drop(said["FDNAME"])

    def names(self):
        self.hear()
        return {name: len(fds) for name, fds in self.kept.items()}

    def inodes(self):
        self.hear()
        return {name: os.fstat(fds[0]).st_ino for name, fds in self.kept.items()}

    def start(self, command, env=None, **more):
        """Like Popen: a process to which all that is kept is passed, from descriptor 3 on."""
        self.hear()
        self.removed = []
        kept = [(name, fcntl.fcntl(fd, fcntl.F_DUPFD, PARKED))
                for name, fds in self.kept.items() for fd in fds]
        script = "".join("exec %d<&%d %d<&-\n" % (3 + i, fd, fd) for i, (_, fd) in enumerate(kept))
        script += "%sexec \"$@\"\n" % ("export LISTEN_PID=$$\n" if kept else "")
        environment = dict(env or os.environ, NOTIFY_SOCKET=self.path)
        if kept:
            environment.update(LISTEN_FDS=str(len(kept)),
                               LISTEN_FDNAMES=":".join(name for name, _ in kept))
        try:
            return subprocess.Popen(["bash", "-c", script, "start", *command], env=environment,
                                    pass_fds=[fd for _, fd in kept], **more)
        finally:
            for _, fd in kept:
                with contextlib.suppress(OSError):
                    os.close(fd)
