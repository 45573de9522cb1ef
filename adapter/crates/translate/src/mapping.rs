//! The mapping engine: record trees and tables in, resources out.
//!
//! What becomes of a supplier's tables is data: `mapping.json` names the records, how their rows
//! are joined and which resources they give; a CSV table per resource says what goes where
//! (`rule`); a code table translates texts ([`codes`]). Ids are deterministic, so the same rows
//! give the same entries in every run. The engine knows no supplier, reads no file and no clock.

mod affected;
pub mod codes;
pub(crate) mod convert;
pub(crate) mod expression;
mod join;
mod load;
pub(crate) mod rule;
pub(crate) mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::{Issue, IssueType, Json, Object, Severity, json};

pub use self::join::Find;
pub use self::load::{MappingError, Source};

use self::codes::Codes;
use self::convert::Scope;
use self::expression::Compiled;
use self::join::{Join, Record};
use self::rule::{Rule, Rules};
use crate::identity;
use crate::profile::{Claims, claimed};
use crate::record::{Layout, Need, Row, RowKey, RowSet};
use crate::report::Outcome;

/// A supplier's mapping, parsed once.
#[derive(Debug)]
pub struct Mapping {
    /// The format, for example `emis`; part of ids and identifier systems.
    pub format: String,
    /// Version of the mapping, for Provenance.
    pub version: String,
    /// The supplier's tables.
    pub layout: Layout,
    codes: Codes,
    records: Vec<RecordRules>,
    roles: BTreeMap<String, String>,
    parts: BTreeMap<String, Rules>,
    orphans: Vec<Orphan>,
    owner_table: Arc<str>,
    owner_code: String,
}

/// What the tables cannot know.
#[derive(Clone, Debug)]
pub struct Settings<'a> {
    /// Base URL of our identifier systems, without a slash at the end.
    pub base: String,
    /// Name of the batch, for `meta.source`.
    pub source: String,
    /// Zone of times without an offset.
    pub zone: TimeZone,
    /// The instant to record in Provenance when the file's name has none.
    pub now: String,
    /// Who translates, for Provenance, for example `Lumbar 0.1.0`.
    pub software: String,
    /// Whether every record gets a Provenance.
    pub provenance: bool,
    /// Whether a record waits when a row it cannot do without is not there. Otherwise it refers to
    /// that row by identifier.
    pub wait: bool,
    /// FHIR's definitions, for FHIRPath.
    pub definitions: &'a Definitions,
}

/// What to do with a resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `{base}/Patient/{id}`.
    pub full_url: String,
    /// `Patient/{id}`: where it is put.
    pub url: String,
    /// The resource.
    pub resource: Json,
    /// Whether the resource only says that an earlier one no longer holds. Records that refer to its
    /// root may then refer to it as another type: map what [`Mapping::affected`] names for the root.
    pub withdrawn: bool,
}

/// What became of one root row.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// Resources to put.
    pub entries: Vec<Entry>,
    /// What was found on the way.
    pub issues: Vec<Issue>,
    /// Keys of the rows that took part, the root first.
    pub used: Vec<RowKey>,
    /// What became of the root row.
    pub outcome: Outcome,
}

/// The rules for one kind of root row.
#[derive(Debug)]
pub(crate) struct RecordRules {
    table: Arc<str>,
    joins: Vec<Join>,
    /// Only the first entry whose condition holds is made.
    choose_first: bool,
    ignore: Vec<(Compiled, String)>,
    checks: Vec<Check>,
    entries: Vec<EntryRules>,
}

/// A condition on a record that gives an issue.
#[derive(Debug)]
struct Check {
    when: Compiled,
    effect: Effect,
    severity: Severity,
    code: Option<&'static str>,
    column: String,
    text: String,
    /// Type of resource that the check is about; all when empty.
    resource: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Note,
    Wait,
    Refuse,
}

#[derive(Debug)]
struct EntryRules {
    resource: String,
    when: Option<Compiled>,
    /// Columns whose cells make the id; the row's own key when empty.
    key: Vec<String>,
    profiles: Claims,
    rules: Rules,
    /// Members of the resource that say that it no longer holds; null takes one out.
    withdraw: Object,
}

/// A row that belongs to a row of the same key in another table.
#[derive(Debug)]
struct Orphan {
    table: Arc<str>,
    of: Arc<str>,
    code: Option<&'static str>,
    text: String,
}

impl Mapping {
    /// Whether rows of a table are roots of records.
    pub fn is_root(&self, table: &str) -> bool {
        self.rules_for(table).is_some()
    }

