//! Messages to resources, by tables: <https://build.fhir.org/ig/HL7/v2-to-fhir/mapping_guidelines.html>.
//!
//! `mapping.json` says for each resource over which nodes of the message's tree it is made, from
//! which values its id comes and which table fills it. Ids are found first and written into the
//! tree, so a table refers to another resource by a path: `PID.patient` is the reference of the
//! Patient made from PID. Every field has a line in `segments.csv` that says what becomes of it.
//! Updates by null (`""`) are left to the caller: the tree shows them, the tables do not.

mod fill;
mod load;
#[cfg(test)]
mod tests;
mod value;

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::tz::TimeZone;
use lumbar_fhir::datetime::{DateTime, Precision};
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::{Issue, IssueType, Json, Locator, Object, json};

use self::fill::Filler;
use super::Message;
use super::tree::{Groups, tree};
use crate::identity;
use crate::mapping::codes::Codes;
use crate::mapping::expression::Compiled;
use crate::mapping::rule::Rules;
use crate::mapping::{Entry, Settings, provenance};
use crate::profile::Claims;
use crate::report::{Outcome, Report};

/// Longest value of an outer segment that is repeated in the segments inside it; a longer one is
/// read where it stands.
const MAX_INHERITED: usize = 64;

/// The mapping of messages, parsed once.
#[derive(Debug)]
pub struct Mapping {
    /// Version of the mapping, for Provenance.
    pub version: String,
    /// Types and events of the messages that the tables are for.
    messages: Vec<(String, String)>,
    groups: Vec<(String, String)>,
    inherit: Vec<(String, String)>,
    root: Vec<(String, Compiled)>,
    checks: Vec<Check>,
    entries: Vec<EntryRules>,
    parts: BTreeMap<String, Rules>,
    codes: Codes,
    fields: HashMap<String, Field>,
}

/// A condition on a message that gives an issue; with an error nothing is made of the message.
#[derive(Debug)]
struct Check {
    when: Compiled,
    issue: Issue,
}

#[derive(Debug)]
struct EntryRules {
    /// Member of a node that holds the reference of the resource made from it.
    name: String,
    resource: String,
    each: Compiled,
    when: Option<Compiled>,
    key: Vec<Compiled>,
    profiles: Claims,
    rules: Rules,
}

#[derive(Debug)]
struct Field {
    kind: String,
    disposition: String,
    comment: String,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// Resources to put, references among them as `Type/id`.
    pub entries: Vec<Entry>,
    /// Counts by segment, fields that are only in the raw message, and all issues.
    pub report: Report,
}

impl Mapping {
    /// Whether the tables are for messages of this type and event.
    pub fn is_for(&self, message: &Message) -> bool {
        let kind = message.kind();
        kind.is_some_and(|(name, event, _)| self.messages.contains(&(name, event)))
    }

    /// Maps a message. A resource without a value that its table requires is not made, with an
    /// error. Of a message that the tables are not for ([`Mapping::is_for`]), or that fails a check
    /// (no patient, no identifier of its sender), nothing is made; all its segments are refused.
    pub fn map(&self, message: &Message, settings: &Settings<'_>) -> Mapped {
        let mut report = Report::new("hl7v2");
        if !self.is_for(message) {
            let text = "There is no mapping for messages of this type and event.";
            let issue = Issue::error(IssueType::NotSupported, text);
            report.issue(issue.located(Locator::Segment("MSH^1^9".into())));
            self.count(message, false, &mut report);
            return Mapped { entries: Vec::new(), report };
        }
        let groups: Vec<(&str, &str)> =
            self.groups.iter().map(|(of, name)| (of.as_str(), name.as_str())).collect();
        let (mut tree, mut issues) = tree(message, Groups(&groups));
        self.read_types(&mut tree, &settings.zone, &mut issues);
        tree.set("at", "message");
        self.inherit(&mut tree);
        let before = issues.len();
        for check in &self.checks {
            let holds = check.when.holds(&tree, settings.definitions);
            if holds.unwrap_or_else(|error| broken(&error.to_string(), &mut issues).contains(&true))
            {
                issues.push(check.issue.clone());
            }
        }
        if issues.iter().skip(before).any(Issue::is_error) {
            issues.into_iter().for_each(|issue| report.issue(issue));
            self.count(message, false, &mut report);
            return Mapped { entries: Vec::new(), report };
        }
        let root = self.root(&tree, settings.definitions, &mut issues);
        let facility = root.get("facility").and_then(Json::as_str).unwrap_or_default().to_owned();
        let mut names: HashMap<String, Vec<(&str, String)>> = HashMap::new();
        for rules in &self.entries {
            for focus in self.foci(rules, &tree, &root, settings.definitions, &mut issues) {
                let mut parts = vec!["hl7v2".to_owned(), facility.clone(), rules.resource.clone()];
                for key in &rules.key {
                    let values = key.values(&focus, settings.definitions);
                    let values =
                        values.unwrap_or_else(|error| broken(&error.to_string(), &mut issues));
                    parts
                        .extend(values.first().and_then(|value| value.as_str().map(str::to_owned)));
                }
                // With a part of its key missing, one resource could stand for two things.
                if parts.len() != 3 + rules.key.len() {
                    continue;
                }
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                let url = format!("{}/{}", rules.resource, identity::resource_id(&parts));
                names.entry(place(&focus)).or_default().push((&rules.name, url));
            }
        }
        write_names(&mut tree, &names);
        self.inherit(&mut tree);
        let root = self.root(&tree, settings.definitions, &mut issues);
        let mut entries: Vec<Entry> = Vec::new();
        let mut made: HashSet<String> = HashSet::new();
        for rules in &self.entries {
            for focus in self.foci(rules, &tree, &root, settings.definitions, &mut issues) {
                let Some(url) = focus.str_at(&[&rules.name]).map(str::to_owned) else { continue };
                if !made.insert(url.clone()) {
                    continue;
                }
                let entry = self.entry(rules, url, &focus, &root, settings, &mut issues);
                entries.extend(entry);
            }
        }
        self.count(message, !entries.is_empty(), &mut report);
        if settings.provenance && !entries.is_empty() {
            entries.push(self.provenance(&entries, &root, settings));
        }
        for entry in &entries {
            report.made(entry.resource.str_at(&["resourceType"]).unwrap_or_default());
        }
        issues.into_iter().for_each(|issue| report.issue(issue));
        Mapped { entries, report }
    }

