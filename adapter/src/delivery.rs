//! The way out: bytes, headers and addresses. What to say is decided elsewhere.

mod file;
mod web;

pub use file::write_whole;
pub use web::{Answer, Web};
