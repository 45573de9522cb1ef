//! The CapabilityStatement: <https://hl7.org/fhir/R4/http.html#capabilities>.
//!
//! Made from what answers: the interactions of [`lumbar_fhir::rest::Interaction`], the search
//! parameters of the definitions that are indexed, the operations' own table and the policy.

use std::sync::{Arc, PoisonError};

use lumbar_fhir::datetime::{Micros, instant};
use lumbar_fhir::definitions::{Definitions, SearchKind};
use lumbar_fhir::{Issue, IssueType, Json, Object, json};

use super::operation::OPERATIONS;
use super::{Error, Facade, Reply, Success};
use crate::config::{ConditionalDelete, Policy, References};

/// What every type can do.
const OF_TYPES: [&str; 9] = [
    "read",
    "vread",
    "update",
    "patch",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
];
const OF_SYSTEM: [&str; 4] = ["transaction", "batch", "search-system", "history-system"];

/// What the service is to forms: the roles of <https://hl7.org/fhir/uv/sdc/STU3/>; SDC 4.0 split
/// the first from the second.
const FORMS: [&str; 4] = [
    "http://hl7.org/fhir/uv/sdc/CapabilityStatement/sdc-form-fill-manager",
    "http://hl7.org/fhir/uv/sdc/CapabilityStatement/sdc-form-manager",
    "http://hl7.org/fhir/uv/sdc/CapabilityStatement/sdc-form-receiver",
    "http://hl7.org/fhir/uv/sdc/CapabilityStatement/sdc-form-response-manager",
];
/// A feature: <https://build.fhir.org/ig/FHIR/application-feature-ig/specification.html>.
const FEATURE: &str = "http://hl7.org/fhir/uv/application-feature/StructureDefinition/feature";
/// The languages of a form's expressions, by SDC's codes of features
/// (<http://hl7.org/fhir/uv/sdc/CodeSystem/temp>).
const LANGUAGES: [(&str, &str); 4] = [
    ("behaviorExpressionLanguage", "text/fhirpath"),
    ("extractionExpressionLanguage", "text/fhirpath"),
    ("populationExpressionLanguage", "text/fhirpath"),
    ("populationExpressionLanguage", "application/x-fhir-query"),
];

/// Elements of the statement that R4 has for trial use, by the path of their parent.
const TRIAL_USE: [(&str, &[&str]); 2] = [
    ("rest", &["security"]),
    (
        "resource",
        &[
            "supportedProfile",
            "versioning",
            "readHistory",
            "updateCreate",
            "conditionalCreate",
            "conditionalRead",
            "conditionalUpdate",
            "conditionalDelete",
            "referencePolicy",
            "searchInclude",
            "searchRevInclude",
        ],
    ),
];

impl Facade {
    /// The statement that `mode` asks for.
    pub(super) fn capabilities(&self, parameters: &[(String, String)]) -> Result<Reply, Error> {
        let mut given = parameters.iter().filter(|(_, value)| !value.is_empty());
        let mode = given.find(|(name, _)| name == "mode").map(|(_, mode)| &**mode);
        match mode {
            None | Some("full") => {
                Ok(Reply { body: Some(self.statement()), ..Reply::empty(Success::Ok) })
            }
            Some("normative") => {
                let full = self.statement();
                let mut statement = Json::parse(full.as_bytes()).map_err(|_| Error::Internal)?;
                leave_out_trial_use(&mut statement, "");
                Ok(Reply::of(&statement))
            }
            Some("terminology") => Ok(Reply::of(&terminology(self.source.now()))),
            Some(_) => Err(Error::Unparseable(vec![
                Issue::error(
                    IssueType::Value,
                    "The value of mode cannot be read; expected is full, normative or terminology.",
                )
                .at("http.mode"),
            ])),
        }
    }

    /// The CapabilityStatement of this instance as text, made anew when the definitions change.
    pub fn statement(&self) -> Arc<str> {
        let definitions = self.definitions();
        let mut made = self.statement.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((from, text)) if Arc::ptr_eq(from, &definitions) => text.clone(),
            _ => {
                let now = self.source.now();
                let statement = statement(&definitions, &self.policy, &self.base, now);
                let text: Arc<str> = statement.to_string().into();
                *made = Some((definitions, text.clone()));
                text
            }
        }
    }
}

fn statement(definitions: &Definitions, policy: &Policy, base: &str, now: Micros) -> Json {
    let mut types: Vec<&str> = definitions.resource_types().collect();
    types.sort_unstable();
    let reverse = reverse_includes(definitions, &types);
    let resources: Vec<Json> =
        types.iter().map(|of| resource(definitions, policy, of, &reverse)).collect();
    let mut rest = json!({
        "mode": "server",
        "resource": (resources),
        "interaction": (codes(&OF_SYSTEM))
    });
    let common: Vec<Json> =
        definitions.search_parameters("Resource").filter_map(search_parameter).collect();
    rest.set("searchParam", common);
    let operations: Vec<Json> =
        OPERATIONS.iter().filter(|operation| operation.system).map(named).collect();
    if !operations.is_empty() {
        rest.set("operation", operations);
    }
    json!({
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": (instant(now)),
        "kind": "instance",
        "instantiates": (FORMS.iter().map(|role| Json::from(*role)).collect::<Vec<_>>()),
        "software": {"name": "Lumbar", "version": (env!("CARGO_PKG_VERSION"))},
        "implementation": {
            "description": "Lumbar, FHIR R4 interoperability adapter for back-pain care",
            "url": (base)
        },
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "application/fhir+xml", "json", "xml"],
        "patchFormat": [
            "application/json-patch+json", "application/fhir+json", "application/fhir+xml"
        ],
        "rest": [(rest)]
    })
}

