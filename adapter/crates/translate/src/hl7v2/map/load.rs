//! `mapping.json` and its tables: read once, checked whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lumbar_fhir::{Issue, IssueType, Json, Locator};

use super::{Check, EntryRules, Field, Mapping};
use crate::mapping::codes::Codes;
use crate::mapping::convert::Convert;
use crate::mapping::expression::Compiled;
use crate::mapping::rule::Rules;
use crate::mapping::{MappingError, Source};
use crate::profile::Claims;
use crate::record::lines;
use crate::report;

impl Mapping {
    /// Reads a mapping: `source.tables` is `segments.csv`
    /// (`segment,field,type,disposition,comment`).
    ///
    /// # Errors
    /// The first thing that cannot be understood; all fields with a wrong disposition.
    pub fn parse(source: &Source<'_>) -> Result<Mapping, MappingError> {
        let json = Json::parse(source.mapping.as_bytes())?;
        let codes = Codes::parse("codes.csv", source.codes)?;
        let mut fields = HashMap::new();
        let header = &["segment", "field", "type", "disposition", "comment"];
        for (_, [segment, field, kind, disposition, comment]) in
            lines("segments.csv", source.tables, header)?
        {
            fields.insert(format!("{segment}-{field}"), Field { kind, disposition, comment });
        }
        let pairs = |name: &str| -> Vec<(String, String)> {
            let pair = |pair: &Json| {
                let [first, second] = pair.as_array()? else { return None };
                Some((first.as_str()?.to_owned(), second.as_str()?.to_owned()))
            };
            json.list(name).iter().filter_map(pair).collect()
        };
        let mut parts = BTreeMap::new();
        for name in json.list("parts").iter().filter_map(Json::as_str) {
            parts.insert(name.to_owned(), rules(source, &codes, name)?);
        }
        let mut root = Vec::new();
        for (name, value) in
            json.get("root").and_then(Json::as_object).iter().flat_map(|o| o.iter())
        {
            root.push((name.to_owned(), expression(value.as_str().unwrap_or_default())?));
        }
        let mut entries = Vec::new();
        for entry in json.list("entries") {
            let optional = |name: &str| entry.str_at(&[name]);
            let member = |name: &str| {
                optional(name)
                    .ok_or_else(|| MappingError::Member(format!("an entry has no {name}")))
            };
            let key = entry.list("key").iter().filter_map(Json::as_str).map(expression);
            entries.push(EntryRules {
                name: member("name")?.to_owned(),
                resource: member("resource")?.to_owned(),
                each: expression(member("each")?)?,
                when: optional("when").map(expression).transpose()?,
                key: key.collect::<Result<_, _>>()?,
                profiles: Claims::parse(entry).map_err(MappingError::Member)?,
                rules: rules(source, &codes, member("rules")?)?,
            });
        }
        let mut checks = Vec::new();
        for check in json.list("checks") {
            let member = |name: &str| {
                let text = check.str_at(&[name]);
                text.ok_or_else(|| MappingError::Member(format!("a check has no {name}")))
            };
            let issue = match member("severity")? {
                "error" => Issue::error(IssueType::Required, member("text")?),
                "warning" => Issue::warning(IssueType::BusinessRule, member("text")?),
                other => {
                    return Err(MappingError::Member(format!("the severity {other} is unknown")));
                }
            };
            let issue = issue.located(Locator::Segment(member("segment")?.to_owned()));
            let issue = Issue { detail: report::code(member("code")?), ..issue };
            checks.push(Check { when: expression(member("when")?)?, issue });
        }
        let version = json.str_at(&["version"]).unwrap_or_default().to_owned();
        let mapping = Mapping {
            version,
            messages: pairs("messages"),
            groups: pairs("groups"),
            inherit: pairs("inherit"),
            root,
            checks,
            entries,
            parts,
            codes,
            fields,
        };
        mapping.check_dispositions()?;
        Ok(mapping)
    }

    /// Every field that is called mapped is a source of some rule, and every source is.
    fn check_dispositions(&self) -> Result<(), MappingError> {
        let tables = self.entries.iter().map(|entry| &entry.rules).chain(self.parts.values());
        let taken: BTreeSet<&str> = tables
            .flat_map(|rules| &rules.rules)
            .flat_map(|rule| rule.source.iter().map(String::as_str))
            .collect();
        let mut wrong = Vec::new();
        for (name, field) in &self.fields {
            match (field.disposition.as_str(), taken.contains(name.as_str())) {
                ("mapped", true) | ("carried" | "ignored", false) => {}
                (says, is) => wrong.push(format!("{name} is called {says}, used: {is}")),
            }
            if field.disposition != "mapped" && field.comment.is_empty() {
                wrong.push(format!("{name} is {} without a reason", field.disposition));
            }
        }
        let unknown = taken.iter().filter(|name| !self.fields.contains_key(**name));
        wrong.extend(unknown.map(|name| format!("{name} is no known field")));
        wrong.sort();
        if wrong.is_empty() { Ok(()) } else { Err(MappingError::Silent(wrong)) }
    }
}

fn rules(source: &Source<'_>, codes: &Codes, name: &str) -> Result<Rules, MappingError> {
    let found = source.rules.iter().find(|(other, _)| *other == name);
    let (_, text) =
        found.ok_or_else(|| MappingError::Member(format!("there is no table {name}")))?;
    let rules = Rules::parse(name, text)?;
    for rule in &rules.rules {
        let fault = match &rule.convert {
            Convert::Map(map) | Convert::TryMap(map) | Convert::Coding(map) if !codes.has(map) => {
                Some(format!("there is no code map {map}"))
            }
            Convert::AsIs
            | Convert::Text
            | Convert::Url
            | Convert::Map(_)
            | Convert::TryMap(_)
            | Convert::Coding(_)
            | Convert::Postcode
            | Convert::Words
            | Convert::Part(_) => None,
            _ => Some(format!("the type of {} is for rows of tables", rule.path)),
        };
        if let Some(fault) = fault {
            return Err(MappingError::Member(format!("{name}: {fault}")));
        }
    }
    Ok(rules)
}

fn expression(text: &str) -> Result<Compiled, MappingError> {
    Compiled::parse(text).map_err(|error| MappingError::Member(format!("\"{text}\": {error}")))
}
