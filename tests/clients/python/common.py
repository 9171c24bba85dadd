"""What every program has: its order, the tool, and the report."""

import json
import sys
from types import SimpleNamespace

FIRST = "How is the weather in Paris, Tokyo and Lima?"
NEXT = "And until Friday?"
LAST = "And what should I take along?"
# One pixel.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

CALLS = []


class Unsupported(Exception):
    """The client cannot do what the scenario wants."""


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: The name of the city.
    """
    CALLS.append("get_weather")
    return f"grey, 12 degrees in {city}"


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "The name of the city."}},
    "required": ["city"],
    "additionalProperties": False,
}
DESCRIPTION = "The weather in a city."


def headers(asked):
    """The header that names the conversation, if it has a name."""
    return {"x-session-id": asked.session} if asked.session else {}


def chat_content(asked, question):
    """A question in chat completions, with an image if the scenario is about one."""
    if asked.scenario != "image":
        return question
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    return [{"type": "text", "text": question}, image]


def responses_content(asked, question):
    """The same in Responses."""
    if asked.scenario != "image":
        return question
    image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
    return [{"type": "input_text", "text": question}, image]


def rounds(asked):
    """The user's questions, each with the model that is to answer it."""
    if asked.scenario in ("loop", "abort"):
        return [(asked.model, FIRST), (asked.model, NEXT)]
    if asked.scenario == "switch":
        return [(asked.model, FIRST), (asked.other_model, NEXT), (asked.model, LAST)]
    return [(asked.model, FIRST)]


def _refusal(error):
    """The text of an answer that refused the request; nothing if this was something else."""
    while error is not None:
        for status in (
            getattr(error, "code", None),
            getattr(error, "status_code", None),
            getattr(getattr(error, "response", None), "status_code", None),
        ):
            if isinstance(status, int) and 400 <= status < 500:
                return str(error)
        error = error.__cause__ or error.__context__
    return None


def main(version, converse):
    """Runs `converse`, which returns the text of the last answer, and reports."""
    asked = SimpleNamespace(**json.loads(sys.argv[1]))
    report = {"final": None, "refused": None, "unsupported": None}
    try:
        report["final"] = converse(asked)
    except Unsupported as why:
        report["unsupported"] = str(why)
    except Exception as error:
        report["refused"] = _refusal(error)
        if report["refused"] is None:
            raise
    print(json.dumps({**report, "calls": CALLS, "version": version}), flush=True)
