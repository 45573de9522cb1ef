//! The examples of R4, where the reference data is there: each is stored, comes back as it is, and
//! is found by every one of its search parameters.

use std::path::{Path, PathBuf};

use lumbar_fhir::datetime::DateTime;
use lumbar_fhir::definitions::{Definitions, SearchKind, SearchParameter};
use lumbar_fhir::path::{Context, Value};
use lumbar_fhir::rest::encode_pairs;
use lumbar_fhir::{Json, Object};
use lumbar_testkit::shared;

use crate::app::{TestApp, on_both, read_json, reference};

/// Examples that break R4's own rules.
const INVALID: [(&str, &str); 4] = [
    ("Bundle-father.json", "a unit of UCUM with a blank"),
    ("Bundle-hla-1.json", "a part that its extension does not have"),
    ("Questionnaire-qs1.json", "items without a linkId"),
    ("Questionnaire-zika-virus-exposure-assessment.json", "a narrative of blanks (txt-2)"),
];

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            out.push(path);
        }
    }
    out.sort();
}

/// The examples with the names of their files; `None` where the reference data is missing.
pub fn examples() -> Option<Vec<(String, Json)>> {
    let mut paths = Vec::new();
    files(&shared()?.join("fhir/r4-examples"), &mut paths);
    assert!(paths.len() > 300, "{}", paths.len());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    Some(paths.iter().map(|path| (name(path), read_json(path))).collect())
}

/// The resource without what the service writes into meta.
fn bare(mut resource: Json) -> Json {
    let object = resource.as_object_mut().unwrap();
    if let Some(meta) = object.get_mut("meta").and_then(Json::as_object_mut) {
        meta.remove("versionId");
        meta.remove("lastUpdated");
        if meta == &Object::new() {
            object.remove("meta");
        }
    }
    resource
}

/// A value as a search for it would give it, by the rules of each type of parameter; `None` where
/// the value cannot be searched for (a code without a code, a reference without a target).
fn searched(definitions: &Definitions, kind: SearchKind, value: &Value<'_>) -> Option<String> {
    let escape = |text: &str| {
        let mut out = String::new();
        for character in text.chars() {
            if matches!(character, ',' | '|' | '$' | '\\') {
                out.push('\\');
            }
            out.push(character);
        }
        out
    };
    let plain = || Some(value.as_str()?.into_owned());
    let json = value.json().filter(|json| json.as_object().is_some());
    let part = |json: &Json, name: &str| json.str_at(&[name]).map(str::to_owned);
    let token = |json: &Json, member: &str| {
        let code = escape(&part(json, member)?);
        Some(match part(json, "system") {
            Some(system) => format!("{}|{code}", escape(&system)),
            None => format!("|{code}"),
        })
    };
    match kind {
        SearchKind::Token => match (json, value.type_name()) {
            (Some(json), "CodeableConcept") => {
                json.list("coding").iter().find_map(|coding| token(coding, "code"))
            }
            (Some(json), "Identifier") => token(json, "value"),
            (Some(json), "ContactPoint") => part(json, "value").map(|text| escape(&text)),
            (Some(json), _) => token(json, "code"),
            (None, _) => {
                let boolean = value.json().and_then(Json::as_bool).map(|truth| truth.to_string());
                boolean.or_else(|| plain().map(|text| escape(&text)))
            }
        },
        SearchKind::String => match (json, value.type_name()) {
            (Some(json), "HumanName") => part(json, "family").or_else(|| part(json, "text")),
            (Some(json), "Address") => part(json, "city").or_else(|| part(json, "text")),
            (Some(json), _) => part(json, "text"),
            (None, _) => plain(),
        }
        .map(|text| escape(text.trim()))
        .filter(|text| !text.is_empty()),
        SearchKind::Uri => plain().map(|text| escape(&text)),
        SearchKind::Date => match json {
            Some(json) => part(json, "start")
                .map(|start| format!("ge{start}"))
                .or_else(|| part(json, "end").map(|end| format!("le{end}")))
                .or_else(|| Some(json.list("event").first()?.as_str()?.to_owned())),
            // An activity may be scheduled in words.
            None => plain().filter(|text| DateTime::parse(text).is_some()),
        },
        SearchKind::Number => value.json()?.as_number().map(str::to_owned),
        SearchKind::Quantity => {
            let json = json?;
            let number = json.get("value")?.as_number()?.to_owned();
            if json.get("comparator").is_some() {
                return None;
            }
            Some(match (value.type_name(), part(json, "code")) {
                ("Money", _) => number,
                (_, Some(code)) => {
                    format!("{number}|{}|{code}", part(json, "system").unwrap_or_default())
                }
                (_, None) => number,
            })
        }
        SearchKind::Reference => {
            let text = match json {
                Some(json) => part(json, "reference")?,
                None => plain()?,
            };
            // A contained resource is no resource of its own that could be searched for.
            let own = text.split_once('/').is_some_and(|(of, _)| definitions.is_resource(of));
            (own || text.contains(':')).then(|| escape_reference(&text))
        }
        SearchKind::Composite | SearchKind::Special => None,
    }
}

