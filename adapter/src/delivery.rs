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

/// What went wrong with a request, to follow who was asked. The error's own text may hold the
/// address with its query, so only its kind is told.
fn what_failed(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "did not answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "broke the connection off"
    }
}
