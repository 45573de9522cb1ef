//! The service as OpenAPI 3.0.3: <https://spec.openapis.org/oas/v3.0.3>.
//!
//! Made from the CapabilityStatement, so that the two cannot differ. FHIR's bodies are described by
//! their media types only: their schema is FHIR's own.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use crate::app::App;

/// `GET /openapi.json`.
pub async fn openapi(State(app): State<Arc<App>>) -> impl IntoResponse {
    let statement = app.facade.statement();
    // Our own text, which is JSON.
    let statement = serde_json::from_str(&statement).unwrap_or_default();
    let body = describe(&statement, app.facade.base());
    ([(CONTENT_TYPE, "application/json")], body.to_string())
}

/// An interaction of the statement as a method of a path.
struct Method {
    interaction: &'static str,
    /// Path below `[type]`, or below the base for the interactions of the system.
    path: &'static str,
    method: &'static str,
    /// Whether it has a body.
    body: bool,
    /// Status when it went well.
    status: &'static str,
}

const fn method(
    interaction: &'static str,
    path: &'static str,
    method: &'static str,
    body: bool,
    status: &'static str,
) -> Method {
    Method { interaction, path, method, body, status }
}

const FHIR: [&str; 2] = ["application/fhir+json", "application/fhir+xml"];
const PATCH: [&str; 3] =
    ["application/json-patch+json", "application/fhir+json", "application/fhir+xml"];

const OF_TYPES: &[Method] = &[
    method("search-type", "", "get", false, "200"),
    method("search-type", "/_search", "post", true, "200"),
    method("create", "", "post", true, "201"),
    method("update", "", "put", true, "200"),
    method("patch", "", "patch", true, "200"),
    method("delete", "", "delete", false, "204"),
    method("history-type", "/_history", "get", false, "200"),
    method("read", "/{id}", "get", false, "200"),
    method("update", "/{id}", "put", true, "200"),
    method("patch", "/{id}", "patch", true, "200"),
    method("delete", "/{id}", "delete", false, "204"),
    method("history-instance", "/{id}/_history", "get", false, "200"),
    method("vread", "/{id}/_history/{vid}", "get", false, "200"),
];

const OF_SYSTEM: &[Method] = &[
    method("transaction", "/", "post", true, "200"),
    method("search-system", "/", "get", false, "200"),
    method("search-system", "/_search", "post", true, "200"),
    method("history-system", "/_history", "get", false, "200"),
];

fn describe(statement: &Value, base: &str) -> Value {
    let rest = &statement["rest"][0];
    let mut paths = Map::new();
    add(&mut paths, "/metadata", &method("capabilities", "", "get", false, "200"), None);
    for known in OF_SYSTEM.iter().filter(|known| offers(rest, known.interaction)) {
        add(&mut paths, known.path, known, None);
    }
    operations(&mut paths, "", None, rest);
    let mut parameters = Map::new();
    for resource in list(rest, "resource") {
        let of = text(resource, "type");
        for known in OF_TYPES.iter().filter(|known| offers(resource, known.interaction)) {
            add(&mut paths, &format!("/{of}{}", known.path), known, Some(of));
        }
        let mut references = Vec::new();
        for parameter in list(resource, "searchParam") {
            let name = text(parameter, "name");
            let about = format!("{}: {}", text(parameter, "type"), text(parameter, "definition"));
            references.push(json!({"$ref": format!("#/components/parameters/{of}-{name}")}));
            parameters.insert(
                format!("{of}-{name}"),
                json!({
                    "name": name, "in": "query", "description": about,
                    "schema": {"type": "string"}
                }),
            );
        }
        if let Some(search) = paths.get_mut(&format!("/{of}")).and_then(|path| path.get_mut("get"))
        {
            search["parameters"] = references.into();
        }
        operations(&mut paths, &format!("/{of}"), Some(of), resource);
    }
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Lumbar",
            "description": "FHIR R4 interoperability adapter for back-pain care",
            "version": env!("CARGO_PKG_VERSION")
        },
        "servers": [{"url": base}],
        "paths": paths,
        "components": {"parameters": parameters}
    })
}

fn list<'v>(of: &'v Value, member: &str) -> impl Iterator<Item = &'v Value> {
    of[member].as_array().into_iter().flatten()
}

fn text<'v>(of: &'v Value, member: &str) -> &'v str {
    of[member].as_str().unwrap_or_default()
}

fn offers(of: &Value, interaction: &str) -> bool {
    // A Bundle is posted to one place, whether it is a batch or a transaction.
    list(of, "interaction").any(|item| text(item, "code") == interaction)
}

/// Operations that change something, so that only POST invokes them.
const CHANGING: [&str; 1] = ["import"];

/// The operations of the system or of a type.
fn operations(paths: &mut Map<String, Value>, below: &str, of: Option<&str>, offering: &Value) {
    for operation in list(offering, "operation") {
        let name = text(operation, "name");
        let path = format!("{below}/${name}");
        if CHANGING.contains(&name) {
            add(paths, &path, &method("operation", "", "post", true, "200"), of);
            continue;
        }
        for method in [
            method("operation", "", "get", false, "200"),
            method("operation", "", "post", true, "200"),
        ] {
            add(paths, &path, &method, of);
        }
    }
}

fn add(paths: &mut Map<String, Value>, path: &str, known: &Method, of: Option<&str>) {
    let item = paths.entry(path).or_insert_with(|| {
        let named = ["id", "vid"].iter().filter(|name| path.contains(&format!("{{{name}}}")));
        let named: Vec<Value> = named
            .map(|name| {
                json!({
                    "name": name, "in": "path", "required": true, "schema": {"type": "string"}
                })
            })
            .collect();
        if named.is_empty() { json!({}) } else { json!({"parameters": named}) }
    });
    let place: Vec<&str> =
        path.split(['/', '{', '}', '$']).filter(|part| !part.is_empty()).collect();
    let mut good = json!({"description": "done"});
    if known.status != "204" {
        good["content"] = content(&FHIR);
    }
    let mut entry = json!({
        "operationId": format!("{}-{}-{}", known.interaction, known.method, place.join("-")),
        "responses": {
            known.status: good,
            "default": {"description": "an OperationOutcome", "content": content(&FHIR)}
        }
    });
    if let Some(of) = of {
        entry["tags"] = json!([of]);
    }
    if known.body {
        let types: &[&str] = match known {
            Method { method: "patch", .. } => &PATCH,
            _ if path.ends_with("/_search") => &["application/x-www-form-urlencoded"],
            _ => &FHIR,
        };
        entry["requestBody"] = json!({"content": content(types)});
    }
    item[known.method] = entry;
}

fn content(types: &[&str]) -> Value {
    let schema = json!({"schema": {"type": "object"}});
    types.iter().map(|of| ((*of).to_owned(), schema.clone())).collect::<Map<_, _>>().into()
}
