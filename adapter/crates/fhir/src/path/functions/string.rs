//! <https://hl7.org/fhirpath/N1/#string-manipulation>, and of the later specification
//! (<https://hl7.org/fhirpath/#additional-string-functions>) `encode` to `join`.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use regex::RegexBuilder;

use super::conversion::text;
use super::{Call, Evaluated, Function, one, row, some};
use crate::Json;
use crate::path::PathError;
use crate::path::eval::{Items, MAX_TEXT};
use crate::path::expr::Expr;
use crate::path::operators::{self, wrong_type};
use crate::path::value::Value;
use crate::pattern::Pattern;

pub(super) static FUNCTIONS: &[Function] = &[
    row("indexOf", (1, 1), |call| {
        with_argument(call, |text, part| Ok(index(text.find(part), text)))
    }),
    row("lastIndexOf", (1, 1), |call| {
        with_argument(call, |text, part| Ok(index(text.rfind(part), text)))
    }),
    row("substring", (1, 2), substring),
    row("startsWith", (1, 1), |call| {
        with_argument(call, |text, part| Ok(Value::Boolean(text.starts_with(part))))
    }),
    row("endsWith", (1, 1), |call| {
        with_argument(call, |text, part| Ok(Value::Boolean(text.ends_with(part))))
    }),
    row("contains", (1, 1), |call| {
        with_argument(call, |text, part| Ok(Value::Boolean(text.contains(part))))
    }),
    row("upper", (0, 0), |call| change(call, str::to_uppercase)),
    row("lower", (0, 0), |call| change(call, str::to_lowercase)),
    row("trim", (0, 0), |call| change(call, |text| text.trim().to_string())),
    row("replace", (2, 2), |call| replace(call, |text, part, by| Ok(text.replace(part, by)))),
    row("matches", (1, 1), |call| matches(call, |pattern| pattern.into())),
    row("matchesFull", (1, 1), |call| matches(call, |pattern| format!("^(?:{pattern})$").into())),
    row("replaceMatches", (2, 2), |call| {
        replace(call, |text, pattern, by| match pattern {
            "" => Ok(text.to_string()),
            pattern => with_pattern(
                call,
                pattern,
                |pattern| pattern.into(),
                |pattern| {
                    call.scope.work(pattern.steps(text))?;
                    Ok(pattern.regex().replace_all(text, by).into_owned())
                },
            ),
        })
    }),
    row("length", (0, 0), |call| match focus(call)? {
        Some(text) => one(Value::Integer(number(text.chars().count()))),
        None => Ok(Items::new()),
    }),
    row("toChars", (0, 0), |call| match focus(call)? {
        Some(text) => {
            call.scope.fits(text.len() / 4)?;
            Ok(text.chars().map(|c| Value::String(c.to_string().into())).collect())
        }
        None => Ok(Items::new()),
    }),
    row("split", (1, 1), |call| match (focus(call)?, call.string(0)?) {
        (Some(text), Some(mark)) if !mark.is_empty() => {
            call.scope.fits(text.matches(mark.as_ref()).count())?;
            Ok(text
                .split(mark.as_ref())
                .map(|part| Value::String(part.to_string().into()))
                .collect())
        }
        (Some(text), _) => one(Value::String(text)),
        _ => Ok(Items::new()),
    }),
    row("join", (0, 1), join),
    row("encode", (1, 1), |call| optional(call, encode)),
    row("decode", (1, 1), |call| optional(call, decode)),
    row("escape", (1, 1), |call| optional(call, escape)),
    row("unescape", (1, 1), |call| optional(call, unescape)),
];

/// The one string of the focus.
fn focus<'a>(call: &Call<'_, 'a>) -> Result<Option<Cow<'a, str>>, PathError> {
    let Some(item) = operators::value(call.focus)? else { return Ok(None) };
    match (item.to_system(), item) {
        (Value::String(text), _) => {
            call.scope.work(text.len() as u64 / 64)?;
            Ok(Some(text))
        }
        // A date in a tree is a string in JSON.
        (_, Value::Node(node)) if node.json.as_str().is_some() => {
            let text = item.as_str();
            call.scope.work(text.as_ref().map_or(0, |text| text.len() as u64 / 64))?;
            Ok(text)
        }
        (other, _) => Err(wrong_type(&other, "a string")),
    }
}

fn with_argument<'a>(
    call: &Call<'_, 'a>,
    apply: impl Fn(&str, &str) -> Result<Value<'a>, PathError>,
) -> Evaluated<'a> {
    match (focus(call)?, call.string(0)?) {
        (Some(text), Some(argument)) => one(apply(&text, &argument)?),
        _ => Ok(Items::new()),
    }
}

/// Whether the text matches the argument, of which `whole` makes the regular expression.
fn matches<'a>(call: &Call<'_, 'a>, whole: fn(&str) -> Cow<'_, str>) -> Evaluated<'a> {
    with_argument(call, |text, pattern| {
        with_pattern(call, pattern, whole, |pattern| {
            call.scope.work(pattern.steps(text))?;
            Ok(Value::Boolean(pattern.regex().is_match(text)))
        })
    })
}

/// Applies the regular expression that `whole` makes of the first argument, which is `text`. One
/// that stands in the expression is read once, as it is an argument of this function alone.
fn with_pattern<T>(
    call: &Call,
    text: &str,
    whole: fn(&str) -> Cow<'_, str>,
    apply: impl Fn(&Pattern) -> Result<T, PathError>,
) -> Result<T, PathError> {
    let not_understood = || PathError::new("a regular expression is not understood, or too large");
    let Some(Expr::String(literal)) = call.arguments.first() else {
        return apply(&read(call, &whole(text))?.ok_or_else(not_understood)?);
    };
    if literal.pattern.get().is_none() {
        let pattern = read(call, &whole(text))?;
        literal.pattern.get_or_init(|| pattern);
    }
    apply(literal.pattern.get().and_then(Option::as_ref).ok_or_else(not_understood)?)
}

