use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION, request::Parts};

/// The headers that hold nothing but a credential; `api-key` is Azure's.
pub(crate) const KEYS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

/// Who calls the gateway. Two tenants never share anything.
///
/// A gateway that authenticates its callers itself, shares or rotates upstream keys, or uses short-lived
/// tokens puts one into the extensions of each request. Without it the tenant is named by the headers that
/// were configured, else by a hash of the caller's credential.
///
/// The name may have any length. An empty one counts as not set. Neither `Debug` output nor anything that is
/// stored shows it.
///
/// # Examples
///
/// ```
/// use tower_reasoning_replay::scope::Tenant;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(Tenant::new("customer-17"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Arc<str>);

impl Tenant {
    /// The tenant of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into().into())
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tenant(..)")
    }
}

/// How the tenant of a request is known.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum TenantOf {
    /// The gateway or a configured header names it.
    Named(TenantName),
    /// By a hash of the credential.
    Credential(Credential),
    /// Not at all.
    Anonymous,
}

impl TenantOf {
    /// Whether nothing says who calls: `require_tenant` refuses to replay then.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }
}

impl fmt::Debug for TenantOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Named(_) => "TenantOf::Named",
            Self::Credential(_) => "TenantOf::Credential",
            Self::Anonymous => "TenantOf::Anonymous",
        })
    }
}

/// The name of a tenant, and who gave it: a client must not be able to pass for a tenant that the gateway
/// names in another way.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum TenantName {
    Extension(Tenant),
    Header(HeaderName, HeaderValue),
}

impl TenantName {
    /// The header that named it, and the name.
    pub(super) fn parts(&self) -> (&str, &[u8]) {
        match self {
            Self::Extension(tenant) => ("", tenant.0.as_bytes()),
            Self::Header(header, value) => (header.as_str(), value.as_bytes()),
        }
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TenantName(..)")
    }
}

/// A hash of all the credentials that a request carries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Credential([u8; 32]);

impl Credential {
    /// The hash of the credentials of this request; `None` if it carries none.
    ///
    /// All of them count, not only the first: gateways put one constant key beside the caller's own.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let mut hash = blake3::Hasher::new_derive_key("tower-reasoning-replay 2026 credential");
        let mut found = false;
        let mut take = |kind: &str, scheme: &[u8], secret: &[u8]| {
            if !secret.is_empty() {
                found = true;
                for field in [kind.as_bytes(), scheme, secret] {
                    hash.update(&(field.len() as u64).to_le_bytes());
                    hash.update(field);
                }
            }
        };
        for header in KEYS {
            for value in parts.headers.get_all(header) {
                take(header, b"", value.as_bytes().trim_ascii());
            }
        }
        for pair in parts.uri.query().unwrap_or_default().split('&') {
            take("?key", b"", pair.strip_prefix("key=").unwrap_or_default().as_bytes());
        }
        for value in parts.headers.get_all(AUTHORIZATION) {
            let value = value.as_bytes().trim_ascii();
            let scheme = value.iter().position(u8::is_ascii_whitespace).unwrap_or_default();
            let (scheme, secret) = value.split_at(scheme);
            // A scheme alone identifies nobody.
            let secret = secret.trim_ascii();
            let secret = if scheme.is_empty() && is_scheme(secret) { b"" } else { secret };
            take("authorization", &scheme.to_ascii_lowercase(), secret);
        }
        found.then(|| Self(*hash.finalize().as_bytes()))
    }

    pub(super) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

fn is_scheme(value: &[u8]) -> bool {
    [&b"bearer"[..], b"basic"].iter().any(|scheme| value.eq_ignore_ascii_case(scheme))
}

/// Who calls: the extension, else the first of `headers` that is there, else the credential.
pub(crate) fn tenant(parts: &Parts, headers: &[HeaderName]) -> TenantOf {
    if let Some(tenant) = parts.extensions.get::<Tenant>().filter(|tenant| !tenant.0.is_empty()) {
        return TenantOf::Named(TenantName::Extension(tenant.clone()));
    }
    if let Some(name) = headers.iter().find_map(|header| named_by(&parts.headers, header)) {
        return TenantOf::Named(name);
    }
    Credential::of(parts).map_or(TenantOf::Anonymous, TenantOf::Credential)
}

