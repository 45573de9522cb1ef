//! The parameters of an operation: <https://hl7.org/fhir/R4/operations.html#request>.
//!
//! They come in the query, in a Parameters resource, or both; a resource may be the body by itself.

use super::{Coding, Refusal, shown};
use crate::{Issue, IssueType, Json, Object};

/// Most codings of one request.
const MAX_CODINGS: usize = 100;

/// The parameters that a client sent.
#[derive(Clone, Debug, Default)]
pub struct Input {
    given: Vec<(String, Json)>,
    has_body: bool,
}

impl Input {
    /// Reads them; a body that is a `resource_type` counts as the parameter `resource_name`.
    ///
    /// # Errors
    /// The body is something else.
    pub fn read(
        query: &[(String, String)],
        body: Option<&Json>,
        resource_type: &str,
        resource_name: &str,
    ) -> Result<Input, Refusal> {
        let texts = query.iter().filter(|(name, _)| !name.starts_with('_'));
        let mut given: Vec<(String, Json)> =
            texts.map(|(name, value)| (name.clone(), Json::from(value))).collect();
        match body.map(|body| body.str_at(&["resourceType"])) {
            None => {}
            Some(Some("Parameters")) => {
                let list = body.map_or(&[][..], |body| body.list("parameter"));
                given.extend(list.iter().filter_map(entry));
            }
            Some(Some(kind)) if kind == resource_type => {
                given.extend(body.map(|body| (resource_name.to_owned(), body.clone())));
            }
            Some(_) => {
                let text = format!("Send a Parameters resource, or a {resource_type} alone.");
                let issue = Issue::error(IssueType::Structure, text).at("resourceType");
                return Err(Refusal::Malformed(issue));
            }
        }
        Ok(Input { given, has_body: body.is_some() })
    }

    /// As a Parameters resource, for another server; primitives from a query take the type that
    /// the operations give them.
    pub fn to_json(&self) -> Json {
        let list = self.given.iter().map(|(name, value)| {
            let value_name = match (name.as_str(), value) {
                (_, Json::Object(object)) if object.get("resourceType").is_some() => "resource",
                ("coding" | "codingA" | "codingB", _) => "valueCoding",
                ("codeableConcept", _) => "valueCodeableConcept",
                ("dependency", Json::Object(_)) => return value.clone(),
                ("url" | "system" | "source" | "target" | "targetsystem" | "context", _) => {
                    "valueUri"
                }
                ("code" | "codeA" | "codeB" | "property" | "displayLanguage", _) => "valueCode",
                ("count" | "offset", _) => "valueInteger",
                (
                    "abstract"
                    | "reverse"
                    | "activeOnly"
                    | "includeDesignations"
                    | "includeDefinition"
                    | "excludeNested"
                    | "excludeNotForUI"
                    | "inferSystem",
                    _,
                ) => "valueBoolean",
                _ => "valueString",
            };
            let value = match (value_name, value.as_str()) {
                ("valueBoolean", Some(text)) => Json::Bool(text == "true"),
                ("valueInteger", Some(text)) => {
                    text.parse::<u32>().map_or_else(|_| value.clone(), Json::from)
                }
                _ => value.clone(),
            };
            super::parameter(name, value_name, value)
        });
        super::parameters(list.collect())
    }

    /// The parameters with these names, whoever gave them.
    pub fn only(&self, names: &[&str]) -> Input {
        let mut given = self.given.clone();
        given.retain(|(name, _)| names.contains(&name.as_str()));
        Input { given, has_body: self.has_body }
    }

    /// With these codes as `coding` or `codeableConcept`. Their displays stay out, as they might
    /// say more than the code.
    pub fn with_codings(self, codings: &[Coding]) -> Input {
        let bare = |coding: &Coding| {
            let mut bare = Object::new();
            for (name, value) in [("system", &coding.system), ("version", &coding.version)] {
                if let Some(value) = value {
                    bare.set(name, value);
                }
            }
            bare.set("code", coding.code.as_str());
            Json::Object(bare)
        };
        let mut bare: Vec<Json> = codings.iter().map(bare).collect();
        match (bare.len(), bare.pop()) {
            (1, Some(coding)) => self.or("coding", coding),
            (_, Some(last)) => {
                bare.push(last);
                self.or("codeableConcept", crate::json!({"coding": (bare)}))
            }
            _ => self,
        }
    }

    /// Says the value of a parameter that was not sent.
    pub fn or(mut self, name: &str, value: impl Into<Json>) -> Input {
        if self.get(name).is_none() {
            self.given.push((name.to_owned(), value.into()));
        }
        self
    }

    /// The first value of a parameter.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.given.iter().find(|(given, _)| given == name).map(|(_, value)| value)
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Json> {
        self.given.iter().filter(move |(given, _)| given == name).map(|(_, value)| value)
    }