fn change<'a>(call: &Call<'_, 'a>, apply: impl Fn(&str) -> String) -> Evaluated<'a> {
    let changed = focus(call)?.map(|text| apply(&text));
    call.scope.text(changed.as_ref().map_or(0, String::len) as u64)?;
    some(changed.map(|text| Value::String(text.into())))
}

fn optional<'a>(
    call: &Call<'_, 'a>,
    apply: impl Fn(&str, &str) -> Result<Option<String>, PathError>,
) -> Evaluated<'a> {
    match (focus(call)?, call.string(0)?) {
        (Some(text), Some(format)) => {
            let changed = apply(&text, &format)?;
            // Some of these double a text each time.
            call.scope.text(changed.as_ref().map_or(0, String::len) as u64)?;
            some(changed.map(|text| Value::String(text.into())))
        }
        _ => Ok(Items::new()),
    }
}

/// Positions count characters.
fn index<'a>(position: Option<usize>, text: &str) -> Value<'a> {
    let count = |position| text.get(..position).map_or(0, |before| before.chars().count());
    Value::Integer(position.map_or(-1, |position| number(count(position))))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn substring<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let (Some(text), Some(start)) = (focus(call)?, call.integer(0)?) else {
        return Ok(Items::new());
    };
    let length = call.integer(1)?.map_or(usize::MAX, |length| usize::try_from(length).unwrap_or(0));
    let Ok(start) = usize::try_from(start) else { return Ok(Items::new()) };
    if start >= text.chars().count() {
        return Ok(Items::new());
    }
    let part: String = text.chars().skip(start).take(length).collect();
    one(Value::String(part.into()))
}

/// The length of the result is bounded by what both texts allow.
fn replace<'a>(
    call: &Call<'_, 'a>,
    apply: impl Fn(&str, &str, &str) -> Result<String, PathError>,
) -> Evaluated<'a> {
    let (Some(text), Some(part), Some(by)) = (focus(call)?, call.string(0)?, call.string(1)?)
    else {
        return Ok(Items::new());
    };
    call.scope.text((text.len() as u64 + 1).saturating_mul(by.len() as u64 + 1))?;
    one(Value::String(apply(&text, &part, &by)?.into()))
}

/// The dot matches line breaks, too.
fn read(call: &Call, pattern: &str) -> Result<Option<Pattern>, PathError> {
    let mut builder = RegexBuilder::new(pattern);
    builder.dot_matches_new_line(true);
    Pattern::read(pattern.len(), &mut builder, |steps| call.scope.work(steps))
}

fn join<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mark = call.string(0)?.unwrap_or_default();
    if call.focus.is_empty() {
        return Ok(Items::new());
    }
    let mut length = (call.focus.len() as u64).saturating_mul(mark.len() as u64);
    let mut texts = Vec::with_capacity(call.focus.len());
    for item in call.focus {
        let text = text(item)?;
        length = length.saturating_add(text.len() as u64);
        if length > MAX_TEXT as u64 {
            break;
        }
        texts.push(text);
    }
    call.scope.text(length)?;
    one(Value::String(texts.join(&mark).into()))
}

fn unknown(format: &str) -> PathError {
    PathError::new(format!("the format \"{format}\" is not known"))
}

fn encode(text: &str, format: &str) -> Result<Option<String>, PathError> {
    Ok(Some(match format {
        "base64" => STANDARD.encode(text),
        "urlbase64" => URL_SAFE.encode(text),
        "hex" => {
            let halves = text.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
            halves.filter_map(|half| char::from_digit(u32::from(half), 16)).collect()
        }
        _ => return Err(unknown(format)),
    }))
}

fn decode(text: &str, format: &str) -> Result<Option<String>, PathError> {
    let bytes = match format {
        "base64" => STANDARD.decode(text).ok(),
        "urlbase64" => URL_SAFE.decode(text).ok(),
        "hex" if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) => None,
        "hex" => {
            let pairs = text.as_bytes().chunks(2);
            pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
        }
        _ => return Err(unknown(format)),
    };
    Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
}

const HTML: [(&str, &str); 5] =
    [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\"", "&quot;"), ("'", "&#39;")];

fn escape(text: &str, format: &str) -> Result<Option<String>, PathError> {
    match format {
        "html" => {
            Ok(Some(HTML.iter().fold(text.to_string(), |text, (c, name)| text.replace(c, name))))
        }
        "json" => {
            let quoted = Json::from(text).to_string();
            Ok(quoted.get(1..quoted.len() - 1).map(str::to_string))
        }
        _ => Err(unknown(format)),
    }
}

fn unescape(text: &str, format: &str) -> Result<Option<String>, PathError> {
    match format {
        "html" => Ok(Some(
            HTML.iter().rev().fold(text.to_string(), |text, (c, name)| text.replace(name, c)),
        )),
        "json" => {
            let parsed = Json::parse(format!("\"{}\"", bare_quotes_escaped(text)).as_bytes()).ok();
            Ok(parsed.and_then(|json| json.as_str().map(str::to_string)))
        }
        _ => Err(unknown(format)),
    }
}

fn bare_quotes_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut escaped = false;
    for c in text.chars() {
        if c == '"' && !escaped {
            out.push('\\');
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
    out
}
