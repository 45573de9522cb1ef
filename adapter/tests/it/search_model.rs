//! Random searches over random resources give the same on SQLite, on PostgreSQL and by a naive
//! reading of <https://hl7.org/fhir/R4/search.html>, which knows neither index nor key: it looks at
//! each resource with rules of its own. Where R4 leaves something open, nothing is generated.

mod generate;
mod include;

use std::collections::BTreeSet;

use jiff::civil::{Date, DateTime, date};
use jiff::{Span, Timestamp};
use lumbar_fhir::rest::encode_pairs;
use lumbar_fhir::{Json, json};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use proptest::{prop_assert, prop_assert_eq};
use rust_decimal::Decimal;

use crate::app::{BASE, TestApp, below_base, link, on_both_with, reference};
use generate::{Search, search, world};
use lumbar::config::Validation;

/// A value of a resource that a parameter looks at.
enum Value {
    Token {
        system: String,
        code: String,
        text: String,
    },
    Text(String),
    /// First and last microsecond.
    Date(i64, i64),
    Number(Decimal),
    Quantity {
        value: Decimal,
        system: String,
        code: String,
    },
    /// `Type/id`.
    Reference(String),
    Canonical {
        url: String,
        version: String,
    },
    Uri(String),
}

fn text(of: &Json, path: &[&str]) -> String {
    of.str_at(path).unwrap_or_default().to_owned()
}

fn codings(of: Option<&Json>) -> Vec<Value> {
    let Some(of) = of else { return Vec::new() };
    let coding = |coding: &Json| Value::Token {
        system: text(coding, &["system"]),
        code: text(coding, &["code"]),
        text: text(coding, &["display"]),
    };
    of.list("coding").iter().map(coding).collect()
}

fn code(of: &Json, member: &str) -> Vec<Value> {
    let code =
        of.get(member).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    code.map(|code| Value::Token { system: String::new(), code, text: String::new() })
        .into_iter()
        .collect()
}

fn texts<'j>(values: impl IntoIterator<Item = &'j Json>) -> Vec<Value> {
    values.into_iter().filter_map(|value| Some(Value::Text(value.as_str()?.to_owned()))).collect()
}

fn references(of: &Json, member: &str) -> Vec<Value> {
    let found =
        of.list(member).iter().chain(of.at(&[member]).filter(|one| one.as_object().is_some()));
    let targets: BTreeSet<String> = found.map(|one| text(one, &["reference"])).collect();
    targets.into_iter().filter(|target| !target.is_empty()).map(Value::Reference).collect()
}

fn dates(of: &Json, members: &[&str]) -> Vec<Value> {
    let Some(value) = members.iter().find_map(|member| of.get(member)) else { return Vec::new() };
    let bounds = match value.as_str() {
        Some(text) => interval(text),
        None => (
            value.str_at(&["start"]).map_or(i64::MIN, |text| interval(text).0),
            value.str_at(&["end"]).map_or(i64::MAX, |text| interval(text).1),
        ),
    };
    vec![Value::Date(bounds.0, bounds.1)]
}

fn quantities<'j>(values: impl IntoIterator<Item = &'j Json>) -> Vec<Value> {
    let quantity = |value: &Json| {
        Some(Value::Quantity {
            value: value.get("value")?.as_number()?.parse().ok()?,
            system: text(value, &["system"]),
            code: text(value, &["code"]),
        })
    };
    values.into_iter().filter_map(quantity).collect()
}

/// The identifiers in references.
fn identifiers(references: &[Json]) -> Vec<Value> {
    let found = references.iter().filter_map(|reference| reference.get("identifier"));
    found
        .map(|identifier| Value::Token {
            system: text(identifier, &["system"]),
            code: text(identifier, &["value"]),
            text: String::new(),
        })
        .collect()
}

