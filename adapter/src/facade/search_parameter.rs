//! A site's own search parameters: <https://hl7.org/fhir/R4/searchparameter.html>.
//!
//! A stored SearchParameter that is active takes part in searches at once, in place of one with the
//! same code and base. What was stored before is indexed by it in the background; until that is
//! done, a search by it is refused, because it would leave out matches without a word.
//!
//! The database holds the number of the present definitions. A write states the number it followed,
//! so nobody can index by older ones; readers in other processes follow within a second
//! ([`crate::jobs`] asks). All processes on one database must be of one version and have the same
//! `--profiles`.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::search::{self, Fingerprints};
use lumbar_fhir::{Issue, IssueType, Json, json};
use lumbar_store::{Commit, Indexed, Step, Stored, Walk};

use super::{Error, Facade, Reply};

/// Most stored SearchParameters that take part.
const MAX_PARAMETERS: usize = 1000;
/// Longest code of one of them, in characters.
const MAX_CODE: usize = 64;
/// Resources of one commit, when all are indexed at once.
const STEP: usize = 200;
/// Resources that are indexed between two chances for others to go on.
const BREATH: usize = 8;

/// What the door follows; replaced as a whole.
pub(super) struct Known {
    /// The definitions of the standard and of the site.
    pub(super) definitions: Arc<Definitions>,
    /// Their number in the database; negative while it is not known.
    pub(super) number: i64,
    /// How many stored SearchParameters take part.
    own: usize,
}

impl Known {
    /// What is known before the database was asked.
    pub(super) fn before(definitions: Arc<Definitions>) -> Known {
        Known { definitions, number: -1, own: 0 }
    }
}

