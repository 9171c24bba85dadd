// @anthropic-ai/sdk: its runner of tools; by hand where an answer is left.

import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { asked, getWeather, headers, play, WEATHER } from "./conversation.mjs";

const client = new Anthropic({ apiKey: asked.api_key, baseURL: asked.base_url, defaultHeaders: headers });
const weather = betaTool({
  name: WEATHER.name,
  description: WEATHER.description,
  inputSchema: WEATHER.parameters,
  run: getWeather,
});
const settings = { max_tokens: 4096, thinking: { type: "enabled", budget_tokens: 1024 } };

let history = [];

async function ask(model, question, { image, leave } = {}) {
  const picture = image ? [{ type: "image", source: { type: "base64", media_type: "image/png", data: image } }] : [];
  history.push({ role: "user", content: [{ type: "text", text: question }, ...picture] });
  return leave ? byHand(model) : run(model);
}

async function run(model) {
  // Without this the runner sends new messages only, and the provider keeps the rest.
  const whole = { thread: false };
  const runner = client.beta.messages.toolRunner({
    ...settings,
    ...whole,
    model,
    messages: history,
    tools: [weather],
    stream: asked.stream,
  });
  const final = await runner.runUntilDone();
  history = runner.params.messages.slice();
  if (history.at(-1).role !== "assistant") {
    history.push({ role: final.role, content: final.content });
  }
  return text(final);
}

async function byHand(model) {
  for (let answers = 1; ; answers += 1) {
    if (answers === 2) {
      await answer(model, true);
    }
    const { role, content } = await answer(model, false);
    history.push({ role, content });
    const calls = content.filter((block) => block.type === "tool_use");
    if (calls.length === 0) {
      return text({ content });
    }
    const results = calls.map((call) => ({
      type: "tool_result",
      tool_use_id: call.id,
      content: getWeather(call.input),
    }));
    history.push({ role: "user", content: results });
  }
}

async function answer(model, leave) {
  const { name, description, parameters } = WEATHER;
  const tools = [{ name, description, input_schema: parameters }];
  const stream = client.messages.stream({ ...settings, model, messages: history, tools });
  if (leave) {
    for await (const event of stream) {
      if (event.type === "content_block_delta") {
        break;
      }
    }
    return null;
  }
  return stream.finalMessage();
}

function text({ content }) {
  return content.map((block) => (block.type === "text" ? block.text : "")).join("");
}

await play("@anthropic-ai/sdk", ask);
