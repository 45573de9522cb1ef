//! What became of everything that came in: the report of a translation.
//!
//! Rows are counted so that `in = mapped + carried + ignored + refused` holds for every table;
//! columns that are only in the raw row are named with how often they held something. It is for
//! the owner of the data, so raw values are shown; it is not for logs.

use std::collections::BTreeMap;

use lumbar_fhir::{Issue, Json, Locator, Object, json};

/// How many issues of one code are listed one by one; all are counted.
pub const LISTED_PER_CODE: u64 = 1_000;

/// Our issue codes, so that tables can name them. Beyond the published catalogue stands
/// `BPA-REF-014`: a referral that does not say to whom.
pub const CODES: [&str; 24] = [
    "BPA-ID-001",
    "BPA-ID-002",
    "BPA-ID-003",
    "BPA-CODE-001",
    "BPA-CODE-002",
    "BPA-CODE-003",
    "BPA-TIME-001",
    "BPA-TIME-002",
    "BPA-TIME-003",
    "BPA-REF-010",
    "BPA-REF-011",
    "BPA-REF-012",
    "BPA-REF-013",
    "BPA-REF-014",
    "BPA-PROM-001",
    "BPA-PROM-002",
    "BPA-BOOK-001",
    "BPA-BOOK-002",
    "BPA-FILE-001",
    "BPA-FILE-002",
    "BPA-FILE-003",
    "BPA-ENC-001",
    "BPA-DUP-001",
    "BPA-MAP-001",
];

/// The code of that name.
pub fn code(name: &str) -> Option<&'static str> {
    CODES.into_iter().find(|code| *code == name)
}

/// What became of one row (or message, or whatever a format counts).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It gave rise to resources, or to a part of one.
    Mapped,
    /// It is only in the landing, now or for good.
    Carried,
    /// A rule of that name says that it is not for exchange.
    Ignored(String),
    /// It could not be used; an issue says why.
    Refused,
}

/// Counts of one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that gave rise to resources.
    pub mapped: u64,
    /// Rows that are only in the landing.
    pub carried: u64,
    /// Rows that a rule left out, by rule.
    pub ignored: BTreeMap<String, u64>,
    /// Rows that could not be used.
    pub refused: u64,
}

/// The report of one translation.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The format, for example `emis`.
    pub format: String,
    /// Counts by table.
    pub tables: BTreeMap<String, Counts>,
    /// Cells that held something and are only in the raw row, by table and column, with the reason.
    pub carried: BTreeMap<(String, String), (u64, String)>,
    /// Resources made, by type.
    pub resources: BTreeMap<String, u64>,
    issues: Vec<Issue>,
    issue_counts: BTreeMap<&'static str, u64>,
}

impl Report {
    /// An empty report of a format.
    pub fn new(format: &str) -> Self {
        Report { format: format.into(), ..Report::default() }
    }

    /// Counts a row that came in.
    pub fn came_in(&mut self, table: &str) {
        self.counts(table).rows_in += 1;
    }

    /// Counts what became of a row.
    pub fn became(&mut self, table: &str, outcome: &Outcome) {
        let counts = self.counts(table);
        match outcome {
            Outcome::Mapped => counts.mapped += 1,
            Outcome::Carried => counts.carried += 1,
            Outcome::Refused => counts.refused += 1,
            Outcome::Ignored(rule) => *counts.ignored.entry(rule.clone()).or_default() += 1,
        }
    }

    /// Counts a cell that is only in the raw row.
    pub fn carried_cell(&mut self, table: &str, column: &str, reason: &str) {
        let key = (table.to_string(), column.to_string());
        self.carried.entry(key).or_insert_with(|| (0, reason.to_string())).0 += 1;
    }

    /// Counts a resource that was made.
    pub fn made(&mut self, resource_type: &str) {
        *self.resources.entry(resource_type.to_string()).or_default() += 1;
    }

    /// Adds an issue; beyond [`LISTED_PER_CODE`] of one code it is only counted.
    pub fn issue(&mut self, issue: Issue) {
        let count = self.issue_counts.entry(name(&issue)).or_default();
        *count += 1;
        if *count <= LISTED_PER_CODE {
            self.issues.push(issue);
        }
    }

    /// The issues that are listed, in the order in which they were found.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// Whether every row that came in became something, in every table.
    pub fn is_balanced(&self) -> bool {
        self.tables.values().all(Counts::is_balanced)
    }

    /// Adds the counts and issues of another report of the same format.
    pub fn merge(&mut self, other: Report) {
        for (table, counts) in other.tables {
            let mine = self.counts(&table);
            mine.rows_in += counts.rows_in;
            mine.mapped += counts.mapped;
            mine.carried += counts.carried;
            mine.refused += counts.refused;
            for (rule, number) in counts.ignored {
                *mine.ignored.entry(rule).or_default() += number;
            }
        }
        for (key, (number, reason)) in other.carried {
            self.carried.entry(key).or_insert((0, reason)).0 += number;
        }
        for (name, number) in other.resources {
            *self.resources.entry(name).or_default() += number;
        }
        let listed = |count: u64| count.min(LISTED_PER_CODE);
        let mut listed: BTreeMap<&str, u64> =
            self.issue_counts.iter().map(|(code, count)| (*code, listed(*count))).collect();
        for issue in other.issues {
            let count = listed.entry(name(&issue)).or_default();
            *count += 1;
            if *count <= LISTED_PER_CODE {
                self.issues.push(issue);
            }
        }
        for (code, number) in other.issue_counts {
            *self.issue_counts.entry(code).or_default() += number;
        }
    }

