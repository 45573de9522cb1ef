//! The door: every interaction, whoever asks and by whatever way, passes [`Facade::perform`].
//!
//! Perform means: authorise, check, derive what follows, commit all of it at once. Nothing else can
//! reach the resources of the store. No HTTP types are known here.

pub mod bulk;
mod bundle;
mod capabilities;
mod create;
mod delete;
mod derive;
mod expansions;
mod extract;
mod fhirpath;
mod flag;
mod history;
mod include;
mod json_schema;
mod operation;
pub mod outbox;
pub mod outcome;
mod patch;
mod questionnaire;
mod read;
pub mod rescore;
mod response;
mod search;
mod search_parameter;
mod shape;
mod stratify;
pub mod subscription;
mod terminology;
mod unit;
mod update;
pub mod validation;
mod work;

use std::sync::{Arc, Mutex, RwLock};

use lumbar_fhir::datetime::Micros;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::rest::Interaction;
use lumbar_fhir::search::{self as search_language, Contained, Search};
use lumbar_fhir::{Issue, Json};
use lumbar_store::{Jobs, NewJob, Resources, Stored};
use tokio::sync::Notify;

use crate::config::{self, Policy};
use crate::delivery::TerminologyServer;
use crate::rules::Rules;
use crate::security::Caller;
use crate::wording::Wording;
pub use outcome::Error;
use search_parameter::Known;
use shape::Shape;
use unit::Unit;

/// How often a write that met another one is tried again before the client hears of it.
const ATTEMPTS: usize = 8;

/// Where the time and new ids come from; tests give their own.
pub trait Source: Send + Sync {
    /// Microseconds since 1970 UTC.
    fn now(&self) -> Micros;
    /// A new logical id.
    fn id(&self) -> String;
}

/// The clock of the machine, and UUIDs that begin with the time: what is created together then
/// stands together in the indexes, which saves a page write for each.
#[derive(Clone, Copy, Debug)]
pub struct Machine;

impl Source for Machine {
    fn now(&self) -> Micros {
        jiff::Timestamp::now().as_microsecond()
    }

    fn id(&self) -> String {
        uuid::Uuid::now_v7().to_string()
    }
}

/// How much of what was written a client wants back: <https://hl7.org/fhir/R4/http.html#ops>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the values of the header")]
pub enum Return {
    Minimal,
    Representation,
    OperationOutcome,
}

/// What a client prefers: the `Prefer` header.
#[derive(Clone, Copy, Debug, Default)]
pub struct Preferences {
    /// `return=`; without it a single write gives the resource and a Bundle's entry does not.
    pub returns: Option<Return>,
    /// `handling=strict`: unknown search parameters are errors.
    pub strict: bool,
    /// `respond-async`: the work may be done after the answer.
    pub asynchronous: bool,
}

/// How an interaction went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Success {
    Ok,
    Created,
    Accepted,
    NoContent,
    NotModified,
}

impl Success {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Success::Ok => 200,
            Success::Created => 201,
            Success::Accepted => 202,
            Success::NoContent => 204,
            Success::NotModified => 304,
        }
    }
}

/// The answer to an interaction.
#[derive(Clone, Debug)]
pub struct Reply {
    /// How it went.
    pub success: Success,
    /// The resource, as JSON text.
    pub body: Option<Arc<str>>,
    /// Version of the resource that the answer is about.
    pub version: Option<i64>,
    /// When that version was written.
    pub last_updated: Option<Micros>,
    /// URL of the version that was written.
    pub location: Option<String>,
    /// Where the state of the work can be asked for that goes on after the answer.
    pub content_location: Option<String>,
    /// What is to be told about what was written.
    pub issues: Vec<Issue>,
}

impl Reply {
    /// An answer that is a resource of its own and is not stored.
    pub fn of(body: &Json) -> Reply {
        Reply { body: Some(body.to_string().into()), ..Reply::empty(Success::Ok) }
    }

