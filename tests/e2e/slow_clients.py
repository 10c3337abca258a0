#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients nobody here wrote: curl, socat, and the openai package over an httpx Unix socket."""
import json
import os
import shutil
import subprocess
import sys

from harness import Daemon, Skip, default_model, equal, main, test

PINNED = ["openai==1.55.3", "httpx==0.27.2"]


def daemon():
    return Daemon.shared("--cards", "2", "--context", "1024", model=default_model())


def need(program):
    if not shutil.which(program):
        raise Skip("no " + program)


def openai_python():
    """A Python that has the pinned packages; made once, in the cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.path.join(cache, "octarc", "venv-" + PINNED[0].replace("==", "-"))
    python = os.path.join(home, "bin", "python")
    if subprocess.run([python, "-c", "import openai, httpx"], capture_output=True).returncode \
            if os.path.exists(python) else True:
        for command in ([sys.executable, "-m", "venv", "--clear", home],
                        [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
                         *PINNED]):
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True)
            if done.returncode:
                shutil.rmtree(home, ignore_errors=True)
                raise Skip("the openai package cannot be had: " + (
                    done.stdout.strip().splitlines() or ["?"])[-1][:200])
    return python


@test
def curl_asks_over_the_socket():
    need("curl")
    body = json.dumps({"prompt": "The capital of France is", "max_tokens": 4, "temperature": 0})
    curl = ["curl", "-sS", "--fail", "--unix-socket", daemon().socket, "-d", body,
            "-H", "Content-Type: application/json", "http://localhost/v1/completions"]
    answer = json.loads(subprocess.check_output(curl))
    assert "Paris" in answer["choices"][0]["text"], answer
    streamed = subprocess.check_output(
        [*curl[:6], json.dumps(dict(json.loads(body), stream=True)), *curl[7:]]).decode()
    assert streamed.endswith("data: [DONE]\n\n"), streamed[-200:]
    text = "".join(json.loads(line[6:])["choices"][0]["text"] for line in streamed.splitlines()
                   if line.startswith("data: {"))
    equal(text, answer["choices"][0]["text"])


@test
def socat_asks_over_the_socket():
    need("socat")
    line = '{"jsonrpc":"2.0","id":1,"method":"tokenize","params":{"content":"Hello"}}\n'
    out = subprocess.run(["socat", "-t", "10", "-", "UNIX-CONNECT:" + daemon().socket],
                         input=line, stdout=subprocess.PIPE, text=True, timeout=60).stdout
    equal(json.loads(out), {"jsonrpc": "2.0", "id": 1,
                            "result": daemon().rpc("tokenize", {"content": "Hello"})})


OPENAI = r'''
import sys, httpx, openai
client = openai.OpenAI(base_url="http://localhost/v1", api_key="none",
                       http_client=httpx.Client(transport=httpx.HTTPTransport(uds=sys.argv[1])))
model = client.models.list().data[0].id
ask = dict(model=model, temperature=0, max_tokens=16, seed=1,
           messages=[{"role": "user", "content": "What is the capital of France? Answer in one sentence."}])
whole = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2)
assert "Paris" in whole.choices[0].message.content, whole
assert whole.choices[0].finish_reason in ("stop", "length")
assert len(whole.choices[0].logprobs.content[0].top_logprobs) == 2
text, usage = "", None
for chunk in client.chat.completions.create(**ask, stream=True,
                                            stream_options={"include_usage": True}):
    if chunk.choices:
        text += chunk.choices[0].delta.content or ""
    usage = chunk.usage or usage
assert text == whole.choices[0].message.content, (text, whole)
assert usage == whole.usage or usage.total_tokens == whole.usage.total_tokens, usage
done = client.completions.create(model=model, prompt=["Once upon", "The capital of France is"],
                                 max_tokens=4, temperature=0, n=1, logprobs=1)
assert len(done.choices) == 2 and "Paris" in done.choices[1].text, done
try:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}],
                                   temperature="hot")
    raise SystemExit("a wrong type was taken")
except openai.BadRequestError as error:
    assert error.param == "temperature", error
try:
    client.chat.completions.create(model="other", messages=[{"role": "user", "content": "x"}])
    raise SystemExit("an unknown model was taken")
except openai.NotFoundError:
    pass
stream = client.chat.completions.create(**dict(ask, max_tokens=500), stream=True)
next(iter(stream))
stream.close()
'''


@test
def the_openai_package_asks_over_the_socket():
    python = openai_python()
    done = subprocess.run([python, "-c", OPENAI, daemon().socket], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]


if __name__ == "__main__":
    main()
