//! What a Questionnaire says of where its answers come from:
//! <https://hl7.org/fhir/uv/sdc/STU3/populate.html>.
//!
//! Read once, beside the [`Form`]. CQL and StructureMaps are not run.

use std::sync::Arc;

use rust_decimal::Decimal;

use super::expression::Formula;
use super::fhir_query::Query;
use super::value::number;
use super::{Form, extension};
use crate::Json;
use crate::path::Temporal;

/// Most queries of one Bundle of `sourceQueries`.
const MAX_QUERIES: usize = 50;

/// Where the answers of a form come from.
#[derive(Clone, Debug)]
pub struct Population {
    pub(super) form: Arc<Form>,
    pub(super) root: Step,
    /// One for each item of the form.
    pub(super) items: Vec<Step>,
    pub(super) sources: Vec<SourceQueries>,
    launch: Vec<LaunchContext>,
    /// Whether a value may rest on other answers, so that it is found again when these are there.
    pub(super) looks_back: bool,
    /// Whether it names a StructureMap.
    pub(super) has_map: bool,
}

/// An input that a form names:
/// <http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-launchContext>.
#[derive(Clone, Debug)]
pub struct LaunchContext {
    /// The name of the variable.
    pub name: Box<str>,
    /// The resource types that it may have.
    pub types: Vec<Box<str>>,
    /// Whether several resources may be given.
    pub is_multiple: bool,
}

/// Where the answers of one item come from.
#[derive(Clone, Debug, Default)]
pub(super) struct Step {
    /// What the item is repeated for: `itemPopulationContext`.
    pub context: Option<Named>,
    /// `initialExpression`.
    pub initial: Option<Named>,
    /// How old an Observation may be: `observationLinkPeriod`, the nearest.
    pub period: Option<Period>,
    /// The codes of the item, as search tokens.
    pub codes: Vec<Token>,
    /// Places of `answerOption` that are selected at first.
    pub selected: Vec<usize>,
}

/// An expression with the name that others may call it by.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub name: Option<Box<str>>,
    pub formula: Formula,
}

/// A system and a code.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub system: Option<Box<str>>,
    pub code: Box<str>,
}

/// A Duration.
#[derive(Clone, Debug)]
pub(super) struct Period {
    amount: Decimal,
    unit: &'static str,
}

/// A batch of queries: `sourceQueries`.
#[derive(Clone, Debug)]
pub(super) struct SourceQueries {
    /// Its id, which is the name of the variable.
    pub name: Box<str>,
    pub queries: Vec<Query>,
}

impl Population {
    /// Reads what a form says.
    pub fn read(form: Arc<Form>) -> Population {
        let source = form.questionnaire();
        let root = Step::read(source);
        let mut items: Vec<Step> = Vec::with_capacity(form.items.len());
        for item in &form.items {
            let above = match item.parent {
                None => Some(&root),
                Some(parent) => items.get(parent as usize),
            };
            let inherited = above.and_then(|step| step.period.clone());
            let json = form.source_of(items.len());
            let mut step = json.map(Step::read).unwrap_or_default();
            step.period = step.period.or(inherited);
            items.push(step);
        }
        let mut formulas = items.iter().chain([&root]).flat_map(Step::formulas);
        let own = form.items.iter().flat_map(|item| &item.variables).chain(&form.variables);
        let looks_back =
            formulas.any(looks_back) || own.map(|variable| &variable.formula).any(looks_back);
        let has_map = extension::values(source, "sourceStructureMap").next().is_some();
        let launch = source.list("extension").iter();
        let launch = launch.filter(|other| extension::term(other) == Some("launchContext"));
        let launch = launch.filter_map(LaunchContext::read).collect();
        let sources = source_queries(source);
        drop(formulas);
        Population { launch, sources, has_map, root, items, looks_back, form }
    }

    /// The form.
    pub fn form(&self) -> &Form {
        &self.form
    }

    /// The inputs that the form names.
    pub fn launch(&self) -> &[LaunchContext] {
        &self.launch
    }

