//! Configuration: flag, then `LUMBAR_` variable, then file, then default.
//!
//! The options of `serve` are one struct, so that flag, variable, file key and help cannot differ.

mod hosts;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;
use serde::Deserialize;

pub use hosts::Hosts;

/// Who may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Everyone who reaches the address.
    #[default]
    None,
    /// Clients with a SMART token.
    Smart,
}

/// What happens to a resource that breaks the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Validation {
    /// It is refused with 422.
    #[default]
    Enforce,
    /// It is stored, and the issues are told as warnings.
    Report,
    /// Nobody looks.
    Off,
}

/// What happens to a reference of ours to a resource that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum References {
    /// Nobody looks.
    #[default]
    Off,
    /// It is refused when it is written.
    Check,
}

/// What happens to the deletion of a resource that others refer to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum DeleteReferenced {
    /// It is deleted.
    #[default]
    Allow,
    /// It is refused with 409.
    Refuse,
}

/// How many resources a conditional delete may delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ConditionalDelete {
    /// One; several matches are refused with 412.
    #[default]
    Single,
    /// All that the search finds.
    Multiple,
}

/// What a subscriber that asked for a payload is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SubscriptionPayload {
    /// The resource.
    #[default]
    Full,
    /// Its type and id.
    IdOnly,
}

