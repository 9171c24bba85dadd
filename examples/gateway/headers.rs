//! The headers that belong to one connection and not to the message.

use http::{
    HeaderMap, HeaderName,
    header::{CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

/// Takes out `connection`, what it names, and what is known to be of its kind
/// (<https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1>).
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let known = [
        CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("trailers"),
    ];
    let proxy = headers.keys().filter(|name| name.as_str().starts_with("proxy-")).cloned();
    let gone: Vec<HeaderName> = proxy.chain(named).chain(known).collect();
    for name in gone {
        headers.remove(name);
    }
}
