//! The guide: how to put replay into a gateway, with examples that are compiled and run.
//!
//! There is nothing to call here. Each page is a module of documentation.
//!
//! | page | for whom |
//! |---|---|
//! | [`engine`] | gateways with an HTTP client, a filter or a pipeline of their own |

pub mod engine;
