"""litellm as an SDK: its own messages, whatever the provider speaks."""

import importlib.metadata
import json

import litellm

from common import DESCRIPTION, SCHEMA, chat_content, get_weather, headers, main, responses_content, rounds

FUNCTION = {"name": "get_weather", "description": DESCRIPTION, "parameters": SCHEMA}
# The route of a dialect, the base that it wants, and what else.
ROUTES = {
    "gemini": ("gemini/", "/v1beta", {"reasoning_effort": "low"}),
    "anthropic": ("anthropic/", "", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 4096}),
    "chat": ("openai/", "/v1", {}),
    "responses": ("openai/", "/v1", {"include": ["reasoning.encrypted_content"]}),
}


def converse(asked):
    litellm.suppress_debug_info = True
    route, base, options = ROUTES[asked.dialect]
    common = {
        **options,
        "api_base": asked.base_url + base,
        "api_key": asked.api_key,
        "extra_headers": headers(asked),
        "num_retries": 0,
    }
    if asked.dialect == "responses":
        return responses(asked, route, common)
    messages, answers, message = [], 0, None
    for model, question in rounds(asked):
        messages.append({"role": "user", "content": chat_content(asked, question)})
        while True:
            request = {
                "model": route + model,
                "messages": messages,
                "tools": [{"type": "function", "function": FUNCTION}],
                **common,
            }
            if asked.scenario == "abort" and answers == 1:
                leave(litellm.completion(**request, stream=True))
            if asked.stream:
                chunks = list(litellm.completion(**request, stream=True))
                completion = litellm.stream_chunk_builder(chunks, messages=messages)
            else:
                completion = litellm.completion(**request)
            answers += 1
            message = completion.choices[0].message
            messages.append(message)
            if not message.tool_calls:
                break
            for call in message.tool_calls:
                output = get_weather(**json.loads(call.function.arguments))
                messages.append({"role": "tool", "tool_call_id": call.id, "content": output})
    return message.content


def leave(stream):
    """Reads one piece and goes: the stream of litellm has no way to close it, so that the connection must be let go."""
    next(iter(stream))
    inner = getattr(stream, "completion_stream", None)
    for candidate in (stream, inner, getattr(inner, "response", None), getattr(inner, "response_iterator", None)):
        close = getattr(candidate, "close", None)
        if callable(close):
            close()


def field(item, name):
    """Items are objects or dicts, as it comes."""
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def responses(asked, route, common):
    history, answers, response = [], 0, None
    for model, question in rounds(asked):
        history.append({"role": "user", "content": responses_content(asked, question)})
        while True:
            request = {
                "model": route + model,
                "input": history,
                "tools": [{"type": "function", **FUNCTION, "strict": False}],
                **common,
            }
            if asked.scenario == "abort" and answers == 1:
                leave(litellm.responses(**request, stream=True))
            if asked.stream:
                for event in litellm.responses(**request, stream=True):
                    if event.type == "response.completed":
                        response = event.response
            else:
                response = litellm.responses(**request)
            answers += 1
            history += response.output
            calls = [item for item in response.output if field(item, "type") == "function_call"]
            if not calls:
                break
            for call in calls:
                output = get_weather(**json.loads(field(call, "arguments")))
                history.append(
                    {"type": "function_call_output", "call_id": field(call, "call_id"), "output": output}
                )
    messages = [item for item in response.output if field(item, "type") == "message"]
    return "".join(field(part, "text") for item in messages for part in field(item, "content"))


main(importlib.metadata.version("litellm"), converse)
