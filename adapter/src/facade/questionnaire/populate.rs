//! `$populate`: <https://hl7.org/fhir/uv/sdc/STU3/OperationDefinition-Questionnaire-populate.html>.
//!
//! A modular form is assembled before. Searches are those that the caller may make, and are
//! refused where a parameter is not known, as they would find too much. Unless `local` is false,
//! what is stored is used. `%patient` is the subject where nothing else is given.

use std::sync::Arc;

use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::questionnaire::{Population, Searches, Sources, populate};
use lumbar_fhir::rest::decode_pairs;
use lumbar_fhir::terminology::Input;
use lumbar_fhir::{Issue, IssueType, Json, json};

use super::{MAX_ROUNDS, place};
use crate::facade::operation::Call;
use crate::facade::search::Scope;
use crate::facade::{Error, Facade, Reply, Unit};

/// Most searches for one form.
const MAX_SEARCHES: usize = 100;
/// Most resources that are handed in under names.
const MAX_CONTEXT: usize = 200;
/// Most resources that are handed in besides.
const MAX_DATA: usize = 1_000;
/// Names that mean something else in FHIRPath.
const RESERVED: [&str; 8] =
    ["context", "loinc", "qitem", "questionnaire", "resource", "rootResource", "sct", "ucum"];

/// Resources by the name of the variable that holds them.
type Context = Vec<(String, Vec<Arc<Json>>)>;

/// What a form is populated with.
pub(super) struct Given {
    pub(super) subject: Option<Json>,
    pub(super) context: Context,
    pub(super) data: Vec<Json>,
    /// Whether what is stored may be used.
    pub(super) is_local: bool,
}

impl Facade {
    /// `$populate`.
    ///
    /// # Errors
    /// The request cannot be understood, the form is not here, or nothing of it can be populated.
    pub(in crate::facade) async fn populate(&self, call: &Call<'_>) -> Result<Reply, Error> {
        self.begin().await?;
        let input = Input::read(call.parameters, call.body, "Questionnaire", "questionnaire")?;
        input.not_offered(&["dataEndpoint"])?;
        let mut unit = Unit::new(self);
        let form = self.form_of(call, &input, &mut unit).await?;
        let given = self.given(&input, &mut unit).await?;
        let (response, issues) = self.populated(&mut unit, &input, form, given).await?;
        let mut parameters = vec![json!({"name": "response", "resource": (response)})];
        if !issues.is_empty() {
            let outcome = operation_outcome(&issues);
            parameters.push(json!({"name": "issues", "resource": (outcome)}));
        }
        Ok(Reply::of(&json!({"resourceType": "Parameters", "parameter": (parameters)})))
    }

