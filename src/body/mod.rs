//! The bodies that the layer hands on.
//!
//! Both wrap a body of any kind with `Data = Bytes`, keep its error type, frames and trailers, forward
//! `size_hint` and `is_end_stream`, and are `Send`, `Sync` and `Unpin` as far as that body is. They hold no logic
//! of replay.

mod request;
mod response;

pub(crate) use self::request::{Collect, Collected};
pub use self::{request::RequestBody, response::ResponseBody};

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Full, combinators::BoxBody};

    use super::*;

    #[test]
    fn bodies_are_fit_for_every_client_and_server() {
        fn fit<T: Send + Sync + Unpin + 'static>() {}
        fit::<RequestBody<Full<Bytes>>>();
        fit::<ResponseBody<Full<Bytes>>>();
        // axum's is not `Sync`, and neither is this one.
        fn sendable<T: Send + Unpin + 'static>() {}
        sendable::<RequestBody<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>>>();
        fit::<ResponseBody<BoxBody<Bytes, std::io::Error>>>();
    }
}