/// The options of `serve`, each also a variable and a key of the configuration file.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "LUMBAR_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Database: sqlite:FILE or postgres://USER@HOST/NAME [default: sqlite:lumbar.db]
    #[arg(long, env = "LUMBAR_DATABASE", value_name = "URL")]
    pub database: Option<String>,
    /// Load the demonstration practice and walk its referrals the whole way
    #[arg(long, env = "LUMBAR_DEMO", num_args = 0, default_missing_value = "true")]
    pub demo: Option<bool>,
    /// Further FHIR artefacts: files, folders, and FHIR packages (.tgz)
    #[arg(long, env = "LUMBAR_PROFILES", value_name = "PATH", value_delimiter = ',')]
    pub profiles: Vec<PathBuf>,
    /// File with the site's value sets, such as those of EQ-5D
    #[arg(long, env = "LUMBAR_VALUE_SETS", value_name = "PATH")]
    pub value_sets: Option<PathBuf>,
    /// Wording packs of instruments: files, and folders of them
    #[arg(long, env = "LUMBAR_WORDING", value_name = "PATH", value_delimiter = ',')]
    pub wording: Vec<PathBuf>,
    /// Who may call: none or smart [default: none]
    #[arg(long, env = "LUMBAR_AUTH", value_name = "HOW")]
    pub auth: Option<Auth>,
    /// Allow `--auth none` on an address that other machines reach
    #[arg(long, env = "LUMBAR_ALLOW_OPEN", num_args = 0, default_missing_value = "true")]
    pub allow_open: Option<bool>,
    /// What happens to a resource that breaks the rules: enforce, report or off [default: enforce]
    #[arg(long, env = "LUMBAR_VALIDATION", value_name = "HOW")]
    pub validation: Option<Validation>,
    /// URL under which clients reach the FHIR service [default: http://LISTEN/fhir]
    #[arg(long, env = "LUMBAR_BASE_URL", value_name = "URL")]
    pub base_url: Option<String>,
    /// Largest request body in bytes [default: 16777216]
    #[arg(long, env = "LUMBAR_MAX_BODY_BYTES", value_name = "BYTES")]
    pub max_body_bytes: Option<usize>,
    /// Whether references to our own resources must name one that is there: off or check [default: off]
    #[arg(long, env = "LUMBAR_REFERENCES", value_name = "HOW")]
    pub references: Option<References>,
    /// What happens when a resource that others refer to is deleted: allow or refuse [default: allow]
    #[arg(long, env = "LUMBAR_DELETE_REFERENCED", value_name = "HOW")]
    pub delete_referenced: Option<DeleteReferenced>,
    /// How many resources a conditional delete may delete: single or multiple [default: single]
    #[arg(long, env = "LUMBAR_CONDITIONAL_DELETE", value_name = "HOW")]
    pub conditional_delete: Option<ConditionalDelete>,
    /// Refuse updates without If-Match of what is there with 428
    #[arg(long, env = "LUMBAR_REQUIRE_IF_MATCH", num_args = 0, default_missing_value = "true")]
    pub require_if_match: Option<bool>,
    /// Most matches on a page, whatever _count says [default: 1000]
    #[arg(long, env = "LUMBAR_MAX_COUNT", value_name = "NUMBER")]
    pub max_count: Option<usize>,
    /// Longest chain of search parameters [default: 4]
    #[arg(long, env = "LUMBAR_MAX_CHAIN", value_name = "NUMBER")]
    pub max_chain: Option<usize>,
    /// Most values of one search parameter [default: 200]
    #[arg(long, env = "LUMBAR_MAX_VALUES", value_name = "NUMBER")]
    pub max_values: Option<usize>,
    /// Most parameters of a search [default: 100]
    #[arg(long, env = "LUMBAR_MAX_PARAMETERS", value_name = "NUMBER")]
    pub max_parameters: Option<usize>,
    /// Longest value of one search parameter in bytes [default: 32768]
    #[arg(long, env = "LUMBAR_MAX_VALUE_BYTES", value_name = "BYTES")]
    pub max_value_bytes: Option<usize>,
    /// Most resources that _include and _revinclude add to a page [default: 2000]
    #[arg(long, env = "LUMBAR_MAX_INCLUDED", value_name = "NUMBER")]
    pub max_included: Option<usize>,
    /// Most entries of a batch or transaction [default: 10000]
    #[arg(long, env = "LUMBAR_MAX_ENTRIES", value_name = "NUMBER")]
    pub max_entries: Option<usize>,
    /// Largest answer in bytes; a page that would be larger ends earlier [default: 67108864]
    #[arg(long, env = "LUMBAR_MAX_RESPONSE_BYTES", value_name = "BYTES")]
    pub max_response_bytes: Option<usize>,
    /// Folder for the files of bulk exports and imports [default: lumbar-bulk beside the database's file, else in the temporary folder]
    #[arg(long, env = "LUMBAR_BULK_FOLDER", value_name = "FOLDER")]
    pub bulk_folder: Option<PathBuf>,
    /// Hours for which the files of a bulk job can be fetched [default: 24]
    #[arg(long, env = "LUMBAR_BULK_HOURS", value_name = "NUMBER")]
    pub bulk_hours: Option<usize>,
    /// Most bulk jobs that wait or run [default: 10]
    #[arg(long, env = "LUMBAR_MAX_BULK_JOBS", value_name = "NUMBER")]
    pub max_bulk_jobs: Option<usize>,
    /// Hosts from which $import may fetch files, as host or host:port [default: none]
    #[arg(long, env = "LUMBAR_IMPORT_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub import_hosts: Vec<String>,
    /// Largest NDJSON file that $import takes, in bytes [default: 10737418240]
    #[arg(long, env = "LUMBAR_MAX_IMPORT_BYTES", value_name = "BYTES")]
    pub max_import_bytes: Option<usize>,
    /// Hosts that notifications may go to: HOST, HOST:PORT or *.DOMAIN [default: any but link-local addresses]
    #[arg(long, env = "LUMBAR_SUBSCRIPTION_HOSTS", value_name = "HOST", value_delimiter = ',')]
    pub subscription_hosts: Vec<String>,
    /// What subscribers that ask for a payload are sent: full or id-only [default: full]
    #[arg(long, env = "LUMBAR_SUBSCRIPTION_PAYLOAD", value_name = "HOW")]
    pub subscription_payload: Option<SubscriptionPayload>,
    /// Attempts of a notification until its subscription's status is error, at most 100 [default: 10]
    #[arg(long, env = "LUMBAR_SUBSCRIPTION_ATTEMPTS", value_name = "NUMBER")]
    pub subscription_attempts: Option<usize>,
    /// Most subscriptions that are not off [default: 100]
    #[arg(long, env = "LUMBAR_MAX_SUBSCRIPTIONS", value_name = "NUMBER")]
    pub max_subscriptions: Option<usize>,
    /// Most codes of an expanded value set that are told or searched for at once [default: 10000]
    #[arg(long, env = "LUMBAR_MAX_EXPANSION", value_name = "NUMBER")]
    pub max_expansion: Option<usize>,
    /// FHIR base URL of a terminology server for what is not known here [default: none]
    #[arg(long, env = "LUMBAR_TERMINOLOGY", value_name = "URL")]
    pub terminology: Option<String>,
    /// How long that server may take for an answer, in milliseconds [default: 2000]
    #[arg(long, env = "LUMBAR_TERMINOLOGY_TIMEOUT", value_name = "MS")]
    pub terminology_timeout: Option<u64>,
    /// ODS code of the organisation that runs this service [default: none]
    #[arg(long, env = "LUMBAR_ODS_CODE", value_name = "CODE")]
    pub ods_code: Option<String>,
    /// Its name
    #[arg(long, env = "LUMBAR_ORGANISATION", value_name = "NAME")]
    pub organisation: Option<String>,
    /// Its Directory of Services id
    #[arg(long, env = "LUMBAR_SERVICE", value_name = "ID")]
    pub service: Option<String>,
    /// Where confirmed matches go: http(s)://… of a BaRS receiver, or file:FOLDER
    #[arg(long, env = "LUMBAR_BOOKING", value_name = "URL")]
    pub booking: Option<String>,
    /// Directory of Services id of that receiver
    #[arg(long, env = "LUMBAR_BOOKING_SERVICE", value_name = "ID")]
    pub booking_service: Option<String>,
    /// ODS code of that receiver
    #[arg(long, env = "LUMBAR_BOOKING_ODS_CODE", value_name = "CODE")]
    pub booking_ods_code: Option<String>,
    /// Name of that receiver
    #[arg(long, env = "LUMBAR_BOOKING_ORGANISATION", value_name = "NAME")]
    pub booking_organisation: Option<String>,
    /// Where the CSV appointment list goes: http(s)://… or file:FILE
    #[arg(long, env = "LUMBAR_BOOKING_LIST", value_name = "URL")]
    pub booking_list: Option<String>,
}

