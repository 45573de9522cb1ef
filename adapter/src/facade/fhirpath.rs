//! `$fhirpath`: FHIRPath (<https://hl7.org/fhir/R4/fhirpath.html>) over a resource, with the
//! parameters of the engines of FHIRPath Lab
//! (<https://github.com/brianpos/fhirpath-lab/blob/master/server-api.md>).
//!
//! The answer has no tree of the expression, no paths of its values and no steps.
//! `terminologyserver` is not followed: the one of the configuration is asked.

mod answer;
mod environment;

use std::sync::Arc;

use lumbar_fhir::datetime::{Micros, instant};
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::format::xml;
use lumbar_fhir::path::{Checks, Context, Expression, PathError, Tally, Value};
use lumbar_fhir::terminology::Input;
use lumbar_fhir::validate::{Found, Need};
use lumbar_fhir::{Issue, IssueType, Json, Object};

use super::operation::Call;
use super::validation::Known;
use super::{Error, Facade, Reply, Unit};
use answer::parts;
use environment::Around;

/// Most items of the context that the expression is evaluated for.
const MAX_CONTEXTS: usize = 1_000;
/// Most items of one result.
const MAX_RESULTS: usize = 10_000;
/// Most variables.
const MAX_VARIABLES: usize = 100;
/// Where a resource stands as a text.
const JSON_VALUE: &str = "http://fhir.forms-lab.com/StructureDefinition/json-value";
const XML_VALUE: &str = "http://fhir.forms-lab.com/StructureDefinition/xml-value";

/// What is to be evaluated.
struct Question {
    expression: Expression,
    context: Option<Expression>,
    resource: Option<Json>,
    /// Name and value of each variable.
    variables: Vec<(String, Option<(String, Json)>)>,
    now: Micros,
}

impl Facade {
    /// Evaluates an expression, for each item of a context if there is one.
    ///
    /// # Errors
    /// The request or the expression cannot be understood, or cannot be evaluated.
    pub(super) async fn fhirpath(&self, call: &Call<'_>) -> Result<Reply, Error> {
        self.begin().await?;
        let definitions = self.definitions();
        let input = read(call)?;
        let mut unit = Unit::new(self);
        let expression = expression_in(&input, "expression")?.ok_or_else(|| {
            let text = "Send an expression, as in expression=Patient.name.given.";
            input.required("expression", text)
        })?;
        let context = expression_in(&input, "context")?;
        let resource = self.evaluated(call, &input, &definitions, &mut unit).await?;
        let variables = variables(call, &input)?;
        let question = Question { expression, context, resource, variables, now: self.now() };
        question.check(&input, &definitions)?;
        let parameters = question.parameters(&input);
        let question = Arc::new(question);
        let mut world = self.world(&unit);
        loop {
            let (question, definitions) = (question.clone(), definitions.clone());
            let (known, referred) = (world.known.clone(), world.referred.clone());
            // It may take as long as a second, which other requests need not wait for.
            let evaluate = move || {
                let found = referred.as_ref().unwrap_or(&known.resources);
                question.answer(&definitions, &known, found)
            };
            let (answer, needs) = self.work.run(evaluate).await?;
            if self.fetch_needs(&mut world, &mut unit, needs).await? {
                continue;
            }
            let mut results = answer.map_err(|issue| {
                Error::Unparseable(vec![Issue {
                    expression: place(&input, "expression"),
                    ..*issue
                }])
            })?;
            self.keep(&mut unit, world);
            let mut all = vec![parameters];
            all.append(&mut results);
            let mut answer = Object::new();
            answer.set("resourceType", "Parameters");
            answer.set("id", "fhirpath");
            answer.set("parameter", all);
            return Ok(Reply::of(&Json::Object(answer)));
        }
    }

    /// The resource that is looked at, if there is one: sent, sent as a text, or stored.
    async fn evaluated(
        &self,
        call: &Call<'_>,
        input: &Input,
        definitions: &Definitions,
        unit: &mut Unit<'_>,
    ) -> Result<Option<Json>, Error> {
        let refused = |text: &str| Error::from(input.refuse("resource", text));
        match input.get("resource") {
            Some(Json::String(reference)) => match unit.resolve(reference).await? {
                Some(resource) => Ok(Some(resource)),
                None => Err(Error::NotFound(
                    Issue::error(
                        IssueType::NotFound,
                        "The resource is not here; name one of this service, as in resource=Patient/p1, or send it.",
                    )
                    .at(place(input, "resource").unwrap_or_default()),
                )),
            },
            Some(resource @ Json::Object(_)) => Ok(Some(resource.clone())),
            Some(_) => Err(refused("must be a resource, or the reference of one, as in Patient/p1")),
            None => {
                let sent = call.body.map_or(&[][..], |body| body.list("parameter"));
                let named = sent.iter().find(|item| item.str_at(&["name"]) == Some("resource"));
                let extensions = named.map_or(&[][..], |named| named.list("extension"));
                for extension in extensions {
                    let Some(text) = extension.str_at(&["valueString"]) else { continue };
                    match extension.str_at(&["url"]) {
                        Some(JSON_VALUE) => {
                            let read = Json::parse(text.as_bytes());
                            let told = |error| refused(&format!("is not JSON: {error}"));
                            return read.map(Some).map_err(told);
                        }
                        Some(XML_VALUE) => {
                            let read = xml::parse(definitions, text.as_bytes());
                            let told = |error| refused(&format!("is not XML: {error}"));
                            return read.map(Some).map_err(told);
                        }
                        _ => {}
                    }
                }
                Ok(None)
            }
        }
    }
}

