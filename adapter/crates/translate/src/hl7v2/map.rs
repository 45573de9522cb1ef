//! Messages to resources, by tables: <https://build.fhir.org/ig/HL7/v2-to-fhir/mapping_guidelines.html>.
//!
//! `mapping.json` says for each resource over which nodes of the message's tree it is made, from
//! which values its id comes and which table fills it. Ids are found first and written into the
//! tree, so a table refers to another resource by a path: `PID.patient` is the reference of the
//! Patient made from PID. Every field has a line in `segments.csv` that says what becomes of it.
//! Updates by null (`""`) are left to the caller: the tree shows them, the tables do not.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::tz::TimeZone;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::{Issue, IssueType, Json, Locator, Object, json};

use super::tree::{Groups, tree};
use super::{Message, read_time};
use crate::local_time::Oddity;
use crate::mapping::codes::Codes;
use crate::mapping::convert::Convert;
use crate::mapping::expression::Compiled;
use crate::mapping::rule::Rules;
use crate::mapping::target::Tree;
use crate::mapping::{Entry, MappingError, Settings, Source};
use crate::record::lines;
use crate::report::{Outcome, Report};
use crate::{identity, text};

/// Longest value of an outer segment that is repeated in the segments inside it; a longer one is
/// read where it stands.
const MAX_INHERITED: usize = 64;

/// The mapping of messages, parsed once.
#[derive(Debug)]
pub struct Mapping {
    /// Version of the mapping, for Provenance.
    pub version: String,
    groups: Vec<(String, String)>,
    inherit: Vec<(String, String)>,
    root: Vec<(String, Compiled)>,
    entries: Vec<EntryRules>,
    parts: BTreeMap<String, Rules>,
    codes: Codes,
    fields: HashMap<String, Field>,
}

#[derive(Debug)]
struct EntryRules {
    /// Member of a node that holds the reference of the resource made from it.
    name: String,
    resource: String,
    each: Compiled,
    when: Option<Compiled>,
    key: Vec<Compiled>,
    profile: String,
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
        for (name, value) in json.get("root").and_then(Json::as_object).iter().flat_map(|o| o.iter()) {
            root.push((name.to_owned(), expression(value.as_str().unwrap_or_default())?));
        }
        let mut entries = Vec::new();
        for entry in json.list("entries") {
            let optional = |name: &str| entry.str_at(&[name]);
            let member = |name: &str| {
                optional(name).ok_or_else(|| MappingError::Member(format!("an entry has no {name}")))
            };
            let key = entry.list("key").iter().filter_map(Json::as_str).map(expression);
            entries.push(EntryRules {
                name: member("name")?.to_owned(),
                resource: member("resource")?.to_owned(),
                each: expression(member("each")?)?,
                when: optional("when").map(expression).transpose()?,
                key: key.collect::<Result<_, _>>()?,
                profile: optional("profile").unwrap_or_default().to_owned(),
                rules: rules(source, &codes, member("rules")?)?,
            });
        }
        let version = json.str_at(&["version"]).unwrap_or_default().to_owned();
        let (groups, inherit) = (pairs("groups"), pairs("inherit"));
        let mapping = Mapping { version, groups, inherit, root, entries, parts, codes, fields };
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

