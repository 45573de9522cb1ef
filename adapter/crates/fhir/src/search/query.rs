//! Reading search parameters: <https://hl7.org/fhir/R4/search.html#3.1.1.4>.
//!
//! `_include`, `_revinclude`, `_summary` and `_elements` shape the answer, not the set of matches,
//! and are read by whoever builds the answer; they are accepted here. Composite parameters are not
//! supported.

use crate::datetime::{DateTime, Micros};
use crate::definitions::{Definitions, SearchKind, SearchParameter};
use crate::{Issue, IssueType};

use super::condition::{Bound, Condition, Direction, Query, Sort};
use super::expansion::{Expansions, Need};
use super::key::{self, Number};

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
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { default_count: 50, max_count: 1000, max_chain: 4, max_values: 200 }
    }
}

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

/// A search that has been read.
#[derive(Clone, Debug)]
pub struct Search {
    /// What is searched.
    pub query: Query,
    /// The parameters that took part, as they were given: what `link.self` must show.
    pub used: Vec<(String, String)>,
    /// What was ignored, and why (severity warning).
    pub ignored: Vec<Issue>,
}

/// What must be known of terminology to read a search: to be handed in as
/// [`Reading::expansions`].
pub fn needs(
    reading: Reading<'_>,
    resource_type: &str,
    parameters: &[(String, String)],
) -> Vec<Need> {
    let _ = (reading, resource_type, parameters);
    Vec::new()
}

/// Reads a search for `resource_type`.
///
/// # Errors
/// One issue for each value that cannot be read and each modifier that is not supported; with
/// `strict`, unknown parameters as well.
pub fn parse(
    reading: Reading<'_>,
    resource_type: &str,
    parameters: &[(String, String)],
) -> Result<Search, Vec<Issue>> {
    let Reading { definitions, base, strict, limits, .. } = reading;
    let reader = Reader { definitions, base, limits };
    let mut search = Search {
        query: Query {
            resource_type: resource_type.to_owned(),
            condition: Condition::All(Vec::new()),
            sort: Vec::new(),
            count: limits.default_count,
            cursor: None,
            total: false,
        },
        used: Vec::new(),
        ignored: Vec::new(),
    };
    let mut conditions = Vec::new();
    let mut issues = Vec::new();
    for (name, value) in parameters {
        if value.is_empty() {
            continue;
        }
        let read = match name.as_str() {
            "_count" => reader.count(value, &mut search.query),
            "_sort" => reader.sort(resource_type, value, &mut search.query),
            "_total" => match value.as_str() {
                "none" | "estimate" => Ok(()),
                "accurate" => {
                    search.query.total = true;
                    Ok(())
                }
                _ => Err(Fault::Value(unreadable(name, "none, estimate or accurate"))),
            },
            "_cursor" => {
                search.query.cursor = Some(value.clone());
                Ok(())
            }
            name if SHAPING.contains(&name.split(':').next().unwrap_or_default()) => Ok(()),
            _ => reader.condition(resource_type, name, value, limits.max_chain).map(|condition| {
                conditions.push(condition);
            }),
        };
        match read {
            Ok(()) if name != "_cursor" => search.used.push((name.clone(), value.clone())),
            Ok(()) => {}
            Err(Fault::Unknown(issue)) if !strict => {
                search.ignored.push(issue.severity(crate::Severity::Warning));
            }
            Err(Fault::Unknown(issue) | Fault::Value(issue)) => issues.push(issue),
        }
    }
    search.query.condition = Condition::All(conditions);
    if issues.is_empty() { Ok(search) } else { Err(issues) }
}

/// Why a parameter cannot be used.
enum Fault {
    /// It is not known here: ignored unless handling is strict.
    Unknown(Issue),
    /// It is known and cannot be read.
    Value(Issue),
}

fn unreadable(name: &str, expected: &str) -> Issue {
    Issue::error(
        IssueType::Value,
        format!("The value of the search parameter {name} cannot be read; expected is {expected}."),
    )
    .at(format!("http.{name}"))
}

struct Reader<'a> {
    definitions: &'a Definitions,
    base: &'a str,
    limits: Limits,
}