impl Facade {
    /// What the door follows now.
    pub(super) fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }

    /// Looks, once, which search parameters the database holds.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn begin(&self) -> Result<(), Error> {
        if self.known().number < 0 { self.reload().await } else { Ok(()) }
    }

    /// Follows the definitions that the database holds now.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        let _turn = self.loading.lock().await;
        let number = self.resources.definitions().await?;
        if self.known().number == number {
            return Ok(());
        }
        let (definitions, own) = self.stored_definitions().await?;
        let walks = self.resources.walks(false).await?;
        let mut begun = Vec::new();
        let mut unindexed = HashMap::new();
        for of in definitions.resource_types() {
            let walk = walks.iter().find(|walk| walk.resource_type == of);
            let indexed = walk.map(|walk| Fingerprints::parse(&walk.indexed)).unwrap_or_default();
            let wanted = Fingerprints::of(&definitions, of);
            let missing = wanted.beyond(&indexed);
            if !missing.is_empty() {
                unindexed.insert(of.to_owned(), missing);
            }
            let text = wanted.to_string();
            if walk.is_none_or(|walk| *walk.wanted != *text) {
                begun.push((of.to_owned(), indexed.common(&wanted).to_string(), text));
            }
        }
        // In this order no search sees a new parameter before it is known to be incomplete, and no
        // write follows older definitions once a walk has looked what is there.
        self.resources.set_unindexed(unindexed);
        let definitions = Arc::new(definitions);
        self.publish(Known { definitions: definitions.clone(), number: -1, own });
        if !begun.is_empty() {
            self.resources.begin_walks(&begun).await?;
        }
        self.publish(Known { definitions: definitions.clone(), number, own });
        let open = self.resources.walks(true).await?;
        self.tell_unindexed(&definitions, &open);
        Ok(())
    }

    /// The definitions at the start of the service and those that are stored and active, in the
    /// order of storage; and how many of these there are.
    async fn stored_definitions(&self) -> Result<(Definitions, usize), Error> {
        let mut definitions = Definitions::clone(&self.standard);
        let mut own = 0;
        let mut query = self.parse_search("SearchParameter", &[], true).await?.query;
        loop {
            let page = self.resources.search(&query).await?;
            for body in page.matches.iter().filter_map(|stored| stored.body.as_ref()) {
                let Ok(parameter) = Json::parse(body.as_bytes()) else { continue };
                if !takes_part(&parameter) || own == MAX_PARAMETERS {
                    continue;
                }
                own += 1;
                for issue in definitions.add(&parameter) {
                    tracing::warn!(reason = issue.text, "a stored SearchParameter is left out");
                }
            }
            query.cursor = page.next;
            if query.cursor.is_none() {
                return Ok((definitions, own));
            }
        }
    }

    fn tell_unindexed(&self, definitions: &Definitions, open: &[Walk]) {
        let missing = |walk: &Walk| {
            let wanted = Fingerprints::of(definitions, &walk.resource_type);
            let missing = wanted.beyond(&Fingerprints::parse(&walk.indexed));
            (!missing.is_empty()).then(|| (walk.resource_type.clone(), missing))
        };
        let unindexed: HashMap<String, BTreeSet<String>> =
            open.iter().filter_map(missing).collect();
        self.resources.set_unindexed(unindexed);
    }

    /// Looks whether the definitions have changed, and indexes the next `count` resources that are
    /// not yet indexed by them. Returns whether there was something to do.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn reindex(&self, count: usize) -> Result<bool, Error> {
        if self.resources.definitions().await? != self.known().number {
            self.reload().await?;
        }
        let known = self.known();
        let open = self.resources.walks(true).await?;
        self.tell_unindexed(&known.definitions, &open);
        let ours = |walk: &&Walk| {
            *walk.wanted == *Fingerprints::of(&known.definitions, &walk.resource_type).to_string()
        };
        let Some(walk) = open.iter().find(ours) else { return Ok(false) };
        let found = self.resources.walk(walk, count).await?;
        let mut resources = Vec::with_capacity(found.len());
        for (number, (_, stored)) in found.iter().enumerate() {
            if number % BREATH == 0 {
                tokio::task::yield_now().await;
            }
            resources.extend(self.indexed(&known.definitions, stored));
        }
        let step = Step {
            resource_type: walk.resource_type.clone(),
            wanted: walk.wanted.clone(),
            from: walk.position,
            to: found.last().map(|(row, _)| *row),
            done: i64::try_from(found.len()).unwrap_or(0),
            resources,
        };
        let is_end = step.to.is_none();
        let commit = Commit {
            definitions: Some(known.number),
            step: Some(Box::new(step)),
            ..Commit::default()
        };
        match self.resources.commit(commit).await {
            Ok(()) if is_end => {
                let (of, count) = (walk.resource_type.as_str(), walk.done);
                tracing::info!(resource_type = of, count, "resources were indexed anew");
                let open = self.resources.walks(true).await?;
                self.tell_unindexed(&known.definitions, &open);
            }
            // Somebody else made the step, or the definitions changed: the next one looks again.
            Ok(()) | Err(lumbar_store::Error::Outdated) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(true)
    }

    /// Indexes all that is not yet indexed by the present definitions.
    ///
    /// # Errors
    /// As [`Facade::reindex`].
    pub async fn reindex_all(&self) -> Result<(), Error> {
        while self.reindex(STEP).await? {}
        Ok(())
    }

    fn indexed(&self, definitions: &Definitions, stored: &Stored) -> Option<Indexed> {
        let body = stored.body.as_ref()?;
        match Json::parse(body.as_bytes()) {
            Ok(resource) => Some(Indexed {
                id: stored.id.clone(),
                version: stored.version,
                index: search::index(definitions, &self.base, &resource),
            }),
            Err(error) => {
                let (of, id) = (&stored.resource_type, &stored.id);
                tracing::error!(%error, of, id, "a stored resource cannot be read and indexed");
                None
            }
        }
    }

    /// How far the walks are, as Parameters.
    pub(super) async fn progress(&self) -> Result<Reply, Error> {
        let definitions = self.definitions();
        let open = self.resources.walks(true).await?;
        let state = if open.is_empty() { "complete" } else { "running" };
        let mut parameters = vec![json!({"name": "state", "valueCode": (state)})];
        for walk in &open {
            let of = walk.resource_type.as_str();
            let mut parts = vec![json!({"name": "type", "valueCode": (of)})];
            let missing =
                Fingerprints::of(&definitions, of).beyond(&Fingerprints::parse(&walk.indexed));
            let missing =
                missing.iter().map(|code| json!({"name": "parameter", "valueString": (code)}));
            parts.extend(missing);
            parts.push(json!({"name": "done", "valueInteger": (walk.done)}));
            parts.push(json!({"name": "of", "valueInteger": (walk.total)}));
            parameters.push(json!({"name": "walk", "part": (parts)}));
        }
        Ok(Reply::of(&json!({"resourceType": "Parameters", "parameter": (parameters)})))
    }

    /// Refuses an active SearchParameter that cannot take part in searches.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the element that is wrong.
    pub(super) fn check_parameter(&self, resource: &Json) -> Result<(), Error> {
        if resource.str_at(&["resourceType"]) != Some("SearchParameter") || !takes_part(resource) {
            return Ok(());
        }
        let known = self.known();
        let mut issues = Vec::new();
        let code = resource.str_at(&["code"]).unwrap_or_default();
        if !is_code(code) {
            let text = format!(
                "The code of a SearchParameter is made of at most {MAX_CODE} letters, digits, - and _ and does not begin with _, as in care-setting: what begins with _ is the standard's own."
            );
            issues.push(Issue::error(IssueType::BusinessRule, text).at("SearchParameter.code"));
        }
        if known.own >= MAX_PARAMETERS {
            let text = format!(
                "There are {MAX_PARAMETERS} active SearchParameters here, which is the most; retire one."
            );
            issues.push(Issue::error(IssueType::TooCostly, text).at("SearchParameter.status"));
        }
        let mut definitions = Definitions::clone(&known.definitions);
        for issue in definitions.add(resource) {
            let element = match issue.code {
                IssueType::CodeInvalid => "type",
                IssueType::Required => "code",
                IssueType::Value => "base",
                _ => "expression",
            };
            issues.push(issue.at(format!("SearchParameter.{element}")));
        }
        for base in resource.list("base").iter().filter_map(Json::as_str) {
            if !issues.is_empty() {
                break;
            }
            let parameter = definitions.search_parameter(base, code);
            let reason = match parameter.and_then(|parameter| parameter.expression.as_ref()) {
                Some(expression) => match expression.check(&definitions, Some(base)) {
                    Ok(()) => continue,
                    Err(error) => error.to_string(),
                },
                None => format!("no part of it is about {base}"),
            };
            let text = format!("The expression cannot be used for {base}: {reason}.");
            issues.push(Issue::error(IssueType::Invalid, text).at("SearchParameter.expression"));
        }
        if issues.is_empty() { Ok(()) } else { Err(Error::Invalid(issues)) }
    }
}

/// Whether a SearchParameter is one to search by: active, and with an expression.
fn takes_part(parameter: &Json) -> bool {
    parameter.str_at(&["status"]) == Some("active") && parameter.str_at(&["expression"]).is_some()
}

/// Whether a code can stand in a URL as the name of a parameter, beside modifiers and chains.
fn is_code(code: &str) -> bool {
    code.len() <= MAX_CODE
        && code.starts_with(|first: char| first.is_ascii_alphanumeric())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}
