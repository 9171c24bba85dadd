//! How conversations and callers are told apart.
//!
//! State is shared within one [`Scope`](crate::scope::Scope): tenant, provenance, model, session, and the agent if the
//! client names one. All are folded into one keyed hash. Two requests that differ in any of them never share.
//!
//! # Tenants
//!
//! The first of these that is there names who calls:
//!
//! 1. the extension [`Tenant`](crate::scope::Tenant),
//! 2. a header named with [`tenant_header`](crate::engine::Builder::tenant_header),
//! 3. a hash of all credentials of the request: `authorization`, `x-api-key`, `x-goog-api-key`, `api-key`, and `key` in
//!    the query,
//! 4. nobody: one anonymous tenant for all, unless [`require_tenant`](crate::engine::Builder::require_tenant) leaves
//!    such requests alone.
//!
//! | the gateway | do this |
//! |---|---|
//! | passes the caller's own key of the provider through | nothing |
//! | authenticates callers, and sends a key of its own | set [`Tenant`](crate::scope::Tenant): else everybody is one tenant |
//! | rotates upstream keys, or uses short-lived tokens | set [`Tenant`](crate::scope::Tenant): else every new key is a new tenant, which finds nothing |
//! | is told the tenant by a proxy in front of it | [`tenant_header`](crate::engine::Builder::tenant_header), if the proxy sets or strips it; or read it, and set [`Tenant`](crate::scope::Tenant) |
//! | fails over between accounts of one provider | set [`Tenant`](crate::scope::Tenant); where state is bound to an account, that account counts as well |
//!
//! A header that callers can choose must not name the tenant: who chooses it chooses whose state is replayed.
//!
//! # Provenance and account
//!
//! The provenance is the extension [`Provenance`](crate::scope::Provenance), else the host: AI Studio, Vertex AI in all
//! regions, Cloud Code, or host and port. A gateway that hides several providers behind one host, or one provider behind
//! several, sets the extension. Where a provider binds state to an account, the account is that of the extension, else
//! the header `chatgpt-account-id` or `openai-organization`, else a hash of the credential.
//!
//! # Sessions
//!
//! The first of these that is fit names the conversation: the extension [`Session`](crate::scope::Session), then the
//! headers, then the fields of the body, in this order.
//!
//! | header | sent by |
//! |---|---|
//! | `x-claude-code-session-id` | Claude Code |
//! | `session-id` | Codex |
//! | `session_id` | older Codex, Roo, Pi |
//! | `x-session-id` | OpenCode, OpenRouter's clients |
//! | `x_session_id` | another spelling |
//! | `thread-id` | Codex |
//! | `thread_id` | another spelling |
//! | `conversation-id` | another spelling |
//! | `conversation_id` | older Codex |
//! | `x-codex-window-id` | Codex; without the number of the window behind the colon |
//! | `x-client-request-id` | Codex; read only if `originator` says so, for others send a fresh one each time |
//! | `x-session-affinity` | OpenCode, Kilo |
//! | `x-opencode-session` | OpenCode |
//! | `x-roo-task-id` | Roo |
//! | `x-kilo-session` | Kilo |
//! | `x-kilocode-taskid` | Kilo |
//! | `x-task-id` | Cline, at some time |
//! | `x-client-session-id` | Copilot |
//! | `x-openwebui-chat-id` | Open WebUI |
//! | `x-litellm-session-id` | LiteLLM |
//! | `helicone-session-id` | Helicone's clients |
//! | `x-hermes-session-id` | Hermes |
//! | `x-continue-session-id` | Continue |
//! | `x-affinity` | Mistral's client |
//! | `x-deepseek-harness-session-id` | DeepSeek's harness |
//! | `x-grok-conv-id` | xAI's clients |
//!
//! | field of the body | sent by |
//! |---|---|
//! | `request.sessionId` | Antigravity, Pi, in Cloud Code's envelope |
//! | `request.session_id` | gemini-cli, in Cloud Code's envelope |
//! | `session_id` | OpenRouter's clients, and generally |
//! | `sessionId` | generally |
//! | `conversation_id` | Cursor, by some reports, and generally |
//! | `conversationId` | Cursor, by some reports, and generally |
//! | `metadata.session_id` | generally |
//! | `metadata.cursorConversationId` | Cursor |
//! | `metadata.conversation_id` | Cursor, by some reports |
//! | `metadata.conversationId` | Cursor, by some reports |
//! | `client_metadata.session_id` | Codex |
//! | `client_metadata.thread_id` | Codex |
//! | `metadata.user_id` | Claude Code; only the session inside it |
//! | `user_prompt_id` | gemini-cli; up to its `########` |
//! | `conversation` | clients of the Responses API; a string, or an object with an `id` |
//! | `prompt_cache_key` | Codex, OpenCode, Pi; often one constant per application, hence the strict match |
//!
//! | header of an agent | sent by |
//! |---|---|
//! | `x-claude-code-agent-id` | Claude Code, for its subagents |
//! | `x-openai-subagent` | Codex, for its subagents |
//!
//! Names of users (`user`, `safety_identifier`, a bare `metadata.user_id`) and ids of single requests
//! (`previous_response_id`, `x-interaction-id`) are no sessions and are not read.
//! [`SessionSources`](crate::scope::SessionSources) changes the lists, and says which ids are fit.
//!
//! A client that names no session gets one that is derived from the system instruction and its first message, and
//! [`SessionKind`](crate::engine::SessionKind) in the [`Report`](crate::Report) says so. For such a session, and for one
//! named by `prompt_cache_key`, the match is strict: everything before a turn has to be what it was, or the call has to
//! carry an id that the provider issued. **If your clients truncate, compact or edit their histories, have them name their
//! sessions**, or name them in the gateway:
//!
//! ```
//! use http::HeaderName;
//! use tower_reasoning_replay::{ConfigError, MemoryStore, ReplayLayer, scope::SessionSources};
//!
//! let sessions = SessionSources::default()
//!     .prepend_header(HeaderName::from_static("x-chat"))
//!     .append_field("metadata.chat_id");
//! let layer = ReplayLayer::builder(MemoryStore::new()).sessions(sessions).build_layer()?;
//! # let _ = layer;
//! # Ok::<(), ConfigError>(())
//! ```
