// @openai/codex, with a provider of its own in place of an account.

import { asked, configure, play } from "./agent.mjs";

const headers = asked.session ? `http_headers = { "x-session-id" = ${JSON.stringify(asked.session)} }\n` : "";
configure(
  ".codex/config.toml",
  `model_provider = "gateway"
check_for_update_on_startup = false

[model_providers.gateway]
name = "gateway"
base_url = "${asked.base_url}/v1"
env_key = "GATEWAY_KEY"
wire_api = "responses"
${headers}`,
);

await play({
  package: "@openai/codex",
  binary: "codex",
  environment: { GATEWAY_KEY: asked.api_key },
  question({ model, text, image, session }) {
    const args = ["exec", ...(session ? ["resume", session] : [])];
    args.push("--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--model", model);
    args.push(...(image ? ["--image", image] : []), "--", text);
    return { args };
  },
  read(lines) {
    const items = lines.filter((line) => line.type === "item.completed").map((line) => line.item);
    return {
      text: items.findLast((item) => item.type === "agent_message")?.text,
      calls: items.filter((item) => item.type === "command_execution").map(() => "exec_command"),
      session: lines.find((line) => line.type === "thread.started")?.thread_id,
      error: lines.find((line) => line.type === "turn.failed")?.error.message,
    };
  },
});
