//! Pathways: <https://hl7.org/fhir/R4/plandefinition.html>.
//!
//! A [`Pathway`] is a PlanDefinition whose conditions are FHIRPath, read and checked once. It says
//! which resources it must see ([`Pathway::needs`]) and then which request follows and why
//! ([`Pathway::apply`]). A request is always a proposal: a scored form alone orders nothing, and
//! without clinical approval the request says so.
//!
//! **Variables.** `%response` is the QuestionnaireResponse, `%scores` the Observations of one form,
//! `%result` what was found out about a form that has just been written ([`result`]), and each ValueSet in `relatedArtifact` (`depends-on`) bears its `label`. The extension
//! [`VARIABLE`] on the PlanDefinition adds more, in order, each with sight of those before it: an
//! expression in `text/fhirpath`, or a search in `application/x-fhir-query` with FHIRPath between
//! `{{` and `}}`, which stands for what was found. Three names are read back: `referral` (one
//! request, which a proposal is based on), `reason` (the resources that justify it) and `withdraw`
//! (proposals that must not stand any longer).
//!
//! **Actions.** An action applies when all its conditions of kind `applicability` are true; its
//! parts are looked at only then. The extension [`REASON`] is an expression for the sentence that
//! explains it. A `definitionCanonical` makes what its kind says: a request, or an alert, which is a Task
//! and a Flag; there is one alert for each response and outermost action. Under `selectionBehavior` `at-most-one`,
//! two that make something are a fault and nothing is made. Related actions, timing and dynamic
//! values are not read.

mod alert;
mod propose;
mod result;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::path::{Context, Expression, Value, truth};
use lumbar_fhir::{Issue, IssueType, Json};

use crate::approval::Approval;
use alert::Alert;
pub use alert::{clearance, flag_id, is_safety_review, levels, safety_review};
use propose::Proposal;
pub use result::result;

/// Extension that names a value for the expressions of a definition.
pub const VARIABLE: &str = "http://hl7.org/fhir/StructureDefinition/variable";
/// Extension of an action: an expression for the sentence that says why it applies.
pub const REASON: &str = "https://lumbar.example/fhir/StructureDefinition/action-reason";
/// Most variables of one pathway and deepest nesting of its actions.
const MAX_DEPTH: usize = 64;

/// One pathway, checked.
#[derive(Clone, Debug)]
pub struct Pathway {
    /// Canonical url, without version.
    pub url: String,
    /// Version of the rules.
    pub version: String,
    /// Who signed these rules.
    pub approval: Approval,
    value_sets: Vec<(String, Json)>,
    variables: Vec<Variable>,
    actions: Vec<Action>,
}

/// A search whose matches [`Pathway::apply`] wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Name of the variable that stands for the matches.
    pub name: String,
    /// `Type?parameters`, relative to the FHIR base, values percent-encoded. Every match is
    /// wanted, in the order that the search asks for.
    pub search: String,
}

/// What a pathway looks at.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The form, when the result comes from one.
    pub response: Option<&'a Json>,
    /// The Observations of one result: those derived from the form, among them the ones that are
    /// now entered in error, or those that arrived from elsewhere.
    pub scores: &'a [Json],
    /// What [`result`] says of a form that has just been written.
    pub result: Option<&'a Json>,
    /// The matches of each [`Need`] by its name; one that is not named found nothing.
    pub found: &'a [(String, Vec<Json>)],
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Requests and alerts to create or update, and requests withdrawn (`entered-in-error`).
    pub resources: Vec<Json>,
    /// What the person who answers must be told at once.
    pub texts: Vec<String>,
    /// Why, or why nothing.
    pub reasons: Vec<Reason>,
}

/// One rule that applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Id of the action.
    pub rule: String,
    /// Version of the PlanDefinition.
    pub version: String,
    /// A sentence for people.
    pub text: String,
    /// References to the resources that were looked at.
    pub inputs: Vec<String>,
}

#[derive(Clone, Debug)]
struct Variable {
    name: String,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Path(Expression),
    /// Texts and the expressions between them.
    Search(Vec<(String, Option<Expression>)>),
}

#[derive(Clone, Debug)]
struct Action {
    id: String,
    conditions: Vec<Expression>,
    reason: Option<Expression>,
    /// The ActivityDefinition.
    activity: Option<Json>,
    at_most_one: bool,
    actions: Vec<Action>,
}

/// What the expressions can see.
#[derive(Clone, Copy)]
struct Scope<'a> {
    definitions: &'a Definitions,
    now: &'a str,
    variables: &'a [(&'a str, Vec<Value<'a>>)],
}