impl Reader<'_> {
    fn count(&self, value: &str, query: &mut Query) -> Result<(), Fault> {
        let count: usize = value
            .parse()
            .map_err(|_| Fault::Value(unreadable("_count", "a whole number from 0")))?;
        query.count = count.min(self.limits.max_count);
        Ok(())
    }

    fn sort(&self, resource_type: &str, value: &str, query: &mut Query) -> Result<(), Fault> {
        for item in value.split(',') {
            let (direction, code) = match item.strip_prefix('-') {
                Some(code) => (Direction::Descending, code),
                None => (Direction::Ascending, item),
            };
            query.sort.push(match code {
                "_id" => Sort::Id(direction),
                "_lastUpdated" => Sort::LastUpdated(direction),
                _ => match self.parameter(resource_type, code)?.kind {
                    SearchKind::Date => Sort::Date(code.to_owned(), direction),
                    SearchKind::Number | SearchKind::Quantity => {
                        Sort::Number(code.to_owned(), direction)
                    }
                    SearchKind::Token
                    | SearchKind::String
                    | SearchKind::Uri
                    | SearchKind::Reference => Sort::Key(code.to_owned(), direction),
                    SearchKind::Composite | SearchKind::Special => {
                        return Err(Fault::Value(unreadable(
                            "_sort",
                            "a parameter with one value",
                        )));
                    }
                },
            });
        }
        Ok(())
    }

    fn parameter(&self, resource_type: &str, code: &str) -> Result<&SearchParameter, Fault> {
        self.definitions.search_parameter(resource_type, code).ok_or_else(|| {
            Fault::Unknown(
                Issue::error(
                    IssueType::NotSupported,
                    format!("{resource_type} has no search parameter {code}."),
                )
                .at(format!("http.{code}")),
            )
        })
    }

    /// Reads `code[:modifier][.chain]=value` and `_has:Type:reference:parameter=value`.
    fn condition(
        &self,
        resource_type: &str,
        name: &str,
        value: &str,
        depth: usize,
    ) -> Result<Condition, Fault> {
        if depth == 0 {
            return Err(Fault::Value(unreadable(name, "a shorter chain")));
        }
        if let Some(rest) = name.strip_prefix("_has:") {
            let mut parts = rest.splitn(3, ':');
            let (Some(of), Some(reference), Some(inner)) =
                (parts.next(), parts.next(), parts.next())
            else {
                return Err(Fault::Value(unreadable("_has", "_has:Type:reference:parameter")));
            };
            self.reference_parameter(of, reference)?;
            let inner = self.condition(of, inner, value, depth - 1)?;
            return Ok(Condition::ReferredBy(of.into(), reference.into(), Box::new(inner)));
        }
        if let Some((link, inner)) = name.split_once('.') {
            return self.chain(resource_type, link, inner, value, depth);
        }
        let (code, modifier) = match name.split_once(':') {
            Some((code, modifier)) => (code, Some(modifier)),
            None => (name, None),
        };
        match code {
            "_id" if modifier.is_none() => return Ok(Condition::Id(values(value))),
            "_lastUpdated" if modifier.is_none() => return last_updated(value),
            _ => {}
        }
        let parameter = self.parameter(resource_type, code)?;
        if modifier == Some("missing") {
            let present = Condition::Present(code.to_owned());
            return match value {
                "true" => Ok(Condition::Not(Box::new(present))),
                "false" => Ok(present),
                _ => Err(Fault::Value(unreadable(name, "true or false"))),
            };
        }
        let values = values(value);
        if values.len() > self.limits.max_values {
            let expected = format!("at most {} values", self.limits.max_values);
            return Err(Fault::Value(unreadable(name, &expected)));
        }
        let any = values
            .iter()
            .map(|value| self.value(parameter, name, modifier, value))
            .collect::<Result<Vec<_>, _>>()?;
        let any = match <[Condition; 1]>::try_from(any) {
            Ok([only]) => only,
            Err(any) => Condition::Any(any),
        };
        Ok(if modifier == Some("not") { Condition::Not(Box::new(any)) } else { any })
    }

    fn reference_parameter(&self, of: &str, code: &str) -> Result<&SearchParameter, Fault> {
        if !self.definitions.is_resource(of) {
            return Err(Fault::Value(unreadable(code, "a resource type of FHIR R4")));
        }
        let parameter = self.parameter(of, code)?;
        if parameter.kind != SearchKind::Reference {
            return Err(Fault::Value(unreadable(code, "a reference parameter")));
        }
        Ok(parameter)
    }

    fn chain(
        &self,
        resource_type: &str,
        link: &str,
        inner: &str,
        value: &str,
        depth: usize,
    ) -> Result<Condition, Fault> {
        let (code, only) = match link.split_once(':') {
            Some((code, only)) => (code, Some(only)),
            None => (link, None),
        };
        let parameter = self.reference_parameter(resource_type, code)?;
        let targets: Vec<&str> = match only {
            Some(only) => vec![only],
            None => parameter.target.iter().map(String::as_str).collect(),
        };
        let mut any = Vec::new();
        let mut unknown = None;
        for target in targets {
            match self.condition(target, inner, value, depth - 1) {
                Ok(condition) => any.push(Condition::Refers(
                    code.to_owned(),
                    target.to_owned(),
                    Box::new(condition),
                )),
                Err(Fault::Unknown(issue)) => unknown = Some(issue),
                Err(fault) => return Err(fault),
            }
        }
        match unknown {
            Some(issue) if any.is_empty() => Err(Fault::Unknown(issue)),
            _ => Ok(Condition::Any(any)),
        }
    }

    fn value(
        &self,
        parameter: &SearchParameter,
        name: &str,
        modifier: Option<&str>,
        value: &str,
    ) -> Result<Condition, Fault> {
        let code = parameter.code.clone();
        let unsupported = |modifier: &str| {
            Fault::Value(
                Issue::error(
                    IssueType::NotSupported,
                    format!("The modifier :{modifier} is not supported for {code}."),
                )
                .at(format!("http.{name}")),
            )
        };
        let read = match (parameter.kind, modifier) {
            (SearchKind::Token, None | Some("not")) => Some(token(code, value)),
            (SearchKind::Token | SearchKind::Reference, Some("text")) => {
                let (from, to) = key::beginning_with(&key::fold(&unescape(value)));
                Some(Condition::Key(format!("{code}:text"), from, to))
            }
            (SearchKind::Token, Some("of-type")) => of_type(&code, value),
            (SearchKind::Reference, Some("identifier")) => {
                Some(token(format!("{code}:identifier"), value))
            }
            (SearchKind::Reference, None) => Some(self.reference(parameter, None, value)),
            (SearchKind::Reference, Some(of)) if self.definitions.is_resource(of) => {
                Some(self.reference(parameter, Some(of), value))
            }
            (SearchKind::String, None) => {
                let (from, to) = key::beginning_with(&key::fold(unescape(value).trim()));
                Some(Condition::Key(code, from, to))
            }
            (SearchKind::String, Some("exact")) => {
                let (from, to) = key::equal_to(key::string(&unescape(value)));
                Some(Condition::Key(code, from, to))
            }
            (SearchKind::String, Some("contains")) => {
                Some(Condition::KeyContains(code, key::fold(&unescape(value))))
            }
            (SearchKind::Uri, None) => {
                let (from, to) = key::equal_to(unescape(value));
                Some(Condition::Key(code, from, to))
            }
            (SearchKind::Uri, Some("below")) => {
                let (from, to) = key::beginning_with(&unescape(value));
                Some(Condition::Key(code, from, to))
            }
            (SearchKind::Date, None) => date(&code, value),
            (SearchKind::Number, None) => number(&code, value, None),
            (SearchKind::Quantity, None) => quantity(&code, value),
            (_, Some(modifier)) => return Err(unsupported(modifier)),
            (SearchKind::Composite | SearchKind::Special, None) => {
                return Err(Fault::Unknown(
                    Issue::error(
                        IssueType::NotSupported,
                        format!("The search parameter {code} is not supported."),
                    )
                    .at(format!("http.{name}")),
                ));
            }
        };
        read.ok_or_else(|| {
            let expected = match parameter.kind {
                SearchKind::Date => "a date such as ge2026-03 or 2026-03-02T10:00:00Z",
                SearchKind::Number => "a number such as 5.4 or gt5.4",
                SearchKind::Quantity => "a quantity such as gt5.4|http://unitsofmeasure.org|mg",
                _ => "type system, type code and value with | between them",
            };
            Fault::Value(unreadable(name, expected))
        })
    }

    fn reference(&self, parameter: &SearchParameter, only: Option<&str>, value: &str) -> Condition {
        let code = parameter.code.clone();
        let value = unescape(value);
        if value.contains('/') || value.contains(':') {
            // A canonical is found with and without its version.
            let (url, version) = match value.split_once('|') {
                Some((url, version)) => (url, Some(version)),
                None => (value.as_str(), None),
            };
            let own = super::index::reference_key(self.base, url).unwrap_or_default();
            let is_ours =
                own.split_once('/').is_some_and(|(of, _)| self.definitions.is_resource(of));
            let of_resource = equal(&code, own);
            if is_ours && version.is_none() {
                // One of our own resources is no canonical, and one key is found soonest.
                return of_resource;
            }
            let (from, to) = match version {
                Some(version) => key::equal_to(key::canonical(url, version)),
                None => key::beginning_with(&key::canonical(url, "")),
            };
            return Condition::Any(vec![of_resource, Condition::Key(code, from, to)]);
        }
        let targets: Vec<&str> = match only {
            Some(only) => vec![only],
            None => parameter.target.iter().map(String::as_str).collect(),
        };
        let any = targets.iter().map(|of| equal(&code, format!("{of}/{value}"))).collect();
        Condition::Any(any)
    }
}

