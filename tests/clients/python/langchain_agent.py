"""langchain: an agent, and for the abort a model with its tools bound."""

import importlib.metadata

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage

from common import PNG, get_weather, main, rounds
from langchain_models import model_of


def question_of(asked, text):
    if asked.scenario != "image":
        return HumanMessage(text)
    image = {"type": "image", "base64": PNG, "mime_type": "image/png"}
    return HumanMessage(content=[{"type": "text", "text": text}, image])


def converse(asked):
    if asked.scenario == "abort":
        return by_hand(asked)
    messages = []
    for model, question in rounds(asked):
        agent = create_agent(model_of(asked, model), tools=[get_weather])
        state = {"messages": [*messages, question_of(asked, question)]}
        if asked.stream:
            for mode, piece in agent.stream(state, stream_mode=["messages", "values"]):
                if mode == "values":
                    messages = piece["messages"]
        else:
            messages = agent.invoke(state)["messages"]
    return messages[-1].text


def by_hand(asked):
    """Without the agent, whose requests cannot be left half-way one by one."""
    messages, answers, message = [], 0, None
    for model, question in rounds(asked):
        bound = model_of(asked, model).bind_tools([get_weather])
        messages.append(question_of(asked, question))
        while True:
            if answers == 1:
                stream = bound.stream(messages)
                next(stream)
                stream.close()
            message = None
            for chunk in bound.stream(messages):
                message = chunk if message is None else message + chunk
            answers += 1
            messages.append(message)
            if not message.tool_calls:
                break
            for call in message.tool_calls:
                messages.append(ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"]))
    return message.text


main(importlib.metadata.version("langchain"), converse)
