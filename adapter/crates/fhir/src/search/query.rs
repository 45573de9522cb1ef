//! Reading search parameters: <https://hl7.org/fhir/R4/search.html#3.1.1.4>.
//!
//! `_include`, `_revinclude`, `_summary` and `_elements` shape the answer, not the set of matches,
//! and are read by whoever builds the answer; they are accepted here. How the values of each type
//! of parameter are compared stands in a file of that type.

use std::cell::{Cell, RefCell};

use crate::datetime::Micros;
use crate::definitions::{Definitions, SearchKind, SearchParameter};
use crate::{Issue, IssueType, Severity};

use super::condition::{Condition, Direction, Query, Sort};
use super::contained::{self, Contained};
use super::escape::{split, unescape};
use super::expansion::{Expansions, Need, SystemCode};
use super::fault::Fault;
use super::filter::Operator;

/// How much a search may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Matches on a page when the request does not say.
    pub default_count: usize,
    /// Most matches on a page, whatever the request says.
    pub max_count: usize,
    /// Longest chain (`a.b.c=`) that is followed.
    pub max_chain: usize,
    /// Most values of one parameter.
    pub max_values: usize,
    /// Most parameters, repetitions among them.
    pub max_parameters: usize,
    /// Longest value of one parameter, in bytes.
    pub max_value_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            default_count: 50,
            max_count: 1000,
            max_chain: 4,
            max_values: 200,
            max_parameters: 100,
            max_value_bytes: 32 * 1024,
        }
    }
}

/// Most parameters that one search is sorted by.
const MAX_SORT: usize = 8;

/// Most types that a chain without a type is followed to.
const MAX_TARGETS: usize = 50;

/// Most parameters that are looked up for one search: each type that a chain may lead to counts.
const MAX_STEPS: usize = 5000;

/// What a search is read with.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// The search parameters that there are.
    pub definitions: &'a Definitions,
    /// The service's own FHIR base URL.
    pub base: &'a str,
    /// Whether unknown parameters are errors.
    pub strict: bool,
    /// How much may be asked for.
    pub limits: Limits,
    /// What is known of the codes that [`needs`] named.
    pub expansions: &'a Expansions,
    /// The time, which `ap` measures its width by; without it `ap` is a day either side.
    pub now: Option<Micros>,
}

/// Parameters that shape the answer and are read elsewhere.
const SHAPING: [&str; 6] =
    ["_include", "_revinclude", "_summary", "_elements", "_format", "_pretty"];

/// Parameters that say something about the whole answer, so that two of them would contradict each
/// other.
const ONCE: [&str; 5] = ["_count", "_sort", "_total", "_contained", "_containedType"];

/// A search that has been read.
#[derive(Clone, Debug)]
pub struct Search {
    /// What is searched.
    pub query: Query,
    /// The parameters that took part, as they were given: what `link.self` must show.
    pub used: Vec<(String, String)>,
    /// What was ignored, and why (severity warning).
    pub ignored: Vec<Issue>,
    /// Whether contained resources are looked at, too; the query is about those that are not.
    pub contained: Contained,
    /// Whether contained resources are given without what contains them.
    pub alone: bool,
}

/// What must be known of terminology to read a search: to be handed in as
/// [`Reading::expansions`].
pub fn needs(
    reading: Reading<'_>,
    resource_type: &str,
    parameters: &[(String, String)],
) -> Vec<Need> {
    let may_need = |name: &str| {
        name == "_filter"
            || matches!(name.rsplit(':').next(), Some("in" | "not-in" | "above" | "below"))
    };
    if !parameters.iter().any(|(name, _)| may_need(name)) {
        return Vec::new();
    }
    let reader = Reader { noted: Some(RefCell::default()), ..Reader::new(reading) };
    // What cannot be read is told when the search itself is read.
    let _ = reader.search(resource_type, parameters);
    let mut needs = reader.noted.unwrap_or_default().into_inner();
    needs.sort();
    needs.dedup();
    needs
}

