//! `$export`: <https://hl7.org/fhir/uv/bulkdata/STU2/export.html>.
//!
//! An export gives each resource once, as it was at the moment the export began: what changed
//! afterwards is taken from the history. A `_since` that repeats the `transactionTime` of an
//! earlier export goes on exactly there, whatever the clocks of those who wrote said.
//!
//! Not offered: `includeAssociatedData`, `organizeOutputBy`, groups that are described by
//! characteristics, and groups within groups. Chains of a `_typeFilter` are followed as things are
//! now, not as they were at that moment.

use std::collections::HashSet;

use lumbar_fhir::datetime::Micros;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::search::{self, Bound, Candidate, Condition, Query};
use lumbar_fhir::summary;
use lumbar_fhir::{Issue, IssueType, Json, json};
use lumbar_store::Then;

use super::kick_off::{Asked, Level};
use crate::facade::{Error, Facade};

/// From this number of patients on a search does not name each of them.
const FEW: usize = 16;
/// How much earlier than `_since` a change may claim to have been that came after it: a write takes
/// its time before it waits for its turn.
const LATE: Micros = 600_000_000;
/// An export that is being done.
pub struct Source {
    asked: Asked,
    /// Number of the last commit that belongs to it.
    seq: i64,
    /// The types that are exported, sorted.
    pub types: Vec<String>,
    patients: Patients,
    since: Option<Since>,
}

/// Whose compartments are exported.
enum Patients {
    /// Compartments do not matter.
    Any,
    /// Those of all patients.
    All,
    /// Those of these.
    These(HashSet<String>),
}

/// What counts as later than `_since`.
struct Since {
    time: Micros,
    /// Number of the last commit then, when an earlier export began at that very time.
    seq: Option<i64>,
}

impl Since {
    fn admits(&self, then: &Then) -> bool {
        then.last_updated > self.time || self.seq.is_some_and(|seq| then.seq > seq)
    }

    /// The earliest time that a later change can claim.
    fn from(&self) -> Micros {
        if self.seq.is_some() { self.time.saturating_sub(LATE) } else { self.time }
    }
}

/// A part of an export.
#[derive(Debug)]
pub struct Part {
    /// Lines of NDJSON, without their ends.
    pub lines: Vec<String>,
    /// The row after which the next part begins; `None` at the end of the type.
    pub next: Option<i64>,
}

impl Facade {
    /// What an export is made of that began at the moment `seq`.
    ///
    /// # Errors
    /// The group is gone, or the store cannot be read.
    pub async fn export_source(&self, request: &str, seq: i64) -> Result<Source, Error> {
        let asked: Asked = super::read(request)?;
        let definitions = self.definitions();
        let wanted = |of: &str| {
            (asked.types.is_empty() || asked.types.iter().any(|wanted| wanted == of))
                && (asked.level == Level::System || is_within(&definitions, of))
        };
        let mut types: Vec<String> =
            definitions.resource_types().filter(|of| wanted(of)).map(str::to_owned).collect();
        types.sort();
        let these = asked.patients.clone().map(HashSet::from_iter);
        let patients = match (&asked.level, these) {
            (Level::System, _) => Patients::Any,
            (Level::Patient, None) => Patients::All,
            (_, Some(these)) => Patients::These(these),
            (Level::Group(id), None) => {
                let body = self.resources.read_then("Group", id, seq).await?;
                let body = body.ok_or_else(|| Error::gone("Group", id, 0))?;
                Patients::These(members(self.base(), &body)?)
            }
        };
        let since = match asked.since {
            Some(time) => Some(Since { time, seq: self.resources.bulk().moment(time).await? }),
            None => None,
        };
        Ok(Source { asked, seq, types, patients, since })
    }