/// What a parameter of a type looks at.
fn values(resource: &Json, parameter: &str) -> Vec<Value> {
    let names = || resource.list("name").iter();
    match (resource.str_at(&["resourceType"]).unwrap(), parameter) {
        (_, "_tag") => resource
            .at(&["meta"])
            .map_or(&[][..], |meta| meta.list("tag"))
            .iter()
            .map(|tag| Value::Token {
                system: text(tag, &["system"]),
                code: text(tag, &["code"]),
                text: text(tag, &["display"]),
            })
            .collect(),
        ("Patient" | "Practitioner", "family") => {
            texts(names().filter_map(|name| name.get("family")))
        }
        ("Patient" | "Practitioner", "given") => texts(names().flat_map(|name| name.list("given"))),
        ("Patient" | "Practitioner", "name") => texts(
            names()
                .filter_map(|name| name.get("family"))
                .chain(names().flat_map(|name| name.list("given"))),
        ),
        ("Patient", "gender") => code(resource, "gender"),
        ("Patient", "active") => code(resource, "active"),
        ("Patient", "birthdate") => dates(resource, &["birthDate"]),
        ("Patient", "identifier") => resource
            .list("identifier")
            .iter()
            .map(|identifier| Value::Token {
                system: text(identifier, &["system"]),
                code: text(identifier, &["value"]),
                text: String::new(),
            })
            .collect(),
        ("Patient", "general-practitioner") => references(resource, "generalPractitioner"),
        ("Observation", "subject" | "patient") | ("RiskAssessment", "subject" | "patient") => {
            references(resource, "subject")
        }
        ("Observation", "derived-from") => references(resource, "derivedFrom"),
        ("Observation", "code") => codings(resource.get("code")),
        ("Observation", "status") => code(resource, "status"),
        ("Observation", "date") => dates(resource, &["effectiveDateTime", "effectivePeriod"]),
        ("Observation", "value-quantity") => quantities(resource.get("valueQuantity")),
        ("Observation", "value-string") => texts(resource.get("valueString")),
        ("Observation", "component-value-quantity") => quantities(
            resource.list("component").iter().filter_map(|part| part.get("valueQuantity")),
        ),
        ("RiskAssessment", "probability") => resource
            .list("prediction")
            .iter()
            .filter_map(|part| {
                Some(Value::Number(part.get("probabilityDecimal")?.as_number()?.parse().ok()?))
            })
            .collect(),
        // R4 looks at the dateTime only.
        ("RiskAssessment", "date") => dates(resource, &["occurrenceDateTime"]),
        ("ValueSet", "url") => vec![Value::Uri(text(resource, &["url"]))],
        ("QuestionnaireResponse", "questionnaire") => {
            let canonical = text(resource, &["questionnaire"]);
            let (url, version) = canonical.split_once('|').unwrap_or((&canonical, ""));
            vec![Value::Canonical { url: url.to_owned(), version: version.to_owned() }]
        }
        ("QuestionnaireResponse", "authored") => dates(resource, &["authored"]),
        ("QuestionnaireResponse", "subject") => references(resource, "subject"),
        (of, parameter) => panic!("the model does not know {parameter} of {of}"),
    }
}

/// The moments that a date, or part of one, stands for; without a zone it is UTC.
fn interval(text: &str) -> (i64, i64) {
    let micros = |moment: Timestamp| moment.as_microsecond();
    let at = |day: Date| DateTime::from(day).to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    let days = |first: Date, after: Date| (micros(at(first)), micros(at(after)) - 1);
    if let Some((_, time)) = text.split_once('T') {
        let zoned = text.ends_with('Z') || time.contains(['+', '-']);
        let moment: Timestamp =
            if zoned { text.parse() } else { format!("{text}Z").parse() }.expect("a moment");
        let length = if time.contains('.') { 1_000 } else { 1_000_000 };
        return (micros(moment), micros(moment) + length - 1);
    }
    let parts: Vec<i16> = text.split('-').map(|part| part.parse().unwrap()).collect();
    let part = |index: usize| i8::try_from(parts[index]).unwrap();
    match parts.len() {
        1 => days(date(parts[0], 1, 1), date(parts[0] + 1, 1, 1)),
        2 => {
            let first = date(parts[0], part(1), 1);
            days(first, first.checked_add(Span::new().months(1)).unwrap())
        }
        _ => {
            let first = date(parts[0], part(1), part(2));
            days(first, first.checked_add(Span::new().days(1)).unwrap())
        }
    }
}

