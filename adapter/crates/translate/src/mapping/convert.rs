//! The named types of mapping tables: what FHIRPath cannot say.
//!
//! The list is closed and knows no supplier: a type takes one value and gives none, one or several,
//! and an issue when the value cannot be used. Sources without an offset are wall-clock time in the
//! connection's zone ([`super::Settings::zone`]).

use lumbar_fhir::{Issue, IssueType, Json, Locator, Object, json};

use super::expression::walk;
use super::join::Record;
use super::{Mapping, Settings};
use crate::local_time::{self, Oddity};
use crate::{identity, text};

/// A named type with its parameters.
#[derive(Clone, Debug)]
pub(crate) enum Convert {
    /// The value as it is.
    AsIs,
    /// `text`: the value as a string.
    Text,
    /// `url`: the text under our base URL.
    Url,
    /// `map(name)`: the code that a text stands for.
    Map(String),
    /// `try-map(name)`: the same; a text that stands for nothing is no issue.
    TryMap(String),
    /// `coding(name)`: the same as a Coding.
    Coding(String),
    /// `identifier(role)`: a source key as an Identifier.
    Identifier(String),
    /// `nhs-number`: an Identifier, under the NHS system only when the check digit is right.
    NhsNumber,
    /// `reference` or `reference(Type)`: a joined row as a Reference, logical when it is unknown.
    Reference(Option<String>),
    /// `partial-date(precision)`: a date cut to Y, YM or YMD; U is no date.
    PartialDate(Vec<String>),
    /// `date-time(time)`: a date, with time and offset when there is a time.
    DateTime(Vec<String>),
    /// `instant(time)`: the same, nothing when there is no time.
    Instant(Vec<String>),
    /// `booking(time)` or `booking(time minutes)`: start or end of a booking; a time that does not
    /// exist is refused.
    Booking(Vec<String>, Option<Vec<String>>),
    /// `postcode`: with its blank.
    Postcode,
    /// `words`: a text split at blanks.
    Words,
    /// `qualifiers`: the lines of a qualifier list, or the text as it is.
    Qualifiers,
    /// `read-code`: five places, without the synonym number; nothing for longer, local codes.
    ReadCode,
    /// `part(table)`: an object made by another table over the value.
    Part(String),
}

/// What a conversion may look at.
pub(crate) struct Scope<'a> {
    pub(crate) mapping: &'a Mapping,
    pub(crate) settings: &'a Settings<'a>,
    pub(crate) record: &'a Record<'a>,
}