    /// Rows that must be looked up before a root can be mapped. Call it again after answering
    /// until it is empty; the depth of joins bounds the rounds.
    pub fn needs(&self, root: &Row, rows: &RowSet) -> Vec<Need> {
        let mut needs = Vec::new();
        let owner = self.owner_key(root.owner()).map(Need::Row);
        needs.extend(owner.filter(|need| !rows.knows(need)));
        let Some(rules) = self.rules_for(&root.key.table) else { return needs };
        let mut collected = Some(needs);
        let joined = self.join(rules, root, rows, None, false, &mut collected);
        // Rows whose own kind decides how they are referred to need what decides it.
        for (join, found) in rules.joins.iter().zip(&joined) {
            if join.resource == "kind" {
                for row in found.iter().filter_map(join::Joined::row) {
                    if let Some(rules) = self.rules_for(&row.key.table) {
                        self.join(rules, row, rows, None, true, &mut collected);
                    }
                }
            }
        }
        let mut needs = collected.unwrap_or_default();
        needs.sort();
        needs.dedup();
        needs
    }

    /// Maps a root row with the rows of `rows`. Earlier states in `rows`, of the root and of rows of
    /// the same key, show which resources it once gave and gives no longer: they are withdrawn.
    pub fn map(&self, root: &Row, rows: &RowSet, settings: &Settings<'_>) -> Mapped {
        let mut issues = Vec::new();
        let Some(rules) = self.rules_for(&root.key.table) else {
            let used = vec![root.key.clone()];
            return Mapped { entries: Vec::new(), issues, used, outcome: Outcome::Carried };
        };
        let record = self.record(rules, root, rows, None, false, settings.definitions);
        let used = record.used();
        let (mut entries, outcome) = self.entries(rules, &record, settings, &mut issues);
        // A row that could not be used says nothing about what it gave before.
        if matches!(outcome, Outcome::Mapped | Outcome::Ignored(_)) {
            self.withdraw(rules, root, rows, settings, &mut entries);
        }
        // Two resources made from one cell find the same fault in it.
        let mut said: Vec<Issue> = Vec::with_capacity(issues.len());
        for issue in issues {
            if !said.contains(&issue) {
                said.push(issue);
            }
        }
        let issues = said;
        if settings.provenance && !entries.is_empty() {
            entries.push(self.provenance(root, &entries, settings));
        }
        Mapped { entries, issues, used, outcome }
    }

    /// The rows whose earlier states show what a root once gave: itself, and those of the same key in
    /// tables that share it. See [`RowSet::insert_earlier`].
    pub fn earlier_keys(&self, root: &RowKey) -> Vec<RowKey> {
        let halves = self.orphans.iter().filter(|orphan| orphan.of == root.table);
        let half = |orphan: &Orphan| RowKey { table: orphan.table.clone(), key: root.key.clone() };
        std::iter::once(root.clone()).chain(halves.map(half)).collect()
    }

    /// The issue of a row that cannot stand alone and whose other half is not there.
    pub fn orphan(&self, row: &Row, rows: &RowSet) -> Option<Issue> {
        let orphan = self.orphans.iter().find(|orphan| orphan.table == row.key.table)?;
        let other = RowKey { table: orphan.of.clone(), key: row.key.key.clone() };
        if rows.get(&other).is_some() {
            return None;
        }
        let issue = Issue::warning(IssueType::NotFound, &orphan.text).located(row.locator(""));
        Some(Issue { detail: orphan.code, ..issue })
    }

    /// Type of the resource that a row becomes, when its record chooses one.
    pub(crate) fn kind_of(
        &self,
        row: &Row,
        rows: &RowSet,
        definitions: &Definitions,
    ) -> Option<&str> {
        let rules = self.rules_for(&row.key.table)?;
        let record = self.record(rules, row, rows, None, true, definitions);
        let found = rules.entries.iter().find(|entry| match &entry.when {
            None => true,
            Some(when) => when.holds(&record.tree, definitions).unwrap_or(false),
        })?;
        Some(&found.resource)
    }

    fn entries(
        &self,
        rules: &RecordRules,
        record: &Record<'_>,
        settings: &Settings<'_>,
        issues: &mut Vec<Issue>,
    ) -> (Vec<Entry>, Outcome) {
        let definitions = settings.definitions;
        let holds = |when: &Compiled, issues: &mut Vec<Issue>| match when
            .holds(&record.tree, definitions)
        {
            Ok(holds) => holds,
            Err(error) => {
                issues.push(broken(&error.to_string(), record));
                false
            }
        };
        for (when, rule) in &rules.ignore {
            if holds(when, issues) {
                return (Vec::new(), Outcome::Ignored(rule.clone()));
            }
        }
        let mut chosen: Vec<&EntryRules> = Vec::new();
        for entry in &rules.entries {
            if entry.when.as_ref().is_none_or(|when| holds(when, issues)) {
                chosen.push(entry);
                if rules.choose_first {
                    break;
                }
            }
        }
        let mut stopped = None;
        for check in &rules.checks {
            let about = check.resource.is_empty()
                || chosen.iter().any(|entry| entry.resource == check.resource);
            if !about || (check.effect == Effect::Wait && !settings.wait) {
                continue;
            }
            if holds(&check.when, issues) {
                issues.push(check.issue(record));
                match check.effect {
                    Effect::Note => {}
                    Effect::Wait => stopped = Some(Outcome::Carried),
                    Effect::Refuse => stopped = Some(Outcome::Refused),
                }
                if check.effect != Effect::Note {
                    break;
                }
            }
        }
        if let Some(outcome) = stopped {
            return (Vec::new(), outcome);
        }
        let scope = Scope { mapping: self, settings, record };
        let mut entries = Vec::new();
        let mut refused = chosen.is_empty();
        for rules in chosen {
            match self.entry(rules, &scope, issues) {
                Some(entry) => entries.push(entry),
                None => refused = true,
            }
        }
        let outcome =
            if entries.is_empty() && refused { Outcome::Refused } else { Outcome::Mapped };
        (entries, outcome)
    }

