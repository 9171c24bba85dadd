use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderName, request::Parts};
use serde_json::Value;

/// The longest id that names a session or an agent, in characters.
const LONGEST_ID: usize = 256;

/// The longest member of a body in which a session is looked for, in bytes.
const LONGEST_MEMBER: usize = 4 << 10;

/// The headers in which known clients name their session, in order of trust.
pub(crate) const HEADERS: [&str; 26] = [
    "x-claude-code-session-id",
    "session-id",
    "session_id",
    "x-session-id",
    "x_session_id",
    "thread-id",
    "thread_id",
    "conversation-id",
    "conversation_id",
    "x-codex-window-id",
    "x-client-request-id",
    "x-session-affinity",
    "x-opencode-session",
    "x-roo-task-id",
    "x-kilo-session",
    "x-kilocode-taskid",
    "x-task-id",
    "x-client-session-id",
    "x-openwebui-chat-id",
    "x-litellm-session-id",
    "helicone-session-id",
    "x-hermes-session-id",
    "x-continue-session-id",
    "x-affinity",
    "x-deepseek-harness-session-id",
    "x-grok-conv-id",
];

/// The fields of the body in which they do.
pub(crate) const FIELDS: [&str; 16] = [
    "request.sessionId",
    "request.session_id",
    "session_id",
    "sessionId",
    "conversation_id",
    "conversationId",
    "metadata.session_id",
    "metadata.cursorConversationId",
    "metadata.conversation_id",
    "metadata.conversationId",
    "client_metadata.session_id",
    "client_metadata.thread_id",
    "metadata.user_id",
    "user_prompt_id",
    "conversation",
    "prompt_cache_key",
];

/// The headers that tell apart the agents of one session.
/// [Claude Code](https://code.claude.com/docs/en/llm-gateway) and Codex send them.
pub(crate) const AGENTS: [&str; 2] = ["x-claude-code-agent-id", "x-openai-subagent"];

/// Names one conversation: what a gateway that knows better than the client puts into the extensions of a
/// request.
///
/// It comes before all [`SessionSources`].
///
/// # Limits
///
/// As for the ids of clients: a name that is empty, longer than 256 characters, or has control characters in
/// it counts as not set.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::scope::Session;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(Session::new("chat-4711"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Session(Arc<str>);

impl Session {
    /// The session of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into().into())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session(..)")
    }
}

/// Where in a request the client names its session, in order of trust.
///
/// First comes a [`Session`] in the request's extensions, then headers, then fields of the body, each in
/// their order here; the first id that is fit counts. Each kind of id is a namespace of its own, so that two
/// clients that count from 1 do not meet. Spellings are one kind: `session-id` and `session_id` in
/// headers, `session_id` and `sessionId` in bodies.
///
/// The default is what the known clients send:
///
/// 1. the header of [Claude Code](https://code.claude.com/docs/en/llm-gateway);
/// 2. the family of `session-id`, `session_id`, `x-session-id` and `thread-id`;
/// 3. the headers of Codex, OpenCode, Roo, Kilo, Cline, Copilot, Open WebUI, LiteLLM, Helicone, Hermes,
///    Continue, Mistral, DeepSeek and xAI;
/// 4. in the body `sessionId` or `session_id` inside the `request` of Cloud Code's envelope;
/// 5. `session_id`, `sessionId`, `conversation_id`, `metadata.session_id` and what Cursor and Codex have of
///    the kind;
/// 6. the session inside `metadata.user_id`, as Claude Code writes it;
/// 7. `user_prompt_id` up to its `########`;
/// 8. [`conversation`](https://platform.openai.com/docs/api-reference/responses/create), a string or an
///    object with an `id`;
/// 9. [`prompt_cache_key`](https://platform.openai.com/docs/guides/prompt-caching), which is often one
///    constant per application and so gets the strict match.
///
/// Names of users are no sessions: `user`, `safety_identifier` and a bare `metadata.user_id` are not read,
/// nor are the ids of single requests and responses.
///
/// # Limits
///
/// Ids that are empty, longer than 256 characters, or have control characters in them are passed over, and
/// so are the words `null` and `undefined`, which clients send by mistake. In a body an id is a string, or
/// an integer of at most 64 bits, which counts as its digits; other types, and members over 4 KiB, are
/// passed over.
///
/// # Examples
///
/// ```
/// use http::HeaderName;
/// use tower_reasoning_replay::scope::SessionSources;
///
/// let sources = SessionSources::default()
///     .prepend_header(HeaderName::from_static("x-chat"))
///     .append_field("metadata.chat_id");
/// # let _ = sources;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SessionSources {
    headers: Vec<HeaderSource>,
    fields: Vec<FieldSource>,
}

