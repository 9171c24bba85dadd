//! One exchange, without I/O.

pub mod refusal;