    /// Maps a message. A resource without a value that its table requires is not made, with an
    /// error.
    pub fn map(&self, message: &Message, settings: &Settings<'_>) -> Mapped {
        let mut report = Report::new("hl7v2");
        let groups: Vec<(&str, &str)> =
            self.groups.iter().map(|(of, name)| (of.as_str(), name.as_str())).collect();
        let (mut tree, mut issues) = tree(message, Groups(&groups));
        self.count(message, &mut report);
        self.read_types(&mut tree, &settings.zone, &mut issues);
        tree.set("at", "message");
        self.inherit(&mut tree);
        let root = self.root(&tree, settings.definitions, &mut issues);
        let facility = root.get("facility").and_then(Json::as_str).unwrap_or_default().to_owned();
        let mut names: HashMap<String, Vec<(&str, String)>> = HashMap::new();
        for rules in &self.entries {
            for focus in self.foci(rules, &tree, &root, settings.definitions, &mut issues) {
                let mut parts = vec!["hl7v2".to_owned(), facility.clone(), rules.resource.clone()];
                for key in &rules.key {
                    let values = key.values(&focus, settings.definitions);
                    let values = values.unwrap_or_else(|error| broken(&error.to_string(), &mut issues));
                    parts.extend(values.iter().filter_map(|value| value.as_str().map(str::to_owned)));
                }
                if parts.len() == 3 {
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
        for rules in &self.entries {
            for focus in self.foci(rules, &tree, &root, settings.definitions, &mut issues) {
                let Some(url) = focus.str_at(&[&rules.name]).map(str::to_owned) else { continue };
                if entries.iter().any(|entry| entry.url == url) {
                    continue;
                }
                let entry = self.entry(rules, url, &focus, &root, settings, &mut issues);
                entries.extend(entry);
            }
        }
        for entry in &entries {
            report.made(entry.resource.str_at(&["resourceType"]).unwrap_or_default());
        }
        issues.into_iter().for_each(|issue| report.issue(issue));
        Mapped { entries, report }
    }

    fn count(&self, message: &Message, report: &mut Report) {
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
            let outcome = if is_mapped { Outcome::Mapped } else { Outcome::Carried };
            report.became(&segment.name, &outcome);
        }
    }

    /// Adds what a field's type says: `time` of a time, `nhs` or `unverified` of a patient's number.
    fn read_types(&self, tree: &mut Json, zone: &TimeZone, issues: &mut Vec<Issue>) {
        each_segment(tree, &mut |name, segment| {
            for (field, value) in segment.iter_mut() {
                let Some(number) = field.strip_prefix('f') else { continue };
                let Json::Array(repetitions) = value else { continue };
                match self.fields.get(&format!("{name}-{number}")).map(|field| field.kind.as_str()) {
                    Some("TS") => repetitions.iter_mut().for_each(|r| time(r, zone, issues)),
                    Some("CX") => repetitions.iter_mut().for_each(|r| patient_number(r, issues)),
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
                    Json::String(_) => of.set(member, value),
                    Json::Array(repetitions) if is_inherited => {
                        let first = repetitions.first().and_then(Json::as_object);
                        let short = first.iter().flat_map(|first| first.iter()).filter(|(_, value)| {
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
        if !rules.profile.is_empty() {
            meta.set("profile", json!([(&rules.profile)]));
        }
        let mut start = Object::new();
        start.set("resourceType", rules.resource.as_str());
        start.set("id", url.split_once('/').map_or("", |(_, id)| id));
        start.set("meta", meta);
        let filler = Filler { mapping: self, settings };
        match filler.fill(&rules.rules, focus, start, issues) {
            Ok(resource) => Some(Entry {
                full_url: format!("{}/{url}", settings.base),
                url,
                resource: Json::Object(resource),
                withdrawn: false,
            }),
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

struct Filler<'a> {
    mapping: &'a Mapping,
    settings: &'a Settings<'a>,
}

impl Filler<'_> {
    /// Fills an object by a table over a node; the path that is required and has no value is the
    /// error.
    fn fill(
        &self,
        rules: &Rules,
        focus: &Json,
        start: Object,
        issues: &mut Vec<Issue>,
    ) -> Result<Object, String> {
        let mut tree = Tree::new(start, rules.slots);
        let definitions = self.settings.definitions;
        for deferred in [false, true] {
            for rule in rules.rules.iter().filter(|rule| rule.deferred == deferred) {
                let times = match (deferred, rule.target.slot) {
                    (true, Some(slot)) => tree.count(slot),
                    _ => 1,
                };
                let holds = rule.condition.as_ref().map_or(Ok(true), |when| when.holds(focus, definitions));
                let values = holds.and_then(|holds| {
                    if holds && times > 0 { rule.value.values(focus, definitions) } else { Ok(Vec::new()) }
                });
                let values = values
                    .unwrap_or_else(|error| broken(&format!("{}: {error}", rule.path), issues));
                let mut written = 0;
                for value in &values {
                    for value in self.convert(&rule.convert, value, focus, issues) {
                        if deferred {
                            (0..times).for_each(|at| tree.write(&rule.target, at, value.clone()));
                        } else {
                            tree.write(&rule.target, written, value);
                        }
                        written += 1;
                    }
                    if written > 0 && !rule.target.repeats() {
                        break;
                    }
                }
                if written == 0 && rule.required {
                    return Err(rule.path.clone());
                }
            }
        }
        Ok(tree.into_object())
    }

    fn convert(
        &self,
        convert: &Convert,
        value: &Json,
        focus: &Json,
        issues: &mut Vec<Issue>,
    ) -> Vec<Json> {
        let plain = || match value {
            Json::String(text) => text.to_string(),
            Json::Number(digits) => digits.to_string(),
            other => other.to_string(),
        };
        match convert {
            Convert::Text => vec![plain().into()],
            Convert::Url => vec![format!("{}/{}", self.settings.base, plain()).into()],
            Convert::Map(map) | Convert::TryMap(map) | Convert::Coding(map) => {
                let text = plain();
                match (self.mapping.codes.translate(map, &text), convert) {
                    (Some(found), Convert::Coding(_)) => vec![found.coding()],
                    (Some(found), _) => vec![found.code.as_str().into()],
                    (None, Convert::TryMap(_)) => Vec::new(),
                    (None, _) => {
                        let sentence = format!("This text stands for no code of the map \"{map}\".");
                        let issue = Issue::information(IssueType::CodeInvalid, sentence);
                        let at = focus.str_at(&["at"]).unwrap_or_default().to_owned();
                        let issue = issue.detail("BPA-CODE-001").value(text);
                        issues.push(issue.located(Locator::Segment(at)));
                        Vec::new()
                    }
                }
            }
            Convert::Postcode => vec![text::postcode(&plain()).into()],
            Convert::Words => plain().split_whitespace().map(Json::from).collect(),
            Convert::Part(name) => {
                let Some(rules) = self.mapping.parts.get(name) else { return Vec::new() };
                match self.fill(rules, value, Object::new(), issues) {
                    Ok(object) if !object.is_empty() => vec![Json::Object(object)],
                    _ => Vec::new(),
                }
            }
            // The types of row formats are refused when the mapping is read.
            _ => vec![value.clone()],
        }
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

fn time(repetition: &mut Json, zone: &TimeZone, issues: &mut Vec<Issue>) {
    let Some(text) = repetition.str_at(&["c1"]).map(str::to_owned) else { return };
    let at = Locator::Segment(repetition.str_at(&["at"]).unwrap_or_default().to_owned());
    let Some(moment) = read_time(&text, zone) else {
        let sentence = "The time cannot be read; the element is left out.";
        let issue = Issue::warning(IssueType::Value, sentence).detail("BPA-TIME-001").value(text);
        issues.push(issue.located(at));
        return;
    };
    if moment.is_zone_assumed || moment.is_cut {
        let sentence = if moment.is_cut {
            "An hour without minutes has no place in FHIR; the day is kept."
        } else {
            "The time has no offset; that of the connection's zone is taken."
        };
        let issue = Issue::information(IssueType::Value, sentence).detail("BPA-TIME-002");
        issues.push(issue.located(at.clone()));
    }
    if let Some(oddity) = moment.oddity {
        let sentence = match oddity {
            Oddity::Gap => "The time was skipped when clocks went forward; it is read one hour later.",
            Oddity::Overlap => "The time came twice when clocks went back; the first one is taken.",
        };
        let issue = Issue::warning(IssueType::Value, sentence).detail("BPA-TIME-003");
        issues.push(issue.located(at));
    }
    repetition.set("time", moment.text);
}

/// Which of a patient's identifiers is the NHS number: ten digits under one of the names that are
/// in use for its authority or type.
fn patient_number(repetition: &mut Json, issues: &mut Vec<Issue>) {
    const NAMES: [&str; 5] = ["NHS", "NHSNBR", "NH", "NHSNMBR", "2.16.840.1.113883.2.1.4.1"];
    let named = ["c4", "c4s2", "c5"]
        .iter()
        .any(|part| repetition.str_at(&[part]).is_some_and(|name| NAMES.contains(&name)));
    let Some(text) = repetition.str_at(&["c1"]).filter(|_| named).map(str::to_owned) else { return };
    match identity::nhs_number(&text) {
        Some(number) => repetition.set("nhs", number),
        None => {
            let sentence = "The NHS number fails its check; the person is not matched by it.";
            let at = repetition.str_at(&["at"]).unwrap_or_default().to_owned();
            let issue = Issue::error(IssueType::Value, sentence).detail("BPA-ID-001").value(&text);
            issues.push(issue.located(Locator::Segment(at)));
            repetition.set("unverified", text);
        }
    }
}

#[cfg(test)]
mod tests;