#[derive(Clone, Debug)]
struct HeaderSource {
    name: HeaderName,
    namespace: Cow<'static, str>,
    reading: HeaderReading,
}

#[derive(Clone, Copy, Debug)]
enum HeaderReading {
    Whole,
    /// `<thread>:<n>`; the number is that of the window.
    Window,
    /// Others send a fresh id with each request.
    OnlyFromCodex,
}

impl HeaderSource {
    fn new(name: HeaderName) -> Self {
        const FAMILY: [&str; 4] = ["session-id", "x-session-id", "thread-id", "x-thread-id"];
        let canonical = name.as_str().replace('_', "-");
        let reading = match canonical.as_str() {
            "x-codex-window-id" => HeaderReading::Window,
            "x-client-request-id" => HeaderReading::OnlyFromCodex,
            _ => HeaderReading::Whole,
        };
        let namespace = if FAMILY.contains(&canonical.as_str()) {
            Cow::Borrowed("header session-id")
        } else {
            Cow::Owned(format!("header {canonical}"))
        };
        Self { name, namespace, reading }
    }

    fn read(&self, parts: &Parts) -> Option<String> {
        if matches!(self.reading, HeaderReading::OnlyFromCodex) && !is_codex(parts) {
            return None;
        }
        parts.headers.get_all(&self.name).iter().find_map(|value| {
            let value = str::from_utf8(value.as_bytes()).ok()?;
            let value = match self.reading {
                HeaderReading::Window => match value.rsplit_once(':') {
                    Some((thread, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => thread,
                    _ => value,
                },
                HeaderReading::Whole | HeaderReading::OnlyFromCodex => value,
            };
            valid(value).map(str::to_owned)
        })
    }
}

#[derive(Clone, Debug)]
struct FieldSource {
    inside: MemberPath,
    path: Vec<String>,
    namespace: Cow<'static, str>,
    reading: FieldReading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldReading {
    Whole,
    /// The session inside `metadata.user_id`.
    UserId,
    /// `<session>########<n>`.
    Prompt,
    /// A string, or an object with an `id`.
    Conversation,
    /// Often one constant per application.
    CacheKey,
}

impl FieldSource {
    fn new(path: &str) -> Self {
        let (inside, inner) = match path.strip_prefix("request.") {
            Some(inner) => (MemberPath::Request, inner),
            None => (MemberPath::Root, path),
        };
        let reading = match path {
            "metadata.user_id" => FieldReading::UserId,
            "user_prompt_id" => FieldReading::Prompt,
            "conversation" => FieldReading::Conversation,
            "prompt_cache_key" => FieldReading::CacheKey,
            _ => FieldReading::Whole,
        };
        let namespace = format!("body {}", path.replace('_', "").to_lowercase());
        Self { inside, path: inner.split('.').map(str::to_owned).collect(), namespace: Cow::Owned(namespace), reading }
    }

    fn wants(&self, inside: MemberPath, key: &[u8]) -> bool {
        self.inside == inside && self.path.first().is_some_and(|first| first.as_bytes() == key)
    }

    fn read(&self, members: &[Member<'_>]) -> Option<String> {
        members
            .iter()
            .filter(|member| self.wants(member.path, member.key) && member.value.len() <= LONGEST_MEMBER)
            .find_map(|member| {
                let value: Value = serde_json::from_slice(member.value).ok()?;
                let value = self.path.iter().skip(1).try_fold(&value, |value, key| value.get(key))?;
                self.id(value)
            })
    }

    fn id(&self, value: &Value) -> Option<String> {
        let value = match (self.reading, value) {
            (FieldReading::Conversation, Value::Object(object)) => object.get("id")?,
            (_, value) => value,
        };
        let text = match value {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            Value::Number(number) if !number.is_f64() => Cow::Owned(number.to_string()),
            _ => return None,
        };
        match self.reading {
            FieldReading::UserId => session_of_user(&text),
            FieldReading::Prompt => valid(text.split_once("########")?.0).map(str::to_owned),
            _ => valid(&text).map(str::to_owned),
        }
    }
}

/// The session that Claude Code writes into its user id: a member of a JSON object, or in older versions a
/// suffix. The user alone is none.
fn session_of_user(user: &str) -> Option<String> {
    if user.trim_start().starts_with('{') {
        let object: Value = serde_json::from_str(user).ok()?;
        return valid(object.get("session_id")?.as_str()?).map(str::to_owned);
    }
    let (_, session) = user.rsplit_once("_session_")?;
    is_uuid(session).then(|| session.to_owned())
}

fn is_uuid(text: &str) -> bool {
    let hyphens = |byte: (usize, u8)| (byte.1 == b'-').then_some(byte.0);
    let hyphens: Vec<usize> = text.bytes().enumerate().filter_map(hyphens).collect();
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    digits == 32 && digits + hyphens.len() == text.len() && matches!(hyphens[..], [] | [8, 13, 18, 23])
}

/// The id without surrounding space, if it is fit to name something.
fn valid(id: &str) -> Option<&str> {
    let odd = id.len() > 4 * LONGEST_ID || id.chars().any(char::is_control);
    let id = id.trim();
    let mistaken = matches!(id, "" | "null" | "undefined");
    (!odd && !mistaken && id.chars().count() <= LONGEST_ID).then_some(id)
}

fn is_codex(parts: &Parts) -> bool {
    let originator = parts.headers.get("originator").map(|value| value.as_bytes());
    originator.and_then(|value| value.get(..5)).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"codex"))
}

impl SessionSources {
    /// No source at all: only a [`Session`] in the request's extensions names one.
    pub fn none() -> Self {
        Self { headers: Vec::new(), fields: Vec::new() }
    }

    /// Reads these headers, in this order, in place of those set so far.
    pub fn replace_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.headers = names.into_iter().map(HeaderSource::new).collect();
        self
    }

    /// Reads this header before the others.
    pub fn prepend_header(mut self, name: HeaderName) -> Self {
        self.headers.insert(0, HeaderSource::new(name));
        self
    }

    /// Reads this header after the others, before the body.
    pub fn append_header(mut self, name: HeaderName) -> Self {
        self.headers.push(HeaderSource::new(name));
        self
    }

    /// Reads these fields of the body, in this order, in place of those set so far.
    ///
    /// A field is named by its path, such as `metadata.chat_id`; `request.` stands for the envelope of Cloud
    /// Code. The fields of the default keep their meaning: `metadata.user_id` yields only the session inside it, and
    /// `prompt_cache_key` gets the strict match.
    pub fn replace_fields<P: AsRef<str>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.fields = paths.into_iter().map(|path| FieldSource::new(path.as_ref())).collect();
        self
    }

