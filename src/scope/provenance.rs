use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderMap, header::HOST, request::Parts, uri::Authority};

use super::tenant::Credential;

/// The headers that name an account with the provider.
pub(crate) const ACCOUNTS: [&str; 2] = ["chatgpt-account-id", "openai-organization"];

/// Where the state of a conversation comes from and can be read.
///
/// State is opaque outside the provider that issued it, and some providers bind it to an account. A gateway
/// that hides the provider behind one host of its own, or several hosts behind which the same keys are
/// known, puts this into the extensions of each request. Without it the provenance is read off the host to
/// which the request goes.
///
/// An empty name counts as not set, so an account can be given alone. Neither `Debug` output nor anything
/// that is stored shows name or account.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::scope::Provenance;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(Provenance::new("vertex").with_account("project-4"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Provenance {
    name: Arc<str>,
    account: Option<Arc<str>>,
}

impl Provenance {
    /// The provenance of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into().into(), account: None }
    }

    /// Names the account with the provider. It counts only for protocols that bind state to an account:
    /// [OpenAI Responses](https://developers.openai.com/api/docs/guides/reasoning) and
    /// [Anthropic Messages](https://platform.claude.com/docs/en/build-with-claude/extended-thinking). Default:
    /// the header `chatgpt-account-id` or `openai-organization`, else a hash of the credential.
    #[must_use]
    pub fn with_account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into().into());
        self
    }
}

impl fmt::Debug for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provenance(..)")
    }
}

/// The provenance of one request.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(super) provider: Provider,
    pub(super) account: Account,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origin(..)")
    }
}

/// Whose state it is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Provider {
    Named(Arc<str>),
    AiStudio,
    Vertex,
    CloudCode,
    /// Host and port; the port only if it is not the default.
    Host(String),
    Unknown,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider(..)")
    }
}

/// The account with the provider, where state is bound to it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Account {
    Unbound,
    Named(Arc<str>),
    Header(&'static str, Vec<u8>),
    Credential(Credential),
    Unknown,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(..)")
    }
}

/// Where the state of this request is readable. `binds_account` says that the dialect binds state to an
/// account.
pub(crate) fn provenance(parts: &Parts, binds_account: bool) -> Origin {
    let given = parts.extensions.get::<Provenance>();
    let provider = match given {
        Some(given) if !given.name.is_empty() => Provider::Named(given.name.clone()),
        _ => provider(parts),
    };
    let account = match given.and_then(|given| given.account.as_ref()) {
        _ if !binds_account => Account::Unbound,
        Some(account) if !account.is_empty() => Account::Named(account.clone()),
        _ => account(parts),
    };
    Origin { provider, account }
}

fn account(parts: &Parts) -> Account {
    let by_header = ACCOUNTS.iter().find_map(|&header| {
        let value = first_value(&parts.headers, header)?;
        Some(Account::Header(header, value.to_vec()))
    });
    by_header.or_else(|| Credential::of(parts).map(Account::Credential)).unwrap_or(Account::Unknown)
}

fn first_value<'a>(headers: &'a HeaderMap, header: &str) -> Option<&'a [u8]> {
    headers.get_all(header).iter().map(|value| value.as_bytes().trim_ascii()).find(|value| !value.is_empty())
}

fn provider(parts: &Parts) -> Provider {
    let named = parts.uri.authority().cloned();
    let authority = named.or_else(|| Authority::try_from(first_value(&parts.headers, HOST.as_str())?).ok());
    let Some(authority) = authority else {
        return Provider::Unknown;
    };
    let host = lowercase(authority.host());
    let host = host.strip_suffix('.').unwrap_or(&host);
    if host.is_empty() {
        return Provider::Unknown;
    }
    if let Some(name) = host.strip_suffix(".googleapis.com") {
        let service = name.split('.').next().unwrap_or_default();
        // Regions, sandboxes and private endpoints are added with a hyphen, before or after.
        let is = |name: &str| {
            let before = service.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('-'));
            before || service.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
        };
        if is("generativelanguage") {
            return Provider::AiStudio;
        }
        if is("aiplatform") || service.contains("-aiplatform-") {
            return Provider::Vertex;
        }
        if is("cloudcode-pa") {
            return Provider::CloudCode;
        }
    }
    let is_default = |port: u16| match parts.uri.scheme_str() {
        Some("https") => port == 443,
        Some("http") => port == 80,
        _ => port == 443 || port == 80,
    };
    match authority.port_u16() {
        Some(port) if !is_default(port) => Provider::Host(format!("{host}:{port}")),
        _ => Provider::Host(host.to_owned()),
    }
}

