//! The `lumbar` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    lumbar::cli::run()
}