/// Half a unit of the last digit that is written.
fn half_step(number: &str) -> Decimal {
    let places = number.split_once('.').map_or(0, |(_, places)| places.len());
    Decimal::new(5, u32::try_from(places).unwrap() + 1)
}

fn prefix(value: &str) -> (&str, &str) {
    let known = ["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"];
    known
        .iter()
        .find_map(|prefix| Some((*prefix, value.strip_prefix(prefix)?)))
        .unwrap_or(("eq", value))
}

fn compares(prefix: &str, low: Decimal, exact: Decimal, high: Decimal, found: Decimal) -> bool {
    let equal = low <= found && found < high;
    match prefix {
        "eq" => equal,
        "ne" => !equal,
        "gt" | "sa" => found > exact,
        "lt" | "eb" => found < exact,
        "ge" => found >= exact,
        _ => found <= exact,
    }
}

/// Small letters without accents.
fn fold(text: &str) -> String {
    let fold = |character: char| match character {
        'é' | 'è' | 'ê' => 'e',
        'ö' => 'o',
        'ü' => 'u',
        other => other,
    };
    text.to_lowercase().chars().map(fold).collect()
}

/// Grams in a unit of mass of UCUM.
fn grams(code: &str) -> Option<Decimal> {
    match code {
        "g" => Some(Decimal::ONE),
        "mg" => Some(Decimal::new(1, 3)),
        "kg" => Some(Decimal::from(1000)),
        _ => None,
    }
}

const UCUM: &str = "http://unitsofmeasure.org";

fn matches(value: &Value, modifier: &str, wanted: &str) -> bool {
    match value {
        Value::Token { system, code, text } => match (modifier, wanted.split_once('|')) {
            ("text", _) => fold(text).starts_with(&fold(wanted)) && !text.is_empty(),
            (_, Some((of, ""))) => system == of,
            (_, Some((of, wanted))) => system == of && code == wanted,
            (_, None) => code == wanted,
        },
        Value::Text(text) => match modifier {
            "exact" => text == wanted,
            "contains" => fold(text).contains(&fold(wanted)),
            _ => fold(text).starts_with(&fold(wanted)),
        },
        Value::Date(low, high) => {
            let (prefix, text) = prefix(wanted);
            let (from, to) = interval(text);
            let equal = from <= *low && *high <= to;
            match prefix {
                "eq" => equal,
                "ne" => !equal,
                "gt" => *high > to,
                "lt" => *low < from,
                "ge" => *high > to || equal,
                "le" => *low < from || equal,
                "sa" => *low > to,
                _ => *high < from,
            }
        }
        Value::Number(found) => {
            let (prefix, text) = prefix(wanted);
            let exact: Decimal = text.parse().unwrap();
            let half = half_step(text);
            compares(prefix, exact - half, exact, exact + half, *found)
        }
        Value::Quantity { value, system, code } => {
            let (prefix, text) = prefix(wanted);
            let mut parts = text.split('|');
            let number = parts.next().unwrap();
            let unit = parts.next().zip(parts.next());
            let exact: Decimal = number.parse().unwrap();
            let half = half_step(number);
            let (factor, found) = match unit {
                None => (Decimal::ONE, *value),
                Some(("", of)) if of == code => (Decimal::ONE, *value),
                Some((of_system, of)) if of_system == system && of == code => {
                    (Decimal::ONE, *value)
                }
                Some((UCUM, of)) if system == UCUM => match (grams(of), grams(code)) {
                    (Some(factor), Some(of_found)) => (factor, *value * of_found),
                    _ => return false,
                },
                Some(_) => return false,
            };
            compares(
                prefix,
                (exact - half) * factor,
                exact * factor,
                (exact + half) * factor,
                found,
            )
        }
        Value::Reference(target) => {
            let wanted = wanted.strip_prefix(BASE).map_or(wanted, |path| &path[1..]);
            match (modifier, target.split_once('/')) {
                ("", Some((_, id))) if !wanted.contains('/') => id == wanted,
                ("", _) => target == wanted,
                (of, _) => *target == format!("{of}/{wanted}"),
            }
        }
        Value::Canonical { url, version } => match wanted.split_once('|') {
            Some((of, wanted)) => url == of && version == wanted,
            None => url == wanted,
        },
        Value::Uri(uri) => match modifier {
            "below" => {
                uri == wanted || uri.starts_with(&format!("{}/", wanted.trim_end_matches('/')))
            }
            "above" => {
                uri == wanted || wanted.starts_with(&format!("{}/", uri.trim_end_matches('/')))
            }
            _ => uri == wanted,
        },
    }
}

