//! What the CapabilityStatement and the OpenAPI document say is so: every interaction, condition,
//! search parameter, include and operation of every type is tried.

use lumbar::config::Validation;
use lumbar_fhir::definitions::{SearchKind, SearchParameter};
use lumbar_fhir::rest::encode_pairs;
use lumbar_fhir::{Json, json};

use crate::app::{Reply, TestApp, on_both_with};

/// What went wrong, so that all of it is told at once.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn expect(&mut self, what: String, reply: &Reply, allowed: &[u16]) {
        if !allowed.contains(&reply.status) {
            let text: String = reply.text.chars().take(300).collect();
            self.0.push(format!("{what}: {} {text}", reply.status));
        }
    }
}

const JSON_PATCH: (&str, &str) = ("content-type", "application/json-patch+json");

/// Tries an interaction on `of/one`, which is there.
async fn interaction(app: &TestApp, of: &str, code: &str, faults: &mut Faults) {
    let body = |id: &str| format!(r#"{{"resourceType":"{of}","id":"{id}","language":"en"}}"#);
    let patch = r#"[{"op":"add","path":"/language","value":"cy"}]"#;
    let (method, path, headers, body, allowed): (_, _, &[(&str, &str)], String, &[u16]) = match code
    {
        "create" => ("POST", of.to_owned(), &[], body("two"), &[201]),
        "read" => ("GET", format!("{of}/one"), &[], String::new(), &[200]),
        "vread" => ("GET", format!("{of}/one/_history/1"), &[], String::new(), &[200]),
        "update" => ("PUT", format!("{of}/three"), &[], body("three"), &[201]),
        "patch" => ("PATCH", format!("{of}/one"), &[JSON_PATCH], patch.to_owned(), &[200]),
        "delete" => ("DELETE", format!("{of}/three"), &[], String::new(), &[204]),
        "history-instance" => ("GET", format!("{of}/one/_history"), &[], String::new(), &[200]),
        "history-type" => ("GET", format!("{of}/_history"), &[], String::new(), &[200]),
        "search-type" => ("GET", of.to_owned(), &[], String::new(), &[200]),
        other => {
            faults.0.push(format!("{of}: no test knows the interaction {other}"));
            return;
        }
    };
    let reply = app.call(method, &format!("/fhir/{path}"), headers, body).await;
    faults.expect(format!("{of} {code}"), &reply, allowed);
}

/// Tries the conditional interactions that a type claims.
async fn conditions(app: &TestApp, resource: &Json, of: &str, faults: &mut Faults) {
    let tagged = format!(
        r#"{{"resourceType":"{of}","meta":{{"tag":[{{"system":"http://lumbar.test","code":"t"}}]}}}}"#
    );
    let search = "_tag=http://lumbar.test%7Ct";
    let claims = |name: &str| resource.get(name).and_then(Json::as_bool) == Some(true);
    if claims("conditionalCreate") {
        for allowed in [201, 200] {
            let headers = [("if-none-exist", search)];
            let reply = app.call("POST", &format!("/fhir/{of}"), &headers, tagged.clone()).await;
            faults.expect(format!("{of} conditional create"), &reply, &[allowed]);
        }
    }
    if claims("conditionalUpdate") {
        let path = format!("/fhir/{of}?{search}");
        let reply = app.call("PUT", &path, &[], tagged.clone()).await;
        faults.expect(format!("{of} conditional update"), &reply, &[200]);
        let patch = r#"[{"op":"add","path":"/language","value":"cy"}]"#;
        let reply = app.call("PATCH", &path, &[JSON_PATCH], patch).await;
        faults.expect(format!("{of} conditional patch"), &reply, &[200]);
    }
    let delete = resource.str_at(&["conditionalDelete"]);
    if delete == Some("single") {
        let reply = app.call("DELETE", &format!("/fhir/{of}?{search}"), &[], "").await;
        faults.expect(format!("{of} conditional delete"), &reply, &[204]);
    } else {
        faults.0.push(format!("{of}: conditional delete is {delete:?}"));
    }
    assert_eq!(resource.str_at(&["conditionalRead"]), Some("full-support"));
    let path = format!("/fhir/{of}/one");
    let read = app.call("GET", &path, &[], "").await;
    for (condition, header) in [("if-none-match", "etag"), ("if-modified-since", "last-modified")] {
        let value = read.header(header).unwrap_or_default().to_owned();
        let reply = app.call("GET", &path, &[(condition, &value)], "").await;
        faults.expect(format!("{of} {condition}"), &reply, &[304]);
    }
}

/// A value that a parameter can read.
fn value(parameter: &SearchParameter) -> String {
    let of_kind = |kind| match kind {
        SearchKind::Number => "1",
        SearchKind::Quantity => "1|http://unitsofmeasure.org|mg",
        SearchKind::Date => "2026-03",
        SearchKind::Reference => "Patient/one",
        SearchKind::Uri => "http://lumbar.test/x",
        SearchKind::Special => "51.5|-0.1|10|km",
        _ => "x",
    };
    if parameter.kind != SearchKind::Composite {
        return of_kind(parameter.kind).to_owned();
    }
    let parts = parameter.components.iter().map(|part| of_kind(part.kind));
    parts.collect::<Vec<&str>>().join("$")
}

async fn searches(app: &TestApp, resource: &Json, of: &str, faults: &mut Faults) {
    let definitions = app.app.facade.definitions();
    let strict = [("prefer", "handling=strict")];
    for claimed in resource.list("searchParam") {
        let name = claimed.str_at(&["name"]).unwrap();
        let Some(known) = definitions.search_parameter(of, name) else {
            faults.0.push(format!("{of} claims {name}, which it does not have"));
            continue;
        };
        assert_eq!(claimed.str_at(&["type"]), Some(known.kind.code()), "{of} {name}");
        let mut pairs = vec![(name.to_owned(), value(known))];
        if name != "_id" && name != "_lastUpdated" {
            pairs.push((format!("{name}:missing"), "false".to_owned()));
        }
        let path = format!("/fhir/{of}?{}", encode_pairs(&pairs));
        faults.expect(path.clone(), &app.call("GET", &path, &strict, "").await, &[200]);
    }
    for (name, list) in [("_include", "searchInclude"), ("_revinclude", "searchRevInclude")] {
        let pairs: Vec<(String, String)> = resource
            .list(list)
            .iter()
            .map(|value| (name.to_owned(), value.as_str().unwrap().to_owned()))
            .collect();
        // A few at once: a URL has its limits, and so has a search.
        for pairs in pairs.chunks(40) {
            let path = format!("/fhir/{of}?_id=one&{}", encode_pairs(pairs));
            faults.expect(path.clone(), &app.call("GET", &path, &strict, "").await, &[200]);
        }
    }
}

async fn operations(app: &TestApp, offering: &Json, below: &str, faults: &mut Faults) {
    for operation in offering.list("operation") {
        let name = operation.str_at(&["name"]).unwrap();
        let path = format!("/fhir{below}/${name}");
        let body = r#"{"resourceType":"Parameters"}"#;
        let reply = app.call("POST", &path, &[], body).await;
        // Without parameters many are refused, but they are there.
        let nothing = reply.status == 404 && reply.text.contains("no such operation");
        if nothing || matches!(reply.status, 405 | 500 | 501) {
            faults.0.push(format!("{path}: {} {}", reply.status, reply.text));
        }
    }
}

#[tokio::test]
async fn every_claim_of_the_capability_statement_holds() {
    on_both_with(
        // Bodies here are as short as they can be.
        |settings| settings.policy.validation = Validation::Off,
        async |app: &TestApp| {
            let statement = app.get("metadata").await.is(200).json();
            assert_eq!(statement.str_at(&["fhirVersion"]), Some("4.0.1"));
            assert_eq!(statement.str_at(&["kind"]), Some("instance"));
            let rest = &statement.list("rest")[0];
            let resources = rest.list("resource");
            assert_eq!(resources.len(), 146, "R4 has 146 types of which there are instances");
            let mut faults = Faults::default();
            for resource in resources {
                let of = resource.str_at(&["type"]).unwrap();
                app.put(&json!({"resourceType": (of), "id": "one"})).await.is(201);
                for claimed in resource.list("interaction") {
                    interaction(app, of, claimed.str_at(&["code"]).unwrap(), &mut faults).await;
                }
                conditions(app, resource, of, &mut faults).await;
                if app.database == "SQLite" {
                    searches(app, resource, of, &mut faults).await;
                }
                operations(app, resource, &format!("/{of}"), &mut faults).await;
            }
            operations(app, rest, "", &mut faults).await;
            for claimed in rest.list("interaction") {
                let code = claimed.str_at(&["code"]).unwrap();
                let bundle = format!(r#"{{"resourceType":"Bundle","type":"{code}"}}"#);
                let reply = match code {
                    "transaction" | "batch" => app.call("POST", "/fhir", &[], bundle).await,
                    "search-system" => app.call("GET", "/fhir?_id=one", &[], "").await,
                    "history-system" => app.call("GET", "/fhir/_history", &[], "").await,
                    other => panic!("no test knows the interaction {other}"),
                };
                faults.expect(code.to_owned(), &reply, &[200]);
            }
            for claimed in rest.list("searchParam") {
                let name = claimed.str_at(&["name"]).unwrap();
                let path = format!("/fhir?_type=Basic,Patient&{name}=2026-03");
                faults.expect(path.clone(), &app.call("GET", &path, &[], "").await, &[200]);
            }
            for format in statement.list("format") {
                let accept = [("accept", format.as_str().unwrap())];
                let path = "/fhir/Basic/one";
                let reply = match accept[0].1.contains('/') {
                    true => app.call("GET", path, &accept, "").await,
                    false => {
                        app.call("GET", &format!("{path}?_format={}", accept[0].1), &[], "").await
                    }
                };
                faults.expect(format!("format {}", accept[0].1), &reply, &[200]);
            }
            assert!(faults.0.is_empty(), "on {}:\n{}", app.database, faults.0.join("\n"));
        },
    )
    .await;
}

#[tokio::test]
async fn every_path_of_the_openapi_document_is_there() {
    on_both_with(
        |settings| settings.policy.validation = Validation::Off,
        async |app: &TestApp| {
            let described = app.call("GET", "/openapi.json", &[], "").await.is(200).json();
            assert_eq!(described.str_at(&["openapi"]), Some("3.0.3"));
            let mut faults = Faults::default();
            for (path, item) in described.get("paths").unwrap().as_object().unwrap().iter() {
                let path = format!("/fhir{}", path.replace("{id}", "one").replace("{vid}", "1"));
                for (method, _) in
                    item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
                {
                    let reply = app.call(&method.to_uppercase(), &path, &[], "").await;
                    let nothing = reply.text.contains("nothing at this path")
                        || reply.text.contains("no such operation");
                    if nothing || matches!(reply.status, 405 | 500 | 501) {
                        faults.0.push(format!("{method} {path}: {} {}", reply.status, reply.text));
                    }
                }
            }
            assert!(faults.0.is_empty(), "on {}:\n{}", app.database, faults.0.join("\n"));
        },
    )
    .await;
}
