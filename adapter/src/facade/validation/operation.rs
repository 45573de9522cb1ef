//! `$validate`: <https://hl7.org/fhir/R4/resource-operation-validate.html>.
//!
//! 200 says that the resource was looked at, whatever was found. A mode says what is meant to be
//! done with it: then everything that would happen before the commit is done, and no more.

use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::rest::is_id;
use lumbar_fhir::terminology::Input;
use lumbar_fhir::{Issue, IssueType, Json};

use super::{Asked, Known};
use crate::facade::operation::Call;
use crate::facade::{Error, Facade, Reply, Unit, shape};

/// Most profiles of one request.
const MAX_PROFILES: usize = 20;
/// Where R4's own types have their StructureDefinitions.
const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";

/// What is meant to be done: <https://hl7.org/fhir/R4/valueset-resource-validation-mode.html>.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Update,
    Delete,
    Profile,
}

impl Facade {
    /// Looks whether a resource is valid, or whether a write of it would be accepted.
    ///
    /// # Errors
    /// It could not be looked at: the request cannot be understood, a profile is not known, the
    /// instance is not there.
    pub(in crate::facade) async fn validate(&self, call: &Call<'_>) -> Result<Reply, Error> {
        self.begin().await?;
        let (input, of) = read(call)?;
        let mode = mode(&input)?;
        let profiles = profiles(&input)?;
        let issues = match (mode, call.id) {
            (Some(Mode::Delete), Some(id)) => self.deletable(&of, id).await?,
            (Some(Mode::Delete), None) => {
                let text =
                    "Say which resource would be deleted, as in Patient/p1/$validate?mode=delete.";
                return Err(input.required("mode", text).into());
            }
            (Some(Mode::Profile), _) if profiles.is_empty() => {
                let text = "The mode profile needs the parameter profile, the canonical of a profile that is known here.";
                return Err(input.required("profile", text).into());
            }
            (None | Some(Mode::Profile), Some(id)) if input.get("resource").is_none() => {
                let body = self.read(&of, id).await?.body.ok_or(Error::Internal)?;
                let resource = Json::parse(body.as_bytes()).map_err(|_| Error::Internal)?;
                self.acceptable(&resource, None, None, &profiles).await?
            }
            _ => {
                let Some(resource) = input.get("resource") else {
                    let text = "Send the resource that is to be validated: as the body, or as the parameter resource of Parameters.";
                    return Err(input.required("resource", text).into());
                };
                self.acceptable(resource, mode, call.id, &profiles).await?
            }
        };
        Ok(Reply { issues: issues.clone(), ..Reply::of(&operation_outcome(&issues)) })
    }

    /// What is wrong with a resource, and, when there is no error, what stands in the way of
    /// writing it.
    async fn acceptable(
        &self,
        resource: &Json,
        mode: Option<Mode>,
        id: Option<&str>,
        profiles: &[String],
    ) -> Result<Vec<Issue>, Error> {
        let of = resource.str_at(&["resourceType"]).unwrap_or_default();
        let mut unit = Unit::new(self);
        let (mut issues, known) =
            self.issues_and_known(&mut unit, resource, Asked::of(profiles)).await?;
        self.all_known(of, profiles, &known)?;
        if mode == Some(Mode::Update) {
            issues.extend(other_id(resource, of, id));
        }
        if issues.iter().any(Issue::is_error) || !self.definitions().is_resource(of) {
            return Ok(issues);
        }
        let rehearsed = match mode {
            Some(Mode::Create) => {
                let id = self.source.id();
                let mut resource = resource.clone();
                resource.set("id", id.as_str());
                self.rehearse(unit, of, &id, resource).await
            }
            Some(Mode::Update) => {
                let id = resource.str_at(&["id"]).unwrap_or_default();
                unit.version(of, id).await?;
                self.rehearse(unit, of, id, resource.clone()).await
            }
            _ => Ok(()),
        };
        issues.extend(refusals(rehearsed)?);
        Ok(issues)
    }

    async fn rehearse(
        &self,
        mut unit: Unit<'_>,
        of: &str,
        id: &str,
        resource: Json,
    ) -> Result<(), Error> {
        self.refuse(&resource)?;
        unit.put(of, id, resource);
        unit.rehearse().await
    }

    /// What stands in the way of deleting a resource.
    async fn deletable(&self, of: &str, id: &str) -> Result<Vec<Issue>, Error> {
        // One that is not there, or no more, is told as such.
        self.read(of, id).await?;
        let mut unit = Unit::new(self);
        unit.version(of, id).await?;
        unit.remove(of, id);
        refusals(unit.rehearse().await)
    }

