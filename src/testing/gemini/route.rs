//! Which surface, model and method a request is for.

use http::Uri;

use super::config::{Family, Surface};

/// What is asked of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Generate,
    StreamSse,
    StreamArray,
    Count,
    /// Cloud Code's set-up calls, which have nothing to do with the model.
    Onboard,
}

/// A path that the provider serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) surface: Surface,
    pub(super) version: String,
    /// Absent where the body names the model.
    pub(super) model: Option<String>,
    pub(super) method: Method,
    /// Enums are asked for as numbers.
    pub(super) numeric_enums: bool,
}

impl Route {
    pub(super) fn of(uri: &Uri) -> Option<Self> {
        let path = uri.path().replace("%3A", ":").replace("%3a", ":");
        let query = uri.query().unwrap_or_default();
        let (resource, method) = path.rsplit_once(':')?;
        let mut segments = resource.strip_prefix('/')?.split('/');
        let version = segments.next()?.to_owned();
        let rest: Vec<&str> = segments.collect();
        let (surface, model) = match (version.as_str(), rest.as_slice()) {
            ("v1internal", []) => (Surface::CloudCode, None),
            ("v1" | "v1alpha" | "v1beta", ["models" | "tunedModels", model]) => {
                (Surface::GeminiApi, Some((*model).to_owned()))
            }
            ("v1" | "v1beta1", ["projects", _, "locations", _, "publishers", "google", "models", model]) => {
                (Surface::Vertex, Some((*model).to_owned()))
            }
            _ => return None,
        };
        let parameters: Vec<String> =
            query.split('&').map(|pair| pair.replace("%24", "$").replace("%3B", ";").replace("%3D", "=")).collect();
        let method = match method {
            "generateContent" => Method::Generate,
            "streamGenerateContent" if parameters.iter().any(|pair| pair == "alt=sse") => Method::StreamSse,
            "streamGenerateContent" => Method::StreamArray,
            "countTokens" => Method::Count,
            "loadCodeAssist" | "onboardUser" if surface == Surface::CloudCode => Method::Onboard,
            _ => return None,
        };
        let numeric_enums = parameters.iter().any(|pair| pair.contains("enum-encoding=int"));
        Some(Self { surface, version, model, method, numeric_enums })
    }
}

/// The family of a model id; nothing if there is no such model on this surface.
pub(super) fn family(model: &str, surface: Surface) -> Option<Family> {
    if model.starts_with("claude-") {
        return (surface == Surface::CloudCode).then_some(Family::Claude);
    }
    let Some(rest) = model.strip_prefix("gemini-") else {
        return (!model.is_empty()).then_some(Family::Gemini2);
    };
    let generation: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let enforces = match generation.parse::<u32>() {
        Ok(generation) => generation >= 3,
        Err(_) => rest.ends_with("-latest"),
    };
    Some(match (enforces, model.contains("-image")) {
        (false, _) => Family::Gemini2,
        (true, false) => Family::Gemini3,
        (true, true) => Family::Gemini3Image,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(uri: &str) -> Option<Route> {
        Route::of(&uri.parse().unwrap())
    }

    #[test]
    fn knows_every_endpoint() {
        let api = route("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-pro:generateContent?key=x")
            .unwrap();
        assert_eq!((api.surface, api.method), (Surface::GeminiApi, Method::Generate));
        assert_eq!(api.model.as_deref(), Some("gemini-3-pro"));
        assert_eq!(route("/v1/models/m:streamGenerateContent?key=1&alt=sse").unwrap().method, Method::StreamSse);
        assert_eq!(route("/v1alpha/models/m%3AstreamGenerateContent").unwrap().method, Method::StreamArray);
        assert_eq!(route("/v1beta/tunedModels/m:countTokens").unwrap().method, Method::Count);
        let vertex = route(
            "/v1beta1/projects/p/locations/global/publishers/google/models/gemini-3-pro@001:generateContent?%24alt=json%3Benum-encoding%3Dint",
        )
        .unwrap();
        assert_eq!(vertex.surface, Surface::Vertex);
        assert!(vertex.numeric_enums);
        let cloud = route("/v1internal:streamGenerateContent?alt=sse").unwrap();
        assert_eq!((cloud.surface, cloud.model), (Surface::CloudCode, None));
        assert_eq!(route("/v1internal:loadCodeAssist").unwrap().method, Method::Onboard);
        for unknown in [
            "/",
            "/v1/models/m",
            "/v1/models/m:tune",
            "/v2/models/m:countTokens",
            "/v1/models/m/x:countTokens",
            "/v1beta/models/m:onboardUser",
        ] {
            assert_eq!(route(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn families_follow_the_model_id() {
        let of = |model| family(model, Surface::GeminiApi);
        assert_eq!(of("gemini-2.5-flash-image"), Some(Family::Gemini2));
        assert_eq!(of("gemini-3-pro-preview"), Some(Family::Gemini3));
        assert_eq!(of("gemini-flash-latest"), Some(Family::Gemini3));
        assert_eq!(of("gemini-3.6-flash"), Some(Family::Gemini3));
        assert_eq!(of("gemini-10-pro"), Some(Family::Gemini3));
        assert_eq!(of("gemini-3-pro-image-preview"), Some(Family::Gemini3Image));
        assert_eq!(of("gemma-3"), Some(Family::Gemini2));
        assert_eq!(of("claude-opus-4-5"), None);
        assert_eq!(family("claude-opus-4-5", Surface::CloudCode), Some(Family::Claude));
    }
}