impl Convert {
    /// Reads a type; the error is a sentence part.
    pub(crate) fn parse(text: &str) -> Result<Convert, String> {
        let (name, parameters) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')').ok_or("a bracket is not closed")?),
            None => (text, ""),
        };
        let path = |text: &str| text.split('.').map(str::to_string).collect::<Vec<_>>();
        let words: Vec<&str> = parameters.split_whitespace().collect();
        Ok(match (name, words.as_slice()) {
            ("", []) => Convert::AsIs,
            ("text", []) => Convert::Text,
            ("url", []) => Convert::Url,
            ("map", [map]) => Convert::Map((*map).into()),
            ("try-map", [map]) => Convert::TryMap((*map).into()),
            ("coding", [map]) => Convert::Coding((*map).into()),
            ("identifier", [role]) => Convert::Identifier((*role).into()),
            ("nhs-number", []) => Convert::NhsNumber,
            ("reference", []) => Convert::Reference(None),
            ("reference", [target]) => Convert::Reference(Some((*target).into())),
            ("partial-date", [precision]) => Convert::PartialDate(path(precision)),
            ("date-time", [time]) => Convert::DateTime(path(time)),
            ("instant", [time]) => Convert::Instant(path(time)),
            ("booking", [time]) => Convert::Booking(path(time), None),
            ("booking", [time, minutes]) => Convert::Booking(path(time), Some(path(minutes))),
            ("postcode", []) => Convert::Postcode,
            ("words", []) => Convert::Words,
            ("qualifiers", []) => Convert::Qualifiers,
            ("read-code", []) => Convert::ReadCode,
            ("part", [table]) => Convert::Part((*table).into()),
            _ => return Err(format!("the type \"{text}\" is unknown")),
        })
    }

    /// The code map that the type needs.
    pub(crate) fn map(&self) -> Option<&str> {
        match self {
            Convert::Map(map) | Convert::TryMap(map) | Convert::Coding(map) => Some(map),
            _ => None,
        }
    }

    /// Converts one value; what is wrong with it goes to `issues`, placed at `place`.
    pub(crate) fn apply(
        &self,
        value: &Json,
        scope: &Scope<'_>,
        place: impl Fn() -> Option<Locator>,
        issues: &mut Vec<Issue>,
    ) -> Vec<Json> {
        let one = |value: Json| vec![value];
        let raw = || plain(value);
        let mut say = |issue: Issue, value: &str| {
            let issue = Issue { locator: place().map(Box::new), ..issue };
            issues.push(issue.value(value));
        };
        match self {
            Convert::AsIs => one(value.clone()),
            Convert::Text => one(raw().into()),
            Convert::Url => one(format!("{}/{}", scope.settings.base, raw()).into()),
            Convert::Map(map) | Convert::TryMap(map) | Convert::Coding(map) => {
                let text = raw();
                match (scope.mapping.codes.translate(map, &text), self) {
                    (Some(found), Convert::Coding(_)) => one(found.coding()),
                    (Some(found), _) => one(found.code.as_str().into()),
                    (None, Convert::TryMap(_)) => Vec::new(),
                    (None, _) => {
                        let sentence = format!(
                            "This text stands for no code of the map \"{map}\"; it is kept as text."
                        );
                        let issue = Issue::information(IssueType::CodeInvalid, sentence);
                        say(issue.detail("BPA-CODE-001"), &text);
                        Vec::new()
                    }
                }
            }
            Convert::Identifier(role) => {
                let system = scope.system(role);
                one(json!({"system": (system), "value": (raw())}))
            }
            Convert::NhsNumber => one(scope.nhs_number(&raw())),
            Convert::Reference(target) => {
                scope.reference(value, target.as_deref()).map_or(Vec::new(), one)
            }
            Convert::PartialDate(precision) => {
                let date = raw();
                let known = scope.text(precision);
                let length = match known.as_deref() {
                    Some("U") => return Vec::new(),
                    Some("Y") => 4,
                    Some("YM") => 7,
                    _ => 10,
                };
                one(date.get(..length).unwrap_or(&date).into())
            }
            Convert::DateTime(time) | Convert::Instant(time) => {
                let date = raw();
                let Some(time) = scope.text(time) else {
                    let whole = matches!(self, Convert::DateTime(_));
                    return if whole { one(date.into()) } else { Vec::new() };
                };
                let Some(placed) = scope.place(&date, &time, 0) else { return Vec::new() };
                if let Some(oddity) = placed.oddity {
                    say(oddity_issue(oddity), &format!("{date} {time}"));
                }
                one(local_time::text(&placed.moment).into())
            }
            Convert::Booking(time, minutes) => {
                let date = raw();
                let Some(time) = scope.text(time) else { return Vec::new() };
                let span = minutes.as_ref().map(|path| scope.text(path)?.parse::<i64>().ok());
                let Some(span) = span.unwrap_or(Some(0)).filter(|span| (0..=10_080).contains(span))
                else {
                    return Vec::new();
                };
                let Some(placed) = scope.place(&date, &time, span) else { return Vec::new() };
                match placed.oddity {
                    Some(Oddity::Gap) if minutes.is_none() => {
                        let sentence = "This booking stands in the hour that is skipped in spring, so it has no time.";
                        let issue = Issue::error(IssueType::Value, sentence).detail("BPA-TIME-003");
                        say(issue, &format!("{date} {time}"));
                        return Vec::new();
                    }
                    Some(Oddity::Gap) => return Vec::new(),
                    Some(oddity) if minutes.is_none() => {
                        say(oddity_issue(oddity), &format!("{date} {time}"));
                    }
                    _ => {}
                }
                one(local_time::text(&placed.moment).into())
            }
            Convert::Postcode => one(text::postcode(&raw()).into()),
            Convert::Words => raw().split_whitespace().map(Json::from).collect(),
            Convert::Qualifiers => {
                let text = raw();
                match text::qualifiers(&text) {
                    Some(items) => one(items.join("\n").into()),
                    None => one(text.into()),
                }
            }
            Convert::ReadCode => {
                let text = raw();
                let code = text.split_once('-').map_or(text.as_str(), |(code, _)| code);
                let shaped = code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
                if shaped && (1..=5).contains(&code.len()) {
                    one(format!("{code:.<5}").into())
                } else {
                    Vec::new()
                }
            }
            Convert::Part(name) => {
                let Some(rules) = scope.mapping.part(name) else { return Vec::new() };
                let object = scope.mapping.fill(rules, value, Object::new(), scope, issues);
                match object {
                    Ok(object) if !object.is_empty() => one(Json::Object(object)),
                    _ => Vec::new(),
                }
            }
        }
    }
}

