//! The bodies that the layer hands on.

mod request;
mod response;

pub(crate) use self::request::{Collect, Collected};
pub use self::{request::RequestBody, response::ResponseBody};
