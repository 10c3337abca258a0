# SPDX-License-Identifier: Apache-2.0
"""openai_client.py SOCKET: what a program with the OpenAI client does; its answers as JSON.

Run by slow_main_job.py with a Python that has the package."""
import json
import sys

import httpx
import openai

PROMPT = "The capital of France is"
CHAT = {"messages": [{"role": "user", "content": "Name three fruits."}], "max_tokens": 16,
        "temperature": 0}


def error_of(call):
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.param]
    raise AssertionError("it was answered")


def main(path):
    client = openai.OpenAI(base_url="http://localhost/v1", api_key="none", max_retries=0,
                           http_client=httpx.Client(transport=httpx.HTTPTransport(uds=path),
                                                    timeout=100))
    model = client.models.list().data[0].id
    said = {"models": [m.id for m in client.models.list()]}
    assert client.models.retrieve(model).id == model
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=8, temperature=0,
                                       logprobs=2)
    said["completion"] = answer.choices[0].text
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.completion_tokens

    several = client.completions.create(model=model, prompt=["Once upon", PROMPT], max_tokens=4,
                                        temperature=0, n=1, logprobs=1)
    said["several"] = [c.text for c in several.choices]

    answer = client.chat.completions.create(model=model, logprobs=True, top_logprobs=3, **CHAT)
    said["chat"] = answer.choices[0].message.content
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 3
    assert answer.choices[0].finish_reason in ("stop", "length")

    text, usage = "", None
    for chunk in client.chat.completions.create(model=model, stream=True,
                                                stream_options={"include_usage": True}, **CHAT):
        usage = chunk.usage or usage
        text += "".join(c.delta.content or "" for c in chunk.choices)
    said["streamed"] = text
    assert usage.completion_tokens == answer.usage.completion_tokens
    assert usage.total_tokens == answer.usage.total_tokens

    with client.chat.completions.create(model=model, stream=True, n=2, seed=5,
                                        messages=CHAT["messages"], max_tokens=200) as stream:
        next(iter(stream))  # and leave
    two = [client.chat.completions.create(model=model, n=2, seed=5, messages=CHAT["messages"],
                                          max_tokens=12) for _ in range(2)]
    assert [c.message.content for c in two[0].choices] == [c.message.content for c in two[1].choices]

    said["errors"] = [error_of(lambda t=t: client.chat.completions.create(
        model=model, messages=CHAT["messages"], temperature=t)) for t in (-1, "hot")]
    said["errors"].append(error_of(lambda: client.completions.create(model="other", prompt="x")))
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1])