    /// The resources of a type after row `after`; about `count` rows are looked at.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn export_part(
        &self,
        source: &Source,
        of: &str,
        after: i64,
        count: usize,
    ) -> Result<Part, Error> {
        let mut all = self.wanted(source, of).await?;
        if let Some(since) = &source.since {
            all.push(Condition::LastUpdated(Bound::Excluded(since.from()), Bound::Open));
        }
        let condition = Condition::All(all);
        let query = query(of, condition.clone(), count);
        let walked = self.resources.as_of(&query, after, source.seq).await?;
        let mut upto = walked.upto;
        let changed = self.resources.changed(of, after, upto, source.seq, count).await?;
        if changed.len() >= count {
            upto = changed.last().map(|last| last.row);
        }
        let mut found = walked.found;
        found.retain(|then| upto.is_none_or(|upto| then.row <= upto));
        let seen: HashSet<&str> = found.iter().map(|then| &*then.id).collect();
        let changed: Vec<Then> =
            changed.into_iter().filter(|then| !seen.contains(&*then.id)).collect();
        found.extend(self.holding(of, &condition, changed).await?);
        if let Some(since) = &source.since {
            found.retain(|then| since.admits(then));
        }
        let mut lines = Vec::with_capacity(found.len());
        for then in &found {
            if self.is_of(source, of, then)? {
                lines.push(shaped(&self.definitions(), &then.body, &source.asked.elements)?);
            }
        }
        Ok(Part { lines, next: upto })
    }

    /// The deletions of a type after row `after`, as one transaction of at most `count`; none
    /// when the export has no `_since`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn export_deletions(
        &self,
        source: &Source,
        of: &str,
        after: i64,
        count: usize,
    ) -> Result<Part, Error> {
        let Some(since) = &source.since else { return Ok(Part { lines: Vec::new(), next: None }) };
        let since_seq = since.seq.unwrap_or(i64::MAX);
        let deleted =
            self.resources.deleted(of, after, source.seq, since.time, since_seq, count).await?;
        let next = deleted.last().filter(|_| deleted.len() >= count).map(|last| last.row);
        let condition = Condition::All(self.wanted(source, of).await?);
        let mut entries: Vec<Json> = Vec::new();
        for then in self.holding(of, &condition, deleted).await? {
            if self.is_of(source, of, &then)? {
                let url = format!("{of}/{}", then.id);
                entries.push(json!({"request": {"method": "DELETE", "url": (url)}}));
            }
        }
        let lines = if entries.is_empty() {
            Vec::new()
        } else {
            let bundle =
                json!({"resourceType": "Bundle", "type": "transaction", "entry": (entries)});
            vec![bundle.to_string()]
        };
        Ok(Part { lines, next })
    }

    /// The OperationOutcomes about what was ignored.
    pub fn export_notes(source: &Source) -> Vec<String> {
        let ignored = source.asked.ignored.iter();
        let note = |(text, place): &(String, String)| {
            let issue = Issue::warning(IssueType::NotSupported, text.clone()).at(place.clone());
            lumbar_fhir::issue::operation_outcome(&[issue]).to_string()
        };
        ignored.map(note).collect()
    }

    /// What must hold for a resource of a type, but for when it was changed.
    async fn wanted(&self, source: &Source, of: &str) -> Result<Vec<Condition>, Error> {
        let mut all = Vec::new();
        let mut any = Vec::new();
        for (_, query) in source.asked.filters.iter().filter(|(about, _)| about == of) {
            any.push(self.filter(of, query).await?);
        }
        if !any.is_empty() {
            all.push(Condition::Any(any));
        }
        let definitions = self.definitions();
        match &source.patients {
            Patients::Any => {}
            Patients::These(these) if these.len() <= FEW => {
                let mut these: Vec<&String> = these.iter().collect();
                these.sort();
                let within = |id: &String| search::compartment(&definitions, "Patient", id, of);
                all.push(Condition::Any(these.into_iter().filter_map(within).collect()));
            }
            // Each patient is a member of the own compartment.
            Patients::All | Patients::These(_) if of == "Patient" => {}
            Patients::All | Patients::These(_) => {
                let codes = definitions.compartment("Patient", of).iter();
                let some = |code: &&str| {
                    let (from, to) = ("Patient/".to_owned(), "Patient0".to_owned());
                    Condition::Key((*code).to_owned(), Bound::Included(from), Bound::Excluded(to))
                };
                all.push(Condition::Any(codes.map(some).collect()));
            }
        }
        Ok(all)
    }

    /// Whether a resource belongs to one of many patients, which no search has asked.
    fn is_of(&self, source: &Source, of: &str, then: &Then) -> Result<bool, Error> {
        let Patients::These(these) = &source.patients else { return Ok(true) };
        if these.len() <= FEW || (of == "Patient" && these.contains(&then.id)) {
            return Ok(true);
        }
        let definitions = self.definitions();
        let codes = definitions.compartment("Patient", of);
        let rows = search::index(&definitions, self.base(), &parsed(&then.body)?);
        Ok(rows.iter().any(|row| {
            let search::IndexValue::Key(key) = &row.value else { return false };
            let id = key.strip_prefix("Patient/");
            codes.contains(&row.code.as_str()) && id.is_some_and(|id| these.contains(id))
        }))
    }

    /// Those of `thens` for which a condition holds as they were.
    async fn holding(
        &self,
        of: &str,
        condition: &Condition,
        thens: Vec<Then>,
    ) -> Result<Vec<Then>, Error> {
        if thens.is_empty() {
            return Ok(thens);
        }
        let mut links = Vec::new();
        linked(condition, &mut links);
        let ids: Vec<String> = thens.iter().map(|then| then.id.clone()).collect();
        let mut found: Vec<(&Condition, HashSet<String>)> = Vec::new();
        for link in links {
            let both = Condition::All(vec![Condition::Id(ids.clone()), link.clone()]);
            let page = self.resources.search(&query(of, both, ids.len())).await?;
            found.push((link, page.matches.into_iter().map(|stored| stored.id).collect()));
        }
        let follow = |condition: &Condition, candidate: Candidate<'_>| {
            let known = found.iter().find(|(link, _)| *link == condition);
            known.is_some_and(|(_, ids)| ids.contains(candidate.id))
        };
        let definitions = self.definitions();
        let mut holding = Vec::new();
        for then in thens {
            let rows = search::index(&definitions, self.base(), &parsed(&then.body)?);
            let candidate =
                Candidate { id: &then.id, last_updated: then.last_updated, rows: &rows };
            if search::matches(condition, candidate, &follow) {
                holding.push(then);
            }
        }
        Ok(holding)
    }
}

