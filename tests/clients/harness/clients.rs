//! The clients: one entry each.

use super::{
    program::{Program, Tool},
    provider::Protocol,
};

/// A client, and what it speaks.
#[derive(Debug)]
pub(crate) struct Client {
    /// As its package is called.
    pub(crate) name: &'static str,
    pub(super) program: Program,
    pub(super) protocols: &'static [Protocol],
}

const CLIENTS: &[Client] = &[
    Client { name: "google-genai", program: Program::Python("google_genai.py"), protocols: &[Protocol::Gemini] },
    Client {
        name: "openai",
        program: Program::Python("openai_sdk.py"),
        protocols: &[Protocol::Responses, Protocol::DeepSeek, Protocol::GeminiChat, Protocol::OpenRouter],
    },
    Client { name: "anthropic", program: Program::Python("anthropic_sdk.py"), protocols: &[Protocol::Messages] },
    Client { name: "litellm", program: Program::Python("litellm_sdk.py"), protocols: EACH },
    Client { name: "langchain", program: Program::Python("langchain_agent.py"), protocols: EACH },
    Client { name: "@google/genai", program: Program::Node("google_genai.mjs"), protocols: &[Protocol::Gemini] },
    Client { name: "@anthropic-ai/sdk", program: Program::Node("anthropic_sdk.mjs"), protocols: &[Protocol::Messages] },
    Client {
        name: "openai (npm)",
        program: Program::Node("openai.mjs"),
        protocols: &[Protocol::Responses, Protocol::DeepSeek, Protocol::GeminiChat, Protocol::OpenRouter],
    },
    Client { name: "ai", program: Program::Node("vercel_ai.mjs"), protocols: ALL },
    Client {
        name: "@anthropic-ai/claude-code",
        program: Program::Agent("claude_code.mjs", Tool::shell("Bash", "command")),
        protocols: &[Protocol::Messages],
    },
    Client {
        name: "@google/gemini-cli",
        program: Program::Agent("gemini_cli.mjs", Tool::shell("run_shell_command", "command")),
        protocols: &[Protocol::Gemini],
    },
    Client {
        name: "@openai/codex",
        program: Program::Agent("codex.mjs", Tool::shell("exec_command", "cmd")),
        protocols: &[Protocol::Responses],
    },
    Client {
        name: "opencode-ai",
        program: Program::Agent("opencode.mjs", Tool::shell("bash", "command")),
        protocols: ALL,
    },
];

/// Every protocol.
const ALL: &[Protocol] = &[
    Protocol::Gemini,
    Protocol::Messages,
    Protocol::Responses,
    Protocol::DeepSeek,
    Protocol::GeminiChat,
    Protocol::OpenRouter,
];

/// Those of the four families, each with one provider.
const EACH: &[Protocol] = &[Protocol::Gemini, Protocol::Messages, Protocol::Responses, Protocol::DeepSeek];

/// All clients, or those that the variable `CLIENTS_ONLY` names.
pub(crate) fn chosen() -> Vec<&'static Client> {
    let Ok(only) = std::env::var("CLIENTS_ONLY") else { return CLIENTS.iter().collect() };
    let names: Vec<&str> = only.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let find = |name: &&str| CLIENTS.iter().find(|client| client.name == *name);
    names.iter().map(|name| find(name).unwrap_or_else(|| panic!("CLIENTS_ONLY names no client: {name}"))).collect()
}