impl Pathway {
    /// Reads a PlanDefinition with the ActivityDefinitions and ValueSets that it names.
    ///
    /// # Errors
    /// The first fault: an expression that cannot be read, a canonical that is not among those
    /// given, an activity that is not a proposal of a ServiceRequest, a bad approval.
    pub fn parse(plan: &Json, activities: &[Json], value_sets: &[Json]) -> Result<Pathway, Issue> {
        let text = |name: &str| {
            let text = plan.str_at(&[name]).map(str::to_owned);
            text.ok_or_else(|| fault(name, "The pathway's element is missing."))
        };
        let (url, version) = (text("url")?, text("version")?);
        let approval = Approval::of_resource(plan, &version)?;
        let mut named = Vec::new();
        for artifact in plan.list("relatedArtifact") {
            if artifact.str_at(&["type"]) == Some("depends-on")
                && let (Some(label), Some(canonical)) =
                    (artifact.str_at(&["label"]), artifact.str_at(&["resource"]))
            {
                named.push((label.to_owned(), resolve(canonical, value_sets)?.clone()));
            }
        }
        let mut variables = Vec::new();
        for extension in plan.list("extension") {
            if extension.str_at(&["url"]) == Some(VARIABLE) {
                variables.push(variable(extension)?);
            }
        }
        if variables.len() > MAX_DEPTH {
            return Err(fault("extension", "The pathway has too many variables."));
        }
        let actions = actions(plan, activities, "action", 0)?;
        Ok(Pathway { url, version, approval, value_sets: named, variables, actions })
    }

    /// The searches whose matches `apply` must be given; none when no action can concern this
    /// result. A search about nothing (no patient is named) is left out.
    ///
    /// # Errors
    /// An expression that does not work on these resources.
    pub fn needs(
        &self,
        definitions: &Definitions,
        inputs: &Inputs,
        now: &str,
    ) -> Result<Vec<Need>, Issue> {
        self.with_scope(definitions, inputs, now, |scope| {
            let mut concerned = false;
            for action in &self.actions {
                concerned |= scope.applies(action)?;
            }
            let mut needs = Vec::new();
            for variable in self.variables.iter().filter(|_| concerned) {
                if let Source::Search(parts) = &variable.source
                    && let Some(search) = scope.search(parts)?
                {
                    needs.push(Need { name: variable.name.clone(), search });
                }
            }
            Ok(needs)
        })
    }

    /// What follows from the inputs; `now` is a dateTime with zone and becomes `authoredOn` of a
    /// request that is new or has changed. The same inputs give the same bytes.
    ///
    /// A request's id follows from the referral's id and the pathway's url, so there is one for
    /// each referral. Its status is `draft`, because it is not to be acted upon until a clinician
    /// confirms it, and its intent `proposal`.
    ///
    /// # Errors
    /// An expression that does not work on these resources, or two requests where one is
    /// permitted: nothing follows, and somebody must mend the pathway.
    pub fn apply(
        &self,
        definitions: &Definitions,
        inputs: &Inputs,
        now: &str,
    ) -> Result<Applied, Issue> {
        self.with_scope(definitions, inputs, now, |scope| {
            let mut applied = Applied::default();
            self.perform(scope, &self.actions, None, inputs, &mut applied)?;
            for value in scope.variable("withdraw") {
                applied.resources.extend(value.json().map(propose::withdrawn));
            }
            Ok(applied)
        })
    }

    /// How much was made. `outermost` is the id of the action that all these are parts of.
    fn perform(
        &self,
        scope: &Scope,
        actions: &[Action],
        outermost: Option<&str>,
        inputs: &Inputs,
        applied: &mut Applied,
    ) -> Result<usize, Issue> {
        let mut made = 0;
        for action in actions {
            let outermost = outermost.unwrap_or(&action.id);
            if !scope.applies(action)? {
                continue;
            }
            let text = match &action.reason {
                Some(expression) => scope.text(expression)?,
                None => None,
            };
            made += usize::from(action.activity.is_some());
            if let Some(activity) = &action.activity
                && alert::is_alert(activity)
            {
                let alert = Alert {
                    plan: self,
                    group: outermost,
                    rule: &action.id,
                    activity,
                    response: inputs.response,
                    result: inputs.result,
                    text: text.as_deref().unwrap_or(&action.id),
                    found: inputs.found,
                };
                applied.resources.extend(alert.resources(scope.now)?);
                applied.texts.extend(alert::patient_text(activity).map(str::to_owned));
            } else if let Some(activity) = &action.activity {
                let proposal = Proposal {
                    plan: self,
                    rule: &action.id,
                    activity,
                    referral: scope.variable("referral").iter().find_map(Value::json),
                    reasons: scope.variable("reason").iter().filter_map(Value::json).collect(),
                    text: text.as_deref(),
                    found: inputs.found,
                };
                applied.resources.push(proposal.request(scope.now)?);
            }
            if let Some(text) = text {
                let referral = scope.variable("referral").iter().filter_map(Value::json);
                let looked_at = inputs.response.into_iter().chain(inputs.scores).chain(referral);
                applied.reasons.push(Reason {
                    rule: action.id.clone(),
                    version: self.version.clone(),
                    text,
                    inputs: looked_at.filter_map(reference).collect(),
                });
            }
            let parts = self.perform(scope, &action.actions, Some(outermost), inputs, applied)?;
            if action.at_most_one && parts > 1 {
                let text = format!("More than one request follows from the action {}.", action.id);
                return Err(Issue::error(IssueType::BusinessRule, text));
            }
            made += parts;
        }
        Ok(made)
    }

