// @google/gemini-cli, with an API key in place of an account.

import { basename } from "node:path";
import { asked, configure, play } from "./agent.mjs";

configure(
  ".gemini/settings.json",
  JSON.stringify({
    // Its own choice for a base URL is an authentication that it then calls invalid.
    security: { auth: { selectedType: "gemini-api-key" } },
    privacy: { usageStatisticsEnabled: false },
    general: { enableAutoUpdate: false },
  }),
);

await play({
  package: "@google/gemini-cli",
  binary: "gemini",
  environment: {
    GEMINI_API_KEY: asked.api_key,
    GOOGLE_GEMINI_BASE_URL: asked.base_url,
    ...(asked.session && { GEMINI_CLI_CUSTOM_HEADERS: `x-session-id: ${asked.session}` }),
  },
  question({ model, text, image, session }) {
    const args = ["--model", model, "--output-format", "stream-json", "--yolo", "--skip-trust"];
    args.push(...(session ? ["--resume", "latest"] : []), "--prompt", image ? `${text} @${basename(image)}` : text);
    return { args };
  },
  read(lines) {
    const last = lines.findLastIndex((line) => line.type === "tool_result");
    const words = lines.slice(last + 1).filter((line) => line.type === "message" && line.role === "assistant");
    const result = lines.findLast((line) => line.type === "result");
    return {
      text: words.map((line) => line.content).join(""),
      calls: lines.filter((line) => line.type === "tool_use").map((line) => line.tool_name),
      session: lines.find((line) => line.type === "init")?.session_id,
      error: result?.status === "error" ? JSON.stringify(result.error) : undefined,
    };
  },
});