    /// Whether the form says at all where answers come from.
    pub(super) fn is_any(&self) -> bool {
        let is_any = |step: &Step| step.context.is_some() || step.initial.is_some();
        is_any(&self.root) || self.items.iter().any(is_any) || !self.sources.is_empty()
    }
}

impl LaunchContext {
    fn read(extension: &Json) -> Option<LaunchContext> {
        let name = extension::part(extension, "name")?;
        let parts = extension.list("extension").iter();
        let types = parts.filter(|part| part.str_at(&["url"]) == Some("type"));
        let is_multiple = extension::part(extension, "multiplesAllowed").and_then(Json::as_bool);
        Some(LaunchContext {
            // It was a code before it was a Coding.
            name: name.str_at(&["code"]).or_else(|| name.as_str())?.into(),
            types: types
                .filter_map(|part| extension::value(part)?.as_str().map(Into::into))
                .collect(),
            is_multiple: is_multiple == Some(true),
        })
    }
}

impl Step {
    fn read(json: &Json) -> Step {
        let named = |term| extension::values(json, term).next().map(Named::read);
        let token = |coding: &Json| {
            let system = coding.str_at(&["system"]).map(Into::into);
            Some(Token { system, code: coding.str_at(&["code"])?.into() })
        };
        let options = json.list("answerOption").iter().enumerate();
        let selected = options
            .filter(|(_, option)| {
                option.get("initialSelected").and_then(Json::as_bool) == Some(true)
            })
            .map(|(index, _)| index);
        Step {
            context: named("itemPopulationContext"),
            initial: named("initialExpression"),
            period: extension::values(json, "observationLinkPeriod").next().and_then(Period::read),
            codes: json.list("code").iter().filter_map(token).collect(),
            selected: selected.collect(),
        }
    }

    fn formulas(&self) -> impl Iterator<Item = &Formula> {
        self.context.iter().chain(&self.initial).map(|named| &named.formula)
    }
}

impl Named {
    fn read(value: &Json) -> Named {
        Named { name: value.str_at(&["name"]).map(Into::into), formula: Formula::read(value) }
    }
}

impl Period {
    fn read(duration: &Json) -> Option<Period> {
        let unit = duration.str_at(&["code"]).or_else(|| duration.str_at(&["unit"]))?;
        let unit = match unit {
            "a" | "year" | "years" => "year",
            "mo" | "month" | "months" => "month",
            "wk" | "week" | "weeks" => "week",
            "d" | "day" | "days" => "day",
            "h" | "hour" | "hours" => "hour",
            "min" | "minute" | "minutes" => "minute",
            "s" | "second" | "seconds" => "second",
            _ => return None,
        };
        Some(Period { amount: number(duration.get("value")?)?, unit })
    }

    /// The moment that lies the period before `now`; the first there is if the period is longer
    /// than dates reach.
    pub fn before(&self, now: &str) -> String {
        let moment = Temporal::parse_date_time(now);
        let moved = moment.and_then(|moment| moment.add(-self.amount, self.unit));
        moved.map_or_else(|| "0001-01-01".to_owned(), |moved| moved.to_string())
    }
}

/// Whether a formula may look at the response.
fn looks_back(formula: &Formula) -> bool {
    formula.expression.as_ref().is_ok_and(|expression| {
        let text = expression.text();
        ["%resource", "%context", "%rootResource"].iter().any(|name| text.contains(name))
    })
}

/// The Bundles of queries among the contained resources.
fn source_queries(source: &Json) -> Vec<SourceQueries> {
    let wanted = extension::values(source, "sourceQueries");
    let read = |reference: &Json| {
        let id = reference.str_at(&["reference"])?.strip_prefix('#')?;
        let mut contained = source.list("contained").iter();
        let bundle = contained.find(|other| other.str_at(&["id"]) == Some(id))?;
        let urls = bundle.list("entry").iter().take(MAX_QUERIES);
        let urls = urls.map(|entry| entry.str_at(&["request", "url"]).unwrap_or_default());
        Some(SourceQueries { name: id.into(), queries: urls.map(Query::of_url).collect() })
    };
    wanted.filter_map(read).collect()
}
