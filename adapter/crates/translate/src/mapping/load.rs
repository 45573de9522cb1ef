//! `mapping.json` and its tables: read once, checked whole.
//!
//! A known column that nobody takes up must say so in the layout; one that the layout calls mapped
//! must be taken up by a table. Both are faults of the mapping, found when it is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lumbar_fhir::{Json, JsonError, Object, Severity};

use super::codes::Codes;
use super::expression::Compiled;
use super::join::{How, Join};
use super::rule::Rules;
use super::{Check, Effect, EntryRules, Mapping, Orphan, RecordRules};
use crate::profile::Claims;
use crate::record::{Disposition, Layout, TableError};
use crate::report;

/// The texts of a mapping.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// `mapping.json`.
    pub mapping: &'a str,
    /// The layout ([`Layout::parse`]).
    pub tables: &'a str,
    /// The code table ([`Codes::parse`]).
    pub codes: &'a str,
    /// The mapping tables by file name.
    pub rules: &'a [(&'a str, &'a str)],
}

/// A mapping that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// `mapping.json` is not JSON.
    #[error("mapping.json: {0}")]
    Json(#[from] JsonError),
    /// A table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A member of `mapping.json` is missing or wrong.
    #[error("mapping.json: {0}")]
    Member(String),
    /// Columns whose disposition does not say what becomes of them.
    #[error("columns with a wrong disposition: {}", .0.join("; "))]
    Silent(Vec<String>),
}

impl Mapping {
    /// Reads a mapping and checks that every column's disposition is true.
    ///
    /// # Errors
    /// The first thing that cannot be understood; all columns with a wrong disposition.
    pub fn parse(source: &Source<'_>) -> Result<Mapping, MappingError> {
        let json = Json::parse(source.mapping.as_bytes())?;
        let layout = Layout::parse("tables.csv", source.tables)?;
        let codes = Codes::parse("codes.csv", source.codes)?;
        let loader = Loader { source, layout: &layout, codes: &codes };
        let mut records = Vec::new();
        for record in json.list("records") {
            records.push(loader.record(record)?);
        }
        let mut parts = BTreeMap::new();
        for name in json.list("parts").iter().filter_map(Json::as_str) {
            parts.insert(name.to_string(), loader.rules(name)?);
        }
        let mut roles = BTreeMap::new();
        for (table, role) in
            json.get("roles").and_then(Json::as_object).iter().flat_map(|o| o.iter())
        {
            loader.table(table)?;
            roles.insert(table.to_string(), role.as_str().unwrap_or_default().to_string());
        }
        let mut orphans = Vec::new();
        for orphan in json.list("orphans") {
            orphans.push(Orphan {
                table: loader.table(text(orphan, "table")?)?,
                of: loader.table(text(orphan, "of")?)?,
                code: loader.code(orphan)?,
                text: text(orphan, "text")?.into(),
            });
        }
        let owner_table = loader.table(text(&json, "ownerTable")?)?;
        let mapping = Mapping {
            format: text(&json, "format")?.into(),
            version: text(&json, "version")?.into(),
            owner_code: text(&json, "ownerCode")?.into(),
            owner_table,
            records,
            roles,
            parts,
            orphans,
            codes,
            layout,
        };
        mapping.check_dispositions()?;
        Ok(mapping)
    }

