//! The methods that every public provider and its builder have.

/// Gives a provider, whose one field is `core: Arc<Core<…>>`, and its builder, which has a `config` with a
/// `delivery` and a `seed`, the methods, the service and the `Debug` that all providers share.
///
/// `$end` is what an early end comes before, in the words of the protocol.
macro_rules! face {
    ($provider:ident, $builder:ident, end: $end:literal) => {
        impl $provider {
            /// A provider with every switch at its default.
            #[must_use]
            pub fn new() -> Self {
                Self::default()
            }

            /// Sets up a provider.
            pub fn builder() -> $builder {
                $builder::default()
            }

            /// Every request whose body was read to its end, in the order in which they were answered.
            #[must_use]
            pub fn requests(&self) -> Vec<$crate::testing::provider::Recorded> {
                self.core.requests()
            }

            /// How many requests passed every check.
            #[must_use]
            pub fn accepted(&self) -> usize {
                self.core.accepted()
            }

            /// How many requests were refused, in whatever form.
            #[must_use]
            pub fn refused(&self) -> usize {
                self.core.refused()
            }

            /// Answers the next request with this status whatever it holds; several calls queue up. Such a request
            /// counts neither as accepted nor as refused.
            pub fn fail_next(&self, status: ::http::StatusCode) {
                self.core.fail_next(status);
            }
        }

        impl Default for $provider {
            fn default() -> Self {
                $builder::default().build()
            }
        }

        impl ::std::fmt::Debug for $provider {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($provider))
                    .field("accepted", &self.accepted())
                    .field("refused", &self.refused())
                    .finish_non_exhaustive()
            }
        }

        impl<B> ::tower_service::Service<::http::Request<B>> for $provider
        where
            B: ::http_body::Body<Data = ::bytes::Bytes> + Send + 'static,
            B::Error: Into<Box<dyn ::std::error::Error + Send + Sync>>,
        {
            type Response = ::http::Response<$crate::testing::provider::ProviderBody>;
            type Error = $crate::testing::provider::ProviderError;
            type Future = $crate::testing::provider::ProviderFuture;

            fn poll_ready(
                &mut self,
                _: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Result<(), $crate::testing::provider::ProviderError>> {
                ::std::task::Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: ::http::Request<B>) -> $crate::testing::provider::ProviderFuture {
                ::std::sync::Arc::clone(&self.core).call(request)
            }
        }

        impl $builder {
            /// How bodies are cut into frames. Default: [`Chunks::Events`](crate::testing::provider::Chunks::Events).
            pub fn chunks(mut self, chunks: $crate::testing::provider::Chunks) -> Self {
                self.config.delivery.chunks = chunks;
                self
            }

            /// When bodies are compressed. Default: [`Gzip::IfAccepted`](crate::testing::provider::Gzip::IfAccepted).
            pub fn gzip(mut self, gzip: $crate::testing::provider::Gzip) -> Self {
                self.config.delivery.gzip = gzip;
                self
            }

            /// Whether bodies end with a trailer, `x-provider-trailer: end`. Default: `false`.
            pub fn trailers(mut self, trailers: bool) -> Self {
                self.config.delivery.trailers = trailers;
                self
            }

            /// Pauses before the frame with this number, from 0; the number after the last frame pauses before the
            /// end. May be given several times. Needs a Tokio runtime with time.
            pub fn stall(mut self, before_frame: usize, pause: ::std::time::Duration) -> Self {
                self.config.delivery.stalls.push((before_frame, pause));
                self
            }

            /// Pauses before the head of the response. Default: not at all. Needs a Tokio runtime with time.
            pub fn head_delay(mut self, pause: ::std::time::Duration) -> Self {
                self.config.delivery.head_delay = Some(pause);
                self
            }

            /// Breaks the connection after so many bytes of the body, which then ends with an error. Default: never.
            pub fn cut_after(mut self, bytes: usize) -> Self {
                self.config.delivery.cut_after = Some(bytes);
                self
            }

            /// Breaks the connection before the head, so that the service itself fails. Default: `false`.
            pub fn cut_before_head(mut self, cut: bool) -> Self {
                self.config.delivery.cut_before_head = cut;
                self
            }

            #[doc = concat!("Ends streams in good order, but before ", $end, ". Default: `false`.")]
            pub fn end_early(mut self, early: bool) -> Self {
                self.config.delivery.end_early = early;
                self
            }

            /// Restricts stalls, delays, cuts and early ends to the request with this number, from 0. Default: every
            /// request has them.
            pub fn faults_only_at(mut self, request: usize) -> Self {
                self.config.delivery.faults_only_at = Some(request);
                self
            }

            /// Makes ids and opaque state repeatable. Default: they differ between providers of one process.
            pub fn seed(mut self, seed: u64) -> Self {
                self.config.seed = Some(seed);
                self
            }
        }
    };
}

pub(crate) use face;
