//! The public hosts of the providers.

/// The provider whose API has this path.
pub(crate) fn host(path: &str) -> Option<String> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let host = match *segments.as_slice() {
        [first] if first.starts_with("v1internal:") => "cloudcode-pa.googleapis.com",
        ["v1" | "v1beta1", "projects", _, "locations", location, _, ..] => return vertex_host(location),
        ["v1" | "v1beta1", "publishers", _, ..] => "aiplatform.googleapis.com",
        ["v1beta" | "v1alpha", "models" | "tunedModels" | "cachedContents" | "files", ..] => GEMINI,
        ["v1", "models" | "tunedModels", model] if [":", "%3A", "%3a"].iter().any(|colon| model.contains(colon)) => {
            GEMINI
        }
        ["v1", "messages", ..] => "api.anthropic.com",
        ["v1", "responses", ..] | ["v1", "chat", "completions", ..] => "api.openai.com",
        _ => return None,
    };
    Some(host.to_owned())
}

const GEMINI: &str = "generativelanguage.googleapis.com";

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