/// The parts of an item that a composite looks at together.
fn pairs(resource: &Json, parameter: &str) -> Vec<(Vec<Value>, Vec<Value>)> {
    let of = |item: &Json| (codings(item.get("code")), quantities(item.get("valueQuantity")));
    match parameter {
        "code-value-quantity" => vec![of(resource)],
        "code-value-string" => {
            vec![(codings(resource.get("code")), texts(resource.get("valueString")))]
        }
        "component-code-value-quantity" => resource.list("component").iter().map(of).collect(),
        _ => [resource].into_iter().chain(resource.list("component")).map(of).collect(),
    }
}

/// `a op v`, `not (…)`, and two of them with `and` or `or` between.
fn filtered(resource: &Json, filter: &str) -> bool {
    let holds_all = |filter: &str| filtered(resource, filter);
    if let Some(inner) = filter.strip_prefix("not (").and_then(|rest| rest.strip_suffix(')')) {
        return !holds_all(inner);
    }
    if let Some((one, other)) = filter.split_once(" and ") {
        return holds_all(one) && holds_all(other);
    }
    if let Some((one, other)) = filter.split_once(" or ") {
        return holds_all(one) || holds_all(other);
    }
    let [parameter, operator, wanted] = filter.splitn(3, ' ').collect::<Vec<_>>()[..] else {
        panic!("the model does not know the filter {filter}")
    };
    values(resource, parameter).iter().any(|value| match value {
        Value::Text(text) => match operator {
            "eq" => fold(text) == fold(wanted),
            "co" => fold(text).contains(&fold(wanted)),
            _ => fold(text).starts_with(&fold(wanted)),
        },
        value => matches(value, "", &format!("{}{wanted}", operator.trim_start_matches("eq"))),
    })
}

/// Whether a resource is where a search looks: `Type`, all, or a compartment.
fn is_within(resource: &Json, scope: &str) -> bool {
    let is_of = |of: &str| resource.str_at(&["resourceType"]) == Some(of);
    match scope.split('/').collect::<Vec<_>>()[..] {
        [of] => of.is_empty() || is_of(of),
        [owner, id, of] => {
            let owner = format!("{owner}/{id}");
            let refers = |member| {
                references(resource, member)
                    .iter()
                    .any(|value| matches!(value, Value::Reference(found) if *found == owner))
            };
            (of == "*" || is_of(of))
                && (reference(resource) == owner
                    || refers("subject")
                    || refers("generalPractitioner"))
        }
        _ => panic!("the model does not know the scope {scope}"),
    }
}