    /// The ActivityDefinitions of all actions.
    fn activities(&self) -> Vec<&Json> {
        let mut found = Vec::new();
        let mut rest: Vec<&Action> = self.actions.iter().collect();
        while let Some(action) = rest.pop() {
            found.extend(&action.activity);
            rest.extend(&action.actions);
        }
        found
    }

    fn activity(&self, code: &str) -> Option<&Json> {
        self.activities()
            .into_iter()
            .find(|activity| levels(activity.get("code")).any(|c| c == code))
    }

    /// The treatment with this code that the pathway can propose, an ActivityDefinition.
    pub fn treatment(&self, code: &str) -> Option<&Json> {
        self.activity(code).filter(|activity| !alert::is_alert(activity))
    }

    /// Whether nothing is booked for a person with an alert of this level that nobody has cleared.
    pub fn holds_booking(&self, level: &str) -> bool {
        self.activity(level).is_some_and(alert::holds_booking)
    }

    /// What a person is told at once whose answers have this level, in `language` where there is a
    /// translation, else in English.
    pub fn patient_text(&self, level: &str, language: &str) -> Option<&str> {
        let activity = self.activity(level)?;
        alert::translation(activity, language).or_else(|| alert::patient_text(activity))
    }

    /// Runs `then` with every variable bound.
    fn with_scope<R>(
        &self,
        definitions: &Definitions,
        inputs: &Inputs,
        now: &str,
        then: impl Fn(&Scope) -> Result<R, Issue>,
    ) -> Result<R, Issue> {
        let mut variables: Vec<(&str, Vec<Value>)> = vec![
            ("response", inputs.response.map(Value::node).into_iter().collect()),
            ("scores", inputs.scores.iter().map(Value::node).collect()),
            ("result", inputs.result.map(Value::node).into_iter().collect()),
        ];
        for (name, value_set) in &self.value_sets {
            variables.push((name, vec![Value::node(value_set)]));
        }
        let scope = Scope { definitions, now, variables: &variables };
        bind(scope, &self.variables, inputs.found, &then)
    }
}

/// Binds `rest` one by one and calls `then` with all of them. A variable lives in the frame that
/// binds it, because a value may borrow from the variables before it.
fn bind<R>(
    scope: Scope,
    rest: &[Variable],
    found: &[(String, Vec<Json>)],
    then: &dyn Fn(&Scope) -> Result<R, Issue>,
) -> Result<R, Issue> {
    let Some((variable, rest)) = rest.split_first() else { return then(&scope) };
    let values = match &variable.source {
        Source::Path(expression) => scope.evaluate(expression)?,
        Source::Search(_) => {
            let matches = found.iter().find(|(name, _)| *name == variable.name);
            matches.map_or(&[][..], |(_, list)| list).iter().map(Value::node).collect()
        }
    };
    let mut variables = scope.variables.to_vec();
    variables.push((&variable.name, values));
    bind(Scope { variables: &variables, ..scope }, rest, found, then)
}

impl<'a> Scope<'a> {
    fn evaluate(&self, expression: &'a Expression) -> Result<Vec<Value<'a>>, Issue> {
        let context = Context {
            variables: self.variables,
            now: Some(self.now),
            ..Context::new(self.definitions)
        };
        expression.evaluate(&context, &[]).map_err(|error| unreadable(expression.text(), &error))
    }

    fn variable(&self, name: &str) -> &'a [Value<'a>] {
        let found = self.variables.iter().find(|(other, _)| *other == name);
        found.map_or(&[], |(_, values)| values)
    }

