//! What a path asks for.

use http::Uri;

/// What is asked of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Create,
    Compact,
    CountInput,
}

impl Method {
    /// The method that `uri` ends with, behind any prefix.
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let path = uri.path();
        [
            ("/responses", Self::Create),
            ("/responses/compact", Self::Compact),
            ("/responses/input_tokens", Self::CountInput),
        ]
        .into_iter()
        .find_map(|(end, method)| path.ends_with(end).then_some(method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_by_their_end() {
        let of = |uri: &str| Method::of(&uri.parse().unwrap());
        for uri in [
            "/responses",
            "/v1/responses",
            "https://api.openai.com/v1/responses",
            "/openai/v1/responses",
            "/openai/responses?api-version=2025-04-01-preview",
            "/backend-api/codex/responses",
            "/api/v1/responses",
        ] {
            assert_eq!(of(uri), Some(Method::Create), "{uri}");
        }
        assert_eq!(of("/v1/responses/compact"), Some(Method::Compact));
        assert_eq!(of("/v1/responses/input_tokens"), Some(Method::CountInput));
        for uri in ["/v1/responses/", "/v1/responses/resp_1", "/v1/myresponses", "/v1/chat/completions"] {
            assert_eq!(of(uri), None, "{uri}");
        }
    }
}
