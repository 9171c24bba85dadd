// ai, the AI SDK of Vercel: generateText and streamText, with the provider's own package.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createDeepSeek } from "@ai-sdk/deepseek";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, jsonSchema, streamText, tool } from "ai";
import { asked, getWeather, headers, play, WEATHER } from "./conversation.mjs";

const common = { apiKey: asked.api_key, headers };
const versioned = `${asked.base_url}/v1`;

const providers = {
  gemini: () => createGoogleGenerativeAI({ ...common, baseURL: `${asked.base_url}/v1beta` }),
  anthropic: () => createAnthropic({ ...common, baseURL: versioned }),
  responses: () => createOpenAI({ ...common, baseURL: versioned }).responses,
  chat: () =>
    asked.model.startsWith("deepseek")
      ? createDeepSeek({ ...common, baseURL: versioned })
      : createOpenAICompatible({ ...common, name: "compatible", baseURL: versioned }),
};
const provider = providers[asked.dialect]();

const providerOptions = {
  anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } },
  google: { thinkingConfig: { includeThoughts: true } },
  openai: { store: false, include: ["reasoning.encrypted_content"] },
};

const tools = {
  get_weather: tool({
    description: WEATHER.description,
    inputSchema: jsonSchema(WEATHER.parameters),
    execute: async (input) => getWeather(input),
  }),
};

const history = [];

async function ask(model, question, { image, leave } = {}) {
  const picture = image ? [{ type: "file", mediaType: "image/png", data: image }] : [];
  history.push({ role: "user", content: [{ type: "text", text: question }, ...picture] });
  const settings = { model: provider(model), tools, providerOptions, stopWhen: isStepCount(10) };
  if (!asked.stream) {
    const result = await generateText({ ...settings, messages: history });
    history.push(...result.responseMessages);
    return result.text;
  }
  if (leave) {
    await leaveSecond(settings);
  }
  const result = streamText({ ...settings, messages: history, onError: () => {} });
  for await (const part of result.stream) {
    if (part.type === "error") {
      throw part.error;
    }
  }
  history.push(...(await result.responseMessages));
  return result.text;
}

/** Stops in the middle of the second step; what was complete before it is kept. */
async function leaveSecond(settings) {
  const gone = new AbortController();
  const result = streamText({
    ...settings,
    messages: history.slice(),
    abortSignal: gone.signal,
    onAbort: ({ steps }) => history.push(...steps.flatMap((step) => step.response.messages)),
    onError: () => {},
  });
  let steps = 0;
  for await (const part of result.stream) {
    if (part.type === "error") {
      throw part.error;
    }
    if (part.type === "start-step") {
      steps += 1;
    } else if (steps === 2) {
      gone.abort();
    }
  }
}

await play("ai", ask);