    /// Which message the resources come from, by which software and tables.
    fn provenance(&self, entries: &[Entry], root: &Object, settings: &Settings<'_>) -> Entry {
        let text = |name: &str| root.get(name).and_then(Json::as_str).unwrap_or_default();
        let id = identity::resource_id(&["hl7v2", text("facility"), "Provenance", text("control")]);
        let software = format!("{}, mapping hl7v2 {}", settings.software, self.version);
        let message = format!("{}/Id/hl7v2/{}/message", settings.base, text("facility"));
        let what = json!({"identifier": {"system": (message), "value": (text("control"))}});
        // The sender's own time, so that the same message gives the same resource again.
        let is_instant = DateTime::parse(text("sent"))
            .is_some_and(|sent| sent.offset.is_some() && sent.precision >= Precision::Second);
        let recorded = if is_instant { text("sent") } else { &settings.now };
        provenance(&id, entries, recorded, &software, what, settings)
    }

    fn count(&self, message: &Message, is_used: bool, report: &mut Report) {
        for segment in &message.segments {
            report.came_in(&segment.name);
            let mut is_mapped = false;
            for number in 1..=segment.fields.len() {
                if segment.field(number).is_none() {
                    continue;
                }
                let column = format!("{}-{number}", segment.name);
                let field = self.fields.get(&column);
                match field.map(|field| (field.disposition.as_str(), field.comment.as_str())) {
                    Some(("mapped", _)) => is_mapped = true,
                    Some(("carried", comment)) => {
                        report.carried_cell(&segment.name, &column, comment);
                    }
                    Some(_) => {}
                    None => report.carried_cell(&segment.name, &column, "The field is not known."),
                }
            }
            let outcome = match (is_used, is_mapped) {
                (false, _) => Outcome::Refused,
                (true, true) => Outcome::Mapped,
                (true, false) => Outcome::Carried,
            };
            report.became(&segment.name, &outcome);
        }
    }

    /// Adds what a field's type says: `time` of a time, `nhs` or `unverified` of a patient's number.
    /// A SNOMED CT code that fails its check is taken out of a coded value, its words stay.
    fn read_types(&self, tree: &mut Json, zone: &TimeZone, issues: &mut Vec<Issue>) {
        each_segment(tree, &mut |name, segment| {
            for (field, value) in segment.iter_mut() {
                let Some(number) = field.strip_prefix('f') else { continue };
                let Json::Array(repetitions) = value else { continue };
                match self.fields.get(&format!("{name}-{number}")).map(|field| field.kind.as_str())
                {
                    Some("TS") => repetitions.iter_mut().for_each(|r| value::time(r, zone, issues)),
                    Some("CX") => {
                        repetitions.iter_mut().for_each(|r| value::patient_number(r, issues))
                    }
                    Some("CE") => repetitions.iter_mut().for_each(|r| value::snomed(r, issues)),
                    _ => {}
                }
            }
        });
    }

    /// Gives a segment inside another a member `of`: the outer one's references and the short
    /// values that `inherit` names.
    fn inherit(&self, tree: &mut Json) {
        each_segment(tree, &mut |name, segment| {
            let mut of = Object::new();
            for (member, value) in segment.iter() {
                let is_inherited =
                    self.inherit.iter().any(|(of, field)| of == name && field == member);
                match value {
                    Json::String(_) | Json::Number(_) => of.set(member, value),
                    Json::Array(repetitions) if is_inherited => {
                        let first = repetitions.first().and_then(Json::as_object);
                        let short =
                            first.iter().flat_map(|first| first.iter()).filter(|(_, value)| {
                                value.as_str().is_some_and(|text| text.len() <= MAX_INHERITED)
                            });
                        let short: Object =
                            short.map(|(name, value)| (name.into(), value.clone())).collect();
                        of.set(member, vec![Json::Object(short)]);
                    }
                    _ => {}
                }
            }
            for (member, value) in segment.iter_mut() {
                let Json::Array(children) = value else { continue };
                if super::is_name(member) {
                    children.iter_mut().for_each(|child| child.set("of", of.clone()));
                }
            }
        });
    }

