//! Escape sequences: HL7 version 2.5.1, chapter 2, section 2.7.
//!
//! What cannot be read stays as text and is reported; it never ends a field. Highlighting is
//! dropped, and formatting commands become line breaks or blanks.

use lumbar_fhir::Issue;

use super::{Charset, Delimiters};

/// Greatest count in a formatting command; a larger one is text.
const MAX_SKIP: usize = 100;

/// The text of a value, escapes resolved. `\.br\` becomes a line feed.
pub fn unescape(
    text: &str,
    delimiters: &Delimiters,
    charset: Charset,
    issues: &mut Vec<Issue>,
) -> String {
    let Some(escape) = delimiters.escape.filter(|escape| text.contains(*escape)) else {
        return text.to_owned();
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(escape) {
        out.push_str(before);
        let resolved = after
            .split_once(escape)
            .and_then(|(sequence, after)| Some((resolve(sequence, delimiters, charset)?, after)));
        match resolved {
            Some((resolved, after)) => {
                out.push_str(&resolved);
                rest = after;
            }
            None => {
                out.push(escape);
                rest = after;
                let sentence = "An escape sequence is not known; it is kept as text.";
                super::say(issues, sentence, "");
            }
        }
    }
    out.push_str(rest);
    out
}

fn resolve(sequence: &str, delimiters: &Delimiters, charset: Charset) -> Option<String> {
    let one = |delimiter: Option<char>| delimiter.map(String::from);
    match sequence {
        "F" => return one(Some(delimiters.field)),
        "S" => return one(delimiters.component),
        "R" => return one(delimiters.repetition),
        "E" => return one(delimiters.escape),
        "T" => return one(delimiters.subcomponent),
        "P" => return one(delimiters.truncation),
        "H" | "N" => return Some(String::new()),
        _ => {}
    }
    if let Some(digits) = sequence.strip_prefix('X') {
        return hexadecimal(digits).map(|bytes| charset.escaped(&bytes));
    }
    let command = sequence.strip_prefix('.')?;
    let (name, count) = command.split_at_checked(2)?;
    let count = match count.trim().trim_start_matches('+') {
        "" => None,
        digits => Some(digits.trim_start_matches('-').parse::<usize>().ok()?),
    };
    if count.is_some_and(|count| count > MAX_SKIP) {
        return None;
    }
    match name {
        "br" => Some("\n".into()),
        "sp" => Some("\n".repeat(count.unwrap_or(1).max(1))),
        "ce" => Some("\n".into()),
        "sk" => Some(" ".repeat(count.unwrap_or(1))),
        "in" | "ti" | "fi" | "nf" => Some(String::new()),
        _ => None,
    }
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2));
    pairs.map(|pair| pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())).collect()
}

/// A text as a value of a field: delimiters escaped, line ends as `\.br\`. Without an escape
/// character, delimiters become blanks.
pub fn escape(text: &str, delimiters: &Delimiters) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is = |delimiter: Option<char>| delimiter == Some(character);
        let sequence = if character == delimiters.field {
            "F"
        } else if is(delimiters.component) {
            "S"
        } else if is(delimiters.repetition) {
            "R"
        } else if is(delimiters.escape) {
            "E"
        } else if is(delimiters.subcomponent) {
            "T"
        } else if is(delimiters.truncation) {
            "P"
        } else if character == '\r' || character == '\n' {
            if character == '\r' {
                let _ = characters.next_if_eq(&'\n');
            }
            ".br"
        } else {
            out.push(character);
            continue;
        };
        match delimiters.escape {
            Some(escape) => {
                out.push(escape);
                out.push_str(sequence);
                out.push(escape);
            }
            None => out.push(' '),
        }
    }
    out
}