/// A leaf as text.
fn plain(value: &Json) -> String {
    match value {
        Json::String(text) => text.to_string(),
        Json::Number(digits) => digits.to_string(),
        other => other.to_string(),
    }
}

fn oddity_issue(oddity: Oddity) -> Issue {
    let sentence = match oddity {
        Oddity::Gap => {
            "This time was skipped when clocks went forward; it was read as one hour later."
        }
        Oddity::Overlap => {
            "This time came twice when clocks went back; the first, in summer time, was taken."
        }
    };
    Issue::warning(IssueType::Value, sentence).detail("BPA-TIME-003")
}

impl Scope<'_> {
    /// The system of a role's source keys.
    fn system(&self, role: &str) -> String {
        let (base, format) = (&self.settings.base, &self.mapping.format);
        match self.record.organisation() {
            "" => format!("{base}/Id/{format}/{role}"),
            organisation => format!("{base}/Id/{format}/{organisation}/{role}"),
        }
    }

    fn text(&self, path: &[String]) -> Option<String> {
        walk(&self.record.tree, path).first().map(|value| plain(value))
    }

    fn place(&self, date: &str, time: &str, minutes: i64) -> Option<local_time::Placed> {
        let local = local_time::date(date)?.to_datetime(local_time::time(time)?);
        let mut placed = local_time::place(local, &self.settings.zone)?;
        if minutes > 0 {
            placed.moment =
                placed.moment.checked_add(jiff::Span::new().try_minutes(minutes).ok()?).ok()?;
        }
        Some(placed)
    }

    fn nhs_number(&self, text: &str) -> Json {
        let Some(number) = identity::nhs_number(text) else {
            let system = format!("{}/Id/nhs-number-unverified", self.settings.base);
            return json!({"system": (system), "value": (text)});
        };
        // 02, because the extract never says that a number was traced.
        json!({
            "extension": [{
                "url": "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-NHSNumberVerificationStatus",
                "valueCodeableConcept": {"coding": [{
                    "system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland",
                    "code": "02",
                    "display": "Number present but not traced"
                }]}
            }],
            "use": "official",
            "system": (identity::NHS_NUMBER),
            "value": (number)
        })
    }

    fn reference(&self, node: &Json, target: Option<&str>) -> Option<Json> {
        if node.get("known").and_then(Json::as_bool) == Some(true) {
            let id = node.str_at(&["id"])?;
            let target = target.or_else(|| node.str_at(&["resource"]))?;
            return Some(json!({"reference": (format!("{target}/{id}"))}));
        }
        let (role, key) = (node.str_at(&["role"])?, node.str_at(&["key"])?);
        let system = if node.get("shared").and_then(Json::as_bool) == Some(true) {
            format!("{}/Id/{}/{role}", self.settings.base, self.mapping.format)
        } else {
            self.system(role)
        };
        Some(json!({"identifier": {"system": (system), "value": (key)}}))
    }
}
