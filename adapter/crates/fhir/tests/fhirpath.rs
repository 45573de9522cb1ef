//! The official FHIRPath suite for R4 and our own cases.

#![expect(clippy::panic, reason = "a test that cannot read its cases has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use lumbar_fhir::Json;
use lumbar_fhir::definitions::{Definitions, Element, Type};
use lumbar_fhir::path::{Context, Expression, PathError, Value, truth};

const NOW: &str = "2026-03-02T10:42:00.000Z";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn shared() -> Option<PathBuf> {
    let path = env::var_os("LUMBAR_SHARED").map_or(root().join("../shared"), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    println!("skipped: the shared reference data are not there");
    None
}

fn json(path: &Path) -> Json {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Json::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn evaluate<'a>(
    definitions: &'a Definitions,
    expression: &'a Expression,
    resource: Option<&'a Json>,
) -> Result<Vec<Value<'a>>, PathError> {
    let focus: Vec<Value> = resource.into_iter().map(Value::node).collect();
    let context =
        Context { resource: focus.first().cloned(), now: Some(NOW), ..Context::new(definitions) };
    expression.evaluate(&context, &focus)
}

/// The text that the suite has for an item: `@` before dates, quantities with their unit.
fn text(value: &Value) -> String {
    match value.to_system() {
        Value::String(text) => text.into_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Decimal(value) => value.to_string(),
        Value::Date(date) | Value::DateTime(date) => format!("@{date}"),
        Value::Time(time) => format!("@T{}", time.time_text()),
        Value::Quantity(quantity) => format!("{} '{}'", quantity.value, quantity.unit),
        other => other.to_json().to_string(),
    }
}

/// Why the case fails, if it does.
fn fault(case: &Json, definitions: &Definitions, inputs: &Path) -> Option<String> {
    let input = case.str_at(&["input"]).map(|name| json(&inputs.join(name)));
    let parsed = Expression::parse(case.str_at(&["expression"]).unwrap_or_default());
    let focus = input.as_ref().and_then(|json| json.str_at(&["resourceType"]));
    let checked = parsed.as_ref().map_err(Clone::clone).and_then(|parsed| {
        parsed.check(definitions, focus)?;
        Ok(parsed)
    });
    // A fault of syntax shows when the expression is read, one of meaning before there are data.
    let must_fail = match case.str_at(&["invalid"]) {
        Some("syntax") if parsed.is_ok() => return Some("is read".to_string()),
        Some("semantic") if checked.is_ok() => return Some("passes the check".to_string()),
        invalid => invalid.is_some(),
    };
    let result = checked.and_then(|parsed| evaluate(definitions, parsed, input.as_ref()));
    let items = match result {
        Err(_) if must_fail => return None,
        Err(error) => return Some(format!("error: {error}")),
        Ok(items) if must_fail => return Some(format!("{:?} instead of an error", texts(&items))),
        Ok(items) => items,
    };
    if case.get("predicate").and_then(Json::as_bool) == Some(true) {
        return (truth(&items) != Ok(true)).then(|| "is not true".to_string());
    }
    let wanted: Vec<&str> =
        case.list("outputs").iter().filter_map(|o| o.str_at(&["value"])).collect();
    let mut wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let mut found = texts(&items);
    if case.get("ordered").and_then(Json::as_bool) == Some(false) {
        wanted.sort();
        found.sort();
    }
    if found != wanted {
        return Some(format!("{found:?} instead of {wanted:?}"));
    }
    for (item, output) in items.iter().zip(case.list("outputs")) {
        let Some(wanted) = output.str_at(&["type"]) else { continue };
        let name = item.type_name();
        let name = name.strip_prefix("System.").unwrap_or(name);
        if !name.eq_ignore_ascii_case(wanted) {
            return Some(format!("type {name} instead of {wanted}"));
        }
    }
    None
}

fn texts(items: &[Value]) -> Vec<String> {
    items.iter().map(text).collect()
}