fn equal(code: &str, key: String) -> Condition {
    let (from, to) = key::equal_to(key);
    Condition::Key(code.to_owned(), from, to)
}

fn token(code: String, value: &str) -> Condition {
    match split(value, '|').as_slice() {
        [system, empty] if empty.is_empty() => {
            Condition::KeyEnds(code, format!("{}{}", key::SEPARATOR, unescape(system)))
        }
        [system, token] => equal(&code, key::token(&unescape(system), &unescape(token))),
        _ => {
            let (from, to) = key::beginning_with(&key::token("", &unescape(value)));
            Condition::Key(code, from, to)
        }
    }
}

fn of_type(code: &str, value: &str) -> Option<Condition> {
    match split(value, '|').as_slice() {
        [system, of, text] => {
            let of_type = key::token(&unescape(system), &unescape(of));
            let key = format!("{of_type}{}{}", key::SEPARATOR, unescape(text));
            Some(equal(&format!("{code}:of-type"), key))
        }
        _ => None,
    }
}

/// The comparison that a value begins with: <https://hl7.org/fhir/R4/search.html#prefix>.
fn prefix(value: &str) -> (&str, &str) {
    match value.get(..2) {
        Some(prefix @ ("eq" | "ne" | "gt" | "lt" | "ge" | "le" | "sa" | "eb" | "ap")) => {
            (prefix, &value[2..])
        }
        _ => ("eq", value),
    }
}