    /// A response to a form with what is known, and what there is to say of it.
    pub(super) async fn populated(
        &self,
        unit: &mut Unit<'_>,
        input: &Input,
        form: Json,
        mut given: Given,
    ) -> Result<(Json, Vec<Issue>), Error> {
        let (form, mut issues) = self.assembled(unit, form).await?;
        let population = Arc::new(Population::read(self.form(form).await?));
        check_context(&population, input, &given.context)?;
        self.add_patient(unit, &mut given).await?;
        let mut world = self.world(unit);
        for one in &given.data {
            refer(&mut world, one);
        }
        let given = Arc::new(given);
        let mut searches = Searches::default();
        let (mut round, mut bytes) = (0, 0);
        loop {
            let (population, given, known) = (population.clone(), given.clone(), searches.clone());
            let work = move |world: &lumbar_fhir::validate::World<'_>| {
                let sources = Sources {
                    subject: given.subject.as_ref(),
                    context: &given.context,
                    data: &given.data,
                    searches: given.is_local.then_some(&known),
                };
                populate(&population, world, &sources)
            };
            let (done, needs) = self.with_world(&world, work).await?;
            round += 1;
            let has_fetched = self.fetch_needs(&mut world, unit, needs).await?;
            let has_searched = !done.wanted.is_empty();
            for wanted in done.wanted {
                let answer = match searches.len() < MAX_SEARCHES && round <= MAX_ROUNDS {
                    true => self.answer_search(unit, &wanted, &mut bytes).await?,
                    false => Err(format!(
                        "it takes more than {MAX_SEARCHES} searches, or chains of more than {MAX_ROUNDS}"
                    )),
                };
                searches.put(wanted, answer);
            }
            if has_fetched || has_searched {
                continue;
            }
            issues.extend(done.issues);
            issues.extend(world.incomplete());
            self.keep(unit, world);
            if done.has_failed {
                for issue in &mut issues {
                    if issue.expression.as_deref() == Some("QuestionnaireResponse.subject") {
                        issue.expression = Some(place(input, "subject"));
                    }
                }
                return Err(Error::Invalid(issues));
            }
            return Ok((done.response, issues));
        }
    }

    /// What stands in the parameters besides the form.
    pub(super) async fn given(&self, input: &Input, unit: &mut Unit<'_>) -> Result<Given, Error> {
        let subject = match input.get("subject") {
            None => None,
            Some(Json::String(text)) => Some(json!({"reference": (text.as_str())})),
            Some(subject)
                if ["reference", "identifier"].iter().any(|n| subject.get(n).is_some()) =>
            {
                Some(subject.clone())
            }
            Some(_) => {
                let text = "must be a Reference, as in {\"reference\": \"Patient/p1\"}";
                return Err(input.refuse("subject", text).into());
            }
        };
        if input.all("subject").count() > 1 {
            return Err(input.refuse("subject", "can be stated once only").into());
        }
        let mut context = Context::new();
        let mut count = 0;
        for parameter in ["context", "launchContext"] {
            for one in input.all(parameter) {
                let Some((name, contents)) = context_of(one) else {
                    let text = "must have the parts name and content, as in {\"name\": \"patient\"} and a resource or its Reference";
                    return Err(input.refuse(parameter, text).into());
                };
                if RESERVED.contains(&name) {
                    return Err(input
                        .refuse(parameter, "has a name that FHIRPath itself uses")
                        .into());
                }
                let mut resources = Vec::new();
                for content in contents {
                    count += 1;
                    if count > MAX_CONTEXT {
                        let text = format!("has more than {MAX_CONTEXT} resources; send fewer");
                        return Err(input.refuse(parameter, &text).into());
                    }
                    let found = match content {
                        Content::Resource(resource) => Some(resource.clone()),
                        Content::Reference(text) => unit.resolve(text).await?,
                    };
                    let Some(found) = found else {
                        let text =
                            "refers to a resource that is not here; send the resource itself";
                        return Err(input.refuse(parameter, text).into());
                    };
                    resources.push(Arc::new(found));
                }
                match context.iter_mut().find(|(known, _)| known == name) {
                    Some((_, known)) => known.append(&mut resources),
                    None => context.push((name.to_owned(), resources)),
                }
            }
        }
        let mut data = Vec::new();
        for one in input.all("data") {
            if one.str_at(&["resourceType"]) != Some("Bundle") {
                return Err(input.refuse("data", "must be a Bundle").into());
            }
            data.extend(one.list("entry").iter().filter_map(|entry| {
                let mut resource = entry.get("resource")?.clone();
                if let (None, Some(url)) = (resource.get("id"), entry.str_at(&["fullUrl"])) {
                    resource.set("id", url.rsplit(['/', ':']).next().unwrap_or_default());
                }
                Some(resource)
            }));
        }
        if data.len() > MAX_DATA {
            let text = format!("has more than {MAX_DATA} resources; send fewer");
            return Err(input.refuse("data", &text).into());
        }
        let is_local = input.flag("local")?.unwrap_or(true);
        Ok(Given { subject, context, data, is_local })
    }

    /// The subject as `%patient`, unless another one is given.
    async fn add_patient(&self, unit: &mut Unit<'_>, given: &mut Given) -> Result<(), Error> {
        if given.context.iter().any(|(name, _)| name == "patient") {
            return Ok(());
        }
        let subject = given.subject.as_ref().and_then(|subject| subject.str_at(&["reference"]));
        let Some(subject) = subject else { return Ok(()) };
        let sent = given.data.iter().find(|one| {
            let id = one.str_at(&["id"]).unwrap_or_default();
            let of = one.str_at(&["resourceType"]).unwrap_or_default();
            subject.ends_with(&format!("{of}/{id}"))
        });
        let found = match sent {
            Some(sent) => Some(sent.clone()),
            None if given.is_local => unit.resolve(subject).await?,
            None => None,
        };
        if let Some(found) = found
            && found.str_at(&["resourceType"]) == Some("Patient")
        {
            given.context.push(("patient".to_owned(), vec![Arc::new(found)]));
        }
        Ok(())
    }

    /// What a search finds, or why it is not made. What goes wrong here is an error.
    async fn answer_search(
        &self,
        unit: &mut Unit<'_>,
        text: &str,
        bytes: &mut usize,
    ) -> Result<Result<Arc<Json>, String>, Error> {
        let own = text.strip_prefix(self.base.as_str()).unwrap_or(text);
        let own = own.trim_start_matches('/');
        if own.split('?').next().is_some_and(|path| path.contains("://")) {
            return Ok(Err("it asks another server".to_owned()));
        }
        let Some((path, query)) = own.split_once('?') else {
            let found = unit.resolve(own).await?;
            return Ok(found.map(Arc::new).ok_or_else(|| "the resource is not here".to_owned()));
        };
        if !self.definitions().is_resource(path) {
            return Ok(Err(
                "only a search of one type, as in Observation?code=1, is made".to_owned()
            ));
        }
        let reason = |error: Error| match error {
            Error::Unparseable(_) | Error::Invalid(_) | Error::NotFound(_) => {
                let first = error.issues().into_iter().next();
                Ok(Err(first.map(|issue| issue.text).unwrap_or_default()))
            }
            error => Err(error),
        };
        let parameters = match decode_pairs(query) {
            Ok(parameters) => parameters,
            Err(refusal) => return reason(refusal.into()),
        };
        let scope = Scope { resource_type: Some(path), compartment: None };
        let body = match self.search(scope, &parameters, true).await {
            Ok(reply) => reply.body.ok_or(Error::Internal)?,
            Err(error) => return reason(error),
        };
        *bytes += body.len();
        if *bytes > self.policy.limits.response_bytes {
            return Ok(Err("all that was found together is too much".to_owned()));
        }
        let bundle = Json::parse(body.as_bytes()).map_err(|_| Error::Internal)?;
        Ok(Ok(Arc::new(bundle)))
    }
}

