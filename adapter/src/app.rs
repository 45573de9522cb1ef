//! Everything that a request can reach, built once at start.

use std::sync::Arc;

use lumbar_fhir::Json;
use lumbar_fhir::definitions::Definitions;
use lumbar_store::{Bulk, Jobs, Landing, Store};

use crate::config::Settings;
use crate::delivery::TerminologyServer;
use crate::facade::{Error, Facade, Source};
use crate::rules::Rules;
use crate::security::Caller;
use crate::wording::{Organisation, Wording};

/// Artefacts of one commit, which are in memory at the same time.
const TOGETHER: usize = 100;

/// The built service.
pub struct App {
    /// The effective configuration.
    pub settings: Settings,
    /// The door.
    pub facade: Facade,
    /// Raw input.
    pub landing: Landing,
    /// The outbox.
    pub jobs: Jobs,
    /// Bulk jobs.
    pub bulk: Bulk,
    /// Instruments and pathways.
    pub rules: Arc<Rules>,
}

impl App {
    /// Builds the service over an opened store, whose closing stays with the caller.
    pub fn new(
        settings: Settings,
        store: &Store,
        definitions: Definitions,
        rules: Rules,
        source: Arc<dyn Source>,
    ) -> App {
        let rules = Arc::new(rules);
        let organisation = Organisation {
            name: settings.organisation.clone(),
            ods_code: settings.ods_code.clone(),
        };
        let wording = Wording::load(&settings.wording, &rules, &organisation);
        let facade = Facade::new(
            store.resources.clone(),
            store.jobs.clone(),
            Arc::new(definitions),
            rules.clone(),
            source,
            settings.policy.clone(),
            &settings.base_url,
        )
        .with_bulk(settings.bulk.clone())
        .with_wording(wording)
        .asking(terminology_server(&settings));
        let (landing, jobs) = (store.landing.clone(), store.jobs.clone());
        let bulk = store.resources.bulk();
        App { settings, facade, landing, jobs, bulk, rules }
    }

    /// Puts the compiled-in instruments, pathways and terminology and the site's own artefacts among
    /// the resources, so that they are read and searched like any other. The same artefact again
    /// changes nothing.
    ///
    /// # Errors
    /// A sentence: which artefact is not valid and why, or why nothing can be stored.
    pub async fn serve_artefacts(&self) -> Result<(), String> {
        let ours = self.rules.questionnaires.iter().chain(&self.rules.artefacts);
        let own = self.rules.packages.own().map(|entry| entry.resource());
        let mut artefacts = ours.cloned().map(Ok).chain(own);
        loop {
            let some: Vec<Json> = artefacts.by_ref().take(TOGETHER).collect::<Result<_, _>>()?;
            if some.is_empty() {
                return Ok(());
            }
            self.serve_together(&some).await?;
        }
    }

    async fn serve_together(&self, artefacts: &[Json]) -> Result<(), String> {
        let Err(error) = self.facade.put(&Caller::System, artefacts, &[]).await else {
            return Ok(());
        };
        // Which of them it is about is seen when each is tried alone.
        for artefact in artefacts.iter().filter(|_| matches!(error, Error::Invalid(_))) {
            let alone = std::slice::from_ref(artefact);
            if let Err(error) = self.facade.put(&Caller::System, alone, &[]).await
                && let Some(issue) = error.issues().iter().find(|issue| issue.is_error())
            {
                return Err(self.rules.packages.told(artefact, issue));
            }
        }
        Err(format!("the artefacts cannot be stored: {error}"))
    }
}

/// The terminology server of the configuration.
fn terminology_server(settings: &Settings) -> Option<TerminologyServer> {
    let url = settings.terminology.as_deref()?;
    let server = TerminologyServer::new(url, settings.terminology_timeout);
    server
        .inspect_err(|error| tracing::error!(%error, "no HTTP client, so no terminology server"))
        .ok()
}