/// Reads a search for `resource_type`.
///
/// # Errors
/// One issue for each value that cannot be read, each modifier that is not known and each limit
/// that is exceeded; with `strict`, unknown parameters as well.
pub fn parse(
    reading: Reading<'_>,
    resource_type: &str,
    parameters: &[(String, String)],
) -> Result<Search, Vec<Issue>> {
    Reader::new(reading).search(resource_type, parameters)
}

/// The issue with the parameter that it is about.
fn named(issue: Issue, name: &str) -> Issue {
    // A name may be as long as a request.
    let end = name.floor_char_boundary(100);
    issue.at(format!("http.{}", &name[..end]))
}

/// One parameter of a search.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// As it was given, for what the client is told.
    pub(super) name: &'a str,
    pub(super) resource_type: &'a str,
    pub(super) parameter: &'a SearchParameter,
    pub(super) modifier: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(super) fn code(&self) -> &'a str {
        &self.parameter.code
    }

    /// The value has not the form that is shown.
    pub(super) fn expected(&self, form: &str) -> Fault {
        Fault::expected(self.name, form)
    }

    pub(super) fn unsupported(&self, reason: &str) -> Fault {
        Fault::unsupported(format!("The search parameter {}: {reason}.", self.name))
    }

    /// R4: a server rejects a modifier that it does not support.
    pub(super) fn unknown_modifier(&self, known: &str) -> Fault {
        let modifier = self.modifier.unwrap_or_default();
        let kind = self.parameter.kind.code();
        Fault::unsupported(format!(
            "The modifier :{modifier} is not supported for {}, a {kind} parameter, which takes {known}.",
            self.code()
        ))
    }
}

/// What a parameter is held against.
#[derive(Clone, Copy)]
pub(super) enum Test<'a> {
    /// The value of `name=value`.
    Value(&'a str),
    /// The operator and value of a comparison in a `_filter`.
    Compare(Operator, &'a str),
}

/// Reads one search.
pub(super) struct Reader<'a> {
    pub(super) definitions: &'a Definitions,
    pub(super) base: &'a str,
    pub(super) limits: Limits,
    pub(super) now: Option<Micros>,
    strict: bool,
    expansions: &'a Expansions,
    /// Whether contained resources are looked at.
    pub(super) contained: Cell<bool>,
    /// How many parameters have been looked up.
    steps: Cell<usize>,
    /// Where needs are noted when they are what is looked for.
    noted: Option<RefCell<Vec<Need>>>,
}