    fn entry(
        &self,
        rules: &EntryRules,
        scope: &Scope<'_>,
        issues: &mut Vec<Issue>,
    ) -> Option<Entry> {
        let id = self.entry_id(rules, scope.record)?;
        let mut meta = Object::new();
        meta.set("source", format!("{}/file/{}", scope.settings.base, scope.settings.source));
        let mut start = Object::new();
        start.set("resourceType", rules.resource.as_str());
        start.set("id", id.as_str());
        start.set("meta", meta);
        match self.fill(&rules.rules, &scope.record.tree, start, scope, issues) {
            Ok(resource) => {
                let mut entry = Entry::new(&rules.resource, &id, resource, scope.settings);
                rules.profiles.name_in(&mut entry.resource);
                Some(entry)
            }
            Err(rule) => {
                let text = format!(
                    "No {} was made, because {} is missing or cannot be used.",
                    rules.resource, rule.path
                );
                let source = rule.source.first().map_or("", String::as_str);
                let issue =
                    Issue::error(IssueType::Required, text).located(scope.record.locate(source));
                issues.push(issue);
                None
            }
        }
    }

    fn entry_id(&self, rules: &EntryRules, record: &Record<'_>) -> Option<String> {
        if rules.key.is_empty() {
            return record.tree.str_at(&["id"]).map(str::to_string);
        }
        let owner = record.tree.str_at(&["id"])?;
        let mut parts = vec![self.format.as_str(), rules.resource.as_str(), owner];
        for column in &rules.key {
            parts.push(record.tree.str_at(&[column])?);
        }
        Some(identity::resource_id(&parts))
    }

