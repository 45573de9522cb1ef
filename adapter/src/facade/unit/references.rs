//! Referential integrity: <https://hl7.org/fhir/R4/references.html>, as `--references` and
//! `--delete-referenced` say.
//!
//! Looked at are literal references to our own resources. Logical references, urns, contained
//! resources and resources elsewhere are not ours to judge, nor is what stands within a Bundle that
//! is kept as a resource. Who refers to a resource is asked of the index, which knows the
//! references that have a search parameter.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lumbar_fhir::links::{self, Link, LinkKind, Literal};
use lumbar_fhir::search::IndexValue;
use lumbar_fhir::{Issue, IssueType};
use lumbar_store::{Guard, Unreferred};

use super::{Unit, key};
use crate::config::{DeleteReferenced, References};
use crate::facade::Error;

/// Most issues about references of one unit.
const MOST_ISSUES: usize = 100;
/// Ids of one guard.
const CHUNK: usize = 100;
/// Most referrers that are counted, and that are named.
const MOST_COUNTED: usize = 100;
const MOST_NAMED: usize = 3;

/// What is wrong with a change, which type and id name.
pub(in crate::facade) type Finding = ((String, String), Issue);

/// A reference of a changed resource to one of our own.
struct Wanted {
    source: (String, String),
    expression: String,
    target: (String, String),
    version: Option<String>,
    /// The types that the element allows, when that of the target is none of them.
    unfit: Option<String>,
}