/// How the door behaves.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "the fields are those of Options")]
pub struct Policy {
    pub validation: Validation,
    pub references: References,
    pub delete_referenced: DeleteReferenced,
    pub conditional_delete: ConditionalDelete,
    pub require_if_match: bool,
    pub subscriptions: Subscriptions,
    pub limits: Limits,
}

/// How bulk exports and imports are done.
#[derive(Clone, Debug)]
pub struct Bulk {
    /// Where their files are.
    pub folder: PathBuf,
    /// How long the files can be fetched.
    pub expiry: Duration,
    /// Most jobs that wait or run.
    pub most: usize,
    /// Most resources that are read or written at once.
    pub chunk: usize,
    /// Hosts that an import may fetch from.
    pub hosts: Vec<String>,
    /// Largest file of an import, in bytes.
    pub file_bytes: u64,
    /// Longest line of an import, in bytes.
    pub line_bytes: usize,
}

impl Default for Bulk {
    fn default() -> Bulk {
        Bulk {
            folder: bulk_folder(DATABASE),
            expiry: Duration::from_secs(24 * 3600),
            most: 10,
            chunk: 250,
            hosts: Vec::new(),
            file_bytes: 10 * 1024 * 1024 * 1024,
            line_bytes: 16 * 1024 * 1024,
        }
    }
}

/// How subscribers are told.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    /// Where notifications may go.
    pub hosts: Hosts,
    /// What a payload is.
    pub payload: SubscriptionPayload,
    /// Attempts of a notification until its subscription's status is `error`.
    pub attempts: usize,
}

