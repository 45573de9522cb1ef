//! Snapshots against HL7's own: made from the published differentials and compared element by
//! element. What differs stands, with its reason, in `fixtures/validator/snapshot-exceptions.tsv`.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::{env, fs};

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::{Issue, Json, snapshot};

fn unzipped(path: &Path) -> Json {
    let output = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
    assert!(output.status.success(), "{}: gzip failed", path.display());
    Json::parse(&output.stdout).unwrap()
}

/// The StructureDefinitions of a file or folder below the shared FHIR data.
fn definitions(shared: &Path, place: &str) -> Vec<Json> {
    let path = shared.join("fhir").join(place);
    let mut found = Vec::new();
    if path.is_dir() {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        found.extend(files.iter().map(|file| Json::parse(&fs::read(file).unwrap()).unwrap()));
    } else {
        let bundle = unzipped(&path);
        found.extend(bundle.list("entry").iter().filter_map(|e| e.get("resource")).cloned());
    }
    found.retain(|found| found.str_at(&["resourceType"]) == Some("StructureDefinition"));
    found
}

fn url(definition: &Json) -> &str {
    definition.str_at(&["url"]).unwrap()
}

/// Definitions with snapshots by url; those without one get it at first use.
#[derive(Default)]
struct Known {
    all: RefCell<HashMap<String, Arc<Json>>>,
    open: RefCell<HashSet<String>>,
}

impl Known {
    fn add(&self, definitions: &[Json]) {
        let mut all = self.all.borrow_mut();
        for definition in definitions {
            all.entry(url(definition).to_owned()).or_insert_with(|| Arc::new(definition.clone()));
        }
    }

    fn find(&self, canonical: &str) -> Option<Arc<Json>> {
        let url = canonical.split('|').next()?;
        let found = self.all.borrow().get(url).cloned()?;
        if found.get("snapshot").is_some() {
            return Some(found);
        }
        if !self.open.borrow_mut().insert(url.to_owned()) {
            return None;
        }
        let made = snapshot::generate(&found, &|canonical| self.find(canonical)).ok().map(Arc::new);
        self.open.borrow_mut().remove(url);
        self.all.borrow_mut().insert(url.to_owned(), made.clone()?);
        made
    }

    fn generate(&self, definition: &Json) -> Result<Json, Vec<Issue>> {
        snapshot::generate(definition, &|canonical| self.find(canonical))
    }
}

/// Prose and the links of a guide's pages, which no validation reads.
const PROSE: [&str; 13] = [
    "short",
    "definition",
    "comment",
    "requirements",
    "label",
    "alias",
    "mapping",
    "meaningWhenMissing",
    "isModifierReason",
    "extension",
    "example",
    "orderMeaning",
    "condition",
];

fn elements(definition: &Json) -> BTreeMap<&str, &Json> {
    let list = definition.get("snapshot").map_or(&[][..], |snapshot| snapshot.list("element"));
    list.iter().map(|element| (element.str_at(&["id"]).unwrap(), element)).collect()
}

/// Of an extension, the slicing by url is there whether it is stated or not.
const BY_URL: &str = r#"{"{\"type\":\"value\",\"path\":\"url\"}"} false open"#;
/// Extensions of a binding that are rules.
const OF_BINDING: [&str; 2] = ["elementdefinition-maxValueSet", "elementdefinition-minValueSet"];