    /// Reads this field of the body before the others. [`replace_fields`](Self::replace_fields) says how it is
    /// named.
    pub fn prepend_field(mut self, path: impl AsRef<str>) -> Self {
        self.fields.insert(0, FieldSource::new(path.as_ref()));
        self
    }

    /// Reads this field of the body after the others. [`replace_fields`](Self::replace_fields) says how it is
    /// named.
    pub fn append_field(mut self, path: impl AsRef<str>) -> Self {
        self.fields.push(FieldSource::new(path.as_ref()));
        self
    }
}

impl Default for SessionSources {
    fn default() -> Self {
        Self::none().replace_headers(HEADERS.map(HeaderName::from_static)).replace_fields(FIELDS)
    }
}

/// Where a member of a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemberPath {
    /// At the top.
    Root,
    /// In the `request` of Cloud Code's envelope.
    Request,
}

/// A small member of a body that a dialect's reader noted in passing.
#[derive(Clone, Copy)]
pub(crate) struct Member<'a> {
    pub(crate) path: MemberPath,
    pub(crate) key: &'a [u8],
    /// The raw JSON value.
    pub(crate) value: &'a [u8],
}

impl fmt::Debug for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A session that the client or the gateway named.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) namespace: Cow<'static, str>,
    pub(crate) id: String,
    pub(crate) strength: Strength,
    pub(crate) agent: Option<Agent>,
}