    /// Fills an object by a table over `focus`; the rule that is required and gave nothing is the
    /// error.
    pub(crate) fn fill<'r>(
        &self,
        rules: &'r Rules,
        focus: &Json,
        start: Object,
        scope: &Scope<'_>,
        issues: &mut Vec<Issue>,
    ) -> Result<Object, &'r Rule> {
        let mut tree = target::Tree::new(start, rules.slots);
        for rule in rules.rules.iter().filter(|rule| !rule.deferred) {
            let written = self.write(rule, focus, &mut tree, scope, issues);
            if written == 0 && rule.required {
                return Err(rule);
            }
        }
        for rule in rules.rules.iter().rev().filter(|rule| rule.deferred) {
            if let Compiled::Literal(value) = &rule.value {
                for value in rule.convert.apply(value, scope, || None, issues) {
                    tree.write_first(&rule.target, &value);
                }
            }
        }
        Ok(tree.into_object())
    }

    /// Writes what one rule gives and returns how many values that was.
    fn write(
        &self,
        rule: &Rule,
        focus: &Json,
        tree: &mut target::Tree,
        scope: &Scope<'_>,
        issues: &mut Vec<Issue>,
    ) -> usize {
        let definitions = scope.settings.definitions;
        let holds = rule.condition.as_ref().map_or(Ok(true), |when| when.holds(focus, definitions));
        let values = holds.and_then(|holds| {
            if holds { rule.value.values(focus, definitions) } else { Ok(Vec::new()) }
        });
        let values = match values {
            Ok(values) => values,
            Err(error) => {
                issues.push(broken(&format!("{}: {error}", rule.path), scope.record));
                return 0;
            }
        };
        let mut written = 0;
        for value in &values {
            let place = || rule.source.first().map(|source| scope.record.locate(source));
            for value in rule.convert.apply(value, scope, place, issues) {
                tree.write(&rule.target, written, value);
                written += 1;
            }
            if written > 0 && !rule.target.repeats() {
                break;
            }
        }
        written
    }

    fn withdraw(
        &self,
        rules: &RecordRules,
        root: &Row,
        rows: &RowSet,
        settings: &Settings<'_>,
        entries: &mut Vec<Entry>,
    ) {
        for earlier in self.earlier_keys(&root.key).iter().flat_map(|key| rows.earlier(key)) {
            let record = self.record(rules, root, rows, Some(earlier), false, settings.definitions);
            // What was wrong with an earlier state was said when it came.
            let (old, _) = self.entries(rules, &record, settings, &mut Vec::new());
            for mut entry in old {
                if entries.iter().any(|other| other.url == entry.url) {
                    continue;
                }
                let kind = entry.resource.str_at(&["resourceType"]).unwrap_or_default();
                let Some(rules) = rules.entries.iter().find(|rules| rules.resource == kind) else {
                    continue;
                };
                if let Some(resource) = entry.resource.as_object_mut() {
                    for (name, value) in rules.withdraw.iter() {
                        match value {
                            Json::Null => drop(resource.remove(name)),
                            value => resource.set(name, value),
                        }
                    }
                }
                entry.withdrawn = true;
                entries.push(entry);
            }
        }
    }

    fn provenance(&self, root: &Row, entries: &[Entry], settings: &Settings<'_>) -> Entry {
        let id =
            identity::resource_id(&[&self.format, "provenance", &root.key.table, &root.key.key]);
        let recorded = extract_instant(&root.extract_time, &settings.zone);
        let recorded = recorded.as_deref().unwrap_or(&settings.now);
        let file = format!("{}/Id/{}/file", settings.base, self.format);
        let place = format!("{}, row {}", root.file, root.row);
        let software = format!("{}, mapping {} {}", settings.software, self.format, self.version);
        let what = json!({
            "identifier": {"system": (file), "value": (&*root.file)},
            "display": (place)
        });
        provenance(&id, entries, recorded, &software, what, settings)
    }

    fn rules_for(&self, table: &str) -> Option<&RecordRules> {
        self.records.iter().find(|rules| &*rules.table == table)
    }

    pub(crate) fn part(&self, name: &str) -> Option<&Rules> {
        self.parts.get(name)
    }

    /// Id of the resources that a row becomes. The owner's GUID stands for the organisation, not
    /// its ODS code, so that a row keeps its id when its organisation's row comes later.
    pub(crate) fn id_of(&self, key: &RowKey) -> String {
        identity::resource_id(&[&self.format, self.role(&key.table), &key.key])
    }

    pub(crate) fn role(&self, table: &str) -> &str {
        self.roles.get(table).map_or("", String::as_str)
    }
}

/// The Provenance of resources that were assembled from `what`.
pub(crate) fn provenance(
    id: &str,
    entries: &[Entry],
    recorded: &str,
    software: &str,
    what: Json,
    settings: &Settings<'_>,
) -> Entry {
    let targets = entries.iter().map(|entry| json!({"reference": (&entry.url)}));
    let resource = json!({
        "resourceType": "Provenance",
        "id": (id),
        "target": (targets.collect::<Vec<_>>()),
        "recorded": (recorded),
        "agent": [{
            "type": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                "code": "assembler"
            }]},
            "who": {"display": (software)}
        }],
        "entity": [{"role": "source", "what": (what)}]
    });
    let resource = claimed(resource, "back-pain-provenance");
    let url = format!("Provenance/{id}");
    let full_url = format!("{}/{url}", settings.base);
    Entry { full_url, url, resource, withdrawn: false }
}

impl Entry {
    fn new(resource_type: &str, id: &str, resource: Object, settings: &Settings<'_>) -> Entry {
        let url = format!("{resource_type}/{id}");
        Entry {
            full_url: format!("{}/{url}", settings.base),
            url,
            resource: Json::Object(resource),
            withdrawn: false,
        }
    }

    /// The entry of a transaction Bundle.
    pub fn into_json(self) -> Json {
        json!({
            "fullUrl": (self.full_url),
            "resource": (self.resource),
            "request": {"method": "PUT", "url": (self.url)}
        })
    }
}

impl Check {
    fn issue(&self, record: &Record<'_>) -> Issue {
        let issue = Issue::error(IssueType::BusinessRule, &self.text).severity(self.severity);
        let issue = Issue { detail: self.code, ..issue }.located(record.locate(&self.column));
        match record.raw(&self.column) {
            Some(raw) => issue.value(raw),
            None => issue,
        }
    }
}

/// A rule that failed over a record; a fault of ours that must not hide.
fn broken(error: &str, record: &Record<'_>) -> Issue {
    let text = format!("A mapping rule could not be evaluated: {error}");
    Issue::error(IssueType::Exception, text).detail("BPA-MAP-001").located(record.locate(""))
}

/// `yyyyMMddHHmmss` in a zone as an instant.
fn extract_instant(text: &str, zone: &TimeZone) -> Option<String> {
    let local = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(crate::local_time::text(&crate::local_time::place(local, zone)?.moment))
}

#[cfg(test)]
mod tests;
