//! Logs. To stderr, as text or JSON; `RUST_LOG` chooses what.
//!
//! Never in a log: a patient's identifier, name or answer, a body, a query.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins logging. Without `RUST_LOG`, what goes wrong and what an operator should know is shown.
pub fn begin(format: LogFormat) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second call (tests) leaves the first in place.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// One line for whoever started the service.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody may be reading any more, which is no reason to stop serving.
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