impl Question {
    /// Whether the expressions can make sense at all: "validate" asks for more, or for nothing.
    fn check(&self, input: &Input, definitions: &Definitions) -> Result<(), Error> {
        let strict = match input.flag("validate")? {
            Some(false) => return Ok(()),
            Some(true) => true,
            None => false,
        };
        let of = self.resource.as_ref().and_then(|resource| resource.str_at(&["resourceType"]));
        let variables: Vec<&str> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        let checks = |focus| Checks {
            focus,
            resource: of,
            variables: &variables,
            strict,
            ..Checks::default()
        };
        if let Some(context) = &self.context {
            let checked = context.check_with(definitions, &checks(of));
            checked.map_err(|error| fault(input, "context", context.text(), &error))?;
        }
        let focus = if self.context.is_some() { None } else { of };
        let checked = self.expression.check_with(definitions, &checks(focus));
        checked.map_err(|error| fault(input, "expression", self.expression.text(), &error))
    }

    /// What was asked, as the answer says it.
    fn parameters(&self, input: &Input) -> Json {
        let text = |name: &str, value: &str| {
            let mut part = Object::new();
            part.set("name", name);
            part.set("valueString", value);
            Json::Object(part)
        };
        let evaluator = concat!("Lumbar ", env!("CARGO_PKG_VERSION"), " (R4)");
        let mut told =
            vec![text("evaluator", evaluator), text("expression", self.expression.text())];
        if let Some(context) = &self.context {
            told.push(text("context", context.text()));
        }
        if let Some(resource) = &self.resource {
            let mut part = Object::new();
            part.set("name", "resource");
            part.set("resource", resource.clone());
            told.push(Json::Object(part));
        }
        told.extend(input.all("variables").cloned());
        let mut part = Object::new();
        part.set("name", "parameters");
        part.set("part", told);
        Json::Object(part)
    }

    /// The results, or why there are none; and what would have to be known.
    fn answer(
        &self,
        definitions: &Definitions,
        known: &Known,
        found: &Found,
    ) -> (Result<Vec<Json>, Box<Issue>>, Vec<Need>) {
        let around = Around::new(definitions, known, found, self.now);
        let tally = Tally::default();
        let results = self.results(definitions, &around, &tally);
        (results, around.needs())
    }

    fn results(
        &self,
        definitions: &Definitions,
        around: &Around<'_>,
        tally: &Tally,
    ) -> Result<Vec<Json>, Box<Issue>> {
        let variables: Vec<(&str, Vec<Value<'_>>)> = self
            .variables
            .iter()
            .map(|(name, value)| {
                let value = value.as_ref().map(|(of, json)| match of.as_str() {
                    "resource" => Value::node(json),
                    of => Value::typed(definitions, json, of),
                });
                (name.as_str(), value.into_iter().collect())
            })
            .collect();
        let now = instant(self.now);
        let resource = self.resource.as_ref().map(Value::node);
        let context = Context {
            resource: resource.clone(),
            variables: &variables,
            now: Some(&now),
            environment: Some(around),
            ..Context::new(definitions)
        };
        let focus: Vec<Value<'_>> = resource.into_iter().collect();
        let evaluate = |expression: &'_ Expression, error: PathError| {
            told(error.limit.unwrap_or(IssueType::Processing), expression.text(), &error)
        };
        let Some(of) = &self.context else {
            let items = self.expression.evaluate_within(tally, &context, &focus);
            let items = items.map_err(|error| evaluate(&self.expression, error))?;
            return Ok(vec![result(None, definitions, &items, around)?]);
        };
        let places = of.evaluate_within(tally, &context, &focus);
        let places = places.map_err(|error| evaluate(of, error))?;
        if places.len() > MAX_CONTEXTS {
            return Err(too_many("context", MAX_CONTEXTS));
        }
        around.traces();
        let mut results = Vec::with_capacity(places.len());
        for (index, place) in places.iter().enumerate() {
            let items =
                self.expression.evaluate_within(tally, &context, std::slice::from_ref(place));
            let items = items.map_err(|error| evaluate(&self.expression, error))?;
            let name = format!("{}[{index}]", of.text());
            results.push(result(Some(&name), definitions, &items, around)?);
        }
        Ok(results)
    }
}

