"""anthropic: the tool runner, whose messages are kept for the next question."""

import anthropic

from common import DESCRIPTION, PNG, SCHEMA, get_weather, headers, main, rounds

REQUEST = {"max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 1024}}


def user(asked, question):
    if asked.scenario != "image":
        return {"role": "user", "content": question}
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    return {"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": question}]}


def converse(asked):
    client = anthropic.Anthropic(base_url=asked.base_url, api_key=asked.api_key, default_headers=headers(asked))
    if asked.scenario == "abort":
        return by_hand(client, asked)
    messages, message = [], None
    for model, question in rounds(asked):
        messages.append(user(asked, question))
        runner = client.beta.messages.tool_runner(
            model=model,
            messages=list(messages),
            tools=[anthropic.beta_tool(get_weather)],
            stream=asked.stream,
            # By default the provider holds the history, and there is nothing to be lost.
            thread=False,
            **REQUEST,
        )
        for answer in runner:
            message = answer.get_final_message() if asked.stream else answer
            messages.append({"role": "assistant", "content": message.content})
            outputs = runner.generate_tool_call_response()
            if outputs:
                messages.append(outputs)
    return "".join(block.text for block in message.content if block.type == "text")


def by_hand(client, asked):
    """Without the runner, whose requests cannot be left half-way one by one."""
    tools = [{"name": "get_weather", "description": DESCRIPTION, "input_schema": SCHEMA}]
    messages, answers, message = [], 0, None
    for model, question in rounds(asked):
        messages.append(user(asked, question))
        while True:
            request = {"model": model, "messages": messages, "tools": tools, **REQUEST}
            if answers == 1:
                with client.messages.stream(**request) as stream:
                    next(iter(stream))
            with client.messages.stream(**request) as stream:
                message = stream.get_final_message()
            answers += 1
            messages.append({"role": "assistant", "content": message.content})
            calls = [block for block in message.content if block.type == "tool_use"]
            if not calls:
                break
            outputs = [
                {"type": "tool_result", "tool_use_id": call.id, "content": get_weather(**call.input)} for call in calls
            ]
            messages.append({"role": "user", "content": outputs})
    return "".join(block.text for block in message.content if block.type == "text")


main(anthropic.__version__, converse)
