//! The command line: parse the command, build the configuration, call one function.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};

use crate::app::App;
use crate::config::{DATABASE, Options, Settings};
use crate::delivery::write_whole;
use crate::facade::{Error, Machine};
use crate::intake::Format;
use crate::telemetry::{self, LogFormat, say};
use crate::{check, export, intake, rescore, score, serve, validate, value_sets};

/// FHIR R4 interoperability adapter and questionnaire service for back-pain care.
#[derive(Parser)]
#[command(name = "lumbar", version, about, max_term_width = 100)]
struct Cli {
    /// How log lines look
    #[arg(long, global = true, env = "LUMBAR_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service
    #[command(
        after_help = "Example: lumbar serve --database sqlite:clinic.db --listen 127.0.0.1:8080"
    )]
    Serve {
        /// File with the same options as keys
        #[arg(long, env = "LUMBAR_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Translate files into FHIR, without a database
    #[command(
        after_help = "Example: lumbar convert --from emis extract/ --out bundle.json --report report.json"
    )]
    Convert {
        /// Format of the input
        #[arg(long, value_name = "FORMAT")]
        from: Format,
        /// Format of the output
        #[arg(long, value_name = "FORMAT", default_value = "fhir")]
        to: Format,
        /// Files or folders; - is stdin
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Where the output goes [default: stdout]
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
        /// Where the report goes
        #[arg(long, value_name = "PATH")]
        report: Option<PathBuf>,
    },
    /// Translate files into the store; the same files again change nothing
    #[command(
        after_help = "Example: lumbar import --from emis extract/ --database sqlite:clinic.db"
    )]
    Import {
        /// Format of the input
        #[arg(long, value_name = "FORMAT")]
        from: Format,
        /// Files or folders
        #[arg(required = true, value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Database
        #[arg(long, env = "LUMBAR_DATABASE", value_name = "URL", default_value = DATABASE)]
        database: String,
        /// Where the report goes
        #[arg(long, value_name = "PATH")]
        report: Option<PathBuf>,
    },
    /// Write bookings or resources out of the store
    #[command(
        after_help = "Example: lumbar export --to csv --out bookings.csv --database sqlite:clinic.db"
    )]
    Export {
        /// csv: the list of bookings; fhir: NDJSON, one file a type in the folder of --out
        #[arg(long, value_name = "FORMAT")]
        to: Format,
        /// Only what was updated at or after this instant (fhir)
        #[arg(long, value_name = "INSTANT")]
        since: Option<String>,
        /// File (csv) or folder (fhir) [default: stdout]
        #[arg(long, value_name = "PATH")]
        out: Option<PathBuf>,
        /// Database
        #[arg(long, env = "LUMBAR_DATABASE", value_name = "URL", default_value = DATABASE)]
        database: String,
    },
    /// Score the stored responses anew, after rules have changed; a second run changes nothing
    #[command(
        after_help = "Example: lumbar rescore --instrument start-back-9 --dry-run --report changes.ndjson --database sqlite:clinic.db"
    )]
    Rescore {
        /// Only the responses to this instrument
        #[arg(long, value_name = "ID")]
        instrument: Option<String>,
        /// Say what would change and write nothing
        #[arg(long)]
        dry_run: bool,
        /// Where the report goes: a line of JSON for each response that changes
        #[arg(long, value_name = "PATH")]
        report: Option<PathBuf>,
        /// Database
        #[arg(long, env = "LUMBAR_DATABASE", value_name = "URL", default_value = DATABASE)]
        database: String,
    },
    /// Score questionnaire responses, with the reasons
    #[command(after_help = "Example: lumbar score response.json")]
    Score {
        /// QuestionnaireResponse files; - is stdin
        #[arg(value_name = "FILE", required_unless_present = "vectors")]
        files: Vec<PathBuf>,
        /// File of test vectors: one line of results each, nothing is compared
        #[arg(long, value_name = "FILE", conflicts_with = "files")]
        vectors: Option<PathBuf>,
        /// File with the site's value sets, such as those of EQ-5D
        #[arg(long, value_name = "PATH")]
        value_sets: Option<PathBuf>,
    },
    /// Hold files against R4 and profiles; nothing is downloaded
    #[command(
        after_help = "Example: lumbar validate referral.json --profile https://lumbar.example/fhir/StructureDefinition/referral --profiles uk-core/"
    )]
    Validate {
        /// JSON, XML or NDJSON files, or folders of them; - is stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Canonical of a profile that is to hold besides those in meta.profile
        #[arg(long = "profile", value_name = "CANONICAL")]
        canonicals: Vec<String>,
        /// Where profiles and their terminology are
        #[arg(long, value_name = "PATH")]
        profiles: Vec<PathBuf>,
        /// Print one OperationOutcome a file, each on a line
        #[arg(long)]
        json: bool,
    },
    /// Look at the configuration, the artefacts, the instruments and the mappings
    #[command(after_help = "Example: lumbar check --config lumbar.toml")]
    Check {
        /// File with the options of serve as keys
        #[arg(long, env = "LUMBAR_CONFIG", value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Bring a database's schema up to date
    #[command(after_help = "Example: lumbar migrate --database postgres://lumbar@db/lumbar")]
    Migrate {
        /// Database
        #[arg(long, env = "LUMBAR_DATABASE", value_name = "URL", default_value = DATABASE)]
        database: String,
    },
}

