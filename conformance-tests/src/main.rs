//! `lumbar-conformance BASE_URL`: asks a FHIR R4 server what it is and says whether that holds.
//!
//! This version checks the CapabilityStatement and that each claimed search answers:
//! <https://hl7.org/fhir/R4/http.html#capabilities>. It writes nothing to the server.

mod checks;

use std::process::ExitCode;

use clap::Parser;

/// Judge any FHIR R4 server from outside.
#[derive(Parser)]
#[command(
    name = "lumbar-conformance",
    version,
    about,
    after_help = "Example: lumbar-conformance http://127.0.0.1:8080/fhir\n\
                  Exit code: 0 all required checks passed, 1 some failed, 2 could not run"
)]
struct Cli {
    /// FHIR base URL of the server
    base_url: String,
    /// Bearer token to send
    #[arg(long, env = "LUMBAR_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(checks::run(&cli.base_url, cli.token.as_deref())),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(checks) => {
            for check in &checks {
                println!("{check}");
            }
            let failed = checks.iter().filter(|check| check.failed()).count();
            println!("{} checks, {failed} failed", checks.len());
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(sentence) => {
            eprintln!("lumbar-conformance: {sentence}");
            ExitCode::from(2)
        }
    }
}