/// The parts of a condition that lead to other resources.
fn linked<'c>(condition: &'c Condition, out: &mut Vec<&'c Condition>) {
    match condition {
        Condition::All(inner) | Condition::Any(inner) => {
            inner.iter().for_each(|condition| linked(condition, out));
        }
        Condition::Not(inner) => linked(inner, out),
        Condition::Refers(..) | Condition::ReferredBy(..) => out.push(condition),
        _ => {}
    }
}

fn query(of: &str, condition: Condition, count: usize) -> Query {
    Query {
        resource_type: of.to_owned(),
        condition,
        sort: Vec::new(),
        count,
        cursor: None,
        total: false,
    }
}

/// Whether resources of a type belong to patients.
pub(super) fn is_within(definitions: &Definitions, of: &str) -> bool {
    of == "Patient" || !definitions.compartment("Patient", of).is_empty()
}

fn parsed(body: &str) -> Result<Json, Error> {
    Json::parse(body.as_bytes()).map_err(|error| {
        tracing::error!(%error, "a stored resource cannot be read");
        Error::Internal
    })
}

/// A resource with the elements that were asked for, without `elements` as it is stored:
/// <https://hl7.org/fhir/R4/search.html#elements>.
fn shaped(definitions: &Definitions, body: &str, elements: &[String]) -> Result<String, Error> {
    if elements.is_empty() {
        return Ok(body.to_owned());
    }
    let resource = parsed(body)?;
    let of = resource.str_at(&["resourceType"]).unwrap_or_default();
    let about = |element: &str| match element.split_once('.') {
        Some((kind, name)) => (kind == of).then(|| name.to_owned()),
        None => Some(element.to_owned()),
    };
    let named: Vec<String> = elements.iter().filter_map(|element| about(element)).collect();
    // A type of which nothing is named is given whole.
    if named.is_empty() {
        return Ok(body.to_owned());
    }
    Ok(summary::part(definitions, &resource, &summary::Part::Elements(named)).to_string())
}

/// Ids of the patients that are active members of a group.
pub(super) fn members(base: &str, body: &str) -> Result<HashSet<String>, Error> {
    let group = parsed(body)?;
    let unusable = |place: &str, text: &str| {
        Error::Invalid(vec![Issue::error(IssueType::BusinessRule, text).at(place)])
    };
    if group.str_at(&["type"]) != Some("person") {
        return Err(unusable("Group.type", "Only a group of persons can be exported."));
    }
    if group.get("actual").and_then(Json::as_bool) == Some(false) {
        return Err(unusable(
            "Group.actual",
            "A group that is described by characteristics has no members that could be exported.",
        ));
    }
    let active = |member: &&Json| member.get("inactive").and_then(Json::as_bool) != Some(true);
    let patient = |member: &Json| {
        let key = search::reference_key(base, member.str_at(&["entity", "reference"])?)?;
        key.strip_prefix("Patient/").map(str::to_owned)
    };
    Ok(group.list("member").iter().filter(active).filter_map(patient).collect())
}
