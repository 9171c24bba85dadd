// opencode-ai, with a provider of its own in place of an account.

import { asked, configure, play } from "./agent.mjs";

const headers = asked.session ? { "x-session-id": asked.session } : {};
const thinking = { type: "enabled", budgetTokens: 1024 };
const [npm, path, options] = {
  gemini: ["@ai-sdk/google", "/v1beta", { thinkingConfig: { includeThoughts: true } }],
  anthropic: ["@ai-sdk/anthropic", "/v1", { thinking }],
  responses: ["@ai-sdk/openai", "/v1", { store: false, include: ["reasoning.encrypted_content"] }],
  chat: ["@ai-sdk/openai-compatible", "/v1", {}],
}[asked.dialect];

const model = {
  tool_call: true,
  reasoning: true,
  attachment: true,
  modalities: { input: ["text", "image"], output: ["text"] },
  limit: { context: 200000, output: 8192 },
  options,
};
configure(
  ".config/opencode/opencode.json",
  JSON.stringify({
    autoupdate: false,
    share: "disabled",
    permission: "allow",
    provider: {
      gateway: {
        npm,
        name: "gateway",
        options: { baseURL: `${asked.base_url}${path}`, apiKey: asked.api_key, headers },
        models: { [asked.model]: model, [asked.other_model]: model },
      },
    },
  }),
);

await play({
  package: "opencode-ai",
  binary: "opencode",
  environment: { OPENCODE_DISABLE_MODELS_FETCH: "1", OPENCODE_DISABLE_AUTOUPDATE: "1" },
  question({ model, text, image, session }) {
    const args = ["run", "--format", "json", "--model", `gateway/${model}`];
    args.push(...(session ? ["--session", session] : []), text, ...(image ? ["--file", image] : []));
    return { args };
  },
  read(lines) {
    const error = lines.find((line) => line.type === "error")?.error;
    return {
      text: lines.findLast((line) => line.type === "text")?.part.text,
      calls: lines.filter((line) => line.type === "tool_use").map((line) => line.part.tool),
      session: lines.find((line) => line.sessionID)?.sessionID,
      error: error && (error.data?.responseBody ?? error.data?.message ?? JSON.stringify(error)),
    };
  },
});