/// First and last column of a table in `fixtures/fhirpath`.
fn table(name: &str) -> BTreeMap<String, String> {
    let path = root().join("fixtures/fhirpath").join(name);
    let table = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let row = |line: &str| {
        let (text, rest) = line.split_once('\t').unwrap_or_else(|| panic!("{name}: {line}"));
        (text.to_string(), rest.to_string())
    };
    table.lines().skip(1).map(row).collect()
}

/// Cases that are known to fail: name, kind (`feature`, `bug` or `wont-fix`) and reason.
fn exclusions() -> BTreeMap<String, String> {
    let path = root().join("fixtures/fhirpath/exclusions.tsv");
    let table = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        assert!(
            matches!(fields[..], [_, "feature" | "bug" | "wont-fix", reason] if !reason.is_empty()),
            "exclusions.tsv: {line}"
        );
        (fields[0].to_string(), fields[1].to_string())
    };
    table.lines().skip(1).map(row).collect()
}

#[test]
fn the_official_suite() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("conformance/fhirpath");
    let suite = json(&folder.join("tests-fhir-r4.json"));
    let definitions = Definitions::r4();
    let excluded = exclusions();
    let mut wrong = Vec::new();
    let mut failed = 0;
    for case in suite.list("cases") {
        let id = case.str_at(&["id"]).unwrap_or_default();
        let fault = fault(case, &definitions, &folder);
        failed += usize::from(fault.is_some());
        match (fault, excluded.contains_key(id)) {
            (Some(fault), false) => {
                let expression = case.str_at(&["expression"]).unwrap_or_default();
                wrong.push(format!("{id}: {expression}: {fault}"));
            }
            (None, true) => wrong.push(format!("{id} passes: take it out of exclusions.tsv")),
            _ => {}
        }
    }
    let count = suite.list("cases").len();
    println!("{} of {count} official cases pass", count - failed);
    let unknown = excluded
        .keys()
        .filter(|id| !suite.list("cases").iter().any(|case| case.str_at(&["id"]) == Some(id)));
    wrong.extend(unknown.map(|id| format!("{id}: there is no such case")));
    assert!(wrong.is_empty(), "{} faults\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn our_own_cases() {
    let cases = json(&root().join("fixtures/fhirpath/cases.json"));
    let definitions = Definitions::r4();
    let mut wrong = Vec::new();
    let mut resource = Json::Null;
    for case in cases.as_array().unwrap_or_default() {
        if let Some(input) = case.get("input") {
            resource = input.clone();
            continue;
        }
        let text = case.str_at(&["expression"]).unwrap_or_default();
        let result = Expression::parse(text).and_then(|expression| {
            let items = evaluate(&definitions, &expression, Some(&resource))?;
            Ok(items.iter().map(Value::to_json).collect::<Vec<Json>>())
        });
        match (result, case.get("result")) {
            (Ok(items), Some(wanted)) if Some(items.as_slice()) == wanted.as_array() => {}
            (Err(_), None) => {}
            (Ok(items), wanted) => wrong.push(format!("{text}: {items:?} instead of {wanted:?}")),
            (Err(error), _) => wrong.push(format!("{text}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} faults\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_expressions_of_the_standard_name_elements_that_exist() {
    let definitions = Definitions::r4();
    let mut wrong = Vec::new();
    for kind in definitions.types() {
        for parameter in definitions.search_parameters(kind.name) {
            let Some(expression) = &parameter.expression else { continue };
            if let Err(error) = expression.check(&definitions, Some(kind.name)) {
                wrong.push(format!("{}: {}: {error}", parameter.url, expression.text()));
            }
        }
        let own = kind.invariants.iter().map(|invariant| (vec![kind.name], invariant));
        let of_elements = kind.elements.iter().flat_map(|element| {
            let contents = element.types.iter().filter_map(|kind| definitions.content(kind));
            let names: Vec<&str> = contents.map(|content| content.name).collect();
            element.invariants.iter().map(move |invariant| (names.clone(), invariant))
        });
        for (names, invariant) in own.chain(of_elements) {
            let text = invariant.expression;
            let expression = match Expression::parse(text) {
                Ok(expression) => expression,
                Err(error) => {
                    wrong.push(format!("{} {}: {text}: {error}", kind.name, invariant.key));
                    continue;
                }
            };
            // An invariant of a choice may be about one of its types only.
            if !names.iter().any(|name| expression.check(&definitions, Some(name)).is_ok()) {
                wrong.push(format!("{} {}: {text}", kind.name, invariant.key));
            }
        }
    }
    assert!(wrong.is_empty(), "{} faults\n{}", wrong.len(), wrong.join("\n"));
}

/// The expressions of R4's extensions, UK Core, SDC and BaRS: of invariants, of extension contexts
/// and in forms.
#[test]
fn the_expressions_of_profiles_and_forms_are_understood() {
    let Some(shared) = shared() else { return };
    let definitions = Definitions::r4();
    let mut found = Published { definitions: &definitions, count: 0, wrong: BTreeMap::new() };
    let mut folders = vec![shared.join("fhir")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "json")
                && let Ok(json) =
                    fs::read(&path).map_err(|_| ()).and_then(|b| Json::parse(&b).map_err(|_| ()))
            {
                found.look_into(&json, None);
            }
        }
    }
    println!("{} expressions of profiles and forms", found.count);
    assert!(found.count > 500, "only {} expressions", found.count);
    let known: BTreeMap<String, String> = table("faulty-expressions.tsv");
    for text in known.keys() {
        assert!(found.wrong.remove(text).is_some(), "{text} is understood: take it out");
    }
    let wrong: Vec<String> =
        found.wrong.iter().map(|(text, error)| format!("{text}\t{error}")).collect();
    assert!(wrong.is_empty(), "{} faults\n{}", wrong.len(), wrong.join("\n"));
}

struct Published<'d> {
    definitions: &'d Definitions,
    count: usize,
    wrong: BTreeMap<String, String>,
}

impl Published<'_> {
    fn look_into(&mut self, json: &Json, path: Option<&str>) {
        let path = json
            .str_at(&["path"])
            .filter(|path| path.contains('.') || path.starts_with(char::is_uppercase))
            .or(path);
        let text = json.str_at(&["expression"]);
        let is_other = json.str_at(&["language"]).is_some_and(|of| of != "text/fhirpath");
        let is_path = json.get("language").is_some() && !is_other
            || json.get("human").is_some() && json.get("severity").is_some();
        if let (Some(text), true) = (text, is_path) {
            // A form's expression is about what its engine puts there.
            self.check(text, path.filter(|_| json.get("severity").is_some()));
        }
        for context in json.list("contextInvariant").iter().filter_map(Json::as_str) {
            self.check(context, None);
        }
        for context in json.list("context") {
            if context.str_at(&["type"]) == Some("fhirpath") {
                self.check(context.str_at(&["expression"]).unwrap_or_default(), None);
            }
        }
        match json {
            Json::Object(object) => object.iter().for_each(|(_, json)| self.look_into(json, path)),
            Json::Array(items) => items.iter().for_each(|json| self.look_into(json, path)),
            _ => {}
        }
    }

    fn check(&mut self, text: &str, path: Option<&str>) {
        self.count += 1;
        let result = Expression::parse(text).and_then(|expression| {
            let kinds = self.types_at(path.unwrap_or_default());
            if kinds.is_empty() {
                return expression.check(self.definitions, None);
            }
            let check = |kind: &&str| expression.check(self.definitions, Some(kind));
            let mut results = kinds.iter().map(check);
            results.clone().find(Result::is_ok).or(results.next()).unwrap_or(Ok(()))
        });
        if let Err(error) = result {
            self.wrong.insert(text.to_string(), error.to_string());
        }
    }

    /// The types that the element of a path can have; none if that is not known.
    fn types_at(&self, path: &str) -> Vec<&'static str> {
        let mut parts = path.split('.');
        let root = parts.next().and_then(|root| self.definitions.type_of(root));
        let mut kinds: Vec<&str> = root.iter().map(|kind| kind.name).collect();
        for part in parts {
            let part = part.trim_end_matches("[x]");
            let elements = kinds.iter().filter_map(|kind| self.definitions.child(kind, part));
            let types = elements.flat_map(|element| &element.types);
            kinds =
                types.filter_map(|kind| self.definitions.content(kind)).map(|k| k.name).collect();
        }
        kinds
    }
}