impl Unit<'_> {
    /// The references that lead nowhere, if that is looked at.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(in crate::facade) async fn broken_references(&mut self) -> Result<Vec<Finding>, Error> {
        if self.facade.policy.references == References::Off {
            return Ok(Vec::new());
        }
        let wanted = self.wanted();
        self.load_all(wanted.iter().map(|wanted| &wanted.target)).await?;
        let mut findings = Vec::new();
        for Wanted { source, expression, target: (of, id), version, unfit } in wanted {
            let current = self.version(&of, &id).await?;
            let is_changed = self.places.contains_key(&key(&of, &id));
            let newest = current.version.unwrap_or(0) + i64::from(is_changed);
            let has_version = version.is_none_or(|version| {
                version.parse().is_ok_and(|version: i64| (1..=newest).contains(&version))
            });
            let (code, text) = match unfit {
                _ if !current.exists => {
                    let how = if current.version.is_some() { "was deleted" } else { "is not here" };
                    let text = format!(
                        "The reference names {of}/{id}, which {how}; store it first, or with this resource in one transaction."
                    );
                    (IssueType::NotFound, text)
                }
                _ if !has_version => {
                    let text =
                        format!("The reference names a version of {of}/{id} that is not here.");
                    (IssueType::NotFound, text)
                }
                Some(allowed) => {
                    let text = format!("The reference names a {of}, but may name only {allowed}.");
                    (IssueType::Value, text)
                }
                None => continue,
            };
            if findings.len() < MOST_ISSUES {
                findings.push((source, Issue::error(code, text).at(expression)));
            }
        }
        Ok(findings)
    }

    /// Refuses references that lead nowhere, and lets the commit go through only while those that
    /// lead somewhere still do.
    pub(super) async fn check_references(&mut self) -> Result<(), Error> {
        let broken = self.broken_references().await?;
        if !broken.is_empty() {
            return Err(Error::Invalid(broken.into_iter().map(|(_, issue)| issue).collect()));
        }
        if self.facade.policy.references == References::Off {
            return Ok(());
        }
        let mut targets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for Wanted { target: (of, id), .. } in self.wanted() {
            // What the unit itself changes is expected at its version.
            if !self.places.contains_key(&key(&of, &id)) {
                targets.entry(of).or_default().insert(id);
            }
        }
        for (of, ids) in targets {
            let ids: Vec<String> = ids.into_iter().collect();
            for ids in ids.chunks(CHUNK) {
                let parameters = [("_id".to_owned(), ids.join(","))];
                let mut query = self.facade.parse_search(&of, &parameters, true).await?.query;
                query.count = ids.len() + 1;
                self.guards.push(Guard { query, ids: ids.to_vec() });
            }
        }
        Ok(())
    }

    fn wanted(&self) -> Vec<Wanted> {
        let definitions = self.facade.definitions();
        let mut found = Vec::new();
        for change in &self.changes {
            let Some(after) = change.after.as_ref().filter(|_| change.resource_type != "Bundle")
            else {
                continue;
            };
            links::visit(&definitions, after, &mut |link: Link<'_>, place| {
                let own = links::literal(&definitions, &self.facade.base, link.text);
                let (LinkKind::Reference, Some(own)) = (link.kind, own) else { return };
                let Literal { resource_type, id, version } = own;
                let mut targets = link.of_type.targets().peekable();
                let is_fit = targets.peek().is_none()
                    || targets.any(|target| definitions.is_a(resource_type, target));
                let allowed = || link.of_type.targets().collect::<Vec<_>>().join(", ");
                let expression = place.expression();
                let element = expression.strip_suffix(".reference").unwrap_or(&expression);
                found.push(Wanted {
                    source: key(&change.resource_type, &change.id),
                    expression: element.to_owned(),
                    target: key(resource_type, id),
                    version: version.map(str::to_owned),
                    unfit: (!is_fit).then(allowed),
                });
            });
        }
        found
    }

    /// Looks up what the store holds of all of them, with one question for each type.
    async fn load_all(
        &mut self,
        names: impl Iterator<Item = &(String, String)>,
    ) -> Result<(), Error> {
        let mut by_type: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for name in names {
            if !self.loaded.contains_key(name) {
                by_type.entry(&name.0).or_default().insert(&name.1);
            }
        }
        for (of, ids) in by_type {
            let ids: Vec<&str> = ids.into_iter().collect();
            let found = self.facade.resources.read_many(of, &ids).await?;
            for id in ids {
                self.loaded.insert(key(of, id), None);
            }
            for stored in found {
                self.loaded.insert(key(of, &stored.id), Some(stored));
            }
        }
        Ok(())
    }

    /// The first deletion of a resource that others refer to, if that is looked at.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(in crate::facade) async fn referenced_deletion(
        &mut self,
    ) -> Result<Option<Finding>, Error> {
        if self.facade.policy.delete_referenced == DeleteReferenced::Allow {
            return Ok(None);
        }
        let mut unreferred = Vec::new();
        for change in &self.changes {
            let name = key(&change.resource_type, &change.id);
            let was_there = self.loaded.get(&name).and_then(Option::as_ref);
            if change.after.is_some() || was_there.is_none_or(|stored| stored.body.is_none()) {
                continue;
            }
            let reference = format!("{}/{}", name.0, name.1);
            let most = MOST_COUNTED + 1 + self.changes.len();
            let stored = self.facade.resources.referrers(&reference, most).await?;
            let (changed, mut referrers): (Vec<_>, Vec<_>) =
                stored.into_iter().partition(|referrer| self.places.contains_key(referrer));
            let refers = |rows: &[lumbar_fhir::search::IndexRow]| {
                rows.iter()
                    .any(|row| matches!(&row.value, IndexValue::Key(key) if *key == reference))
            };
            referrers.extend(
                self.changes
                    .iter()
                    .filter(|other| other.after.is_some() && refers(&other.rows))
                    .map(|other| key(&other.resource_type, &other.id)),
            );
            if !referrers.is_empty() {
                return Ok(Some((name, referenced(&reference, &referrers))));
            }
            unreferred.push(Unreferred { reference, except: changed });
        }
        self.unreferred = unreferred;
        Ok(None)
    }

    /// Refuses to delete what others refer to, and lets the commit go through only while nobody
    /// does.
    pub(super) async fn check_deletions(&mut self) -> Result<(), Error> {
        match self.referenced_deletion().await? {
            Some((_, issue)) => Err(Error::Refused(issue)),
            None => Ok(()),
        }
    }
}

fn referenced(reference: &str, referrers: &[(String, String)]) -> Issue {
    let names: Vec<String> =
        referrers.iter().take(MOST_NAMED).map(|(of, id)| format!("{of}/{id}")).collect();
    let count = match referrers.len() {
        1 => "One resource refers".to_owned(),
        count if count > MOST_COUNTED => format!("More than {MOST_COUNTED} resources refer"),
        count => format!("{count} resources refer"),
    };
    let names = match referrers.len() > names.len() {
        true => format!("{} and others", names.join(", ")),
        false => names.join(", "),
    };
    Issue::error(
        IssueType::Conflict,
        format!(
            "{count} to {reference}: {names}. Delete them first, or together with it in one transaction, or take the references out."
        ),
    )
}
