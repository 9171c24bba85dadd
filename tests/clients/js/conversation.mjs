// What every program of this folder shares: what it was asked, the tool, and the course of a conversation.

import { readFileSync } from "node:fs";

/** What the test asks for. */
export const asked = JSON.parse(process.argv[2]);

/** Sent with every request: the name of the conversation, if it has one. */
export const headers = asked.session ? { "x-session-id": asked.session } : {};

/** A PNG of one pixel, in base64. */
export const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/** The tool, as most providers want it declared. */
export const WEATHER = {
  name: "get_weather",
  description: "Tells the weather in a city.",
  parameters: {
    type: "object",
    properties: { city: { type: "string", description: "The city." } },
    required: ["city"],
    additionalProperties: false,
  },
};

const calls = [];

/** The tool. */
export function getWeather({ city }) {
  calls.push("get_weather");
  return `It rains in ${city}.`;
}

/** What a program throws if its client has no way to do something. */
export class Unsupported extends Error {}

/** The version of an installed package. */
export function version(name) {
  return JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), "utf8")).version;
}

/**
 * Plays the scenario and tells how it went, in one line.
 *
 * `ask(model, question, { image, leave })` asks one question in the one conversation of this process, runs the tool as
 * often as the model wants, and returns the text of the answer. With `image` the question has a picture in it; with
 * `leave` the client stops reading the second answer half-way and asks for it again.
 */
export async function play(packageName, ask) {
  const told = { final: null, calls, refused: null, unsupported: null, version: version(packageName) };
  try {
    told.final = await scenarios[asked.scenario](ask);
  } catch (error) {
    if (error instanceof Unsupported) {
      told.unsupported = error.message;
    } else {
      told.refused = refusal(error);
      if (told.refused === null) {
        console.error(`${error.stack}\n${error.name}: ${error.message}`);
        process.exit(1);
      }
    }
  }
  console.log(JSON.stringify(told));
  // Some clients keep connections or timers that would hold the process.
  process.exit(0);
}

const scenarios = {
  async loop(ask) {
    await ask(asked.model, "How is the weather in Paris, Tokyo and Lima?");
    return ask(asked.model, "And what should I take with me?");
  },
  parallel(ask) {
    return ask(asked.model, "How is the weather in Paris and Tokyo? What should I take with me?");
  },
  image(ask) {
    return ask(asked.model, "How is the weather where this picture was taken?", { image: PIXEL });
  },
  async abort(ask) {
    await ask(asked.model, "How is the weather in Paris, Tokyo and Lima?", { leave: true });
    return ask(asked.model, "And what should I take with me?");
  },
  async switch(ask) {
    await ask(asked.model, "How is the weather in Paris?");
    await ask(asked.other_model, "And in Tokyo?");
    return ask(asked.model, "And in Lima? What should I take with me?");
  },
};

/** The text of the provider's refusal, wherever a client keeps it; `null` if this is another error. */
function refusal(error) {
  for (let at = error; at; at = at.cause ?? at.lastError) {
    const status = Number(at.status ?? at.statusCode);
    if (status >= 400 && status < 500) {
      return at.responseBody ?? (at.error ? JSON.stringify(at.error) : at.message);
    }
  }
  return null;
}