/// Whether a resource satisfies one parameter of a search.
fn holds(world: &[Json], resource: &Json, name: &str, wanted: &str) -> bool {
    match name {
        "_id" => return wanted.split(',').any(|id| resource.str_at(&["id"]) == Some(id)),
        "_type" => {
            return wanted.split(',').any(|of| resource.str_at(&["resourceType"]) == Some(of));
        }
        "_filter" => return filtered(resource, wanted),
        // All were written just now.
        "_lastUpdated" => {
            let now = Timestamp::now().as_microsecond();
            return matches(&Value::Date(now, now), "", wanted);
        }
        _ => {}
    }
    let refers = |from: &Json, parameter: &str, to: &Json| {
        let target = reference(to);
        values(from, parameter)
            .iter()
            .any(|value| matches!(value, Value::Reference(found) if *found == target))
    };
    if let Some(rest) = name.strip_prefix("_has:") {
        let parts: Vec<&str> = rest.splitn(3, ':').collect();
        return world.iter().any(|other| {
            other.str_at(&["resourceType"]) == Some(parts[0])
                && refers(other, parts[1], resource)
                && holds(world, other, parts[2], wanted)
        });
    }
    if let Some((link, inner)) = name.split_once('.') {
        let (parameter, of) =
            link.split_once(':').map_or((link, None), |(link, of)| (link, Some(of)));
        return world.iter().any(|other| {
            let kind = other.str_at(&["resourceType"]).unwrap();
            of.map_or_else(|| knows(kind, inner), |of| of == kind)
                && refers(resource, parameter, other)
                && holds(world, other, inner, wanted)
        });
    }
    let (parameter, modifier) = name.split_once(':').unwrap_or((name, ""));
    if let Some((first, second)) = wanted.split_once('$') {
        let any = |values: &[Value], wanted| values.iter().any(|value| matches(value, "", wanted));
        return pairs(resource, parameter)
            .iter()
            .any(|(firsts, seconds)| any(firsts, first) && any(seconds, second));
    }
    let found = match modifier {
        "identifier" => identifiers(resource.list(parameter)),
        _ => values(resource, parameter),
    };
    if modifier == "missing" {
        return found.is_empty() == (wanted == "true");
    }
    let any =
        wanted.split(',').any(|wanted| found.iter().any(|value| matches(value, modifier, wanted)));
    if modifier == "not" { !any } else { any }
}

/// Whether a chain may end at this type with this parameter.
fn knows(of: &str, parameter: &str) -> bool {
    let parameter = parameter.split([':', '.']).next().unwrap();
    match parameter {
        "family" | "given" | "name" => matches!(of, "Patient" | "Practitioner"),
        _ => of == "Patient",
    }
}

/// What resources are sorted by; the least comes first, nothing last.
fn sort_key(resource: &Json, sort: &str) -> (bool, Decimal, String) {
    let (descending, parameter) = sort.strip_prefix('-').map_or((false, sort), |name| (true, name));
    let found = match parameter {
        "_id" => vec![Value::Text(text(resource, &["id"]))],
        // All were written in one transaction.
        "_lastUpdated" => vec![],
        _ => values(resource, parameter),
    };
    match found.first() {
        Some(Value::Date(low, high)) => {
            (false, Decimal::from(if descending { *high } else { *low }), String::new())
        }
        Some(Value::Number(value) | Value::Quantity { value, .. }) => {
            (false, *value, String::new())
        }
        Some(Value::Text(text)) => (false, Decimal::ZERO, fold(text)),
        _ => (true, Decimal::ZERO, String::new()),
    }
}