    /// Every column called mapped is taken up by some table, and no other is.
    fn check_dispositions(&self) -> Result<(), MappingError> {
        let mut taken: BTreeSet<(Arc<str>, String)> = BTreeSet::new();
        taken.insert((self.owner_table.clone(), self.owner_code.clone()));
        let mut wrong = Vec::new();
        for record in &self.records {
            let tables = record.entries.iter().map(|entry| &entry.rules);
            let sources = tables.chain(self.parts.values()).flat_map(|rules| &rules.rules);
            for source in sources.flat_map(|rule| &rule.source) {
                let mut take = |table: &Arc<str>, column: &str| {
                    if self.layout.table(table).is_none_or(|table| table.column(column).is_none()) {
                        return false;
                    }
                    taken.insert((table.clone(), column.to_string()));
                    true
                };
                let found = match source.split_once('.') {
                    None => take(&record.table, source),
                    Some((join, column)) => {
                        let join = record.joins.iter().find(|other| other.name == join);
                        // A part is shared by records, not all of which have its joins.
                        join.is_none_or(|join| {
                            take(&join.table, column)
                                || join
                                    .through
                                    .as_ref()
                                    .is_some_and(|(_, table)| take(table, column))
                        })
                    }
                };
                if !found {
                    wrong.push(format!("{source} of {} is no column", record.table));
                }
            }
            for join in &record.joins {
                let start = join.from.and_then(|index| record.joins.get(index));
                let start = start.map_or(&record.table, |join| &join.table);
                match &join.how {
                    How::Column(column) => taken.insert((start.clone(), column.to_string())),
                    How::Linked(column) => taken.insert((join.table.clone(), column.to_string())),
                };
                if let Some((column, _)) = &join.through {
                    taken.insert((join.table.clone(), column.to_string()));
                }
                for column in &join.take {
                    let through = join.through.as_ref().map(|(_, table)| table);
                    for table in std::iter::once(&join.table).chain(through) {
                        if self
                            .layout
                            .table(table)
                            .is_some_and(|table| table.column(column).is_some())
                        {
                            taken.insert((table.clone(), column.clone()));
                        }
                    }
                }
            }
        }
        for table in self.layout.tables() {
            for (index, column) in table.columns.iter().enumerate() {
                let key = table.owner == Some(index) || table.key.contains(&index);
                let known = taken.contains(&(table.name.clone(), column.name.clone()));
                let says = column.disposition == Disposition::Mapped;
                if says != known && !(key && says) {
                    let fault = if says { "is called mapped and is not" } else { "is mapped" };
                    wrong.push(format!("{}.{} {fault}", table.name, column.name));
                }
            }
        }
        wrong.dedup();
        if wrong.is_empty() { Ok(()) } else { Err(MappingError::Silent(wrong)) }
    }
}

struct Loader<'a> {
    source: &'a Source<'a>,
    layout: &'a Layout,
    codes: &'a Codes,
}

