//! The public hosts of the providers.

/// The provider for this path: its host, and the path there.
///
/// The path is the provider's own where it alone tells the provider, or stands behind the provider's name. Paths that
/// several providers share, or that belong to hosts of one customer, tell nothing: those need `--upstream`.
pub(crate) fn host(path: &str) -> Option<(String, &str)> {
    if let Some(host) = own(path) {
        return Some((host, path));
    }
    let name = path.strip_prefix('/')?.split('/').next()?;
    let (_, host) = NAMES.iter().find(|(known, _)| *known == name)?;
    let rest = path.get(name.len() + 1..).filter(|rest| rest.len() > 1)?;
    // Azure's paths begin like this, and its keys are for nobody else.
    let is_azure = name == "openai" && !rest.starts_with("/v1/");
    (!is_azure).then(|| ((*host).to_owned(), rest))
}

/// The names of the providers, as the first segment of a path.
pub(crate) const NAMES: [(&str, &str); 14] = [
    ("anthropic", ANTHROPIC),
    ("cerebras", "api.cerebras.ai"),
    ("chatgpt", CHATGPT),
    ("copilot", "api.githubcopilot.com"),
    ("deepseek", "api.deepseek.com"),
    ("gemini", GEMINI),
    ("groq", "api.groq.com"),
    ("minimax", "api.minimax.io"),
    ("mistral", "api.mistral.ai"),
    ("moonshot", "api.moonshot.ai"),
    ("openai", OPENAI),
    ("openrouter", OPENROUTER),
    ("xai", "api.x.ai"),
    ("zai", "api.z.ai"),
];

const ANTHROPIC: &str = "api.anthropic.com";
const CHATGPT: &str = "chatgpt.com";
const GEMINI: &str = "generativelanguage.googleapis.com";
const OPENAI: &str = "api.openai.com";
const OPENROUTER: &str = "openrouter.ai";

/// The provider whose own path this is.
fn own(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let host = match *segments.as_slice() {
        [first] if first.starts_with("v1internal:") => "cloudcode-pa.googleapis.com",
        ["v1" | "v1beta1", "projects", _, "locations", location, _, ..] => return vertex_host(location),
        ["v1" | "v1beta1", "publishers", _, ..] => "aiplatform.googleapis.com",
        ["v1beta" | "v1alpha", "models" | "tunedModels" | "cachedContents" | "files" | "openai", ..] => GEMINI,
        ["v1", "models" | "tunedModels", model] if [":", "%3A", "%3a"].iter().any(|colon| model.contains(colon)) => {
            GEMINI
        }
        ["v1", "messages", ..] => ANTHROPIC,
        ["v1", "responses", ..] | ["v1", "chat", "completions", ..] => OPENAI,
        ["backend-api", "codex", ..] => CHATGPT,
        ["api", "v1", "messages" | "responses", ..] | ["api", "v1", "chat", "completions", ..] => OPENROUTER,
        _ => return None,
    };
    Some(host.to_owned())
}

/// The location comes from the caller and becomes a part of a host name, so it may not be just anything.
fn vertex_host(location: &str) -> Option<String> {
    if location == "global" {
        return Some("aiplatform.googleapis.com".to_owned());
    }
    let is_label = location.len() <= 40
        && location.starts_with(|first: char| first.is_ascii_lowercase())
        && location.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    is_label.then(|| format!("{location}-aiplatform.googleapis.com"))
}