impl Default for Subscriptions {
    fn default() -> Subscriptions {
        let (hosts, payload) = (Hosts::default(), SubscriptionPayload::default());
        Subscriptions { hosts, payload, attempts: 10 }
    }
}

/// How much one request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of a search.
    pub search: lumbar_fhir::search::Limits,
    /// Resources that `_include` and `_revinclude` add to a page.
    pub included: usize,
    /// Entries of a batch or transaction.
    pub entries: usize,
    /// Bytes of an answer.
    pub response_bytes: usize,
    /// Subscriptions that are not off.
    pub subscriptions: usize,
    /// Codes of an expanded value set.
    pub expansion: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            search: lumbar_fhir::search::Limits::default(),
            included: 2000,
            entries: 10_000,
            response_bytes: 64 * 1024 * 1024,
            subscriptions: 100,
            expansion: 10_000,
        }
    }
}

/// What is wrong with the configuration: all of it at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Problems(pub Vec<String>);

/// The effective configuration of `serve`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are those of Options, resolved")]
pub struct Settings {
    pub listen: SocketAddr,
    pub database: String,
    pub demo: bool,
    pub profiles: Vec<PathBuf>,
    pub value_sets: Option<PathBuf>,
    pub wording: Vec<PathBuf>,
    pub policy: Policy,
    pub base_url: String,
    pub max_body_bytes: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    pub bulk: Bulk,
    /// FHIR base URL of a terminology server.
    pub terminology: Option<String>,
    pub terminology_timeout: Duration,
    pub ods_code: String,
    pub organisation: String,
    pub service: String,
    pub booking: Option<Destination>,
    pub booking_service: String,
    pub booking_ods_code: String,
    pub booking_organisation: String,
    pub booking_list: Option<Destination>,
}

/// Where something goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An HTTP endpoint; the URL without a slash at its end.
    Http(String),
    /// A folder or file.
    File(PathBuf),
}

impl Destination {
    fn parse(text: &str) -> Result<Destination, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return Ok(Destination::File(PathBuf::from(path)));
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return Ok(Destination::Http(text.trim_end_matches('/').to_owned()));
        }
        Err("begins with neither http://, https:// nor file:".to_owned())
    }
}

/// Begins the systems of identifiers and codes that are ours. It does not follow the address of the
/// service, because ids must be the same on every machine.
pub const ID_BASE: &str = "https://lumbar.example/fhir";

/// IANA name of the zone of sources that state none, and of the clinics that read our pages.
pub const ZONE: &str = "Europe/London";

/// The zone named [`ZONE`].
pub fn zone() -> TimeZone {
    TimeZone::get(ZONE).unwrap_or(TimeZone::UTC)
}

/// Most attempts of a notification that may be asked for: with pauses of ten minutes most of a day.
const MOST_ATTEMPTS: usize = 100;

/// The database that is used when none is named.
pub const DATABASE: &str = "sqlite:lumbar.db";

