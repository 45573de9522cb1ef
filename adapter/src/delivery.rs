//! The way out: bytes, headers and addresses. What to say is decided elsewhere.

mod download;
mod file;
mod folder;
mod rest_hook;
mod terminology;
mod web;

pub use download::download;
pub use file::write_whole;
pub use folder::{Folder, write_durably};
pub use rest_hook::{RestHook, Sent};
pub use terminology::{TerminologyAnswer, TerminologyServer};
pub use web::{Answer, Web};
