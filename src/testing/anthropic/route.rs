//! Which endpoint a request is for, and what its model is like.

use http::Uri;

/// A path that the provider serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) vertex: bool,
    /// Absent where the body names the model.
    pub(super) model: Option<String>,
    /// Known where the path decides.
    pub(super) stream: Option<bool>,
    pub(super) counting: bool,
}

impl Route {
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let path = uri.path().replace("%3A", ":").replace("%3a", ":");
        if path.ends_with("/v1/messages") {
            return Some(Self { vertex: false, model: None, stream: None, counting: false });
        }
        if path.ends_with("/v1/messages/count_tokens") {
            return Some(Self { vertex: false, model: None, stream: Some(false), counting: true });
        }
        let (_, resource) = path.split_once("/publishers/anthropic/models/")?;
        let (model, method) = resource.rsplit_once(':')?;
        let stream = match method {
            "rawPredict" => false,
            "streamRawPredict" => true,
            _ => return None,
        };
        let counting = model == "count-tokens";
        Some(Self { vertex: true, model: (!counting).then(|| model.to_owned()), stream: Some(stream), counting })
    }
}

/// What is known about a model by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// Models of one family read each other's blocks.
    pub(super) family: String,
    /// It thinks unless it is told not to.
    pub(super) thinks: bool,
    /// It binds blocks to what stands before them.
    pub(super) binds_prefix: bool,
    /// It binds blocks to the organization that they were made for.
    pub(super) binds_organization: bool,
}

impl Model {
    pub(super) fn of(id: &str) -> Self {
        // Vendors put their name before it; releases have a date behind it.
        let id = id.rsplit('/').next().unwrap_or(id);
        let id = id.find("claude").and_then(|at| id.get(at..)).unwrap_or(id);
        let words: Vec<&str> = id
            .split(['-', '@', ':', '.'])
            .take_while(|word| {
                let release = word.strip_prefix('v').is_some_and(is_number);
                !release && *word != "thinking" && *word != "latest" && !(is_number(word) && word.len() > 2)
            })
            .collect();
        let family = words.join("-");
        let line = words.get(1).copied().unwrap_or_default();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u32>().ok()).unwrap_or(0);
        let version = if is_number(line) { (0, 0) } else { (number(2), number(3)) };
        let binds_prefix = match line {
            "fable" | "mythos" => version >= (5, 1),
            "opus" | "sonnet" | "haiku" => version >= (5, 5),
            _ => false,
        };
        let binds_organization = binds_prefix && matches!(line, "sonnet" | "haiku");
        Self { family, thinks: version.0 >= 5, binds_prefix, binds_organization }
    }
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(uri: &str) -> Option<Route> {
        Route::of(&uri.parse().unwrap())
    }

    #[test]
    fn knows_every_endpoint() {
        for path in ["/v1/messages", "https://api.anthropic.com/v1/messages?beta=true", "/anthropic/v1/messages"] {
            assert_eq!(
                route(path),
                Some(Route { vertex: false, model: None, stream: None, counting: false }),
                "{path}"
            );
        }
        assert!(route("/v1/messages/count_tokens").unwrap().counting);
        let vertex = "/v1/projects/p/locations/global/publishers/anthropic/models";
        let stream = route(&format!("{vertex}/claude-opus-4-5@20251101:streamRawPredict")).unwrap();
        assert_eq!(stream.model.as_deref(), Some("claude-opus-4-5@20251101"));
        assert!(stream.vertex && stream.stream == Some(true));
        assert!(route(&format!("{vertex}/count-tokens:rawPredict")).unwrap().counting);
        for unknown in ["/", "/v1/messages/batches", "/v1/complete", &format!("{vertex}/m:predict")] {
            assert_eq!(route(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn models_are_told_by_their_ids() {
        let family = |id| Model::of(id).family;
        for id in [
            "claude-sonnet-4-5",
            "claude-sonnet-4-5-20250929",
            "claude-sonnet-4-5@20250929",
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "anthropic/claude-sonnet-4.5",
        ] {
            assert_eq!(family(id), "claude-sonnet-4-5", "{id}");
        }
        assert_ne!(family("claude-sonnet-4-5"), family("claude-opus-4-5"));
        let binds = |id| (Model::of(id).binds_prefix, Model::of(id).binds_organization);
        for id in ["claude-fable-5-1", "claude-mythos-5-2", "claude-opus-5-5"] {
            assert_eq!(binds(id), (true, false), "{id}");
        }
        for id in ["claude-sonnet-5-5", "claude-haiku-5-5-20260901"] {
            assert_eq!(binds(id), (true, true), "{id}");
        }
        for id in ["claude-sonnet-5", "claude-opus-4-5", "claude-3-7-sonnet-20250219", "claude-fable-5"] {
            assert_eq!(binds(id), (false, false), "{id}");
        }
        assert!(Model::of("claude-sonnet-5").thinks && !Model::of("claude-sonnet-4-5").thinks);
        assert!(!Model::of("claude-3-7-sonnet-20250219").thinks);
    }
}
