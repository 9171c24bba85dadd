//! Where a request goes.

use http::{
    Uri,
    uri::{Authority, Scheme},
};

use crate::public;

/// The upstreams that were given; without any, the public hosts of the providers.
#[derive(Debug, Default)]
pub(crate) struct Upstreams(Vec<Upstream>);

#[derive(Debug)]
struct Upstream {
    /// Begins with a slash and does not end with one; empty for the upstream of everything else.
    prefix: String,
    base: Base,
}

#[derive(Debug)]
struct Base {
    scheme: Scheme,
    authority: Authority,
    /// Does not end with a slash.
    path: String,
}

impl Upstreams {
    /// Adds `URL` or `PREFIX=URL`. The error does not repeat the URL.
    pub(crate) fn add(&mut self, value: &str) -> Result<(), &'static str> {
        let (prefix, url) = match value.split_once('=') {
            Some((prefix, url)) if prefix.starts_with('/') => (prefix.trim_end_matches('/'), url),
            _ => ("", value),
        };
        let base = Base::parse(url)?;
        if self.0.iter().any(|other| other.prefix == prefix) {
            return Err("this prefix has an upstream already");
        }
        self.0.push(Upstream { prefix: prefix.to_owned(), base });
        self.0.sort_by_key(|upstream| std::cmp::Reverse(upstream.prefix.len()));
        Ok(())
    }

    /// The absolute URI of the upstream for a request's URI, with the same query. The error says why
    /// there is none.
    pub(crate) fn resolve(&self, uri: &Uri) -> Result<Uri, &'static str> {
        let path = uri.path();
        if self.0.is_empty() {
            let (host, path) = public::host(path).ok_or("the path belongs to no provider that is known here")?;
            return absolute(&Scheme::HTTPS, &host, path, uri.query());
        }
        let found = self.0.iter().find_map(|upstream| {
            let rest = path.strip_prefix(&*upstream.prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((&upstream.base, rest))
        });
        let (base, rest) = found.ok_or("no --upstream takes this path")?;
        absolute(&base.scheme, base.authority.as_str(), &format!("{}{rest}", base.path), uri.query())
    }
}

impl Base {
    fn parse(url: &str) -> Result<Self, &'static str> {
        let parts = url.parse::<Uri>().map_err(|_| "this is no URL")?.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err("the URL has to begin with http:// or https://");
        };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err("the URL has to begin with http:// or https://");
        }
        if authority.as_str().contains('@') {
            return Err("the URL holds credentials; callers bring their own");
        }
        if authority.host().is_empty() {
            return Err("the URL has no host");
        }
        let path = parts.path_and_query;
        if url.contains('#') || path.as_ref().is_some_and(|path| path.query().is_some()) {
            return Err("the URL has a query or a fragment; only its path is used");
        }
        let path = path.as_ref().map_or("", |path| path.path()).trim_end_matches('/').to_owned();
        Ok(Self { scheme, authority, path })
    }
}

fn absolute(scheme: &Scheme, authority: &str, path: &str, query: Option<&str>) -> Result<Uri, &'static str> {
    let path = if path.is_empty() { "/" } else { path };
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let uri = Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(target).build();
    uri.map_err(|_| "the path cannot be sent on")
}