fn codes(codes: &[&str]) -> Vec<Json> {
    codes.iter().map(|code| json!({"code": (*code)})).collect()
}

fn named(operation: &super::operation::Operation) -> Json {
    json!({"name": (operation.name), "definition": (operation.definition)})
}

/// A parameter as the statement shows it; `None` for one that no element holds (`_text`), which
/// finds nothing here.
fn search_parameter(parameter: &lumbar_fhir::definitions::SearchParameter) -> Option<Json> {
    parameter.expression.as_ref()?;
    Some(json!({
        "name": (parameter.code.as_str()),
        "definition": (parameter.url.as_str()),
        "type": (parameter.kind.code())
    }))
}

/// `source:parameter` of all reference parameters, with the types that they may refer to.
fn reverse_includes(definitions: &Definitions, types: &[&str]) -> Vec<(String, Vec<String>)> {
    let mut includes = Vec::new();
    for of in types {
        for parameter in definitions.search_parameters(of) {
            if parameter.kind == SearchKind::Reference && parameter.expression.is_some() {
                includes.push((format!("{of}:{}", parameter.code), parameter.target.clone()));
            }
        }
    }
    includes
}

fn resource(
    definitions: &Definitions,
    policy: &Policy,
    of: &str,
    reverse: &[(String, Vec<String>)],
) -> Json {
    let parameters: Vec<Json> =
        definitions.search_parameters(of).filter_map(search_parameter).collect();
    let prefix = format!("{of}:");
    let includes: Vec<Json> = reverse
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix))
        .map(|(name, _)| Json::from(name.as_str()))
        .collect();
    let referring: Vec<Json> = reverse
        .iter()
        .filter(|(_, targets)| targets.iter().any(|target| target == of))
        .map(|(name, _)| Json::from(name.as_str()))
        .collect();
    let operations: Vec<Json> =
        OPERATIONS.iter().filter(|operation| operation.is_of(of)).map(named).collect();
    let references: &[&str] = match policy.references {
        References::Off => &["literal", "logical"],
        References::Check => &["literal", "logical", "enforced"],
    };
    let mut resource = Object::new();
    if of == "Questionnaire" {
        resource.set("extension", languages());
    }
    resource.set("type", of);
    resource.set("profile", format!("http://hl7.org/fhir/StructureDefinition/{of}"));
    resource.set("interaction", codes(&OF_TYPES));
    resource
        .set("versioning", if policy.require_if_match { "versioned-update" } else { "versioned" });
    resource.set("readHistory", true);
    resource.set("updateCreate", true);
    resource.set("conditionalCreate", true);
    resource.set("conditionalRead", "full-support");
    resource.set("conditionalUpdate", true);
    resource.set(
        "conditionalDelete",
        match policy.conditional_delete {
            ConditionalDelete::Single => "single",
            ConditionalDelete::Multiple => "multiple",
        },
    );
    resource
        .set("referencePolicy", references.iter().map(|of| Json::from(*of)).collect::<Vec<_>>());
    if !includes.is_empty() {
        resource.set("searchInclude", includes);
    }
    if !referring.is_empty() {
        resource.set("searchRevInclude", referring);
    }
    if !parameters.is_empty() {
        resource.set("searchParam", parameters);
    }
    if !operations.is_empty() {
        resource.set("operation", operations);
    }
    Json::Object(resource)
}

/// The languages in which forms may have expressions, as features.
fn languages() -> Vec<Json> {
    let feature = |(code, language): &(&str, &str)| {
        json!({"url": (FEATURE), "extension": [
            {
                "url": "definition",
                "valueCanonical": (format!("http://hl7.org/fhir/uv/sdc/CodeSystem/temp#{code}"))
            },
            {"url": "value", "valueCode": (*language)}
        ]})
    };
    LANGUAGES.iter().map(feature).collect()
}

/// Removes what R4 has for trial use.
fn leave_out_trial_use(value: &mut Json, member: &str) {
    match value {
        Json::Object(object) => {
            for (parent, names) in TRIAL_USE {
                if parent == member {
                    names.iter().for_each(|name| {
                        object.remove(name);
                    });
                }
            }
            for (name, inner) in object.iter_mut() {
                let name = name.to_owned();
                leave_out_trial_use(inner, &name);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| leave_out_trial_use(item, member)),
        _ => {}
    }
}

/// What can be asked about codes: <https://hl7.org/fhir/R4/terminologycapabilities.html>.
fn terminology(now: Micros) -> Json {
    json!({
        "resourceType": "TerminologyCapabilities",
        "status": "active",
        "date": (instant(now)),
        "kind": "instance",
        "software": {"name": "Lumbar", "version": (env!("CARGO_PKG_VERSION"))},
        "implementation": {
            "description": "Lumbar, FHIR R4 interoperability adapter for back-pain care"
        }
    })
}