    /// An answer without a body.
    pub fn empty(success: Success) -> Reply {
        Reply {
            success,
            body: None,
            version: None,
            last_updated: None,
            location: None,
            content_location: None,
            issues: Vec::new(),
        }
    }

    /// Whether `If-None-Match` names the version that the answer is about:
    /// <https://hl7.org/fhir/R4/http.html#cread>.
    pub fn is_held(&self, if_none_match: &str) -> bool {
        let Some(version) = self.version else { return false };
        if_none_match.split(',').map(str::trim).any(|tag| {
            let number = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').parse();
            tag == "*" || number == Ok(version)
        })
    }

    fn stored(stored: Stored) -> Reply {
        Reply {
            version: Some(stored.version),
            last_updated: Some(stored.last_updated),
            body: stored.body,
            ..Reply::empty(Success::Ok)
        }
    }
}

/// The service's behaviour, built once.
pub struct Facade {
    resources: Resources,
    jobs: Jobs,
    /// The definitions that the service began with.
    standard: Arc<Definitions>,
    /// Those together with the site's stored ones.
    known: RwLock<Arc<Known>>,
    /// Held by whoever reads the stored ones.
    loading: tokio::sync::Mutex<()>,
    rules: Arc<Rules>,
    source: Arc<dyn Source>,
    policy: Policy,
    /// FHIR base URL without a slash at its end.
    base: String,
    /// The CapabilityStatement, and the definitions that it was made from.
    statement: Mutex<Option<(Arc<Definitions>, Arc<str>)>>,
    enqueued: Notify,
    bulk: bulk::Clients,
    /// The subscriptions that are told of writes; `None` until they are read.
    active: RwLock<Option<Arc<subscription::Active>>>,
    terminology: terminology::Cache,
    terminology_server: Option<TerminologyServer>,
    validation: validation::Cache,
    extracts: extract::Cache,
    wording: Wording,
    work: work::Work,
}

impl Facade {
    /// Builds the door before the only handle to the resources.
    pub fn new(
        resources: Resources,
        jobs: Jobs,
        definitions: Arc<Definitions>,
        rules: Arc<Rules>,
        source: Arc<dyn Source>,
        policy: Policy,
        base: &str,
    ) -> Facade {
        let base = base.trim_end_matches('/').to_owned();
        let known = Known::before(definitions.clone());
        let validation = validation::Cache::new(validation::Known::of(&rules));
        Facade {
            resources,
            jobs,
            standard: definitions,
            known: RwLock::new(Arc::new(known)),
            loading: tokio::sync::Mutex::new(()),
            rules,
            source,
            policy,
            base,
            statement: Mutex::new(None),
            enqueued: Notify::new(),
            bulk: bulk::Clients::default(),
            active: RwLock::new(None),
            terminology: terminology::Cache::default(),
            terminology_server: None,
            validation,
            extracts: extract::Cache::default(),
            wording: Wording::default(),
            work: work::Work::default(),
        }
    }

    /// The same door, which asks people in the words of these packs.
    #[must_use]
    pub fn with_wording(self, wording: Wording) -> Facade {
        Facade { wording, ..self }
    }

    /// In what words people are asked.
    pub fn wording(&self) -> &Wording {
        &self.wording
    }

    /// The day, where the clinics are.
    pub fn today(&self) -> jiff::civil::Date {
        let now = jiff::Timestamp::from_microsecond(self.source.now()).unwrap_or_default();
        now.to_zoned(config::zone()).date()
    }

    /// The same with how bulk jobs are done.
    #[must_use]
    pub fn with_bulk(mut self, settings: config::Bulk) -> Facade {
        self.bulk = bulk::Clients::new(settings);
        self
    }

    /// The same door, which asks a terminology server for what is not known here.
    pub fn asking(self, server: Option<TerminologyServer>) -> Facade {
        let validation = self.validation.asking(server.is_some());
        Facade { terminology_server: server, validation, ..self }
    }