    fn root(&self, tree: &Json, definitions: &Definitions, issues: &mut Vec<Issue>) -> Object {
        let mut root = Object::new();
        for (name, expression) in &self.root {
            let values = expression.values(tree, definitions);
            let values = values.unwrap_or_else(|error| broken(&error.to_string(), issues));
            if let Some(value) = values.first() {
                root.set(name, value.as_ref());
            }
        }
        root
    }

    /// The nodes that an entry is made over, each with `root` added.
    fn foci(
        &self,
        rules: &EntryRules,
        tree: &Json,
        root: &Object,
        definitions: &Definitions,
        issues: &mut Vec<Issue>,
    ) -> Vec<Json> {
        let nodes = rules.each.values(tree, definitions);
        let nodes = nodes.unwrap_or_else(|error| broken(&error.to_string(), issues));
        let mut foci = Vec::new();
        for node in nodes {
            let mut focus = node.into_owned();
            focus.set("root", root.clone());
            let holds = match &rules.when {
                None => true,
                Some(when) => match when.holds(&focus, definitions) {
                    Ok(holds) => holds,
                    Err(error) => broken::<bool>(&error.to_string(), issues).contains(&true),
                },
            };
            if holds {
                foci.push(focus);
            }
        }
        foci
    }

    fn entry(
        &self,
        rules: &EntryRules,
        url: String,
        focus: &Json,
        root: &Object,
        settings: &Settings<'_>,
        issues: &mut Vec<Issue>,
    ) -> Option<Entry> {
        let control = root.get("control").and_then(Json::as_str).unwrap_or_default();
        let mut meta = json!({"source": (format!("{}/message/{control}", settings.base))});
        // A message for training or debugging must be known as such wherever its resources go.
        if let Some(code) = root.get("processing") {
            let system = "http://terminology.hl7.org/CodeSystem/v2-0103";
            meta.set("tag", json!([{"system": (system), "code": (code)}]));
        }
        let mut start = Object::new();
        start.set("resourceType", rules.resource.as_str());
        start.set("id", url.split_once('/').map_or("", |(_, id)| id));
        start.set("meta", meta);
        let filler = Filler { mapping: self, settings };
        match filler.fill(&rules.rules, focus, start, issues) {
            Ok(resource) => {
                let mut resource = Json::Object(resource);
                rules.profiles.name_in(&mut resource);
                let full_url = format!("{}/{url}", settings.base);
                Some(Entry { full_url, url, resource, withdrawn: false })
            }
            Err(path) => {
                let text = format!("No {} was made, because {path} has no value.", rules.resource);
                let at = focus.str_at(&["at"]).unwrap_or_default();
                let issue = Issue::error(IssueType::Required, text);
                issues.push(issue.located(Locator::Segment(at.to_owned())));
                None
            }
        }
    }
}

/// Says that a rule failed; nothing comes of it.
fn broken<T>(error: &str, issues: &mut Vec<Issue>) -> Vec<T> {
    let text = format!("A mapping rule could not be evaluated: {error}");
    if !issues.iter().any(|issue| issue.text == text) {
        issues.push(Issue::error(IssueType::Exception, text).detail("BPA-MAP-001"));
    }
    Vec::new()
}

/// The name of a node in its message.
fn place(node: &Json) -> String {
    let repetition = node.get("repetition").and_then(Json::as_number).unwrap_or_default();
    format!("{}#{repetition}", node.str_at(&["at"]).unwrap_or_default())
}

fn write_names(node: &mut Json, names: &HashMap<String, Vec<(&str, String)>>) {
    match node {
        Json::Object(_) => {
            for (name, url) in names.get(&place(node)).into_iter().flatten() {
                node.set(name, url.as_str());
            }
            if let Some(object) = node.as_object_mut() {
                object.iter_mut().for_each(|(_, member)| write_names(member, names));
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| write_names(item, names)),
        _ => {}
    }
}

/// Calls `visit` with every segment, outer ones first; nesting is bounded by the groups.
fn each_segment(tree: &mut Json, visit: &mut impl FnMut(&str, &mut Object)) {
    let Some(object) = tree.as_object_mut() else { return };
    for (name, value) in object.iter_mut().filter(|(name, _)| super::is_name(name)) {
        let Json::Array(segments) = value else { continue };
        for segment in segments {
            if let Some(segment) = segment.as_object_mut() {
                visit(name, segment);
            }
            each_segment(segment, visit);
        }
    }
}