    /// The report as JSON: `format`, `counts` of everything, `tables`, `carried_only_in_raw`,
    /// `resources`, `issue_counts`, `issues`.
    pub fn to_json(&self) -> Json {
        let mut all = Counts::default();
        let mut tables = Vec::new();
        for (table, counts) in &self.tables {
            all.rows_in += counts.rows_in;
            all.mapped += counts.mapped;
            all.carried += counts.carried;
            all.refused += counts.refused;
            for (rule, number) in &counts.ignored {
                *all.ignored.entry(rule.clone()).or_default() += number;
            }
            let mut object = Object::new();
            object.set("table", table.as_str());
            counts.add_to(&mut object);
            tables.push(Json::Object(object));
        }
        let carried = self.carried.iter().map(|((table, column), (cells, reason))| {
            json!({"table": (table), "column": (column), "cells": (*cells), "reason": (reason)})
        });
        let mut counts = Object::new();
        all.add_to(&mut counts);
        let numbers = |map: &mut dyn Iterator<Item = (&str, u64)>| {
            let mut object = Object::new();
            map.for_each(|(name, number)| object.set(name, number));
            Json::Object(object)
        };
        json!({
            "format": (&self.format),
            "counts": (counts),
            "tables": (tables),
            "carried_only_in_raw": (carried.collect::<Vec<_>>()),
            "resources": (numbers(&mut self.resources.iter().map(|(name, n)| (name.as_str(), *n)))),
            "issue_counts": (numbers(&mut self.issue_counts.iter().map(|(name, n)| (*name, *n)))),
            "issues": (self.issues.iter().map(issue_json).collect::<Vec<_>>())
        })
    }

    fn counts(&mut self, table: &str) -> &mut Counts {
        self.tables.entry(table.to_string()).or_default()
    }
}

impl Counts {
    /// Whether every row that came in became something.
    pub fn is_balanced(&self) -> bool {
        let ignored: u64 = self.ignored.values().sum();
        self.rows_in == self.mapped + self.carried + ignored + self.refused
    }

    fn add_to(&self, object: &mut Object) {
        object.set("in", self.rows_in);
        object.set("mapped", self.mapped);
        object.set("carried_only_in_raw", self.carried);
        let mut ignored = Object::new();
        for (rule, number) in &self.ignored {
            ignored.set(rule, *number);
        }
        object.set("ignored", ignored);
        object.set("refused", self.refused);
    }
}

/// Our code of an issue, or FHIR's when it has none of ours.
fn name(issue: &Issue) -> &'static str {
    issue.detail.unwrap_or(issue.code.code())
}

/// One issue with its place and raw value.
pub fn issue_json(issue: &Issue) -> Json {
    let mut object = Object::new();
    object.set("code", name(issue));
    object.set("severity", issue.severity.code());
    object.set("type", issue.code.code());
    let locator = match issue.locator.as_deref() {
        Some(Locator::Cell { file, row, column }) if column.is_empty() => {
            Some(json!({"file": (file), "row": (*row)}))
        }
        Some(Locator::Cell { file, row, column }) => {
            Some(json!({"file": (file), "row": (*row), "column": (column)}))
        }
        Some(Locator::Segment(place)) => Some(json!({"segment": (place)})),
        Some(Locator::Pointer(place)) => Some(json!({"pointer": (place)})),
        Some(Locator::File(place)) => Some(json!({"file": (place)})),
        None => None,
    };
    if let Some(locator) = locator {
        object.set("locator", locator);
    }
    if let Some(expression) = &issue.expression {
        object.set("expression", expression.as_str());
    }
    if let Some(value) = &issue.value {
        object.set("value", value.reveal());
    }
    object.set("text", issue.text.as_str());
    Json::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lumbar_fhir::IssueType;

    #[test]
    fn reports_add_up() {
        let part = |rows: u64| {
            let mut report = Report::new("f");
            for row in 0..rows {
                report.came_in("T");
                let outcome = if row == 0 { Outcome::Refused } else { Outcome::Mapped };
                report.became("T", &outcome);
                report.issue(Issue::error(IssueType::Value, "x").detail("BPA-ID-001"));
            }
            report
        };
        let mut whole = part(900);
        whole.merge(part(300));
        assert!(whole.is_balanced());
        assert_eq!(whole.issues().len() as u64, LISTED_PER_CODE);
        let json = whole.to_json();
        assert_eq!(json.get("issue_counts").unwrap().to_string(), r#"{"BPA-ID-001":1200}"#);
        assert_eq!(
            json.get("counts").unwrap().to_string(),
            r#"{"in":1200,"mapped":1198,"carried_only_in_raw":0,"ignored":{},"refused":2}"#
        );
    }

    #[test]
    fn a_row_that_became_nothing_shows() {
        let mut report = Report::new("f");
        report.came_in("T");
        assert!(!report.is_balanced());
    }
}
