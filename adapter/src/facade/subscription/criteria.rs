//! Which writes a subscriber is told of:
//! <https://hl7.org/fhir/R4/subscription-definitions.html#Subscription.criteria>.
//!
//! Criteria are held against what a resource is found by, in memory and before it is stored.
//! Therefore they cannot follow references to other resources. Parameters that shape a result
//! (`_include`, `_sort`, `_count` …) say nothing about whether a resource matches.
//!
//! A write is held against every subscription that is not off: between the request and the
//! handshake, and while the endpoint fails, notifications wait for it to become active.
//!
//! These subscriptions are kept in memory, each read once. Whoever changes one begins a new
//! epoch of the database; a commit whose notifications were found in an older one is refused by
//! the store and made up anew. So several services on one database need not tell each other
//! anything, and no write misses a subscription that was there before it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use lumbar_fhir::datetime::{DateTime, Micros};
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::rest::decode_pairs;
use lumbar_fhir::search::{self, Candidate, Condition, IndexRow};
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_store::NewJob;

use super::super::{Error, Facade, outbox};
use crate::security::Caller;

/// The subscriptions that are told of writes.
pub(in crate::facade) struct Active {
    /// The epoch of the database in which this is so.
    pub(in crate::facade) epoch: i64,
    /// What the criteria were read with.
    definitions: Arc<Definitions>,
    by_type: HashMap<String, Vec<Watch>>,
    /// How many there are.
    pub(super) count: usize,
}

/// One of them.
struct Watch {
    id: String,
    condition: Condition,
    end: Option<Micros>,
}

/// A resource as it is about to be stored.
#[derive(Clone, Copy)]
pub(in crate::facade) struct Written<'a> {
    pub(in crate::facade) resource_type: &'a str,
    pub(in crate::facade) id: &'a str,
    pub(in crate::facade) version: i64,
    pub(in crate::facade) rows: &'a [IndexRow],
}

impl Active {
    /// The notifications of a write at `now`, one for each subscription that it matches.
    pub(in crate::facade) fn notifications<'a>(
        &'a self,
        written: Written<'a>,
        now: Micros,
    ) -> impl Iterator<Item = NewJob> + 'a {
        let candidate = Candidate { id: written.id, last_updated: now, rows: written.rows };
        let watches = self.by_type.get(written.resource_type).into_iter().flatten();
        watches
            .filter(move |watch| watch.end.is_none_or(|end| now < end))
            // Criteria with links are refused when they are submitted.
            .filter(move |watch| search::matches(&watch.condition, candidate, &|_, _| false))
            .map(move |watch| {
                let Written { resource_type, id, version, .. } = written;
                outbox::notification(&watch.id, resource_type, id, version, now)
            })
    }
}

impl Facade {
    /// The subscriptions that are told of writes, as of an epoch that is given with them.
    pub(in crate::facade) async fn active(&self) -> Result<Arc<Active>, Error> {
        let held = self.active.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(active) = held
            && Arc::ptr_eq(&active.definitions, &self.definitions())
        {
            return Ok(active);
        }
        let mut active = Active {
            epoch: self.resources.epoch().await?,
            definitions: self.definitions(),
            by_type: HashMap::new(),
            count: 0,
        };
        let parameters = [("status", "requested,active,error"), ("_count", "1000")];
        let mut cursor = None;
        loop {
            let page = self.scan(&Caller::System, "Subscription", &parameters, cursor).await?;
            for text in page.0 {
                active.count += 1;
                self.watch(&mut active, &text).await;
            }
            cursor = page.1;
            if cursor.is_none() {
                break;
            }
        }
        let active = Arc::new(active);
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Some(active.clone());
        Ok(active)
    }

    /// Lets the active subscriptions be read again before the next write.
    pub(in crate::facade) fn forget_active(&self) {
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn watch(&self, active: &mut Active, text: &str) {
        let Ok(subscription) = Json::parse(text.as_bytes()) else { return };
        let Some(id) = subscription.str_at(&["id"]) else { return };
        let criteria = subscription.str_at(&["criteria"]).unwrap_or_default();
        match self.criteria(criteria).await {
            Ok((of, condition)) => {
                let end = end(&subscription);
                let watch = Watch { id: id.to_owned(), condition, end };
                active.by_type.entry(of).or_default().push(watch);
            }
            // It was readable when it was submitted; a definition may have gone since.
            Err(_) => tracing::warn!(id, "the criteria of a subscription cannot be read any more"),
        }
    }

    /// Reads criteria: the type they are about and what must hold.
    ///
    /// # Errors
    /// What cannot be read, or not be held against one resource alone.
    pub(super) async fn criteria(&self, text: &str) -> Result<(String, Condition), Vec<Issue>> {
        let fault = |code, text: String| vec![Issue::error(code, text).at("Subscription.criteria")];
        let (of, query) = text.split_once('?').unwrap_or((text, ""));
        if !self.definitions().is_resource(of) {
            return Err(fault(
                IssueType::Value,
                "The criteria begin with a resource type of FHIR R4 and are a search without the base, as in Observation?code=http://loinc.org|1975-2."
                    .to_owned(),
            ));
        }
        let parameters = decode_pairs(query).map_err(|_| {
            fault(
                IssueType::Value,
                "The criteria hold a % that begins no encoded character; encode it as %25."
                    .to_owned(),
            )
        })?;
        let search = match self.parse_search(of, &parameters, true).await {
            Ok(search) => search,
            Err(error) => {
                let issues = error.issues().into_iter();
                return Err(issues.map(|issue| issue.at("Subscription.criteria")).collect());
            }
        };
        if !is_about_one(&search.query.condition) {
            return Err(fault(
                IssueType::NotSupported,
                "The criteria follow a reference to another resource (a chain or _has), which is not offered; name what the resource itself holds, as in Observation?patient=Patient/p1."
                    .to_owned(),
            ));
        }
        Ok((of.to_owned(), search.query.condition))
    }
}

/// When a subscription ends.
pub(super) fn end(subscription: &Json) -> Option<Micros> {
    Some(DateTime::parse(subscription.str_at(&["end"])?)?.bounds().0)
}

/// Whether a condition can be held against a resource without looking at others.
fn is_about_one(condition: &Condition) -> bool {
    match condition {
        Condition::All(inner) | Condition::Any(inner) => inner.iter().all(is_about_one),
        Condition::Not(inner) => is_about_one(inner),
        Condition::Refers(..) | Condition::ReferredBy(..) => false,
        Condition::Id(_)
        | Condition::LastUpdated(..)
        | Condition::Key(..)
        | Condition::KeyContains(..)
        | Condition::KeyEnds(..)
        | Condition::KeyLike(..)
        | Condition::Date(..)
        | Condition::Number(..)
        | Condition::Present(_) => true,
    }
}
