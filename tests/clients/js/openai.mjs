// openai: Responses with the items of each answer appended, and the runner of tools for chat completions.

import OpenAI from "openai";
import { asked, getWeather, headers, play, Unsupported, WEATHER } from "./conversation.mjs";

const client = new OpenAI({ apiKey: asked.api_key, baseURL: `${asked.base_url}/v1`, defaultHeaders: headers });
const history = [];

async function responses(model, question, { image, leave } = {}) {
  const picture = image ? [{ type: "input_image", detail: "auto", image_url: `data:image/png;base64,${image}` }] : [];
  history.push({ role: "user", content: [{ type: "input_text", text: question }, ...picture] });
  for (let answers = 1; ; answers += 1) {
    if (leave && answers === 2) {
      await response(model, true);
    }
    const answer = await response(model, false);
    history.push(...answer.output);
    const calls = answer.output.filter((item) => item.type === "function_call");
    if (calls.length === 0) {
      return text(answer);
    }
    for (const call of calls) {
      const output = getWeather(JSON.parse(call.arguments));
      history.push({ type: "function_call_output", call_id: call.call_id, output });
    }
  }
}

/** As `output_text`, which an answer that was streamed does not have. */
function text(answer) {
  const parts = answer.output.flatMap((item) => (item.type === "message" ? item.content : []));
  return parts.map((part) => part.text ?? "").join("");
}

async function response(model, leave) {
  const request = {
    model,
    input: history,
    tools: [{ type: "function", ...WEATHER, strict: true }],
    reasoning: { effort: "medium" },
    include: ["reasoning.encrypted_content"],
    store: false,
  };
  if (!asked.stream) {
    return client.responses.create(request);
  }
  for await (const event of await client.responses.create({ ...request, stream: true })) {
    if (leave && event.type === "response.output_item.added") {
      return null;
    }
    if (event.type === "response.completed") {
      return event.response;
    }
  }
  throw new Error("the stream ended before the answer was complete");
}

async function chat(model, question, { image, leave } = {}) {
  const picture = image ? [{ type: "image_url", image_url: { url: `data:image/png;base64,${image}` } }] : [];
  history.push({ role: "user", content: image ? [{ type: "text", text: question }, ...picture] : question });
  if (leave) {
    return byHand(model);
  }
  const weather = { ...WEATHER, function: getWeather, parse: JSON.parse };
  const runner = client.chat.completions.runTools({
    model,
    messages: history.slice(),
    stream: asked.stream,
    tools: [{ type: "function", function: weather }],
  });
  const final = await runner.finalContent();
  history.splice(0, history.length, ...runner.messages);
  return final;
}

async function byHand(model) {
  for (let answers = 1; ; answers += 1) {
    if (answers === 2) {
      await completion(model, true);
    }
    const message = await completion(model, false);
    history.push(message);
    if (!message.tool_calls?.length) {
      return message.content;
    }
    for (const call of message.tool_calls) {
      history.push({ role: "tool", tool_call_id: call.id, content: getWeather(JSON.parse(call.function.arguments)) });
    }
  }
}

async function completion(model, leave) {
  const tools = [{ type: "function", function: WEATHER }];
  const stream = client.chat.completions.stream({ model, messages: history, tools });
  if (leave) {
    for await (const _ of stream) {
      break;
    }
    return null;
  }
  return (await stream.finalChatCompletion()).choices[0].message;
}

/** Gemini streams calls without the `index` that the helpers of this SDK insist on. */
async function chatWithIndexes(...question) {
  try {
    return await chat(...question);
  } catch (error) {
    if (/invalid tool call index/.test(error.message)) {
      throw new Unsupported(error.message);
    }
    throw error;
  }
}

await play("openai", asked.dialect === "responses" ? responses : chatWithIndexes);