fn named_by(headers: &HeaderMap, header: &HeaderName) -> Option<TenantName> {
    let value = headers.get_all(header).iter().find(|value| !value.as_bytes().trim_ascii().is_empty())?;
    Some(TenantName::Header(header.clone(), value.clone()))
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

    fn by_credential(uri: &str, headers: &[(&str, &str)]) -> Credential {
        match tenant(&request(uri, headers), &[]) {
            TenantOf::Credential(credential) => credential,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_extension_comes_first() {
        let header = HeaderName::from_static("x-tenant");
        let mut parts = request("/", &[("x-tenant", "a"), ("authorization", "Bearer t")]);
        parts.extensions.insert(Tenant::new("b"));
        let headers = [header.clone()];
        assert!(tenant(&parts, &headers) == TenantOf::Named(TenantName::Extension(Tenant::new("b"))));
        parts.extensions.insert(Tenant::new(""));
        let by_header = TenantName::Header(header, HeaderValue::from_static("a"));
        assert!(tenant(&parts, &headers) == TenantOf::Named(by_header));
        assert!(matches!(tenant(&parts, &[]), TenantOf::Credential(_)));
    }

    #[test]
    fn an_extension_and_a_header_of_one_name_differ() {
        let header = HeaderName::from_static("x-tenant");
        let named = tenant(&request("/", &[("x-tenant", "a")]), &[header]);
        let mut parts = request("/", &[]);
        parts.extensions.insert(Tenant::new("a"));
        assert!(named != tenant(&parts, &[]));
    }

    #[test]
    fn the_first_header_with_a_value_names_the_tenant() {
        let headers = ["x-org", "x-tenant"].map(HeaderName::from_static);
        let named = |parts: &Parts| match tenant(parts, &headers) {
            TenantOf::Named(name) => String::from_utf8(name.parts().1.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(named(&request("/", &[("x-tenant", "t"), ("x-org", " ")])), "t");
        assert_eq!(named(&request("/", &[("x-tenant", ""), ("x-tenant", "u")])), "u");
        assert_eq!(named(&request("/", &[("x-tenant", "t"), ("x-org", "o")])), "o");
    }

    #[test]
    fn every_kind_of_credential_names_a_tenant() {
        let all = [
            by_credential("/", &[("x-api-key", "k")]),
            by_credential("/", &[("x-goog-api-key", "k")]),
            by_credential("/", &[("api-key", "k")]),
            by_credential("/v1beta/models/m:generateContent?alt=sse&key=k", &[]),
            by_credential("/", &[("authorization", "Bearer k")]),
            by_credential("/", &[("authorization", "Basic k")]),
            by_credential("/", &[("authorization", "k")]),
            by_credential("/", &[("authorization", "Bearer k"), ("x-api-key", "k")]),
            by_credential("/", &[("x-api-key", "k2")]),
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert!(one != other);
            }
        }
    }

    #[test]
    fn schemes_and_white_space_do_not_matter() {
        let one = by_credential("/", &[("authorization", "Bearer token")]);
        assert!(one == by_credential("/", &[("authorization", "bearer   token ")]));
        assert!(one != by_credential("/", &[("authorization", "Bearer Token")]));
        let one = by_credential("/?key=k", &[]);
        assert!(one == by_credential("/other?alt=sse&key=k&x=1", &[]));
        assert!(one != by_credential("/?key=K", &[]));
    }

    #[test]
    fn without_a_credential_the_tenant_is_anonymous() {
        let empty = [
            request("/?apikey=k&keys=k&key=", &[]),
            request("/", &[("x-api-key", ""), ("authorization", " ")]),
            request("/", &[("authorization", "Bearer ")]),
            request("/", &[("authorization", "Bearer")]),
        ];
        for parts in empty {
            assert!(tenant(&parts, &[HeaderName::from_static("x-tenant")]).is_anonymous());
        }
    }

    #[test]
    fn names_and_credentials_are_in_no_debug_output() {
        let mut parts = request("/?key=secret", &[("x-tenant", "secret"), ("authorization", "Bearer secret")]);
        let header = [HeaderName::from_static("x-tenant")];
        let mut shown = format!("{:?}{:?}", tenant(&parts, &[]), tenant(&parts, &header));
        parts.extensions.insert(Tenant::new("secret"));
        let of = tenant(&parts, &[]);
        shown += &format!("{of:?}{:?}{:?}", Tenant::new("secret"), Credential::of(&parts));
        if let TenantOf::Named(name) = of {
            shown += &format!("{name:?}");
        }
        assert!(!shown.contains("secret"), "{shown}");
    }
}