impl<'a> Reader<'a> {
    fn new(reading: Reading<'a>) -> Reader<'a> {
        let Reading { definitions, base, strict, limits, expansions, now } = reading;
        let (steps, contained) = (Cell::new(0), Cell::new(false));
        Reader { definitions, base, limits, now, strict, expansions, contained, steps, noted: None }
    }

    fn search(
        &self,
        resource_type: &str,
        parameters: &[(String, String)],
    ) -> Result<Search, Vec<Issue>> {
        let mut search = Search {
            query: Query {
                resource_type: resource_type.to_owned(),
                condition: Condition::All(Vec::new()),
                sort: Vec::new(),
                count: self.limits.default_count,
                cursor: None,
                total: false,
            },
            used: Vec::new(),
            ignored: Vec::new(),
            contained: Contained::asked(parameters),
            alone: contained::is_alone(parameters),
        };
        self.contained.set(search.contained != Contained::Without);
        let limit = self.limits.max_parameters;
        if parameters.len() > limit {
            let text = format!(
                "The search has {} parameters, more than the limit of {limit}; values that are alternatives can be put together, as in status=final,amended.",
                parameters.len()
            );
            return Err(vec![Issue::error(IssueType::TooCostly, text)]);
        }
        let mut conditions = Vec::new();
        let mut issues = Vec::new();
        for (name, value) in parameters {
            if value.is_empty() {
                continue;
            }
            if ONCE.contains(&name.as_str()) && search.used.iter().any(|(used, _)| used == name) {
                let text = format!(
                    "The search parameter {name} is given more than once; give one value, as in _count=50 or _sort=-date,status."
                );
                issues.push(named(Issue::error(IssueType::Value, text), name));
                continue;
            }
            match self.parameter_of(&mut search.query, name, value) {
                Ok(condition) => {
                    conditions.extend(condition);
                    if name != "_cursor" {
                        search.used.push((name.clone(), value.clone()));
                    }
                }
                Err(Fault::Unknown(issue)) if !self.strict => {
                    search.ignored.push(named(issue, name).severity(Severity::Warning));
                }
                Err(Fault::Unknown(issue) | Fault::Value(issue)) => issues.push(named(issue, name)),
            }
        }
        search.query.condition = Condition::All(conditions);
        if issues.is_empty() { Ok(search) } else { Err(issues) }
    }

    /// One parameter: what it says about the query, or the condition that it is.
    fn parameter_of(
        &self,
        query: &mut Query,
        name: &str,
        value: &str,
    ) -> Result<Option<Condition>, Fault> {
        let limit = self.limits.max_value_bytes;
        if value.len() > limit || name.len() > limit {
            let text = format!(
                "The search parameter {} is longer than the limit of {limit} bytes; ask for less at once.",
                name.get(..60).unwrap_or("with a very long name")
            );
            return Err(Fault::too_long(text));
        }
        match name {
            "_count" => self.count(value, query)?,
            "_sort" => self.sort(value, query)?,
            "_total" => match value {
                "none" | "estimate" => {}
                "accurate" => query.total = true,
                _ => return Err(Fault::expected(name, "none, estimate or accurate")),
            },
            "_cursor" => query.cursor = Some(value.to_owned()),
            "_contained" if matches!(value, "true" | "false" | "both") => {}
            "_contained" => return Err(Fault::expected(name, "true, false or both")),
            "_containedType" if matches!(value, "container" | "contained") => {}
            "_containedType" => return Err(Fault::expected(name, "container or contained")),
            "_filter" => return self.filter(&query.resource_type, value).map(Some),
            name if SHAPING.contains(&name.split(':').next().unwrap_or_default()) => {}
            _ => {
                let test = Test::Value(value);
                let depth = self.limits.max_chain;
                return self.condition(&query.resource_type, name, test, depth).map(Some);
            }
        }
        Ok(None)
    }

    fn count(&self, value: &str, query: &mut Query) -> Result<(), Fault> {
        if !value.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Fault::expected("_count", "a whole number from 0, as in _count=50"));
        }
        // What is too large to be read is above the limit.
        query.count = value.parse().unwrap_or(usize::MAX).min(self.limits.max_count);
        Ok(())
    }

    fn sort(&self, value: &str, query: &mut Query) -> Result<(), Fault> {
        let items: Vec<&str> = value.split(',').collect();
        if items.len() > MAX_SORT {
            return Err(Fault::too_costly(format!(
                "_sort names more than {MAX_SORT} parameters; name fewer, as in _sort=-date,status."
            )));
        }
        let sort = items.into_iter().map(|item| self.sort_key(&query.resource_type, item));
        query.sort = sort.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn sort_key(&self, resource_type: &str, item: &str) -> Result<Sort, Fault> {
        let (direction, code) = match item.strip_prefix('-') {
            Some(code) => (Direction::Descending, code),
            None => (Direction::Ascending, item),
        };
        let form = "search parameters with commas between them, as in -date,status";
        if code.is_empty() {
            return Err(Fault::expected("_sort", form));
        }
        let owned = code.to_owned();
        Ok(match code {
            "_id" => Sort::Id(direction),
            "_lastUpdated" => Sort::LastUpdated(direction),
            _ => match self.parameter(resource_type, code)?.kind {
                SearchKind::Date => Sort::Date(owned, direction),
                SearchKind::Number | SearchKind::Quantity => Sort::Number(owned, direction),
                SearchKind::Token
                | SearchKind::String
                | SearchKind::Uri
                | SearchKind::Reference => Sort::Key(owned, direction),
                SearchKind::Composite | SearchKind::Special => {
                    return Err(Fault::unsupported(format!(
                        "The search parameter {code} has no order; expected is {form}."
                    )));
                }
            },
        })
    }

    fn parameter(&self, resource_type: &str, code: &str) -> Result<&'a SearchParameter, Fault> {
        self.definitions.search_parameter(resource_type, code).ok_or_else(|| {
            Fault::unknown(format!("{resource_type} has no search parameter {code}."))
        })
    }

    /// Reads `code[:modifier]`, `link[:Type].parameter` and `_has:Type:reference:parameter`.
    pub(super) fn condition(
        &self,
        resource_type: &str,
        name: &str,
        test: Test<'_>,
        depth: usize,
    ) -> Result<Condition, Fault> {
        if depth == 0 {
            let limit = self.limits.max_chain;
            return Err(Fault::too_costly(format!(
                "A chain has at most {limit} parameters, as in patient.organization.name; this one goes on with {name}."
            )));
        }
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() > MAX_STEPS {
            return Err(Fault::too_costly(format!(
                "The chain that ends with {name} may lead to too many types; name them, as in subject:Patient.name."
            )));
        }
        if let Some(rest) = name.strip_prefix("_has:") {
            let mut parts = rest.splitn(3, ':');
            let (Some(of), Some(reference), Some(inner)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(Fault::expected(
                    "_has",
                    "a name such as _has:Observation:patient:code",
                ));
            };
            self.reference_parameter(name, of, reference)?;
            let inner = self.condition(of, inner, test, depth - 1)?;
            return Ok(Condition::ReferredBy(of.into(), reference.into(), Box::new(inner)));
        }
        if let Some((link, inner)) = name.split_once('.') {
            return self.chain(resource_type, link, inner, test, depth);
        }
        let (code, modifier) = match name.split_once(':') {
            Some((code, modifier)) => (code, Some(modifier)),
            None => (name, None),
        };
        if code == "_list" {
            return self.list(name, modifier, test);
        }
        let parameter = self.parameter(resource_type, code)?;
        let asked = Asked { name, resource_type, parameter, modifier };
        self.check_contained(name, parameter, depth)?;
        match test {
            Test::Compare(operator, value) if modifier.is_none() => {
                self.compared(&asked, operator, value)
            }
            Test::Compare(..) => Err(asked
                .unsupported("a _filter has operators, as in name co \"smith\", and no modifiers")),
            Test::Value(value) if modifier == Some("missing") => self.missing(&asked, value),
            Test::Value(value) => {
                let any = self.alternatives(name, value, |value| self.value(&asked, value))?;
                Ok(if matches!(modifier, Some("not" | "not-in")) { any.negate() } else { any })
            }
        }
    }

    /// That one of the values with commas between them holds.
    fn alternatives(
        &self,
        name: &str,
        value: &str,
        read: impl Fn(&str) -> Result<Condition, Fault>,
    ) -> Result<Condition, Fault> {
        let values = split(value, ',');
        let limit = self.limits.max_values;
        if values.len() > limit {
            return Err(Fault::too_costly(format!(
                "The search parameter {name} has {} values, more than the limit of {limit}; ask for less at once.",
                values.len()
            )));
        }
        if values.contains(&"") {
            return Err(Fault::expected(
                name,
                "values with commas between them, none of them empty; a comma within a value is written \\,",
            ));
        }
        let any = values.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Condition::any(any))
    }

    /// `:missing`: <https://hl7.org/fhir/R4/search.html#missing>.
    pub(super) fn missing(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        let present = match asked.code() {
            // Every resource has them.
            "_id" | "_lastUpdated" => Condition::All(Vec::new()),
            code => Condition::Present(code.to_owned()),
        };
        match value {
            "true" => Ok(present.negate()),
            "false" => Ok(present),
            _ => Err(asked.expected("true or false")),
        }
    }

    /// `_list`: <https://hl7.org/fhir/R4/search.html#list>.
    fn list(&self, name: &str, modifier: Option<&str>, test: Test<'_>) -> Result<Condition, Fault> {
        let (None, Test::Value(value)) = (modifier, test) else {
            return Err(Fault::expected(name, "_list=42, the id of a List, without a modifier"));
        };
        if value.starts_with('$') {
            return Err(Fault::unsupported(format!(
                "The functional list {value} is not kept here; name a List by its id, as in _list=42."
            )));
        }
        let lists = self.alternatives(name, value, |value| {
            let id = unescape(value);
            Ok(Condition::Id(vec![id.strip_prefix("List/").unwrap_or(&id).to_owned()]))
        })?;
        Ok(Condition::ReferredBy("List".to_owned(), "item".to_owned(), Box::new(lists)))
    }

    fn reference_parameter(
        &self,
        name: &str,
        of: &str,
        code: &str,
    ) -> Result<&'a SearchParameter, Fault> {
        if !self.definitions.is_resource(of) {
            return Err(Fault::expected(name, &format!("a resource type of R4 instead of {of}")));
        }
        let parameter = self.parameter(of, code)?;
        if parameter.kind != SearchKind::Reference {
            return Err(Fault::expected(
                name,
                &format!("a reference parameter of {of} instead of {code}"),
            ));
        }
        Ok(parameter)
    }

    fn chain(
        &self,
        resource_type: &str,
        link: &str,
        inner: &str,
        test: Test<'_>,
        depth: usize,
    ) -> Result<Condition, Fault> {
        let (code, only) = match link.split_once(':') {
            Some((code, only)) => (code, Some(only)),
            None => (link, None),
        };
        let parameter = self.reference_parameter(link, resource_type, code)?;
        self.check_contained(link, parameter, depth)?;
        let targets: Vec<&str> = match only {
            Some(only) if !self.definitions.is_resource(only) => {
                return Err(Fault::expected(
                    link,
                    &format!("a resource type of R4 instead of {only}, as in subject:Patient.name"),
                ));
            }
            Some(only) => vec![only],
            None if parameter.target.is_empty() => self.definitions.resource_types().collect(),
            None => parameter.target.iter().map(String::as_str).collect(),
        };
        let (mut any, mut count) = (Vec::new(), 0);
        let mut fault = None;
        for target in targets {
            match self.condition(target, inner, test, depth - 1) {
                Ok(condition) => {
                    count += 1;
                    let inside = contained::referred(self.definitions, code, target, &condition);
                    any.extend(inside);
                    let (code, target) = (code.to_owned(), target.to_owned());
                    any.push(Condition::Refers(code, target, Box::new(condition)));
                }
                // What cannot be read for one type may be read for another.
                Err(Fault::Unknown(issue)) => {
                    fault = fault.or(Some(Fault::Unknown(issue)));
                }
                Err(Fault::Value(issue)) if issue.code == IssueType::TooCostly => {
                    return Err(Fault::Value(issue));
                }
                Err(Fault::Value(issue)) => fault = Some(Fault::Value(issue)),
            }
            if count > MAX_TARGETS {
                return Err(Fault::too_costly(format!(
                    "{link} may point to many types that have {inner}; name one, as in {code}:Patient.{inner}."
                )));
            }
        }
        match fault {
            Some(fault) if any.is_empty() => Err(fault),
            _ => Ok(Condition::any(any)),
        }
    }

    /// The condition of one value.
    pub(super) fn value(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        if asked.code() == "_id" {
            return match asked.modifier {
                None | Some("not") => Ok(Condition::Id(vec![unescape(value)])),
                Some(_) => Err(asked.unknown_modifier("not and missing")),
            };
        }
        match asked.parameter.kind {
            SearchKind::Token => self.token(asked, value),
            SearchKind::Reference => self.reference(asked, value),
            SearchKind::String => self.string(asked, value),
            SearchKind::Uri => self.uri(asked, value),
            SearchKind::Date => self.date(asked, value),
            SearchKind::Number => self.number(asked, value),
            SearchKind::Quantity => self.quantity(asked, value),
            SearchKind::Composite => self.composite(asked, value),
            SearchKind::Special => self.near(asked, value),
        }
    }

    /// The codes of a need.
    pub(super) fn codes(&self, asked: &Asked<'_>, need: Need) -> Result<&'a [SystemCode], Fault> {
        if let Some(noted) = &self.noted {
            noted.borrow_mut().push(need);
            return Ok(&[]);
        }
        match self.expansions.get(&need) {
            Some(Ok(codes)) => Ok(codes),
            Some(Err(issue)) => Err(Fault::Value(issue.clone())),
            None => Err(Fault::Value(Issue::error(
                IssueType::NotFound,
                format!(
                    "The search parameter {}: no terminology is at hand; name the codes one by one.",
                    asked.name
                ),
            ))),
        }
    }
}
