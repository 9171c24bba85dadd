// @google/genai: chats with automatic function calling; by hand where an answer is left.

import { GoogleGenAI } from "@google/genai";
import { asked, getWeather, headers, play, WEATHER } from "./conversation.mjs";

const ai = new GoogleGenAI({ apiKey: asked.api_key, httpOptions: { baseUrl: asked.base_url, headers } });

const functionDeclarations = [
  { name: WEATHER.name, description: WEATHER.description, parametersJsonSchema: WEATHER.parameters },
];
const respond = (call) => ({
  functionResponse: { id: call.id, name: call.name, response: { output: getWeather(call.args) } },
});
const callable = {
  tool: async () => ({ functionDeclarations }),
  callTool: async (functionCalls) => functionCalls.map(respond),
};

let history = [];

async function chat(model, question, { image }) {
  const session = ai.chats.create({ model, history, config: { tools: [callable] } });
  const picture = image ? [{ inlineData: { mimeType: "image/png", data: image } }] : [];
  const message = [{ text: question }, ...picture];
  let text = "";
  if (asked.stream) {
    for await (const chunk of await session.sendMessageStream({ message })) {
      text += chunk.text ?? "";
    }
  } else {
    text = (await session.sendMessage({ message })).text;
  }
  history = session.getHistory();
  return text;
}

async function byHand(model, question, { leave }) {
  history.push({ role: "user", parts: [{ text: question }] });
  for (let answers = 1; ; answers += 1) {
    if (leave && answers === 2) {
      await answer(model, true);
    }
    const parts = await answer(model, false);
    history.push({ role: "model", parts });
    const functionCalls = parts.flatMap((part) => part.functionCall ?? []);
    if (functionCalls.length === 0) {
      return parts.map((part) => (part.thought ? "" : (part.text ?? ""))).join("");
    }
    history.push({ role: "user", parts: functionCalls.map(respond) });
  }
}

async function answer(model, leave) {
  const gone = new AbortController();
  const config = { tools: [{ functionDeclarations }], abortSignal: gone.signal };
  const parts = [];
  for await (const chunk of await ai.models.generateContentStream({ model, contents: history, config })) {
    parts.push(...(chunk.candidates?.[0]?.content?.parts ?? []));
    if (leave) {
      gone.abort();
      break;
    }
  }
  return parts;
}

await play("@google/genai", (model, question, how = {}) =>
  asked.scenario === "abort" ? byHand(model, question, how) : chat(model, question, how),
);