async fn check(app: &TestApp, world: &[Json], searches: &[Search]) -> Result<(), TestCaseError> {
    let entry = |resource: &Json| json!({"resource": (resource.clone()), "request": {"method": "PUT", "url": (reference(resource))}});
    let bundle = json!({
        "resourceType": "Bundle", "type": "transaction",
        "entry": (world.iter().map(entry).collect::<Vec<Json>>())
    });
    app.post("", &bundle).await.is(200);
    for Search { scope, pairs, includes, sort, count } in searches {
        let holds = |resource: &Json| {
            is_within(resource, scope)
                && pairs.iter().all(|(name, value)| holds(world, resource, name, value))
        };
        let expected: BTreeSet<String> =
            world.iter().filter(|resource| holds(resource)).map(reference).collect();
        let mut query = [pairs.as_slice(), includes.as_slice()].concat();
        if let Some(sort) = sort {
            query.push(("_sort".to_owned(), (*sort).to_owned()));
        }
        query.push(("_count".to_owned(), count.to_string()));
        query.push(("_total".to_owned(), "accurate".to_owned()));
        let first = format!("{scope}?{}", encode_pairs(&query));
        let mut found = Vec::new();
        let mut next = Some(first.clone());
        while let Some(url) = next {
            let reply = app
                .call("GET", &format!("/fhir/{url}"), &[("prefer", "handling=strict")], "")
                .await;
            prop_assert_eq!(reply.status, 200, "{} on {}: {}", first, app.database, reply.text);
            let page = reply.json();
            let total = page.get("total").and_then(Json::as_i64);
            prop_assert_eq!(
                total,
                Some(expected.len().try_into().unwrap()),
                "total of {} on {}",
                first,
                app.database
            );
            let of_mode = |mode: &str| {
                let entries = page.list("entry").iter();
                let entries =
                    entries.filter(move |entry| entry.str_at(&["search", "mode"]) == Some(mode));
                entries.map(|entry| entry.get("resource").unwrap().clone()).collect::<Vec<_>>()
            };
            let matches = of_mode("match");
            let included: Vec<String> = of_mode("include").iter().map(reference).collect();
            let around: Vec<String> =
                include::included(world, &matches, includes).into_iter().collect();
            let mut in_order = included.clone();
            in_order.sort();
            prop_assert_eq!(in_order, around, "included by {} on {}", url, app.database);
            found.extend(matches);
            next = link(&page, "next").map(|url| below_base(&url));
        }
        let names: BTreeSet<String> = found.iter().map(reference).collect();
        prop_assert_eq!(&names, &expected, "{} on {}", first, app.database);
        prop_assert_eq!(
            names.len(),
            found.len(),
            "something is there twice: {} on {}",
            first,
            app.database
        );
        if let Some(sort) = sort {
            let keys: Vec<_> = found.iter().map(|resource| sort_key(resource, sort)).collect();
            let in_order = keys.windows(2).all(|pair| {
                let ((a_missing, a, a_text), (b_missing, b, b_text)) = (&pair[0], &pair[1]);
                if a_missing != b_missing || *a_missing {
                    return a_missing <= b_missing;
                }
                if sort.starts_with('-') {
                    (a, a_text) >= (b, b_text)
                } else {
                    (a, a_text) <= (b, b_text)
                }
            });
            prop_assert!(in_order, "{} on {}: {:?}", first, app.database, keys);
        }
    }
    Ok(())
}

/// How many worlds are made; `PROPTEST_CASES` says otherwise.
const WORLDS: u32 = 12;

#[test]
fn random_searches_find_what_a_naive_reading_finds() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases =
        std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(WORLDS);
    let config =
        Config { cases, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let strategy = (world(), proptest::collection::vec(search(), 40));
    let outcome = TestRunner::new(config).run(&strategy, |(world, searches)| {
        let wrong = std::cell::RefCell::new(Ok(()));
        runtime.block_on(on_both_with(
            |settings| settings.policy.validation = Validation::Off,
            async |app: &TestApp| {
                let result = check(app, &world.0, &searches).await;
                if result.is_err() {
                    *wrong.borrow_mut() = result;
                }
            },
        ));
        wrong.into_inner()
    });
    outcome.unwrap_or_else(|fault| panic!("{fault}"));
}