/// A member in a form in which two that say the same are equal. What is not named here is compared
/// to the letter.
fn form(element: &Json, name: &str) -> String {
    let path = element.str_at(&["path"]).unwrap_or_default();
    let last = path.rsplit('.').next().unwrap_or_default();
    match (name, element.get(name)) {
        // A flag that is not there is not set: https://hl7.org/fhir/R4/elementdefinition.html.
        ("isModifier" | "isSummary" | "mustSupport", None) => "false".to_owned(),
        // Discriminators count together, in any order; without `ordered` it is false; a description
        // is prose.
        ("slicing", slicing) => {
            let Some(slicing) = slicing else { return String::new() };
            let list: BTreeSet<String> =
                slicing.list("discriminator").iter().map(Json::to_string).collect();
            let ordered = slicing.get("ordered").and_then(Json::as_bool) == Some(true);
            let rules = slicing.str_at(&["rules"]).unwrap_or_default();
            let text = format!("{list:?} {ordered} {rules}");
            match last {
                "extension" | "modifierExtension" => text.replace(BY_URL, ""),
                _ => text,
            }
        }
        // The description is prose, as are extensions but those that bound the set.
        ("binding", Some(binding)) => {
            let part = |name| binding.str_at(&[name]).unwrap_or_default().to_owned();
            let bounds = binding.list("extension").iter().filter(|extension| {
                let url = extension.str_at(&["url"]).unwrap_or_default();
                OF_BINDING.iter().any(|name| url.ends_with(name))
            });
            let bounds: Vec<String> = bounds.map(Json::to_string).collect();
            format!("{} {} {}", part("strength"), part("valueSet"), bounds.join(" "))
        }
        // Invariants hold together, in any order; what a person reads, the XPath and where one was
        // first stated are no rules.
        ("constraint", Some(constraint)) => {
            let list: BTreeSet<String> = constraint
                .as_array()
                .unwrap()
                .iter()
                .map(|item| {
                    let part = |name| item.str_at(&[name]).unwrap_or_default().to_owned();
                    format!("{} {} {}", part("key"), part("severity"), part("expression"))
                })
                .collect();
            format!("{list:?}")
        }
        // Later publishers write the url of the definition before it, which is its own.
        ("contentReference", Some(reference)) => {
            reference.as_str().and_then(|text| text.rsplit('#').next()).unwrap_or_default().into()
        }
        // Lists without an order. A mapping to nothing says nothing, and `ele-1` holds everywhere.
        ("mapping" | "condition", Some(list)) => {
            let items = list.as_array().unwrap().iter();
            let says = items.filter(|item| {
                let map = item.str_at(&["map"]).unwrap_or_default();
                !map.eq_ignore_ascii_case("n/a") && item.as_str() != Some("ele-1")
            });
            let says: BTreeSet<String> = says.map(Json::to_string).collect();
            says.into_iter().collect()
        }
        // Later publishers say that an element's id is an `id`; in R4 it is a `string`.
        ("type", Some(types)) if last == "id" => {
            types.to_string().replace(r#""valueUrl":"id""#, r#""valueUrl":"string""#)
        }
        // What the publisher calls an extension that nothing else is said of; ends of lines; and
        // links to pages of the standard, which later publishers make absolute.
        (_, Some(value)) if PROSE.contains(&name) => value
            .to_string()
            .replace("\"An Extension\"", "\"Optional Extension Element - found in all resources.\"")
            .replace("\"Extension\"", "\"Optional Extensions Element\"")
            .replace("\\r\\n", "\\n")
            .replace("](http://hl7.org/fhir/R4/", "](")
            .replace("](http://hl7.org/fhir/", "]("),
        (_, Some(value)) => value.to_string(),
        (_, None) => String::new(),
    }
}

/// What differs: element id, member, official, ours.
fn differences(official: &Json, made: &Json) -> Vec<[String; 4]> {
    let (official, made) = (elements(official), elements(made));
    let mut found = Vec::new();
    for (id, theirs) in &official {
        let Some(ours) = made.get(id) else {
            found.push([id.to_string(), "(missing)".into(), String::new(), String::new()]);
            continue;
        };
        let members = |json: &Json| -> BTreeSet<String> {
            json.as_object().unwrap().iter().map(|(name, _)| name.to_owned()).collect()
        };
        for name in &members(theirs) | &members(ours) {
            let (theirs, ours) = (form(theirs, &name), form(ours, &name));
            if theirs != ours {
                found.push([id.to_string(), name, theirs, ours]);
            }
        }
    }
    for id in made.keys().filter(|id| !official.contains_key(*id)) {
        found.push([id.to_string(), "(extra)".into(), String::new(), String::new()]);
    }
    found
}

/// What differs, held against the reviewed list.
#[derive(Default)]
struct Report {
    /// How many elements differ, by definition and member.
    counts: BTreeMap<(String, String), usize>,
    lines: String,
}

impl Report {
    fn add(&mut self, made_from: &str, url: &str, [id, member, theirs, ours]: [String; 4]) {
        let _ = writeln!(self.lines, "{made_from}\t{url}\t{id}\t{member}\t{theirs}\t{ours}");
        *self.counts.entry((url.to_owned(), member)).or_default() += 1;
    }

    /// The list may only shrink: a line that is no longer true fails, too. `SNAPSHOT_REPORT` names
    /// a file for all differences.
    fn check(&self, made_from: &str) {
        if let Some(path) = env::var_os("SNAPSHOT_REPORT") {
            fs::write(Path::new(&path).with_extension(made_from), &self.lines).unwrap();
        }
        let listed = lumbar_testkit::fixtures().join("validator/snapshot-exceptions.tsv");
        let listed = fs::read_to_string(listed).unwrap();
        let mut known = BTreeMap::new();
        for line in listed.lines().skip(1) {
            let fields: Vec<&str> = line.split('\t').collect();
            let [from, url, member, count, reason] = fields[..] else {
                panic!("not a row: {line}")
            };
            assert!(!reason.is_empty(), "{line}");
            if from == made_from {
                known.insert((url.to_owned(), member.to_owned()), count.parse::<usize>().unwrap());
            }
        }
        let mut wrong = Vec::new();
        for key in known.keys().chain(self.counts.keys()).collect::<BTreeSet<_>>() {
            let (listed, found) = (known.get(key), self.counts.get(key));
            if listed != found {
                wrong.push(format!("{} {}: listed {listed:?}, found {found:?}", key.0, key.1));
            }
        }
        assert!(wrong.is_empty(), "snapshot-exceptions.tsv:\n{}", wrong.join("\n"));
    }
}

#[test]
fn snapshots_equal_the_published_ones() {
    let Some(shared) = lumbar_testkit::shared() else { return };
    let known = Known::default();
    let mut published = Vec::new();
    for place in [
        "r4-core/profiles-types.json.gz",
        "r4-core/profiles-resources.json.gz",
        "r4-core/profiles-others.json.gz",
        "r4-core/extension-definitions.json.gz",
        "sdc/StructureDefinition",
        "sdc/extensions-r4-questionnaire.bundle.json.gz",
    ] {
        let definitions = definitions(&shared, place);
        known.add(&definitions);
        published.push((place, definitions));
    }
    let mut report = Report::default();
    for (place, definitions) in &published {
        let (mut all, mut equal, mut equal_facts) = (0, 0, 0);
        let (mut elements_all, mut elements_differ, mut facts_differ) = (0, 0, 0);
        for definition in definitions {
            if definition.str_at(&["baseDefinition"]).is_none() {
                continue;
            }
            all += 1;
            let url = url(definition);
            elements_all += elements(definition).len();
            let mut bare = definition.clone();
            bare.as_object_mut().unwrap().remove("snapshot");
            let made = match known.generate(&bare) {
                Ok(made) => made,
                Err(issues) => {
                    for issue in issues {
                        let at = issue.expression.unwrap_or_default();
                        report.add(
                            "differential",
                            url,
                            [at, "(issue)".into(), issue.text, String::new()],
                        );
                    }
                    continue;
                }
            };
            let found = differences(definition, &made);
            let facts: Vec<&[String; 4]> =
                found.iter().filter(|[_, name, ..]| !PROSE.contains(&name.as_str())).collect();
            equal += usize::from(found.is_empty());
            equal_facts += usize::from(facts.is_empty());
            let ids = |list: &mut dyn Iterator<Item = &[String; 4]>| -> usize {
                list.map(|[id, ..]| id).collect::<BTreeSet<_>>().len()
            };
            elements_differ += ids(&mut found.iter());
            facts_differ += ids(&mut facts.iter().copied());
            for difference in found {
                report.add("differential", url, difference);
            }
        }
        println!(
            "{place}: {all} definitions, {equal} equal, {equal_facts} equal in facts; \
             {elements_all} elements, {elements_differ} differ, {facts_differ} in facts"
        );
    }
    report.check("differential");
}

#[test]
fn profiles_without_snapshots_get_one() {
    let Some(shared) = lumbar_testkit::shared() else { return };
    let known = Known::default();
    let r4 = Definitions::r4();
    let types: Vec<Json> =
        r4.types().filter_map(|kind| snapshot::of_type(&r4, kind.name)).collect();
    known.add(&types);
    known.add(&definitions(&shared, "r4-core/extension-definitions.json.gz"));
    let mut failed = Vec::new();
    let places = ["ukcore/structuredefinitions", "bars/simplifier/StructureDefinition"];
    let definitions: Vec<Json> =
        places.iter().flat_map(|place| definitions(&shared, place)).collect();
    known.add(&definitions);
    for definition in &definitions {
        if let Err(issues) = known.generate(definition) {
            failed.extend(issues.iter().map(|issue| {
                format!("{}: {:?} {}", url(definition), issue.expression, issue.text)
            }));
        }
    }
    println!("{} definitions", definitions.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Takes the invariants out that `corrections.tsv` states otherwise than they were published; that
/// they are used is tested with the definitions.
fn without_corrected(definition: &mut Json) {
    let table = lumbar_testkit::root().join("profiles/r4/corrections.tsv");
    let table = fs::read_to_string(table).unwrap();
    let keys: BTreeSet<&str> =
        table.lines().skip(1).filter_map(|row| row.split('\t').nth(1)).collect();
    let elements = definition.get_mut("snapshot").and_then(|found| found.get_mut("element"));
    let Some(Json::Array(elements)) = elements else { return };
    for element in elements {
        if let Some(Json::Array(list)) = element.get_mut("constraint") {
            list.retain(|item| !item.str_at(&["key"]).is_some_and(|key| keys.contains(key)));
        }
    }
}

#[test]
fn the_types_are_what_the_tables_hold() {
    let Some(shared) = lumbar_testkit::shared() else { return };
    let r4 = Definitions::r4();
    let mut report = Report::default();
    for place in ["r4-core/profiles-types.json.gz", "r4-core/profiles-resources.json.gz"] {
        for mut official in definitions(&shared, place) {
            if official.str_at(&["derivation"]) == Some("constraint") {
                continue;
            }
            let mut made = snapshot::of_type(&r4, official.str_at(&["name"]).unwrap()).unwrap();
            without_corrected(&mut official);
            without_corrected(&mut made);
            for difference in differences(&official, &made) {
                // `representation` and `hierarchy` are not in the tables, and prose is not.
                let [_, member, theirs, _] = &difference;
                let hierarchy = theirs.contains("structuredefinition-hierarchy");
                if member != "representation" && !hierarchy && !PROSE.contains(&member.as_str()) {
                    report.add("tables", url(&official), difference);
                }
            }
        }
    }
    report.check("tables");
}
