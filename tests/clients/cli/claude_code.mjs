// @anthropic-ai/claude-code, with an API key in place of an account.

import { readFileSync } from "node:fs";
import { asked, play } from "./agent.mjs";

await play({
  package: "@anthropic-ai/claude-code",
  binary: "claude",
  environment: {
    ANTHROPIC_BASE_URL: asked.base_url,
    ANTHROPIC_API_KEY: asked.api_key,
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    MAX_THINKING_TOKENS: "1024",
    ...(asked.session && { ANTHROPIC_CUSTOM_HEADERS: `x-session-id: ${asked.session}` }),
  },
  question({ model, text, image, session }) {
    const args = ["-p", "--model", model, "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"];
    args.push("--allowedTools", "Bash");
    if (session) {
      args.push("--resume", session);
    }
    const content = [{ type: "text", text }];
    if (image) {
      const data = readFileSync(image).toString("base64");
      content.push({ type: "image", source: { type: "base64", media_type: "image/png", data } });
    }
    return { args, input: `${JSON.stringify({ type: "user", message: { role: "user", content } })}\n` };
  },
  read(lines) {
    const blocks = lines.flatMap((line) => (line.type === "assistant" ? line.message.content : []));
    const result = lines.findLast((line) => line.type === "result");
    return {
      text: result?.result,
      calls: blocks.filter((block) => block.type === "tool_use").map((block) => block.name),
      session: result?.session_id,
      error: result?.is_error ? (result.result ?? JSON.stringify(result)) : undefined,
    };
  },
});