/// Almost all hosts are written in lower case.
fn lowercase(host: &str) -> Cow<'_, str> {
    match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => host.to_ascii_lowercase().into(),
        false => host.into(),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn at(uri: &str) -> Provider {
        provenance(&request(uri, &[]), false).provider
    }

    fn host(name: &str) -> Provider {
        Provider::Host(name.to_owned())
    }

    #[test]
    fn google_hosts_are_told_apart_g4() {
        let studio = ["https://generativelanguage.googleapis.com/v1beta/models/m:generateContent"];
        let vertex = [
            "https://aiplatform.googleapis.com/v1/projects/p",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p",
            "https://EUROPE-WEST4-aiplatform.googleapis.com:443/v1",
            "https://aiplatform.eu.rep.googleapis.com/v1",
            "https://aiplatform-gateway.p.googleapis.com/v1",
            "https://us-central1-aiplatform-gateway.p.googleapis.com/v1",
        ];
        let cloud_code = [
            "https://cloudcode-pa.googleapis.com/v1internal:generateContent",
            "https://daily-cloudcode-pa.sandbox.googleapis.com/v1internal:generateContent",
            "https://autopush-cloudcode-pa.sandbox.googleapis.com/v1internal:generateContent",
        ];
        assert!(studio.iter().all(|uri| at(uri) == Provider::AiStudio));
        assert!(vertex.iter().all(|uri| at(uri) == Provider::Vertex));
        assert!(cloud_code.iter().all(|uri| at(uri) == Provider::CloudCode));
    }

    #[test]
    fn hosts_that_only_look_like_google_are_themselves() {
        for name in
            ["generativelanguage.example.com", "us-aiplatform.googleapis.com.example", "xaiplatform.googleapis.com"]
        {
            assert!(at(&format!("https://{name}/v1")) == host(name), "{name}");
        }
    }

    #[test]
    fn other_hosts_count_with_their_port() {
        assert!(at("https://API.openai.com/v1/responses") == host("api.openai.com"));
        assert!(at("https://api.openai.com.:443/v1") == host("api.openai.com"));
        assert!(at("http://localhost:80/") == host("localhost"));
        assert!(at("http://localhost:443/") == host("localhost:443"));
        assert!(at("http://127.0.0.1:8080/") == host("127.0.0.1:8080"));
        assert!(at("http://[::1]:8080/") == host("[::1]:8080"));
        assert!(at("https://user:secret@h.example:8443/") == host("h.example:8443"));
        assert!(at("https://one.openai.azure.com/openai/v1") != at("https://two.openai.azure.com/openai/v1"));
    }

    #[test]
    fn without_an_authority_the_host_header_counts() {
        let by_header = |value: &str| provenance(&request("/v1/messages", &[("host", value)]), false).provider;
        assert!(by_header("api.anthropic.com") == host("api.anthropic.com"));
        assert!(by_header("api.anthropic.com:443") == host("api.anthropic.com"));
        assert!(by_header("us-east5-aiplatform.googleapis.com") == Provider::Vertex);
        assert!(by_header("not a host") == Provider::Unknown);
        assert!(at("/v1/messages") == Provider::Unknown);
        let both = request("https://a.example/", &[("host", "b.example")]);
        assert!(provenance(&both, false).provider == host("a.example"));
    }

    #[test]
    fn the_extension_comes_first() {
        let mut parts = request("https://api.openai.com/", &[("authorization", "Bearer k")]);
        parts.extensions.insert(Provenance::new("mine"));
        assert!(provenance(&parts, false).provider == Provider::Named("mine".into()));
        parts.extensions.insert(Provenance::new("").with_account("acc"));
        let origin = provenance(&parts, true);
        assert!(origin.provider == host("api.openai.com"));
        assert!(origin.account == Account::Named("acc".into()));
        assert!(provenance(&parts, false).account == Account::Unbound);
        parts.extensions.insert(Provenance::new("mine").with_account(""));
        assert!(matches!(provenance(&parts, true).account, Account::Credential(_)));
    }

    #[test]
    fn the_account_is_named_by_header_else_by_credential_r1() {
        let account = |headers: &[(&str, &str)]| provenance(&request("/", headers), true).account;
        let chatgpt = Account::Header("chatgpt-account-id", b"a".to_vec());
        let both = [("openai-organization", "o"), ("chatgpt-account-id", "a"), ("authorization", "Bearer k")];
        assert!(account(&both) == chatgpt);
        assert!(account(&both[..1]) == Account::Header("openai-organization", b"o".to_vec()));
        assert!(account(&[("authorization", "Bearer k")]) != account(&[("authorization", "Bearer l")]));
        assert!(account(&[]) == Account::Unknown);
        assert!(provenance(&request("/", &both), false).account == Account::Unbound);
    }

    #[test]
    fn names_accounts_and_hosts_are_in_no_debug_output() {
        let given = Provenance::new("secret").with_account("secret");
        let mut parts = request("https://secret.example/", &[("openai-organization", "secret")]);
        let mut shown = format!("{given:?}{:?}", provenance(&parts, true));
        parts.extensions.insert(given);
        shown += &format!("{:?}", provenance(&parts, true));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