    /// The definitions of the standard and of the site, as they are now.
    pub fn definitions(&self) -> Arc<Definitions> {
        self.known().definitions.clone()
    }

    /// Reads the parameters of a search.
    async fn parse_any_search(
        &self,
        resource_type: &str,
        parameters: &[(String, String)],
        strict: bool,
    ) -> Result<Search, Error> {
        let definitions = self.definitions();
        let nothing = search_language::Expansions::new();
        let reading = search_language::Reading {
            definitions: &definitions,
            base: &self.base,
            strict,
            limits: self.policy.limits.search,
            expansions: &nothing,
            now: Some(self.source.now()),
        };
        let needs = search_language::needs(reading, resource_type, parameters);
        let expansions = self.expansions(needs).await;
        let reading = search_language::Reading { expansions: &expansions, ..reading };
        search_language::parse(reading, resource_type, parameters).map_err(Error::Unparseable)
    }

    /// Reads a search that looks at resources that stand for themselves only.
    async fn parse_search(
        &self,
        resource_type: &str,
        parameters: &[(String, String)],
        strict: bool,
    ) -> Result<Search, Error> {
        let search = self.parse_any_search(resource_type, parameters, strict).await?;
        match search.contained {
            Contained::Without => Ok(search),
            Contained::Only | Contained::Both => Err(search::no_contained()),
        }
    }

    /// FHIR base URL without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The time now, as the service sees it.
    pub fn now(&self) -> Micros {
        self.source.now()
    }

    /// Returns when a commit has enqueued a job.
    pub async fn enqueued(&self) {
        self.enqueued.notified().await;
    }

