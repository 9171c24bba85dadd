//! Bodies, services and stores that do what a script says, and remember what was done to them.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod body;
pub mod gemini;
pub mod rig;
pub mod service;
pub mod store;

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame};

/// The output of a future that has to be ready in its first poll.
#[track_caller]
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the future is not ready in its first poll"),
    }
}

/// One poll of a body.
pub fn poll<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()))
}

/// The next frame of data, which has to be there at once.
#[track_caller]
pub fn data<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Bytes {
    match poll(body) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_else(|_| panic!("trailers")),
        Poll::Ready(Some(Err(_))) => panic!("the body failed"),
        Poll::Ready(None) => panic!("the body is over"),
        Poll::Pending => panic!("the frame is held back"),
    }
}

/// Whether two buffers are the same memory.
pub fn same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

#[track_caller]
pub fn assert_same(one: &[Bytes], other: &[Bytes]) {
    assert_eq!(one, other);
    assert!(one.iter().zip(other).all(|(one, other)| same(one, other)), "a frame was copied");
}
