"""google-genai: a chat with automatic function calling."""

import base64

from google import genai
from google.genai import types

from common import PNG, get_weather, headers, main, rounds


def main_loop(asked):
    client = genai.Client(
        api_key=asked.api_key,
        http_options=types.HttpOptions(base_url=asked.base_url, headers=headers(asked)),
    )
    if asked.scenario == "abort":
        return by_hand(client, asked)
    config = types.GenerateContentConfig(tools=[get_weather])
    chat, history, text = None, None, None
    for model, question in rounds(asked):
        # A chat has one model; another one takes its history over.
        chat = client.chats.create(model=model, config=config, history=history)
        message = [question]
        if asked.scenario == "image":
            message.append(types.Part.from_bytes(data=base64.b64decode(PNG), mime_type="image/png"))
        if asked.stream:
            text = "".join(chunk.text or "" for chunk in chat.send_message_stream(message))
        else:
            text = chat.send_message(message).text
        history = chat.get_history()
    return text


def by_hand(client, asked):
    """Without automatic calling, whose requests cannot be left half-way one by one."""
    declaration = types.FunctionDeclaration.from_callable(client=client._api_client, callable=get_weather)
    config = types.GenerateContentConfig(
        tools=[types.Tool(function_declarations=[declaration])],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
    )
    contents, answers, text = [], 0, None
    for model, question in rounds(asked):
        contents.append(types.UserContent(question))
        while True:
            if answers == 1:
                stream = client.models.generate_content_stream(model=model, contents=contents, config=config)
                next(stream)
                stream.close()
            parts = []
            for chunk in client.models.generate_content_stream(model=model, contents=contents, config=config):
                if chunk.candidates and chunk.candidates[0].content and chunk.candidates[0].content.parts:
                    parts.extend(chunk.candidates[0].content.parts)
            answers += 1
            contents.append(types.ModelContent(parts))
            calls = [part.function_call for part in parts if part.function_call]
            if not calls:
                text = "".join(part.text for part in parts if part.text and not part.thought)
                break
            outputs = [
                types.Part(
                    function_response=types.FunctionResponse(
                        id=call.id, name=call.name, response={"result": get_weather(**call.args)}
                    )
                )
                for call in calls
            ]
            contents.append(types.Content(role="user", parts=outputs))
    return text


main(genai.__version__, main_loop)