    /// Asks the database for something small.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn ready(&self) -> Result<(), Error> {
        self.resources.read("Basic", "readiness").await?;
        Ok(())
    }

    /// A resource for Lumbar's own parts; `None` when there is none or it was deleted.
    ///
    /// # Errors
    /// As [`Facade::perform`].
    pub async fn get(
        &self,
        caller: &Caller,
        resource_type: &str,
        id: &str,
    ) -> Result<Option<Json>, Error> {
        let (Caller::Open | Caller::System) = caller;
        Unit::new(self).read(resource_type, id).await
    }

    /// The first `count` matches of a search for Lumbar's own parts.
    ///
    /// # Errors
    /// As [`Facade::perform`].
    pub async fn find(
        &self,
        caller: &Caller,
        resource_type: &str,
        parameters: &[(&str, &str)],
        count: usize,
    ) -> Result<Vec<Json>, Error> {
        let (Caller::Open | Caller::System) = caller;
        let parameters: Vec<(String, String)> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Unit::new(self).find(resource_type, &parameters, count).await
    }

    /// One page of stored texts that a search finds, and the cursor of the next page.
    ///
    /// # Errors
    /// As [`Facade::perform`].
    pub async fn scan(
        &self,
        caller: &Caller,
        resource_type: &str,
        parameters: &[(&str, &str)],
        cursor: Option<String>,
    ) -> Result<(Vec<Arc<str>>, Option<String>), Error> {
        let (Caller::Open | Caller::System) = caller;
        let parameters: Vec<(String, String)> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut query = self.parse_search(resource_type, &parameters, true).await?.query;
        query.cursor = cursor;
        let page = self.resources.search(&query).await?;
        Ok((page.matches.into_iter().filter_map(|stored| stored.body).collect(), page.next))
    }

    /// What a reference (`Type/id`) or a search (`Type?…`) finds, at most `count` resources.
    ///
    /// # Errors
    /// As [`Facade::perform`].
    pub async fn fetch(
        &self,
        caller: &Caller,
        wanted: &str,
        count: usize,
    ) -> Result<Vec<Json>, Error> {
        let (Caller::Open | Caller::System) = caller;
        Unit::new(self).fetch(wanted, count).await
    }

    /// Performs one interaction.
    ///
    /// # Errors
    /// An [`Error`], and then nothing was stored.
    pub async fn perform(
        &self,
        caller: &Caller,
        interaction: &Interaction,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        // Both kinds of caller may do everything; who else may do what comes with `auth = smart`.
        let (Caller::Open | Caller::System) = caller;
        let shape = Shape::asked(&self.definitions(), interaction)?;
        let reply = match interaction {
            Interaction::Capabilities { parameters } => self.capabilities(parameters),
            Interaction::Read { resource_type, id, .. } => self.read(resource_type, id).await,
            Interaction::Vread { resource_type, id, version, .. } => {
                self.vread(resource_type, id, *version).await
            }
            Interaction::History { resource_type, id, parameters } => {
                let of = resource_type.as_deref();
                self.history(of, id.as_deref(), parameters, prefer.strict).await
            }
            Interaction::Search { resource_type, compartment, parameters } => {
                let scope = search::Scope {
                    resource_type: resource_type.as_deref(),
                    compartment: compartment.as_ref(),
                };
                self.search(scope, parameters, prefer.strict).await
            }
            Interaction::Operation { name, resource_type, id, parameters, body, post } => {
                let call = operation::Call {
                    name,
                    resource_type: resource_type.as_deref(),
                    id: id.as_deref(),
                    parameters,
                    body: body.as_ref(),
                    post: *post,
                    prefer,
                    caller,
                };
                self.operation(call).await
            }
            Interaction::Create { .. }
            | Interaction::Update { .. }
            | Interaction::Patch { .. }
            | Interaction::Delete { .. }
            | Interaction::Bundle(_) => self.write(caller, interaction, prefer).await,
        }?;
        match shape {
            Some(shape) => shape.apply(&self.definitions(), reply),
            None => Ok(reply),
        }
    }

    /// Puts resources, whose types and ids they carry, and enqueues jobs in one commit, for
    /// Lumbar's own parts. A resource that says the same as the stored one changes nothing.
    /// Returns how many resources were written, derived ones included.
    ///
    /// # Errors
    /// As [`Facade::perform`]; nothing is stored then.
    pub async fn put(
        &self,
        caller: &Caller,
        resources: &[Json],
        jobs: &[NewJob],
    ) -> Result<u64, Error> {
        let (Caller::Open | Caller::System) = caller;
        self.begin().await?;
        let mut attempt = 1;
        loop {
            let mut unit = Unit::new(self);
            unit.prefetch(resources.iter()).await?;
            for resource in resources {
                // What is stored already was looked at when it was written.
                if !unit.holds(resource).await? {
                    unit.put_resource(resource.clone()).await?;
                }
            }
            for job in jobs {
                unit.enqueue(job.clone());
            }
            match unit.commit().await {
                Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                result => return result.map(|committed| committed.len()),
            }
        }
    }

    async fn write(
        &self,
        caller: &Caller,
        interaction: &Interaction,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        self.begin().await?;
        let mut attempt = 1;
        loop {
            let result = match interaction {
                Interaction::Create { resource, if_none_exist } => {
                    self.create(resource, if_none_exist.as_deref(), prefer).await
                }
                Interaction::Update { resource, target, precondition } => {
                    self.update(resource, target, precondition.as_ref(), prefer).await
                }
                Interaction::Patch { resource_type, target, patch, precondition } => {
                    self.patch(resource_type, target, patch, precondition.as_ref(), prefer).await
                }
                Interaction::Delete { resource_type, target, precondition } => {
                    self.delete(resource_type, target, precondition.as_ref(), prefer).await
                }
                Interaction::Bundle(bundle) => self.bundle(caller, bundle, prefer).await,
                _ => return Err(Error::Internal),
            };
            match result {
                // Another write came between reading and committing: look again.
                Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(Error::Invalid(issues)) => return Err(self.refused(interaction, issues).await),
                result => return result,
            }
        }
    }
}