impl Named {
    /// The name of no session: for what is known of a tenant, a provenance and a model.
    pub(crate) fn anyone() -> Self {
        Self { namespace: Cow::Borrowed(""), id: String::new(), strength: Strength::Known, agent: None }
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named")
            .field("namespace", &self.namespace)
            .field("strength", &self.strength)
            .finish_non_exhaustive()
    }
}

/// How far a session's name can be trusted to mean one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    Known,
    /// It may be one constant for many conversations: the strict match applies.
    Weak,
}

/// One of the agents that share a session.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The agent that sends this request; it is part of the session, be that named or derived.
pub(crate) fn agent(parts: &Parts) -> Option<Agent> {
    AGENTS.into_iter().find_map(|kind| {
        let mut values = parts.headers.get_all(kind).iter();
        let id = values.find_map(|value| valid(str::from_utf8(value.as_bytes()).ok()?))?;
        Some(Agent { kind, id: id.to_owned() })
    })
}

/// The session that the gateway or a header names.
pub(super) fn by_head(parts: &Parts, sources: &SessionSources) -> Option<Named> {
    let named = |namespace, id| Named { namespace, id, strength: Strength::Known, agent: agent(parts) };
    let given = parts.extensions.get::<Session>().and_then(|session| valid(&session.0));
    let given = given.map(|id| named(Cow::Borrowed("extension"), id.to_owned()));
    let by_header =
        || sources.headers.iter().find_map(|source| Some(named(source.namespace.clone(), source.read(parts)?)));
    given.or_else(by_header)
}

