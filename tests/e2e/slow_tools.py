#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tools, from the request through a real model's template to its call and back."""
import json

from harness import Daemon, UnixHttp, cached_model, equal, main, test, tiny

WEATHER = {"type": "function",
           "function": {"name": "get_weather", "description": "Get the current weather of a city",
                        "parameters": {"type": "object", "required": ["city"],
                                       "properties": {"city": {"type": "string"}}}}}
QUESTION = {"role": "user", "content": "What is the weather in Paris? Use the tool."}


def post(daemon, path, **body):
    connection = UnixHttp(daemon.socket, timeout=600)
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    status, text = answer.status, answer.read().decode()
    connection.close()
    return status, text


@test
def a_model_calls_a_tool_and_answers_with_what_it_said():
    model = cached_model("qwen2.5-coder-0.5b-instruct")
    with Daemon("--cards", "2", "--context", "1024", model=model) as daemon:
        body = {"messages": [QUESTION], "tools": [WEATHER], "temperature": 0, "max_tokens": 100}
        status, text = post(daemon, "/v1/chat/completions", **body)
        equal(status, 200, text)
        choice = json.loads(text)["choices"][0]
        message, call = choice["message"], choice["message"]["tool_calls"][0]
        equal((choice["finish_reason"], message["content"]), ("tool_calls", None))
        equal((call["type"], call["function"]["name"]), ("function", "get_weather"))
        equal(json.loads(call["function"]["arguments"])["city"], "Paris")

        status, text = post(daemon, "/v1/chat/completions", stream=True, **body)
        chunks = [json.loads(line[6:]) for line in text.splitlines()
                  if line.startswith("data: {")]
        deltas = [c["choices"][0]["delta"] for c in chunks]
        calls = [d["tool_calls"] for d in deltas if "tool_calls" in d]
        equal([[c["function"] for c in part] for part in calls], [[call["function"]]])
        equal([d for d in deltas if "content" in d], [])
        equal(chunks[-1]["choices"][0]["finish_reason"], "tool_calls")

        said = {"role": "tool", "tool_call_id": call["id"], "content": "19 degrees, rain"}
        status, text = post(daemon, "/apply-template", messages=[QUESTION, message, said])
        prompt = json.loads(text)["prompt"]
        assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>' \
            in prompt and "<tool_response>\n19 degrees, rain\n</tool_response>" in prompt, prompt
        status, text = post(daemon, "/v1/chat/completions", messages=[QUESTION, message, said],
                            temperature=0, max_tokens=60)
        answer = json.loads(text)["choices"][0]["message"]["content"]
        assert "19" in answer, answer


@test
def a_template_that_takes_no_tools_is_named():
    with Daemon("--context", "256", model=tiny()) as daemon:
        status, text = post(daemon, "/v1/chat/completions", messages=[QUESTION], tools=[WEATHER])
        equal(status, 400, text)
        assert "chat template takes no tools" in text and "not_supported" in text, text


if __name__ == "__main__":
    main()