const ANY_DATE: [Bound<i64>; 2] = [Bound::Open, Bound::Open];

fn date(code: &str, value: &str) -> Option<Condition> {
    let (prefix, text) = prefix(value);
    let (low, high) = DateTime::parse(text)?.bounds();
    let condition = |start, end| Condition::Date(code.to_owned(), start, end);
    let within =
        || condition([Bound::Included(low), Bound::Open], [Bound::Open, Bound::Included(high)]);
    let above = || condition(ANY_DATE, [Bound::Excluded(high), Bound::Open]);
    let below = || condition([Bound::Open, Bound::Excluded(low)], ANY_DATE);
    Some(match prefix {
        "eq" => within(),
        "ne" => Condition::All(vec![
            Condition::Present(code.to_owned()),
            Condition::Not(Box::new(within())),
        ]),
        "gt" => above(),
        "lt" => below(),
        "ge" => Condition::Any(vec![above(), within()]),
        "le" => Condition::Any(vec![below(), within()]),
        "sa" => condition([Bound::Excluded(high), Bound::Open], ANY_DATE),
        "eb" => condition(ANY_DATE, [Bound::Open, Bound::Excluded(low)]),
        // R4 leaves the width open and suggests a tenth of the gap to now; without a clock here,
        // a day either side.
        _ => {
            const DAY: i64 = 86_400_000_000;
            let (low, high) = (low.saturating_sub(DAY), high.saturating_add(DAY));
            condition([Bound::Open, Bound::Included(high)], [Bound::Included(low), Bound::Open])
        }
    })
}