/// The session that a field of the body names.
pub(super) fn by_body(members: &[Member<'_>], sources: &SessionSources, agent: Option<&Agent>) -> Option<Named> {
    sources.fields.iter().find_map(|source| {
        let strength = match source.reading {
            FieldReading::CacheKey => Strength::Weak,
            _ => Strength::Known,
        };
        let (namespace, id) = (source.namespace.clone(), source.read(members)?);
        Some(Named { namespace, id, strength, agent: agent.cloned() })
    })
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::scope::Caller;

    const ID: &str = "01997b2e-5a3c-7f00-8d1e-2b4c6d8e0f12";

    fn request(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, value.as_bytes());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn session(parts: &Parts, members: &[Member<'_>], sources: &SessionSources) -> Option<Named> {
        let caller = Caller::of(parts, &[], sources);
        let in_body = caller.in_body(members, sources);
        caller.named.or(in_body)
    }

    fn read(headers: &[(&str, &str)], body: &Value) -> Option<Named> {
        let members = |object: &Value, path| -> Vec<(MemberPath, String, String)> {
            let object = object.as_object().cloned().unwrap_or_default();
            object.into_iter().map(|(key, value)| (path, key, value.to_string())).collect()
        };
        let mut all = members(body, MemberPath::Root);
        all.extend(members(&body["request"], MemberPath::Request));
        let members: Vec<_> = all
            .iter()
            .map(|(path, key, value)| Member { path: *path, key: key.as_bytes(), value: value.as_bytes() })
            .collect();
        session(&request(headers), &members, &SessionSources::default())
    }

    /// The namespace and the id.
    fn named(headers: &[(&str, &str)], body: &Value) -> Option<(String, String)> {
        read(headers, body).map(|named| (named.namespace.into_owned(), named.id))
    }

    fn by_header(name: &str, value: &str) -> Option<(String, String)> {
        named(&[(name, value)], &json!({}))
    }

    fn by_body(body: &Value) -> Option<(String, String)> {
        named(&[], body)
    }

    fn pair(namespace: &str, id: &str) -> Option<(String, String)> {
        Some((namespace.to_owned(), id.to_owned()))
    }

    #[test]
    fn claude_code_by_header() {
        let headers = [("X-Claude-Code-Session-Id", ID), ("x-claude-code-agent-id", "agent-1")];
        let named = read(&headers, &json!({})).unwrap();
        assert_eq!(named.namespace, "header x-claude-code-session-id");
        assert_eq!((named.id.as_str(), named.strength), (ID, Strength::Known));
        assert!(named.agent == Some(Agent { kind: "x-claude-code-agent-id", id: "agent-1".into() }));
        // The parent is another agent's name.
        assert!(agent(&request(&[("x-claude-code-parent-agent-id", "agent-0")])).is_none());
    }

    #[test]
    fn claude_code_by_user_id() {
        let user = |id: Value| by_body(&json!({"metadata": {"user_id": id}}));
        let ours = pair("body metadata.userid", ID);
        let hash = "0f".repeat(32);
        assert_eq!(user(json!(format!("user_{hash}_account_{ID}_session_{ID}"))), ours);
        assert_eq!(user(json!(format!("user_{hash}_account__session_{ID}"))), ours);
        let object = json!({"device_id": "d", "account_uuid": "", "session_id": ID});
        assert_eq!(user(json!(object.to_string())), ours);
        for bare in [
            json!("user-17"),
            json!(format!("user_{hash}_account_{ID}")),
            json!(format!("user_{hash}_account_{ID}_session_")),
            json!("user_session_1"),
            json!(format!("user_session_{ID}_x")),
            json!("{\"device_id\":\"d\"}"),
            json!("{\"session_id\":7}"),
            json!("{\"session_id\":"),
            json!(17),
            object,
        ] {
            assert_eq!(user(bare.clone()), None, "{bare}");
        }
    }

    #[test]
    fn codex_by_header() {
        for name in ["session-id", "session_id", "thread-id"] {
            assert_eq!(by_header(name, ID), pair("header session-id", ID));
        }
        for name in ["conversation_id", "conversation-id"] {
            assert_eq!(by_header(name, ID), pair("header conversation-id", ID));
        }
        let window = pair("header x-codex-window-id", ID);
        assert_eq!(by_header("x-codex-window-id", &format!("{ID}:0")), window);
        assert_eq!(by_header("x-codex-window-id", &format!("{ID}:12")), window);
        assert_eq!(by_header("x-codex-window-id", ID), window);
        assert_eq!(by_header("x-codex-window-id", ":3"), None);
        let subagent = read(&[("session_id", ID), ("x-openai-subagent", "review")], &json!({})).unwrap();
        assert!(subagent.agent == Some(Agent { kind: "x-openai-subagent", id: "review".into() }));
        for other in ["x-codex-parent-thread-id", "x-codex-turn-state", "originator"] {
            assert_eq!(by_header(other, ID), None, "{other}");
        }
    }

    #[test]
    fn a_request_id_counts_only_from_codex() {
        assert_eq!(by_header("x-client-request-id", ID), None);
        for originator in ["codex_cli_rs", "codex_vscode", "Codex Desktop"] {
            let headers = [("x-client-request-id", ID), ("originator", originator)];
            assert_eq!(named(&headers, &json!({})), pair("header x-client-request-id", ID));
        }
        for originator in ["code", "my-codex", ""] {
            let headers = [("x-client-request-id", ID), ("originator", originator)];
            assert_eq!(named(&headers, &json!({})), None, "{originator}");
        }
    }

    #[test]
    fn codex_by_body() {
        let body = json!({"prompt_cache_key": ID, "client_metadata": {"session_id": "s", "thread_id": ID}});
        assert_eq!(by_body(&body), pair("body clientmetadata.sessionid", "s"));
        let weak = read(&[], &json!({"prompt_cache_key": ID})).unwrap();
        assert_eq!((&*weak.namespace, &*weak.id), ("body promptcachekey", ID));
        assert_eq!(weak.strength, Strength::Weak);
    }

    #[test]
    fn gemini_cli_by_body() {
        let body = json!({"model": "m", "user_prompt_id": format!("{ID}########3"), "request": {"session_id": "s"}});
        assert_eq!(by_body(&body), pair("body request.sessionid", "s"));
        let body = json!({"user_prompt_id": format!("{ID}########3"), "request": {}});
        assert_eq!(by_body(&body), pair("body userpromptid", ID));
        // Without the mark it is the id of a prompt.
        assert_eq!(by_body(&json!({"user_prompt_id": ID})), None);
        assert_eq!(by_body(&json!({"user_prompt_id": "########1"})), None);
        // The installation is no session.
        assert_eq!(by_header("x-gemini-api-privileged-user-id", ID), None);
    }

    #[test]
    fn antigravity_by_body() {
        let body = json!({"request": {"sessionId": "-3750763034362895579"}, "requestId": "agent-1"});
        assert_eq!(by_body(&body), pair("body request.sessionid", "-3750763034362895579"));
        let body = json!({"request": {"sessionId": -3_750_763_034_362_895_579_i64}});
        assert_eq!(by_body(&body), pair("body request.sessionid", "-3750763034362895579"));
    }

    #[test]
    fn other_clients_by_header() {
        for name in [
            "x-session-affinity",
            "x-opencode-session",
            "X-Roo-Task-ID",
            "X-KiloCode-TaskId",
            "x-kilo-session",
            "X-Task-ID",
            "x-client-session-id",
            "x-openwebui-chat-id",
            "x-litellm-session-id",
            "Helicone-Session-Id",
            "X-Hermes-Session-Id",
            "x-continue-session-id",
            "x-affinity",
            "x-deepseek-harness-session-id",
            "x-grok-conv-id",
        ] {
            let namespace = format!("header {}", name.to_lowercase());
            assert_eq!(by_header(name, "ses_1"), pair(&namespace, "ses_1"));
        }
        assert_eq!(by_header("X-Session-Id", "ses_1"), pair("header session-id", "ses_1"));
        for name in ["x-parent-session-id", "x-opencode-request", "x-opencode-project", "x-interaction-id"] {
            assert_eq!(by_header(name, "ses_1"), None, "{name}");
        }
    }

    #[test]
    fn cursor_by_body() {
        for (body, namespace) in [
            (json!({"metadata": {"cursorConversationId": ID}, "user": "u"}), "body metadata.cursorconversationid"),
            (json!({"metadata": {"conversation_id": ID}}), "body metadata.conversationid"),
            (json!({"metadata": {"conversationId": ID}}), "body metadata.conversationid"),
            (json!({"conversation_id": ID}), "body conversationid"),
            (json!({"conversationId": ID}), "body conversationid"),
        ] {
            assert_eq!(by_body(&body), pair(namespace, ID));
        }
    }

    #[test]
    fn generic_fields_of_the_body() {
        assert_eq!(by_body(&json!({"session_id": ID})), pair("body sessionid", ID));
        assert_eq!(by_body(&json!({"sessionId": ID})), pair("body sessionid", ID));
        assert_eq!(by_body(&json!({"metadata": {"session_id": ID}})), pair("body metadata.sessionid", ID));
        assert_eq!(by_body(&json!({"conversation": "conv_1"})), pair("body conversation", "conv_1"));
        assert_eq!(by_body(&json!({"conversation": {"id": "conv_1"}})), pair("body conversation", "conv_1"));
        for body in [
            json!({"user": ID}),
            json!({"safety_identifier": ID}),
            json!({"previous_response_id": "resp_1"}),
            json!({"metadata": {"user": ID}}),
            json!({"request": {"prompt_cache_key": ID}}),
        ] {
            assert_eq!(by_body(&body), None, "{body}");
        }
    }

    #[test]
    fn the_order_is_that_of_trust() {
        let order: [(&[(&str, &str)], Value); 11] = [
            (&[("x-claude-code-session-id", "0")], json!({})),
            (&[("session-id", "1")], json!({})),
            (&[("x-litellm-session-id", "2")], json!({})),
            (&[], json!({"request": {"sessionId": "3"}})),
            (&[], json!({"session_id": "4"})),
            (&[], json!({"conversation_id": "5"})),
            (&[], json!({"metadata": {"session_id": "6"}})),
            (&[], json!({"metadata": {"user_id": "{\"session_id\":\"7\"}"}})),
            (&[], json!({"user_prompt_id": "8########1"})),
            (&[], json!({"conversation": "9"})),
            (&[], json!({"prompt_cache_key": "10"})),
        ];
        let mut headers = Vec::new();
        let mut body = json!({});
        for (at, (more, fields)) in order.iter().enumerate().rev() {
            headers.extend_from_slice(more);
            for (key, value) in fields.as_object().unwrap() {
                match body.get_mut(key).and_then(Value::as_object_mut) {
                    Some(object) => object.extend(value.as_object().unwrap().clone()),
                    None => body[key] = value.clone(),
                }
            }
            assert_eq!(named(&headers, &body).unwrap().1, at.to_string());
        }
        let mut parts = request(&headers);
        parts.extensions.insert(Session::new("given"));
        let given = session(&parts, &[], &SessionSources::none()).unwrap();
        assert_eq!((&*given.namespace, &*given.id), ("extension", "given"));
    }

    #[test]
    fn unfit_ids_make_way_for_the_next_source() {
        let long = "x".repeat(257);
        for unfit in ["", " ", "a\tb", "null", "undefined", &long] {
            let headers = [("x-claude-code-session-id", unfit), ("session-id", unfit), ("session-id", "good")];
            assert_eq!(named(&headers, &json!({})), pair("header session-id", "good"), "{unfit}");
            let body = json!({"session_id": unfit, "conversation_id": "good"});
            assert_eq!(by_body(&body), pair("body conversationid", "good"), "{unfit}");
            let mut parts = request(&[("session-id", "good")]);
            parts.extensions.insert(Session::new(unfit));
            assert_eq!(session(&parts, &[], &SessionSources::default()).unwrap().id, "good");
            assert!(agent(&request(&[("x-openai-subagent", unfit)])).is_none());
        }
        let limit = "ü".repeat(256);
        assert_eq!(by_body(&json!({"session_id": limit})), pair("body sessionid", &limit));
        assert_eq!(by_header("session-id", &limit), pair("header session-id", &limit));
        for control in ["a\nb", "a\u{0}", "a\u{7f}", "a\u{85}b", "a\n"] {
            assert_eq!(by_body(&json!({"session_id": control})), None);
        }
    }

    #[test]
    fn wrong_types_and_large_members_are_passed_over() {
        for value in [json!(null), json!(true), json!(1.5), json!([ID]), json!({"id": ID})] {
            assert_eq!(by_body(&json!({"session_id": value, "prompt_cache_key": {"id": ID}})), None);
        }
        assert_eq!(by_body(&json!({"metadata": ID, "client_metadata": [ID]})), None);
        assert_eq!(by_body(&json!({"session_id": 17})), pair("body sessionid", "17"));
        let padded = json!({"session_id": ID, "padding": "x".repeat(4 << 10)});
        assert_eq!(by_body(&json!({"metadata": padded})), None);
        let member = |value| {
            let member = Member { path: MemberPath::Root, key: b"session_id", value };
            session(&request(&[]), &[member], &SessionSources::default()).map(|named| named.id)
        };
        assert_eq!(member(br#""a\u0062\/c""#), Some("ab/c".to_owned()));
        assert_eq!(member(b" \"ab\" "), Some("ab".to_owned()));
        for broken in [&b""[..], b"\"", b"\"\\ud800\"", b"\"\xff\"", b"99999999999999999999999", b"\"a\" \"b\""] {
            assert_eq!(member(broken), None);
        }
    }

    #[test]
    fn sources_can_be_chosen() {
        let body =
            [Member { path: MemberPath::Root, key: b"metadata", value: br#"{"chat":{"id":"c"},"session_id":"s"}"# }];
        let parts = request(&[("x-chat", "h"), ("session_id", "f")]);
        let chat = HeaderName::from_static("x-chat");
        let id = |sources: SessionSources| session(&parts, &body, &sources).map(|named| named.id);
        let default = SessionSources::default;
        assert_eq!(id(SessionSources::none()), None);
        assert_eq!(id(default()).as_deref(), Some("f"));
        assert_eq!(id(default().prepend_header(chat.clone())).as_deref(), Some("h"));
        assert_eq!(id(default().append_header(chat.clone())).as_deref(), Some("f"));
        assert_eq!(id(default().replace_headers([chat])).as_deref(), Some("h"));
        let no_headers = || default().replace_headers([]);
        assert_eq!(id(no_headers()).as_deref(), Some("s"));
        assert_eq!(id(no_headers().prepend_field("metadata.chat.id")).as_deref(), Some("c"));
        assert_eq!(id(no_headers().append_field("metadata.chat.id")).as_deref(), Some("s"));
        assert_eq!(id(no_headers().replace_fields(["metadata.chat.id"])).as_deref(), Some("c"));
        assert_eq!(id(no_headers().replace_fields(["", ".", "request."])), None);
    }

    #[test]
    fn ids_are_in_no_debug_output() {
        let headers = [("session-id", "secret"), ("x-openai-subagent", "secret")];
        let named = read(&headers, &json!({})).unwrap();
        let member = Member { path: MemberPath::Root, key: b"user", value: b"\"secret\"" };
        let shown = format!("{named:?}{:?}{member:?}{:?}", named.agent, Session::new("secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    proptest! {
        #[test]
        fn arbitrary_headers_and_members_never_panic(
            headers in prop::collection::vec(
                (
                    prop::sample::select(vec!["session-id", "thread_id", "x-codex-window-id", "x-client-request-id", "originator", "x-openai-subagent"]),
                    prop::collection::vec(any::<u8>(), 0..40),
                ),
                0..6,
            ),
            members in prop::collection::vec(
                (
                    any::<bool>(),
                    prop::sample::select(vec!["metadata", "session_id", "sessionId", "user_prompt_id", "conversation", "prompt_cache_key"]),
                    prop_oneof![
                        prop::collection::vec(any::<u8>(), 0..40),
                        "[{}\\[\\]\":,a-z0-9_#\\\\]{0,40}".prop_map(String::into_bytes),
                        any::<String>().prop_map(|text| json!({"user_id": text, "id": text}).to_string().into_bytes()),
                        any::<String>().prop_map(|text| json!(text).to_string().into_bytes()),
                    ],
                ),
                0..6,
            ),
        ) {
            let mut parts = request(&[]);
            for (name, value) in headers {
                if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                    parts.headers.append(name, value);
                }
            }
            let members: Vec<_> = members
                .iter()
                .map(|(inside, key, value)| Member {
                    path: if *inside { MemberPath::Request } else { MemberPath::Root },
                    key: key.as_bytes(),
                    value,
                })
                .collect();
            if let Some(named) = session(&parts, &members, &SessionSources::default()) {
                prop_assert!(valid(&named.id) == Some(&named.id));
            }
        }
    }
}
