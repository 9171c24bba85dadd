//! Replay without tower: the [`Engine`](crate::Engine) in a client, a filter or a pipeline of your own.