    fn applies(&self, action: &'a Action) -> Result<bool, Issue> {
        for condition in &action.conditions {
            let items = self.evaluate(condition)?;
            let holds = truth(&items).map_err(|error| unreadable(condition.text(), &error))?;
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The one text that an expression gives, if it gives one.
    fn text(&self, expression: &'a Expression) -> Result<Option<String>, Issue> {
        let items = self.evaluate(expression)?;
        Ok(items.first().and_then(Value::as_str).map(|text| text.into_owned()))
    }

    /// The search with its expressions filled in; `None` when one of them gives nothing.
    fn search(&self, parts: &'a [(String, Option<Expression>)]) -> Result<Option<String>, Issue> {
        let mut search = String::new();
        for (text, expression) in parts {
            search.push_str(text);
            let Some(expression) = expression else { continue };
            let Some(value) = self.text(expression)? else { return Ok(None) };
            percent_encode(&mut search, &value);
        }
        Ok(Some(search))
    }
}

fn actions(
    parent: &Json,
    activities: &[Json],
    place: &str,
    depth: usize,
) -> Result<Vec<Action>, Issue> {
    if depth > MAX_DEPTH {
        return Err(fault(place, "The pathway's actions are nested too deep."));
    }
    let mut actions = Vec::new();
    for (index, action) in parent.list("action").iter().enumerate() {
        let place = format!("{place}[{index}]");
        let id = action.str_at(&["id"]);
        let id = id.ok_or_else(|| fault(&place, "An action needs an id, the name of its rule."))?;
        let mut conditions = Vec::new();
        for condition in action.list("condition") {
            if condition.str_at(&["kind"]) == Some("applicability") {
                conditions.push(expression(condition.get("expression"), &place)?);
            }
        }
        let mut reason = None;
        for extension in action.list("extension") {
            if extension.str_at(&["url"]) == Some(REASON) {
                reason = Some(expression(extension.get("valueExpression"), &place)?);
            }
        }
        let activity = match action.str_at(&["definitionCanonical"]) {
            Some(canonical) => Some(resolve(canonical, activities)?.clone()),
            None => None,
        };
        if let Some(activity) = &activity {
            let is_proposal = activity.str_at(&["kind"]) == Some("ServiceRequest")
                && activity.str_at(&["intent"]) == Some("proposal");
            if alert::is_alert(activity) {
                alert::check(activity, &place)?;
            } else if !is_proposal {
                let text =
                    "An activity must be a ServiceRequest with the intent proposal, or a Task.";
                return Err(fault(&place, text));
            }
        }
        actions.push(Action {
            id: id.to_owned(),
            conditions,
            reason,
            activity,
            at_most_one: action.str_at(&["selectionBehavior"]) == Some("at-most-one"),
            actions: self::actions(action, activities, &format!("{place}.action"), depth + 1)?,
        });
    }
    Ok(actions)
}

fn variable(extension: &Json) -> Result<Variable, Issue> {
    let place = "extension";
    let value = extension.get("valueExpression");
    let part = |name: &str| value.and_then(|value| value.str_at(&[name])).unwrap_or_default();
    let name = part("name").to_owned();
    if name.is_empty() {
        return Err(fault(place, "A variable needs a name."));
    }
    let source = if part("language") == "application/x-fhir-query" {
        let mut parts = Vec::new();
        let mut rest = part("expression");
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) =
                after.split_once("}}").ok_or_else(|| fault(place, "A {{ has no }}."))?;
            parts.push((before.to_owned(), Some(parse(inside)?)));
            rest = after;
        }
        parts.push((rest.to_owned(), None));
        Source::Search(parts)
    } else {
        Source::Path(expression(value, place)?)
    };
    Ok(Variable { name, source })
}

fn expression(json: Option<&Json>, place: &str) -> Result<Expression, Issue> {
    let text = json.filter(|json| json.str_at(&["language"]) == Some("text/fhirpath"));
    match text.and_then(|json| json.str_at(&["expression"])) {
        Some(text) => parse(text),
        None => Err(fault(place, "An expression in text/fhirpath was expected.")),
    }
}

fn parse(text: &str) -> Result<Expression, Issue> {
    Expression::parse(text).map_err(|error| unreadable(text, &error))
}

fn resolve<'a>(canonical: &str, among: &'a [Json]) -> Result<&'a Json, Issue> {
    let (url, version) = canonical.split_once('|').unwrap_or((canonical, ""));
    let found = among.iter().find(|resource| {
        resource.str_at(&["url"]) == Some(url)
            && (version.is_empty() || resource.str_at(&["version"]) == Some(version))
    });
    let fault = || Issue::error(IssueType::NotFound, format!("{canonical} is not at hand."));
    found.ok_or_else(fault)
}

/// `Type/id`.
fn reference(resource: &Json) -> Option<String> {
    let (kind, id) = (resource.str_at(&["resourceType"])?, resource.str_at(&["id"])?);
    Some(format!("{kind}/{id}"))
}

fn percent_encode(out: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn unreadable(expression: &str, error: &dyn std::fmt::Display) -> Issue {
    let text = format!("The pathway's expression does not work ({error}): {expression}");
    Issue::error(IssueType::Invalid, text)
}

fn fault(place: &str, text: &str) -> Issue {
    Issue::error(IssueType::Structure, text).at(format!("PlanDefinition.{place}"))
}