impl Options {
    /// Reads a TOML file of options.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or has a key that is no option.
    pub fn from_file(path: &Path) -> Result<Options, Problems> {
        let problem = |text: String| Problems(vec![format!("{}: {text}", path.display())]);
        let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
        toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
            problem(format!("line {line}: {}", error.message()))
        })
    }

    /// These options, and those of `other` where these are silent.
    pub fn or(self, other: Options) -> Options {
        fn list<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
            if first.is_empty() { second } else { first }
        }
        Options {
            listen: self.listen.or(other.listen),
            database: self.database.or(other.database),
            demo: self.demo.or(other.demo),
            profiles: list(self.profiles, other.profiles),
            value_sets: self.value_sets.or(other.value_sets),
            wording: list(self.wording, other.wording),
            auth: self.auth.or(other.auth),
            allow_open: self.allow_open.or(other.allow_open),
            validation: self.validation.or(other.validation),
            base_url: self.base_url.or(other.base_url),
            max_body_bytes: self.max_body_bytes.or(other.max_body_bytes),
            references: self.references.or(other.references),
            delete_referenced: self.delete_referenced.or(other.delete_referenced),
            conditional_delete: self.conditional_delete.or(other.conditional_delete),
            require_if_match: self.require_if_match.or(other.require_if_match),
            max_count: self.max_count.or(other.max_count),
            max_chain: self.max_chain.or(other.max_chain),
            max_values: self.max_values.or(other.max_values),
            max_parameters: self.max_parameters.or(other.max_parameters),
            max_value_bytes: self.max_value_bytes.or(other.max_value_bytes),
            max_included: self.max_included.or(other.max_included),
            max_entries: self.max_entries.or(other.max_entries),
            max_response_bytes: self.max_response_bytes.or(other.max_response_bytes),
            bulk_folder: self.bulk_folder.or(other.bulk_folder),
            bulk_hours: self.bulk_hours.or(other.bulk_hours),
            max_bulk_jobs: self.max_bulk_jobs.or(other.max_bulk_jobs),
            import_hosts: list(self.import_hosts, other.import_hosts),
            max_import_bytes: self.max_import_bytes.or(other.max_import_bytes),
            subscription_hosts: list(self.subscription_hosts, other.subscription_hosts),
            subscription_payload: self.subscription_payload.or(other.subscription_payload),
            subscription_attempts: self.subscription_attempts.or(other.subscription_attempts),
            max_subscriptions: self.max_subscriptions.or(other.max_subscriptions),
            max_expansion: self.max_expansion.or(other.max_expansion),
            terminology: self.terminology.or(other.terminology),
            terminology_timeout: self.terminology_timeout.or(other.terminology_timeout),
            ods_code: self.ods_code.or(other.ods_code),
            organisation: self.organisation.or(other.organisation),
            service: self.service.or(other.service),
            booking: self.booking.or(other.booking),
            booking_service: self.booking_service.or(other.booking_service),
            booking_ods_code: self.booking_ods_code.or(other.booking_ods_code),
            booking_organisation: self.booking_organisation.or(other.booking_organisation),
            booking_list: self.booking_list.or(other.booking_list),
        }
    }

    /// Fills the defaults in and checks what belongs together.
    ///
    /// # Errors
    /// All problems at once.
    pub fn settle(self) -> Result<Settings, Problems> {
        let mut problems = Vec::new();
        let listen = self.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080)));
        match self.auth.unwrap_or_default() {
            Auth::None if !listen.ip().is_loopback() && self.allow_open != Some(true) => {
                problems.push(format!(
                    "--auth none on {listen} would let every machine in: listen on 127.0.0.1, or add --allow-open if a proxy guards it"
                ));
            }
            Auth::None => {}
            Auth::Smart => problems.push(
                "--auth smart is not available in this version: listen on 127.0.0.1 with --auth none"
                    .to_owned(),
            ),
        }
        let mut destination = |name: &str, text: Option<String>| {
            let parsed = text.as_deref().map(Destination::parse).transpose();
            parsed.unwrap_or_else(|reason| {
                problems.push(format!("--{name} {reason}"));
                None
            })
        };
        let booking = destination("booking", self.booking);
        let booking_list = destination("booking-list", self.booking_list);
        let max_body_bytes = self.max_body_bytes.unwrap_or(16 * 1024 * 1024);
        let standard = Limits::default();
        let mut limit = |name: &str, given: Option<usize>, standard: usize| {
            if given == Some(0) {
                problems.push(format!("--{name} must be at least 1"));
            }
            given.unwrap_or(standard)
        };
        let search = standard.search;
        let max_count = limit("max-count", self.max_count, search.max_count);
        let limits = Limits {
            search: lumbar_fhir::search::Limits {
                default_count: search.default_count.min(max_count),
                max_count,
                max_chain: limit("max-chain", self.max_chain, search.max_chain),
                max_values: limit("max-values", self.max_values, search.max_values),
                max_parameters: limit("max-parameters", self.max_parameters, search.max_parameters),
                max_value_bytes: limit(
                    "max-value-bytes",
                    self.max_value_bytes,
                    search.max_value_bytes,
                ),
            },
            included: limit("max-included", self.max_included, standard.included),
            entries: limit("max-entries", self.max_entries, standard.entries),
            response_bytes: limit(
                "max-response-bytes",
                self.max_response_bytes,
                standard.response_bytes,
            ),
            subscriptions: limit(
                "max-subscriptions",
                self.max_subscriptions,
                standard.subscriptions,
            ),
            expansion: limit("max-expansion", self.max_expansion, standard.expansion),
        };
        let database = self.database.unwrap_or_else(|| DATABASE.to_owned());
        let standard = Bulk::default();
        let hours = limit("bulk-hours", self.bulk_hours, 24);
        let most = limit("max-bulk-jobs", self.max_bulk_jobs, standard.most);
        let file_bytes =
            self.max_import_bytes.map(|bytes| limit("max-import-bytes", Some(bytes), 0));
        let bulk = Bulk {
            folder: self.bulk_folder.unwrap_or_else(|| bulk_folder(&database)),
            expiry: Duration::from_secs(3600)
                .saturating_mul(u32::try_from(hours).unwrap_or(u32::MAX)),
            most,
            hosts: self.import_hosts,
            file_bytes: file_bytes
                .map_or(standard.file_bytes, |bytes| u64::try_from(bytes).unwrap_or(u64::MAX)),
            line_bytes: max_body_bytes,
            ..standard
        };
        let attempts = Subscriptions::default().attempts;
        let attempts = limit("subscription-attempts", self.subscription_attempts, attempts);
        if attempts > MOST_ATTEMPTS {
            problems.push(format!("--subscription-attempts must be at most {MOST_ATTEMPTS}"));
        }
        let hosts = Hosts::parse(&self.subscription_hosts).unwrap_or_else(|reason| {
            problems.push(format!("--subscription-hosts {reason}"));
            Hosts::default()
        });
        let payload = self.subscription_payload.unwrap_or_default();
        let is_http = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if self.terminology.as_ref().is_some_and(|url| !is_http(url)) {
            problems.push("--terminology begins with neither http:// nor https://".to_owned());
        }
        if self.terminology_timeout == Some(0) {
            problems.push("--terminology-timeout must be at least 1".to_owned());
        }
        let policy = Policy {
            validation: self.validation.unwrap_or_default(),
            references: self.references.unwrap_or_default(),
            delete_referenced: self.delete_referenced.unwrap_or_default(),
            conditional_delete: self.conditional_delete.unwrap_or_default(),
            require_if_match: self.require_if_match.unwrap_or(false),
            subscriptions: Subscriptions { hosts, payload, attempts },
            limits,
        };
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(Settings {
            listen,
            database,
            demo: self.demo.unwrap_or(false),
            profiles: self.profiles,
            value_sets: self.value_sets,
            wording: self.wording,
            policy,
            base_url: self.base_url.unwrap_or_default(),
            max_body_bytes,
            body_timeout: Duration::from_secs(30),
            bulk,
            terminology: self.terminology,
            terminology_timeout: Duration::from_millis(self.terminology_timeout.unwrap_or(2000)),
            ods_code: self.ods_code.unwrap_or_default(),
            organisation: self.organisation.unwrap_or_default(),
            service: self.service.unwrap_or_default(),
            booking,
            booking_service: self.booking_service.unwrap_or_default(),
            booking_ods_code: self.booking_ods_code.unwrap_or_default(),
            booking_organisation: self.booking_organisation.unwrap_or_default(),
            booking_list,
        })
    }
}

/// Where the files of bulk jobs are when nobody says where: beside the database's file.
fn bulk_folder(database: &str) -> PathBuf {
    const NAME: &str = "lumbar-bulk";
    let path = database.strip_prefix("sqlite:").filter(|rest| !rest.contains(":memory:"));
    match path.map(|path| path.trim_start_matches("//").split('?').next().unwrap_or_default()) {
        Some(path) => Path::new(path).with_file_name(NAME),
        None => std::env::temp_dir().join(NAME),
    }
}
