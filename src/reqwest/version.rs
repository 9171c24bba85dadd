//! What differs between the versions of reqwest: only whose types they are.

use bytes::Bytes;
use http::{HeaderMap, Response, request::Parts};
use http_body::Body;

use crate::body::{RequestBody, ResponseBody};

/// A request of reqwest's, and the types that go with it.
///
/// It cannot be implemented outside of this crate.
pub trait ClientRequest: Sized + Send + Sync + 'static {
    /// The response.
    type Response;
    /// The body of both.
    type Body: Body<Data = Bytes, Error: Send + Sync> + Send + Sync + Unpin + 'static;
    /// Where the request goes.
    type Url: Clone + Send + Sync + 'static;

    /// Takes the body out.
    fn take_body(&mut self) -> Option<Self::Body>;

    /// Puts a body in.
    fn set_body(&mut self, body: Self::Body);

    /// The headers.
    fn headers_mut(&mut self) -> &mut HeaderMap;

    /// The URL.
    fn url(&self) -> Self::Url;

    /// The same, but for the body.
    fn again(&self) -> Self;

    /// The head; `None` if the URL is no URI.
    fn head(&self) -> Option<Parts>;

    /// A body as the client likes it: in one piece where it is, so that it can be sent again.
    fn body(body: RequestBody<Self::Body>) -> Self::Body;

    /// A response in the types of `http`, with the URL from which it came.
    fn taken(response: Self::Response) -> (Response<Self::Body>, Self::Url);

    /// The response for the caller.
    fn response(response: Response<ResponseBody<Self::Body>>, url: Self::Url) -> Self::Response;
}

macro_rules! version {
    ($reqwest:ident, $feature:literal) => {
        #[cfg(feature = $feature)]
        impl ClientRequest for ::$reqwest::Request {
            type Response = ::$reqwest::Response;
            type Body = ::$reqwest::Body;
            type Url = ::$reqwest::Url;

            fn take_body(&mut self) -> Option<::$reqwest::Body> {
                self.body_mut().take()
            }

            fn set_body(&mut self, body: ::$reqwest::Body) {
                *self.body_mut() = Some(body);
            }

            fn headers_mut(&mut self) -> &mut HeaderMap {
                self.headers_mut()
            }

            fn url(&self) -> ::$reqwest::Url {
                self.url().clone()
            }

            fn again(&self) -> Self {
                // Only a body can be in the way of a clone.
                self.try_clone().unwrap_or_else(|| Self::new(self.method().clone(), self.url().clone()))
            }

            fn head(&self) -> Option<Parts> {
                let request = ::http::Request::<::$reqwest::Body>::try_from(self.again()).ok()?;
                Some(request.into_parts().0)
            }

            fn body(body: RequestBody<::$reqwest::Body>) -> ::$reqwest::Body {
                body.as_whole().map_or_else(|| ::$reqwest::Body::wrap(body), ::$reqwest::Body::from)
            }

            fn taken(response: ::$reqwest::Response) -> (Response<::$reqwest::Body>, ::$reqwest::Url) {
                let url = response.url().clone();
                (response.into(), url)
            }

            fn response(
                response: Response<ResponseBody<::$reqwest::Body>>,
                url: ::$reqwest::Url,
            ) -> ::$reqwest::Response {
                let (mut head, body) = response.into_parts();
                let named = ::$reqwest::ResponseBuilderExt::url(Response::builder(), url).body(());
                if let Ok(named) = named {
                    head.extensions.extend(named.into_parts().0.extensions);
                }
                Response::from_parts(head, ::$reqwest::Body::wrap(body)).into()
            }
        }
    };
}

version!(reqwest_0_12, "reqwest-0-12");
version!(reqwest, "reqwest-0-13");
