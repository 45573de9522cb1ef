//! The CapabilityStatement: <https://hl7.org/fhir/R4/http.html#capabilities>.
//!
//! Made from what answers: the interactions of [`lumbar_fhir::rest::Interaction`], the search
//! parameters of the definitions that are indexed, and the operations' own table.

use lumbar_fhir::datetime::{Micros, instant};
use lumbar_fhir::definitions::{Definitions, SearchKind};
use lumbar_fhir::{Json, Object, json};

use super::operation::OPERATIONS;

/// The statement of this instance at `base`, as of `now`.
pub(super) fn statement(definitions: &Definitions, base: &str, now: Micros) -> Json {
    let mut types: Vec<&str> = definitions.resource_types().collect();
    types.sort_unstable();
    let resources: Vec<Json> = types.iter().map(|of| resource(definitions, of)).collect();
    let system: Vec<Json> =
        ["transaction", "batch"].iter().map(|code| json!({"code": (*code)})).collect();
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": (instant(now)),
        "kind": "instance",
        "software": {"name": "Lumbar", "version": (env!("CARGO_PKG_VERSION"))},
        "implementation": {
            "description": "Lumbar, FHIR R4 interoperability adapter for back-pain care",
            "url": (base)
        },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [{"mode": "server", "resource": (resources), "interaction": (system)}]
    })
}

fn resource(definitions: &Definitions, of: &str) -> Json {
    let interactions: Vec<Json> =
        ["read", "vread", "update", "delete", "history-instance", "create", "search-type"]
            .iter()
            .map(|code| json!({"code": (*code)}))
            .collect();
    let mut parameters = Vec::new();
    let mut includes = Vec::new();
    for parameter in definitions.search_parameters(of) {
        let kind = match parameter.kind {
            SearchKind::Number => "number",
            SearchKind::Date => "date",
            SearchKind::String => "string",
            SearchKind::Token => "token",
            SearchKind::Reference => "reference",
            SearchKind::Quantity => "quantity",
            SearchKind::Uri => "uri",
            SearchKind::Composite | SearchKind::Special => continue,
        };
        // A parameter without an expression (_text, _content) has no values here.
        if parameter.expression.is_none() {
            continue;
        }
        if parameter.kind == SearchKind::Reference {
            includes.push(Json::from(format!("{of}:{}", parameter.code)));
        }
        parameters.push(json!({
            "name": (parameter.code.as_str()),
            "definition": (parameter.url.as_str()),
            "type": (kind)
        }));
    }
    let operations: Vec<Json> = OPERATIONS
        .iter()
        .filter(|operation| operation.resource_types.contains(&of))
        .map(|operation| json!({"name": (operation.name), "definition": (operation.definition)}))
        .collect();
    let mut resource = Object::new();
    resource.set("type", of);
    resource.set("profile", format!("http://hl7.org/fhir/StructureDefinition/{of}"));
    resource.set("interaction", interactions);
    resource.set("versioning", "versioned-update");
    resource.set("readHistory", true);
    resource.set("updateCreate", true);
    resource.set("conditionalRead", "not-match");
    resource.set("conditionalCreate", true);
    resource.set("conditionalUpdate", false);
    resource.set("conditionalDelete", "not-supported");
    if !includes.is_empty() {
        resource.set("searchInclude", includes);
    }
    if !parameters.is_empty() {
        resource.set("searchParam", parameters);
    }
    if !operations.is_empty() {
        resource.set("operation", operations);
    }
    Json::Object(resource)
}
