"""openai: what was answered is appended to the next request, as the guides of both protocols show."""

import json

import openai

from common import DESCRIPTION, SCHEMA, chat_content, get_weather, headers, main, responses_content, rounds

FUNCTION = {"name": "get_weather", "description": DESCRIPTION, "parameters": SCHEMA, "strict": True}


def converse(asked):
    client = openai.OpenAI(base_url=f"{asked.base_url}/v1", api_key=asked.api_key, default_headers=headers(asked))
    return responses(client, asked) if asked.dialect == "responses" else chat(client, asked)


def responses(client, asked):
    history, answers, response = [], 0, None
    for model, question in rounds(asked):
        history.append({"role": "user", "content": responses_content(asked, question)})
        while True:
            request = {
                "model": model,
                "input": history,
                "tools": [{"type": "function", **FUNCTION}],
                "reasoning": {"effort": "low", "summary": "auto"},
                "include": ["reasoning.encrypted_content"],
            }
            if asked.scenario == "abort" and answers == 1:
                with client.responses.stream(**request) as stream:
                    next(iter(stream))
            if asked.stream:
                with client.responses.stream(**request) as stream:
                    response = stream.get_final_response()
            else:
                response = client.responses.create(**request)
            answers += 1
            history += response.output
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                break
            for call in calls:
                output = get_weather(**json.loads(call.arguments))
                history.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
    return response.output_text


def chat(client, asked):
    messages, answers, message = [], 0, None
    for model, question in rounds(asked):
        messages.append({"role": "user", "content": chat_content(asked, question)})
        while True:
            request = {"model": model, "messages": messages, "tools": [{"type": "function", "function": FUNCTION}]}
            if asked.scenario == "abort" and answers == 1:
                with client.chat.completions.create(**request, stream=True) as stream:
                    next(iter(stream))
            if asked.stream:
                message = joined(client.chat.completions.create(**request, stream=True))
            else:
                message = client.chat.completions.create(**request).choices[0].message.to_dict()
            answers += 1
            messages.append(message)
            if not message.get("tool_calls"):
                break
            for call in message["tool_calls"]:
                output = get_weather(**json.loads(call["function"]["arguments"]))
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": output})
    return message["content"]


def joined(stream):
    """A message of its deltas, as the guides of many providers put it together. The SDK's own helper cannot read the
    streams of Gemini, whose calls have no index."""
    text, calls = "", []
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for piece in choice.delta.tool_calls or []:
                at = len(calls) if piece.index is None else piece.index
                if at == len(calls):
                    function = {"name": piece.function.name, "arguments": piece.function.arguments or ""}
                    calls.append({"id": piece.id, "type": "function", "function": function})
                else:
                    calls[at]["function"]["arguments"] += piece.function.arguments or ""
    return {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}


main(openai.__version__, converse)
