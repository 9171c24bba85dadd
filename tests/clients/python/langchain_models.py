"""The models of langchain, one package for each dialect."""

from common import headers


def gemini(asked, model):
    from langchain_google_genai import ChatGoogleGenerativeAI

    return ChatGoogleGenerativeAI(
        model=model,
        api_key=asked.api_key,
        base_url=asked.base_url,
        additional_headers=headers(asked),
        max_retries=1,
    )


def anthropic(asked, model):
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(
        model=model,
        api_key=asked.api_key,
        base_url=asked.base_url,
        default_headers=headers(asked),
        max_tokens=4096,
        thinking={"type": "enabled", "budget_tokens": 1024},
        max_retries=0,
    )


def openai(asked, model):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(
        model=model,
        api_key=asked.api_key,
        base_url=f"{asked.base_url}/v1",
        default_headers=headers(asked),
        use_responses_api=asked.dialect == "responses",
        max_retries=0,
        **({"include": ["reasoning.encrypted_content"]} if asked.dialect == "responses" else {}),
    )


MODELS = {"gemini": gemini, "anthropic": anthropic, "responses": openai, "chat": openai}


def model_of(asked, model):
    return MODELS[asked.dialect](asked, model)