/// Runs the command that the arguments name.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    telemetry::begin(cli.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(perform(cli.command)),
        Err(error) => Err(format!("the runtime cannot start: {error}")),
    };
    match result {
        Ok(code) => code,
        Err(sentence) => {
            eprintln!("lumbar: {sentence}");
            ExitCode::from(2)
        }
    }
}

async fn perform(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Serve { config, options } => {
            serve::serve(settings(config, *options)?).await?;
        }
        Command::Convert { from, to, paths, out, report } => {
            let files = intake::read_files(&paths, from.extension())?;
            let converted = intake::convert(from, to, intake::batch_name(&paths), files)?;
            write(out.as_deref(), converted.output.as_bytes())?;
            if let Some(path) = report {
                write(Some(&path), converted.report.to_pretty().as_bytes())?;
            }
            return Ok(if converted.fatal { ExitCode::from(1) } else { ExitCode::SUCCESS });
        }
        Command::Import { from, paths, database, report } => {
            let (app, store) = offline(&database).await?;
            let imported = intake::import(&app, from, &paths).await?;
            store.close().await;
            say(&imported.summary());
            if let Some(path) = report {
                write(Some(&path), imported.to_json().to_pretty().as_bytes())?;
            }
            return Ok(if imported.fatal { ExitCode::from(1) } else { ExitCode::SUCCESS });
        }
        Command::Export { to, since, out, database } => {
            let (app, store) = offline(&database).await?;
            export(&app, to, since.as_deref(), out.as_deref()).await?;
            store.close().await;
        }
        Command::Rescore { instrument, dry_run, report, database } => {
            let (app, store) = offline(&database).await?;
            if let Some(id) = &instrument
                && !app.rules.instruments.iter().any(|known| *known.id == **id)
            {
                return Err(format!("there is no instrument {id}; lumbar check lists them"));
            }
            let request = rescore::Request {
                instrument: instrument.as_deref(),
                is_dry: dry_run,
                report: report.as_deref(),
            };
            rescore::rescore(&app.facade, &request).await?;
            store.close().await;
        }
        Command::Score { files, vectors, value_sets } => {
            let bench = score::Bench::new(value_sets.as_deref())?;
            let scored_all = match vectors {
                Some(path) => bench.vectors(&path)?,
                None => bench.files(&files)?,
            };
            return Ok(if scored_all { ExitCode::SUCCESS } else { ExitCode::from(1) });
        }
        Command::Validate { files, canonicals, profiles, json } => {
            let (files, profiles, paths) = (&files, &canonicals, &profiles);
            let is_valid = validate::validate(&validate::Request { files, profiles, paths, json })?;
            return Ok(if is_valid { ExitCode::SUCCESS } else { ExitCode::from(1) });
        }
        Command::Check { config, options } => {
            let is_sound = check::check(&settings(config.clone(), *options)?, config.as_deref())?;
            return Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::from(1) });
        }
        Command::Migrate { database } => {
            let store = serve::open(&database).await?;
            store.close().await;
            say("The schema is up to date.");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The effective configuration: flags and variables, then the file, then defaults.
fn settings(config: Option<PathBuf>, options: Options) -> Result<Settings, String> {
    let file = match config {
        Some(path) => Options::from_file(&path).map_err(|problems| problems.to_string())?,
        None => Options::default(),
    };
    options.or(file).settle().map_err(|problems| problems.to_string())
}

/// The service without its listener, for commands that work on the store.
async fn offline(database: &str) -> Result<(App, lumbar_store::Store), String> {
    let settings = Options { database: Some(database.to_owned()), ..Options::default() };
    let mut settings = settings.settle().map_err(|problems| problems.to_string())?;
    settings.base_url = "http://127.0.0.1:8080/fhir".to_owned();
    let (definitions, mut rules) = serve::definitions(&settings.profiles)?;
    value_sets::supply(&mut rules, settings.value_sets.as_deref())?;
    let store = serve::open(database).await?;
    let app = App::new(settings, &store, definitions, rules, Arc::new(Machine));
    // Nobody else may be there to index what an earlier version has stored.
    let indexed = app.facade.reindex_all().await;
    indexed.map_err(|error| format!("the resources cannot be indexed anew: {error}"))?;
    Ok((app, store))
}

async fn export(
    app: &App,
    to: Format,
    since: Option<&str>,
    out: Option<&Path>,
) -> Result<(), String> {
    let told = |error: Error| {
        error.issues().first().map_or_else(|| error.to_string(), |issue| issue.text.clone())
    };
    match to {
        Format::Csv => {
            let csv = export::appointment_list(&app.facade).await.map_err(told)?;
            write(out, csv.as_bytes())
        }
        Format::Fhir => {
            if let Some(folder) = out {
                std::fs::create_dir_all(folder)
                    .map_err(|e| format!("{}: {e}", folder.display()))?;
            }
            let mut file: Option<(String, std::io::BufWriter<std::fs::File>)> = None;
            let result = export::resources(&app.facade, since, |of, text| {
                let written = match out {
                    None => writeln!(std::io::stdout().lock(), "{text}"),
                    Some(folder) => {
                        ndjson(&mut file, folder, of).and_then(|writer| writeln!(writer, "{text}"))
                    }
                };
                written.map_err(|error| {
                    tracing::error!(%error, "the export cannot be written");
                    Error::Internal
                })
            })
            .await;
            let flushed = file.map_or(Ok(()), |(_, mut writer)| writer.flush());
            flushed.map_err(|error| error.to_string())?;
            result.map_err(told)
        }
        Format::Emis | Format::Hl7v2 => {
            Err("only csv and fhir are written out of the store".to_owned())
        }
    }
}

/// The NDJSON file of a type; resources come type by type, so one is open at a time.
fn ndjson<'f>(
    file: &'f mut Option<(String, std::io::BufWriter<std::fs::File>)>,
    folder: &Path,
    of: &str,
) -> std::io::Result<&'f mut std::io::BufWriter<std::fs::File>> {
    if file.as_ref().is_none_or(|(open, _)| open != of) {
        if let Some((_, writer)) = file.as_mut() {
            writer.flush()?;
        }
        let path = folder.join(format!("{of}.ndjson"));
        *file = Some((of.to_owned(), std::io::BufWriter::new(std::fs::File::create(path)?)));
    }
    match file {
        Some((_, writer)) => Ok(writer),
        None => Err(std::io::Error::other("no file is open")),
    }
}

fn write(path: Option<&Path>, bytes: &[u8]) -> Result<(), String> {
    match path {
        Some(path) if path != Path::new("-") => {
            write_whole(path, bytes).map_err(|error| format!("{}: {error}", path.display()))
        }
        _ => {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| error.to_string())
        }
    }
}