    /// "If a profile is nominated, and the server cannot validate against the nominated profile, it
    /// SHALL return an error."
    fn all_known(&self, of: &str, profiles: &[String], known: &Known) -> Result<(), Error> {
        let definitions = self.definitions();
        for profile in profiles {
            let bare = profile.split('|').next().unwrap_or_default();
            let is_own = bare.strip_prefix(CORE).is_some_and(|name| definitions.is_a(of, name));
            if !is_own && known.profiles.find(profile).is_none() {
                let shown: String = profile.chars().take(200).collect();
                let text = format!(
                    "The profile {shown} is not known here, so nothing was validated against it; store its StructureDefinition, or start the service with --profiles."
                );
                return Err(Error::NotFound(Issue::error(IssueType::NotFound, text)));
            }
        }
        Ok(())
    }

    /// Refuses what is never stored, whatever the validation is.
    pub(super) fn refuse(&self, resource: &Json) -> Result<(), Error> {
        shape::refuse_part(resource)?;
        self.check_parameter(resource)
    }
}

/// The parameters, and the type that they are about.
fn read<'a>(call: &Call<'a>) -> Result<(Input, String), Error> {
    let body = call.body;
    let of_body = body.and_then(|body| body.str_at(&["resourceType"]));
    if let (Some(body), None) = (body, of_body) {
        let place = match body {
            Json::Object(_) => "The body is no resource: it has no resourceType.",
            _ => "The body is no resource: a resource is a JSON object.",
        };
        return Err(Error::Unparseable(vec![Issue::error(IssueType::Structure, place)]));
    }
    let is_wrapped = of_body == Some("Parameters");
    // A Parameters resource that says nothing of a validation is what is to be validated.
    let names = ["resource", "mode", "profile"];
    let says = |body: &Json| {
        let mut given = body.list("parameter").iter().filter_map(|item| item.str_at(&["name"]));
        given.any(|name| names.contains(&name))
    };
    if is_wrapped && call.resource_type == Some("Parameters") && !body.is_some_and(says) {
        let input = Input::read(call.parameters, None, "", "")?;
        let resource = body.cloned().unwrap_or(Json::Null);
        return Ok((input.or("resource", resource), "Parameters".to_owned()));
    }
    let of = call.resource_type.or(of_body.filter(|_| !is_wrapped)).unwrap_or_default();
    let input = Input::read(call.parameters, body, of, "resource")?;
    if let Some(resource) = input.get("resource") {
        let inner = resource.str_at(&["resourceType"]);
        if inner.is_none() {
            return Err(input.refuse("resource", "must be a resource").into());
        }
        if call.resource_type.is_some() && inner != call.resource_type {
            let text = format!("must be a {of}, the type of the URL");
            return Err(input.refuse("resource", &text).into());
        }
    }
    Ok((input, of.to_owned()))
}

fn mode(input: &Input) -> Result<Option<Mode>, Error> {
    Ok(Some(match input.text("mode")? {
        None => return Ok(None),
        Some("create") => Mode::Create,
        Some("update") => Mode::Update,
        Some("delete") => Mode::Delete,
        Some("profile") => Mode::Profile,
        Some(_) => {
            return Err(input.refuse("mode", "is create, update, delete or profile").into());
        }
    }))
}

fn profiles(input: &Input) -> Result<Vec<String>, Error> {
    let mut profiles = Vec::new();
    for value in input.all("profile") {
        match value.as_str() {
            Some("") => {}
            Some(profile) => profiles.push(profile.to_owned()),
            None => {
                let text = "must be a canonical, as in http://hl7.org/fhir/StructureDefinition/bmi";
                return Err(input.refuse("profile", text).into());
            }
        }
    }
    if profiles.len() > MAX_PROFILES {
        let text =
            format!("A resource is held against {MAX_PROFILES} profiles at most; send fewer.");
        return Err(Error::Unparseable(vec![Issue::error(IssueType::TooCostly, text)]));
    }
    Ok(profiles)
}

/// The id of an update, when it is missing or not that of the URL.
fn other_id(resource: &Json, of: &str, id: Option<&str>) -> Option<Issue> {
    let text = match (resource.str_at(&["id"]), id) {
        (None, Some(id)) => {
            format!("The resource has no id; an update carries that of its URL, {id}.")
        }
        (None, None) => "The resource has no id; an update carries that of its URL.".to_owned(),
        (Some(inside), Some(id)) if inside != id => {
            format!("The id differs from that of the URL, {id}; make them equal.")
        }
        (Some(inside), None) if !is_id(inside) => {
            "This is not an id: 1 to 64 letters, digits, hyphens and points are allowed.".to_owned()
        }
        _ => return None,
    };
    Some(Issue::error(IssueType::Invalid, text).at(format!("{of}.id")))
}

/// Why a write would be refused; an error when that cannot be said.
fn refusals(rehearsed: Result<(), Error>) -> Result<Vec<Issue>, Error> {
    match rehearsed {
        Ok(()) => Ok(Vec::new()),
        Err(
            error @ (Error::Invalid(_)
            | Error::Unparseable(_)
            | Error::Refused(_)
            | Error::NotSupported(_)
            | Error::TooMany(_)
            | Error::PreconditionFailed(_)),
        ) => Ok(error.issues()),
        Err(error) => Err(error),
    }
}