/// The one official example whose narrative is empty.
const EMPTY_NARRATIVE: &str = "zika-virus-exposure-assessment.json: Questionnaire.text.div: txt-";

#[test]
fn the_official_examples_keep_the_invariants() {
    let Some(shared) = shared() else { return };
    let definitions = Definitions::r4();
    let mut examples = Examples {
        definitions: &definitions,
        expressions: BTreeMap::new(),
        count: 0,
        wrong: Vec::new(),
    };
    for kind in definitions.types() {
        let of_elements = kind.elements.iter().flat_map(|element| &element.invariants);
        for invariant in kind.invariants.iter().chain(of_elements).filter(|i| i.is_error) {
            let expression = Expression::parse(invariant.expression).unwrap();
            examples.expressions.insert(invariant.expression, expression);
        }
    }
    let examples_of = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = examples_of(shared.join("fhir/r4-examples")).map(|folder| folder.path());
    for file in folders.flat_map(examples_of) {
        let resource = json(&file.path());
        let Some(kind) = resource.str_at(&["resourceType"]).and_then(|n| definitions.type_of(n))
        else {
            continue;
        };
        let before = examples.wrong.len();
        examples.walk(&resource, &Value::node(&resource), (kind, None), kind.name);
        for fault in &mut examples.wrong[before..] {
            fault.insert_str(0, &format!("{}: ", file.file_name().display()));
        }
    }
    println!("{} invariants evaluated", examples.count);
    examples.wrong.retain(|fault| !fault.contains(EMPTY_NARRATIVE));
    assert!(examples.count > 50_000, "only {} invariants evaluated", examples.count);
    assert!(examples.wrong.is_empty(), "{}", examples.wrong.join("\n"));
}