/// A resource, or where it is.
enum Content<'a> {
    Resource(&'a Json),
    Reference(&'a str),
}

/// The name and contents of a context.
fn context_of(parameter: &Json) -> Option<(&str, Vec<Content<'_>>)> {
    let of = |name: &'static str| {
        parameter.list("part").iter().filter(move |part| part.str_at(&["name"]) == Some(name))
    };
    let name = of("name").next()?;
    let name = ["valueString", "valueCode", "valueId"].iter().find_map(|n| name.str_at(&[n]));
    let name = name.or_else(|| of("name").next()?.str_at(&["valueCoding", "code"]))?;
    let read = |part| {
        let part: &Json = part;
        match part.get("resource") {
            Some(resource) => Some(Content::Resource(resource)),
            None => part
                .str_at(&["valueReference", "reference"])
                .or_else(|| part.str_at(&["valueString"]))
                .map(Content::Reference),
        }
    };
    let contents: Option<Vec<Content<'_>>> = of("content").map(read).collect();
    contents.filter(|contents| !contents.is_empty()).map(|contents| (name, contents))
}

/// Whether what is given fits what the form names.
fn check_context(population: &Population, input: &Input, context: &Context) -> Result<(), Error> {
    for launch in population.launch() {
        let given = context.iter().find(|(name, _)| *name == *launch.name);
        let Some((name, resources)) = given else { continue };
        let refuse = |text: &str| {
            Error::Invalid(vec![
                Issue::error(IssueType::Value, format!("The context {name} {text}."))
                    .at(place(input, "context")),
            ])
        };
        if resources.len() > 1 && !launch.is_multiple {
            return Err(refuse("is one resource for this form"));
        }
        let is_of = |resource: &Arc<Json>| {
            let of = resource.str_at(&["resourceType"]).unwrap_or_default();
            launch.types.is_empty() || launch.types.iter().any(|own| own.as_ref() == of)
        };
        if !resources.iter().all(is_of) {
            return Err(refuse(&format!("is a {} for this form", launch.types.join(" or "))));
        }
    }
    Ok(())
}

/// Lets references find a resource that was handed in.
fn refer(world: &mut crate::facade::validation::World, resource: &Json) {
    let part = |name: &str| resource.str_at(&[name]).unwrap_or_default();
    let reference = format!("{}/{}", part("resourceType"), part("id"));
    let known = world.known.resources.clone();
    world.referred.get_or_insert(known).put(reference, Some(Arc::new(resource.clone())));
}