    /// Names of the parameters that were sent.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.given.iter().map(|(name, _)| name.as_str())
    }

    /// A text.
    ///
    /// # Errors
    /// It was sent more than once, or as something that is no text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        if self.all(name).count() > 1 {
            return Err(self.refuse(name, "can be stated once only"));
        }
        match self.get(name) {
            None => Ok(None),
            Some(Json::String(text)) if text.is_empty() => Ok(None),
            Some(Json::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.refuse(name, "must be a text")),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// It is neither true nor false.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.get(name) {
            None => Ok(None),
            Some(Json::Bool(value)) => Ok(Some(*value)),
            Some(Json::String(text)) if text == "true" => Ok(Some(true)),
            Some(Json::String(text)) if text == "false" => Ok(Some(false)),
            Some(_) => Err(self.refuse(name, "must be true or false")),
        }
    }

    /// A whole number from 0.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self, name: &str) -> Result<Option<usize>, Refusal> {
        let digits = match self.get(name) {
            None => return Ok(None),
            Some(Json::String(text) | Json::Number(text)) => text.parse().ok(),
            Some(_) => None,
        };
        let refuse = || self.refuse(name, "must be a whole number from 0, as in 20");
        digits.map(Some).ok_or_else(refuse)
    }

    /// A Coding.
    ///
    /// # Errors
    /// It has no code.
    pub fn coding(&self, name: &str) -> Result<Option<Coding>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let refuse = || {
            self.refuse(
                name,
                "must be a Coding with a code, as in {\"system\": \"http://loinc.org\", \"code\": \"8480-6\"}",
            )
        };
        Coding::read(value).map(Some).ok_or_else(refuse)
    }

    /// The codings that `coding`, `codeableConcept`, or `code` with `system` name; `version` is
    /// the name of the parameter with the version of the system.
    ///
    /// # Errors
    /// None of these was sent, or not enough of it.
    pub fn codings(&self, version: &str) -> Result<Vec<Coding>, Refusal> {
        let forms = ["code", "coding", "codeableConcept"];
        let sent = forms.into_iter().filter(|name| self.get(name).is_some());
        match *sent.collect::<Vec<_>>() {
            [] => Err(self.required(
                "code",
                "Say which code is meant: code with system, coding or codeableConcept, as in code=male&system=http://hl7.org/fhir/administrative-gender.",
            )),
            ["code"] => Ok(vec![Coding {
                system: self.text("system")?.map(str::to_owned),
                version: self.text(version)?.map(str::to_owned),
                code: self.text("code")?.unwrap_or_default().to_owned(),
                display: self.text("display")?.map(str::to_owned),
            }]),
            ["coding"] => Ok(self.coding("coding")?.into_iter().collect()),
            ["codeableConcept"] => {
                let concept = self.get("codeableConcept");
                let list = concept.map_or(&[][..], |concept| concept.list("coding"));
                let codings: Vec<Coding> = list.iter().filter_map(Coding::read).collect();
                if codings.is_empty() {
                    return Err(self.refuse("codeableConcept", "must have a coding with a code"));
                }
                if codings.len() > MAX_CODINGS {
                    let text = format!(
                        "The parameter codeableConcept has more than {MAX_CODINGS} codings; send fewer at once."
                    );
                    let issue = Issue::error(IssueType::TooCostly, text);
                    return Err(Refusal::Malformed(issue.at(self.place("codeableConcept"))));
                }
                Ok(codings)
            }
            _ => Err(self.refuse(
                "code",
                "stands beside another form; send one of code, coding and codeableConcept",
            )),
        }
    }

    /// A parameter that cannot be read.
    pub fn refuse(&self, name: &str, text: &str) -> Refusal {
        let issue = Issue::error(IssueType::Value, format!("The parameter {name} {text}."));
        Refusal::Malformed(issue.at(self.place(name)))
    }

    /// A parameter that is missing.
    pub fn required(&self, name: &str, text: &str) -> Refusal {
        Refusal::Malformed(Issue::error(IssueType::Required, text).at(self.place(name)))
    }

    /// Refuses the first of the parameters that is not offered.
    ///
    /// # Errors
    /// One of them was sent.
    pub fn not_offered(&self, names: &[&str]) -> Result<(), Refusal> {
        let Some(name) = self.names().find(|name| names.contains(name)) else { return Ok(()) };
        let text = format!("The parameter {} is not offered here; leave it out.", shown(name));
        let issue = Issue::error(IssueType::NotSupported, text).at(self.place(name));
        Err(Refusal::Malformed(issue))
    }

    /// Where a parameter stands: <https://hl7.org/fhir/R4/operationoutcome-definitions.html>.
    fn place(&self, name: &str) -> String {
        let name = shown(name);
        if self.has_body {
            format!("Parameters.parameter.where(name = '{name}')")
        } else {
            format!("http.{name}")
        }
    }
}

/// Name and value of a parameter; one with parts is its own value.
fn entry(parameter: &Json) -> Option<(String, Json)> {
    let name = parameter.str_at(&["name"])?.to_owned();
    let members = parameter.as_object()?;
    if members.get("part").is_some() {
        return Some((name, parameter.clone()));
    }
    let is_value =
        |(member, _): &(&str, &Json)| member.starts_with("value") || *member == "resource";
    let (_, value) = members.iter().find(is_value)?;
    Some((name, value.clone()))
}