/// One `result`.
fn result(
    context: Option<&str>,
    definitions: &Definitions,
    items: &[Value<'_>],
    around: &Around<'_>,
) -> Result<Json, Box<Issue>> {
    if items.len() > MAX_RESULTS {
        return Err(too_many("expression", MAX_RESULTS));
    }
    if around.is_too_costly() {
        let text =
            "The expression holds too many resources against profiles; ask for fewer at once.";
        return Err(Box::new(Issue::error(IssueType::TooCostly, text)));
    }
    let mut all = parts(definitions, items);
    for (name, traced) in around.traces() {
        let mut trace = Object::new();
        trace.set("name", "trace");
        trace.set("valueString", name);
        if !traced.is_empty() {
            trace.set("part", traced);
        }
        all.push(Json::Object(trace));
    }
    let mut result = Object::new();
    result.set("name", "result");
    if let Some(context) = context {
        result.set("valueString", context);
    }
    if !all.is_empty() {
        result.set("part", all);
    }
    Ok(Json::Object(result))
}

fn too_many(what: &str, most: usize) -> Box<Issue> {
    let text =
        format!("The {what} has more than {most} items; make it narrower, as with take(100).");
    Box::new(Issue::error(IssueType::TooCostly, text))
}

/// The parameters; a body that is no Parameters resource is the resource itself.
fn read(call: &Call<'_>) -> Result<Input, Error> {
    let of = call.body.and_then(|body| body.str_at(&["resourceType"]));
    let input = Input::read(call.parameters, call.body, of.unwrap_or_default(), "resource")?;
    Ok(input)
}

fn expression_in(input: &Input, name: &str) -> Result<Option<Expression>, Error> {
    let Some(text) = input.text(name)? else { return Ok(None) };
    Expression::parse(text).map(Some).map_err(|error| fault(input, name, text, &error))
}

/// A variable: its name and, unless it is empty, the type and value.
type Variable = (String, Option<(String, Json)>);

/// The variables: parts of `variables`, each with a name and a value.
fn variables(call: &Call<'_>, input: &Input) -> Result<Vec<Variable>, Error> {
    let mut variables = Vec::new();
    let given = call.body.map_or(&[][..], |body| body.list("parameter"));
    let given = given.iter().filter(|item| item.str_at(&["name"]) == Some("variables"));
    for part in given.flat_map(|item| item.list("part")) {
        let Some(name) = part.str_at(&["name"]) else {
            return Err(input.refuse("variables", "has a part without a name").into());
        };
        let members = part.as_object().into_iter().flat_map(Object::iter);
        let mut values = members.filter_map(|(member, value)| {
            let of = match member {
                "resource" => member,
                member => member.strip_prefix("value")?,
            };
            Some((of.to_owned(), value.clone()))
        });
        variables.push((name.to_owned(), values.next().map(typed)));
    }
    if variables.len() > MAX_VARIABLES {
        let text = format!("has more than {MAX_VARIABLES} parts");
        return Err(input.refuse("variables", &text).into());
    }
    Ok(variables)
}

/// The name of the type of `value[x]`: `HumanName` stays, `DateTime` is `dateTime`.
fn typed((of, value): (String, Json)) -> (String, Json) {
    let of = match value {
        Json::Object(_) => of,
        _ => {
            let mut letters = of.chars();
            letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
        }
    };
    (of, value)
}

/// Where a parameter stands.
fn place(input: &Input, name: &str) -> Option<String> {
    Error::from(input.refuse(name, "")).issues().into_iter().find_map(|issue| issue.expression)
}

/// An expression that cannot be used.
fn fault(input: &Input, name: &str, text: &str, error: &PathError) -> Error {
    let issue = told(error.limit.unwrap_or(IssueType::Invalid), text, error);
    Error::Unparseable(vec![Issue { expression: place(input, name), ..*issue }])
}

/// What is wrong with an expression, and where in its text.
fn told(code: IssueType, text: &str, error: &PathError) -> Box<Issue> {
    let Some(position) = error.position else {
        let text = format!("The expression cannot be evaluated: {}.", error.reason);
        return Box::new(Issue::error(code, text));
    };
    let before = text.get(..position).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    let text = format!(
        "The expression cannot be used: {} at line {line}, column {column} of the expression.",
        error.reason
    );
    Box::new(Issue::error(code, text).position(line, column))
}