/// The `|` of a canonical stays what it is.
fn escape_reference(text: &str) -> String {
    text.replace('\\', "\\\\").replace(',', "\\,").replace('$', "\\$")
}

/// A search for the first value of a parameter in a resource.
fn search(
    definitions: &Definitions,
    parameter: &SearchParameter,
    resource: &Json,
) -> Option<String> {
    let focus = [Value::node(resource)];
    let context = Context::new(definitions);
    let values = parameter.expression.as_ref()?.evaluate(&context, &focus).ok()?;
    if parameter.kind != SearchKind::Composite {
        return values.iter().find_map(|value| searched(definitions, parameter.kind, value));
    }
    values.iter().find_map(|item| {
        let item = [item.clone()];
        let mut parts = Vec::new();
        for part in &parameter.components {
            let values = part.expression.evaluate(&context, &item).ok()?;
            parts.push(values.iter().find_map(|value| searched(definitions, part.kind, value))?);
        }
        Some(parts.join("$"))
    })
}

#[tokio::test]
async fn the_examples_of_r4_come_back_as_they_are_and_are_found() {
    let Some(examples) = examples() else { return };
    let definitions = Definitions::r4();
    on_both(async |app: &TestApp| {
        let mut failed = Vec::new();
        let mut searches = 0;
        for (name, example) in &examples {
            let path = reference(example);
            let put = app.put(example).await;
            if let Some((_, why)) = INVALID.iter().find(|(invalid, _)| invalid == name) {
                if put.status != 422 {
                    failed.push(format!("{name}: {} in spite of {why}", put.status));
                }
                continue;
            }
            if put.status != 201 {
                failed.push(format!("{name}: {} {}", put.status, put.text));
                continue;
            }
            let read = app.get(&path).await;
            let same = |text: &str| {
                // Trees are compared as text: order of members and digits of numbers count.
                let back = Json::parse(text.as_bytes());
                back.is_ok_and(|back| bare(example.clone()).to_string() == bare(back).to_string())
            };
            if read.status != 200 || !same(&read.text) {
                failed.push(format!("{name}: comes back otherwise"));
            }
            let (of, id) = path.split_once('/').unwrap();
            let wanted: Vec<(String, String)> = definitions
                .search_parameters(of)
                .filter(|parameter| !matches!(&*parameter.code, "_id" | "_lastUpdated"))
                .filter_map(|parameter| {
                    Some((parameter.code.clone(), search(&definitions, parameter, example)?))
                })
                .collect();
            searches += wanted.len();
            let not_found = async |pairs: &[(String, String)]| {
                let mut pairs = pairs.to_vec();
                pairs.push(("_id".to_owned(), id.to_owned()));
                let query = format!("{of}?{}", encode_pairs(&pairs));
                let strict = [("prefer", "handling=strict")];
                let reply = app.call("GET", &format!("/fhir/{query}"), &strict, "").await;
                let found = reply.status == 200
                    && reply.json().get("total").and_then(Json::as_i64) == Some(1);
                (!found).then(|| format!("{}: {}", reply.status, reply.text))
            };
            // All at once; only when that fails each for itself, to say which.
            if not_found(&wanted).await.is_some() {
                for pair in &wanted {
                    if let Some(answer) = not_found(std::slice::from_ref(pair)).await {
                        let answer: String = answer.chars().take(300).collect();
                        failed.push(format!("{name}: {}={} {answer}", pair.0, pair.1));
                    }
                }
            }
        }
        println!("{searches} parameters of {} examples on {}", examples.len(), app.database);
        assert!(failed.is_empty(), "on {}, {}:\n{}", app.database, failed.len(), failed.join("\n"));
    })
    .await;
}