fn last_updated(value: &str) -> Result<Condition, Fault> {
    let any = values(value)
        .iter()
        .map(|value| {
            let (prefix, text) = prefix(value);
            let (low, high) = DateTime::parse(text)?.bounds();
            let within = Condition::LastUpdated(Bound::Included(low), Bound::Included(high));
            Some(match prefix {
                "eq" | "ap" => within,
                "ne" => Condition::Not(Box::new(within)),
                "gt" | "sa" => Condition::LastUpdated(Bound::Excluded(high), Bound::Open),
                "lt" | "eb" => Condition::LastUpdated(Bound::Open, Bound::Excluded(low)),
                "ge" => Condition::LastUpdated(Bound::Included(low), Bound::Open),
                _ => Condition::LastUpdated(Bound::Open, Bound::Included(high)),
            })
        })
        .collect::<Option<Vec<_>>>();
    any.map(Condition::Any)
        .ok_or_else(|| Fault::Value(unreadable("_lastUpdated", "a date such as ge2026-03-02")))
}

fn number(code: &str, value: &str, unit: Option<String>) -> Option<Condition> {
    let (prefix, text) = prefix(value);
    let Number { value, interval: (from, to) } = Number::parse(text)?;
    const ANY: [Bound<f64>; 2] = [Bound::Open, Bound::Open];
    let condition = |low, high| Condition::Number(code.to_owned(), low, high, unit.clone());
    let within =
        || condition([Bound::Included(from), Bound::Open], [Bound::Open, Bound::Excluded(to)]);
    Some(match prefix {
        "eq" => within(),
        "ne" => Condition::All(vec![condition(ANY, ANY), Condition::Not(Box::new(within()))]),
        // gt and lt compare with the exact value: R4 gives implicit precision to equality only.
        "gt" => condition(ANY, [Bound::Excluded(value), Bound::Open]),
        "lt" => condition([Bound::Open, Bound::Excluded(value)], ANY),
        "ge" => condition(ANY, [Bound::Included(value), Bound::Open]),
        "le" => condition([Bound::Open, Bound::Included(value)], ANY),
        "sa" => condition([Bound::Excluded(value), Bound::Open], ANY),
        "eb" => condition(ANY, [Bound::Open, Bound::Excluded(value)]),
        _ => {
            let tenth = (value.abs() / 10.0).max(value - from);
            condition(
                [Bound::Open, Bound::Included(value + tenth)],
                [Bound::Included(value - tenth), Bound::Open],
            )
        }
    })
}

fn quantity(code: &str, value: &str) -> Option<Condition> {
    let parts: Vec<String> = split(value, '|').iter().map(|part| unescape(part)).collect();
    match parts.as_slice() {
        [number_text] => number(code, number_text, None),
        [number_text, system, unit] if system.is_empty() => {
            number(code, number_text, Some(key::token("", unit)))
        }
        [number_text, system, unit] => number(code, number_text, Some(key::token(system, unit))),
        _ => None,
    }
}

/// The alternatives of a value: split at commas that no backslash escapes.
fn values(value: &str) -> Vec<String> {
    split(value, ',')
}

fn split(value: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for character in value.chars() {
        if character == separator && !escaped {
            parts.push(String::new());
            continue;
        }
        if let Some(part) = parts.last_mut() {
            part.push(character);
        }
        escaped = character == '\\' && !escaped;
    }
    parts
}

/// Takes the backslashes off `\,` `\|` `\$` and `\\`.
fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\\' && matches!(characters.peek(), Some(',' | '|' | '$' | '\\')) {
            out.extend(characters.next());
        } else {
            out.push(character);
        }
    }
    out
}