struct Examples<'d> {
    definitions: &'d Definitions,
    expressions: BTreeMap<&'static str, Expression>,
    count: usize,
    wrong: Vec<String>,
}

impl Examples<'_> {
    /// Evaluates the invariants of a value and of everything in it.
    fn walk(&mut self, root: &Json, value: &Value, of: (&Type, Option<&Element>), path: &str) {
        let (kind, element) = of;
        let lineage = std::iter::successors(Some(kind), |kind| self.definitions.base(kind));
        let invariants = lineage
            .flat_map(|kind| &kind.invariants)
            .chain(element.into_iter().flat_map(|element| &element.invariants));
        for invariant in invariants.filter(|invariant| invariant.is_error) {
            let context =
                Context { resource: Some(Value::node(root)), ..Context::new(self.definitions) };
            let expression = &self.expressions[invariant.expression];
            let items = expression.evaluate(&context, std::slice::from_ref(value));
            self.count += 1;
            if items.as_deref().map(truth) != Ok(Ok(true)) {
                self.wrong.push(format!("{path}: {} {items:?}", invariant.key));
            }
        }
        let Some(object) = value.json().and_then(Json::as_object) else { return };
        for (member, json) in object.iter() {
            let Some(element) = self.definitions.child(kind.name, member) else { continue };
            let content = element.member(member).and_then(|of| self.definitions.content(of));
            let sibling = object.get(&format!("_{member}"));
            let items = json.as_array().unwrap_or(std::slice::from_ref(json));
            for (index, item) in items.iter().enumerate() {
                let sibling = match sibling {
                    Some(Json::Array(siblings)) => siblings.get(index),
                    sibling => sibling,
                };
                let own = item.str_at(&["resourceType"]);
                let content = own.and_then(|name| self.definitions.type_of(name)).or(content);
                let Some(content) = content else { continue };
                let value = Value::typed(self.definitions, item, content.name);
                let root = if own.is_some() && member != "contained" { item } else { root };
                let path = format!("{path}.{member}");
                let value = value.with_sibling(sibling);
                self.walk(root, &value, (content, Some(element)), &path);
            }
        }
    }
}