impl Loader<'_> {
    fn record(&self, json: &Json) -> Result<RecordRules, MappingError> {
        let table = self.table(text(json, "table")?)?;
        let mut joins: Vec<Join> = Vec::new();
        for join in json.list("joins") {
            joins.push(self.join(join, &table, &joins)?);
        }
        let mut ignore = Vec::new();
        for rule in json.list("ignore") {
            ignore.push((expression(text(rule, "when")?)?, text(rule, "rule")?.to_string()));
        }
        let mut checks = Vec::new();
        for check in json.list("checks") {
            checks.push(self.check(check)?);
        }
        let mut entries = Vec::new();
        for entry in json.list("entries") {
            let withdraw = entry.get("withdraw").and_then(Json::as_object).cloned();
            entries.push(EntryRules {
                resource: text(entry, "resource")?.into(),
                when: optional(entry, "when").map(expression).transpose()?,
                key: names(entry, "key"),
                profiles: Claims::parse(entry).map_err(MappingError::Member)?,
                rules: self.rules(text(entry, "rules")?)?,
                withdraw: withdraw.unwrap_or_else(Object::new),
            });
        }
        let choose_first = optional(json, "choose") == Some("first");
        Ok(RecordRules { table, joins, choose_first, ignore, checks, entries })
    }

    fn join(&self, json: &Json, root: &Arc<str>, earlier: &[Join]) -> Result<Join, MappingError> {
        let name = text(json, "name")?;
        let from = match optional(json, "from") {
            None => None,
            Some(from) => {
                Some(earlier.iter().position(|join| join.name == from).ok_or_else(|| {
                    MappingError::Member(format!("join {name}: no join {from} before it"))
                })?)
            }
        };
        let table = self.table(text(json, "table")?)?;
        let start = from.and_then(|index| earlier.get(index)).map_or(root, |join| &join.table);
        let how = match (optional(json, "column"), optional(json, "linked")) {
            (Some(column), None) => How::Column(self.column(start, column)?),
            (None, Some(column)) => How::Linked(self.column(&table, column)?),
            _ => return Err(MappingError::Member(format!("join {name} needs column or linked"))),
        };
        let through = match json.get("through") {
            None => None,
            Some(through) => Some((
                self.column(&table, text(through, "column")?)?,
                self.table(text(through, "table")?)?,
            )),
        };
        Ok(Join {
            name: name.into(),
            from,
            table,
            how,
            through,
            take: names(json, "take"),
            resource: optional(json, "resource").unwrap_or_default().into(),
            kind: json.get("kind").and_then(Json::as_bool) == Some(true),
            remap: json.get("remap").and_then(Json::as_bool) == Some(true),
        })
    }

    fn check(&self, json: &Json) -> Result<Check, MappingError> {
        let effect = match optional(json, "effect") {
            None => Effect::Note,
            Some("wait") => Effect::Wait,
            Some("refuse") => Effect::Refuse,
            Some(other) => {
                return Err(MappingError::Member(format!("the effect {other} is unknown")));
            }
        };
        let severity = match text(json, "severity")? {
            "information" => Severity::Information,
            "warning" => Severity::Warning,
            "error" => Severity::Error,
            other => return Err(MappingError::Member(format!("the severity {other} is unknown"))),
        };
        Ok(Check {
            when: expression(text(json, "when")?)?,
            effect,
            severity,
            code: self.code(json)?,
            column: optional(json, "column").unwrap_or_default().into(),
            text: text(json, "text")?.into(),
            resource: optional(json, "resource").unwrap_or_default().into(),
        })
    }

    fn code(&self, json: &Json) -> Result<Option<&'static str>, MappingError> {
        match optional(json, "code") {
            None => Ok(None),
            Some(name) => report::code(name)
                .map(Some)
                .ok_or_else(|| MappingError::Member(format!("the issue code {name} is unknown"))),
        }
    }

    fn rules(&self, name: &str) -> Result<Rules, MappingError> {
        let found = self.source.rules.iter().find(|(other, _)| *other == name);
        let (_, text) =
            found.ok_or_else(|| MappingError::Member(format!("there is no table {name}")))?;
        let rules = Rules::parse(name, text)?;
        for rule in &rules.rules {
            if let Some(map) = rule.convert.map().filter(|map| !self.codes.has(map)) {
                return Err(MappingError::Member(format!("{name}: there is no code map {map}")));
            }
        }
        Ok(rules)
    }

    fn table(&self, name: &str) -> Result<Arc<str>, MappingError> {
        let table = self.layout.table(name);
        table
            .map(|table| table.name.clone())
            .ok_or_else(|| MappingError::Member(format!("there is no table {name}")))
    }

    fn column(&self, table: &str, name: &str) -> Result<Arc<str>, MappingError> {
        let known = self.layout.table(table).and_then(|table| table.column(name));
        known
            .map(|column| column.name.as_str().into())
            .ok_or_else(|| MappingError::Member(format!("{table} has no column {name}")))
    }
}

fn text<'a>(json: &'a Json, name: &str) -> Result<&'a str, MappingError> {
    optional(json, name).ok_or_else(|| MappingError::Member(format!("the text {name} is missing")))
}

fn optional<'a>(json: &'a Json, name: &str) -> Option<&'a str> {
    json.get(name)?.as_str()
}

fn names(json: &Json, name: &str) -> Vec<String> {
    json.list(name).iter().filter_map(Json::as_str).map(str::to_string).collect()
}

fn expression(text: &str) -> Result<Compiled, MappingError> {
    Compiled::parse(text).map_err(|error| MappingError::Member(format!("\"{text}\": {error}")))
}
