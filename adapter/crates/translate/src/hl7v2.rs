//! HL7 version 2 messages in the vertical-bar encoding: <https://www.hl7.org/implement/standards/product_brief.cfm?product_id=185>.
//!
//! [`Message`] is the grammar: bytes to segments, fields, repetitions, components and subcomponents
//! and back, with the delimiters that the message declares; [`tree()`] is the whole as a record tree.
//! What the fields mean stands in tables ([`Mapping`]). No messages are built from resources here.
//! Framing (MLLP) and acknowledging are the connection's
//! business. The XML encoding is not read.

mod charset;
mod escape;
mod map;
mod time;
mod tree;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use lumbar_fhir::{Issue, IssueType, Json, Locator, json};

pub use charset::Charset;
pub use escape::{escape, unescape};
pub use map::{Mapped, Mapping};
pub use time::{Moment, read_time};
pub use tree::{Groups, tree};

use crate::mapping::{Entry, MappingError, Settings, Source};
use crate::report::{Outcome, Report};

macro_rules! table {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../profiles/mappings/hl7v2/", $name)))
    };
}

/// The mapping that comes with the product, `profiles/mappings/hl7v2`: referrals (REF).
pub const SOURCE: Source<'static> = Source {
    mapping: table!("mapping.json").1,
    tables: table!("segments.csv").1,
    codes: table!("codes.csv").1,
    rules: &[
        table!("address.csv"),
        table!("allergy-intolerance.csv"),
        table!("attender.csv"),
        table!("code.csv"),
        table!("condition.csv"),
        table!("consultant.csv"),
        table!("contact.csv"),
        table!("disposition.csv"),
        table!("encounter.csv"),
        table!("external-referral.csv"),
        table!("identifier.csv"),
        table!("item.csv"),
        table!("name.csv"),
        table!("observation.csv"),
        table!("organization.csv"),
        table!("patient.csv"),
        table!("practitioner-role.csv"),
        table!("practitioner-xcn.csv"),
        table!("practitioner.csv"),
        table!("questionnaire-response.csv"),
        table!("reference.csv"),
        table!("referral-reason.csv"),
        table!("referrer.csv"),
        table!("service-request.csv"),
        table!("task.csv"),
        table!("telecom.csv"),
    ],
};

/// The product's mapping, parsed and checked.
///
/// # Errors
/// A fault in `profiles/mappings/hl7v2`; a test keeps it from shipping.
pub fn mapping() -> Result<Mapping, MappingError> {
    Mapping::parse(&SOURCE)
}

/// Translates the messages of a file in memory: one transaction Bundle, and the report in which a
/// message that cannot be read is refused. Of two entries for one resource the later one stands.
pub fn convert(
    mapping: &Mapping,
    bytes: &[u8],
    default: Charset,
    settings: &Settings<'_>,
) -> (Json, Report) {
    let mut report = Report::new("hl7v2");
    let mut entries: Vec<Entry> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let found = messages(bytes);
    // What holds no message at all is read too, for the sentence that says why not.
    for bytes in if found.is_empty() { vec![bytes] } else { found } {
        match Message::parse(bytes, default) {
            Err(issue) => {
                report.came_in("MSH");
                report.became("MSH", &Outcome::Refused);
                report.issue(*issue);
            }
            Ok((message, issues)) => {
                issues.into_iter().for_each(|issue| report.issue(issue));
                let mapped = mapping.map(&message, settings);
                report.merge(mapped.report);
                for entry in mapped.entries {
                    match places.get(&entry.url).and_then(|place| entries.get_mut(*place)) {
                        Some(earlier) => *earlier = entry,
                        None => {
                            places.insert(entry.url.clone(), entries.len());
                            entries.push(entry);
                        }
                    }
                }
            }
        }
    }
    let entries: Vec<Json> = entries.into_iter().map(Entry::into_json).collect();
    (json!({"resourceType": "Bundle", "type": "transaction", "entry": (entries)}), report)
}

/// Largest message that is read.
pub const MAX_BYTES: usize = 16 << 20;

/// Greatest number of fields of one message; a message of delimiters only must not cost more
/// memory than one of text.
pub const MAX_FIELDS: usize = 200_000;

/// The delimiters of a message, from MSH-1 and MSH-2. The ones after the component are absent when
/// MSH-2 is short; text then never means them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub struct Delimiters {
    pub field: char,
    pub component: Option<char>,
    pub repetition: Option<char>,
    pub escape: Option<char>,
    pub subcomponent: Option<char>,
    /// Since 2.7: marks a value that was cut.
    pub truncation: Option<char>,
}

/// One message. Fields are kept as written, escapes untouched, so that printing gives them back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The delimiters it declares.
    pub delimiters: Delimiters,
    /// The character set it was read with.
    pub charset: Charset,
    /// The segments in order; the first is MSH.
    pub segments: Vec<Segment>,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its name, for example `PID`.
    pub name: String,
    /// Its fields from field 1 on, as written. Of MSH the first is the field delimiter itself.
    pub fields: Vec<String>,
}

impl Default for Delimiters {
    fn default() -> Self {
        Delimiters {
            field: '|',
            component: Some('^'),
            repetition: Some('~'),
            escape: Some('\\'),
            subcomponent: Some('&'),
            truncation: None,
        }
    }
}

impl Delimiters {
    /// Reads what follows `MSH`: MSH-1 and MSH-2.
    fn read(text: &str) -> Option<Delimiters> {
        let mut all = text.chars();
        let field = all.next().filter(|c| is_delimiter(*c))?;
        let rest = all.as_str();
        let encoding = rest.split([field, '\r', '\n']).next()?;
        let found: Vec<char> = encoding.chars().collect();
        let distinct = found.iter().enumerate().all(|(index, delimiter)| {
            is_delimiter(*delimiter) && *delimiter != field && !found[..index].contains(delimiter)
        });
        if found.is_empty() || found.len() > 5 || !distinct {
            return None;
        }
        let at = |index: usize| found.get(index).copied();
        Some(Delimiters {
            field,
            component: at(0),
            repetition: at(1),
            escape: at(2),
            subcomponent: at(3),
            truncation: at(4),
        })
    }

    /// The repetitions of a field.
    pub fn repetitions<'a>(&self, field: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        split(field, self.repetition)
    }

    /// The components of a repetition.
    pub fn components<'a>(&self, repetition: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        split(repetition, self.component)
    }

    /// The subcomponents of a component.
    pub fn subcomponents<'a>(&self, component: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        split(component, self.subcomponent)
    }
}

fn split(text: &str, delimiter: Option<char>) -> impl Iterator<Item = &str> {
    // A delimiter that is not declared is one that no text holds: CR ends a segment.
    text.split(delimiter.unwrap_or('\r'))
}

fn is_delimiter(character: char) -> bool {
    character.is_ascii_graphic() && !character.is_ascii_alphanumeric() && character != '"'
}

impl Message {
    /// Reads one message; `default` is the character set of messages that name none (MSH-18).
    ///
    /// Segments may end with CR, LF or CRLF, empty lines are passed over, and anything before the
    /// first MSH is reported and left out. Fields beyond what the standard knows are kept.
    ///
    /// # Errors
    /// No MSH (`BPA-FILE-001`), delimiters that cannot be told apart, or a size over the bounds.
    pub fn parse(bytes: &[u8], default: Charset) -> Result<(Message, Vec<Issue>), Box<Issue>> {
        if bytes.len() > MAX_BYTES {
            return Err(fault(IssueType::TooLong, "The message is larger than is read."));
        }
        let mut issues = Vec::new();
        let charset = Charset::of(bytes, default, &mut issues);
        let text = charset.decode(bytes, &mut issues);
        let mut lines = text.split(['\r', '\n']).filter(|line| !line.is_empty()).peekable();
        while lines.next_if(|line| !line.starts_with("MSH")).is_some() {
            say(&mut issues, "Something stands before the MSH segment; it is left out.", "");
        }
        let Some(header) = lines.peek() else {
            return Err(fault(IssueType::Structure, "There is no MSH segment."));
        };
        let delimiters = header.get(3..).and_then(Delimiters::read).ok_or_else(|| {
            fault(IssueType::Structure, "The delimiters in MSH-1 and MSH-2 cannot be told apart.")
        })?;
        if text.contains('\n') {
            say(&mut issues, "Segments end with a line feed where a carriage return is due.", "");
        }
        let mut segments: Vec<Segment> = Vec::new();
        let mut count = 0;
        for line in lines {
            let mut fields = line.split(delimiters.field).map(str::to_owned);
            let name = fields.next().unwrap_or_default();
            let mut fields: Vec<String> = fields.collect();
            if name == "MSH" {
                if !segments.is_empty() {
                    say(&mut issues, "A second MSH begins another message; it is left out.", "");
                    break;
                }
                fields.insert(0, delimiters.field.to_string());
            }
            if !is_name(&name) {
                say(&mut issues, "A line does not begin with the name of a segment.", &name);
            }
            count += fields.len();
            if count > MAX_FIELDS {
                return Err(fault(
                    IssueType::TooLong,
                    "The message has more fields than are read.",
                ));
            }
            segments.push(Segment { name, fields });
        }
        Ok((Message { delimiters, charset, segments }, issues))
    }

    /// The message as text: segments with CR, fields as they were written.
    pub fn print(&self) -> String {
        let mut out = String::new();
        for segment in &self.segments {
            out.push_str(&segment.name);
            let of_header = usize::from(segment.name == "MSH");
            for field in segment.fields.iter().skip(of_header) {
                out.push(self.delimiters.field);
                out.push_str(field);
            }
            out.push('\r');
        }
        out
    }

    /// The message as bytes of its character set. What the set cannot hold is written as the nearest
    /// plain character, else `?`, and each such character is reported (`BPA-ENC-001`).
    pub fn to_bytes(&self) -> (Vec<u8>, Vec<Issue>) {
        self.charset.encode(&self.print())
    }

    /// The segments of a name, in order.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Segment> {
        self.segments.iter().filter(move |segment| segment.name == name)
    }

    /// The value of a part of the first segment of a name: field, component (both from 1) of the
    /// first repetition, first subcomponent, escapes resolved. `None` when it is not sent, empty or
    /// null.
    pub fn value(&self, segment: &str, field: usize, component: usize) -> Option<String> {
        let field = self.named(segment).next()?.field(field)?;
        let repetition = self.delimiters.repetitions(field).next()?;
        let component = self.delimiters.components(repetition).nth(component.checked_sub(1)?)?;
        let value = self.delimiters.subcomponents(component).next()?;
        let value = unescape(value, &self.delimiters, self.charset, &mut Vec::new());
        (!value.is_empty() && value != "\"\"").then_some(value)
    }

    /// Message type, event and structure, the last derived when MSH-9.3 is absent, as before 2.5.
    pub fn kind(&self) -> Option<(String, String, String)> {
        let (name, event) = (self.value("MSH", 9, 1)?, self.value("MSH", 9, 2).unwrap_or_default());
        let structure = self.value("MSH", 9, 3).unwrap_or_else(|| derived(&name, &event));
        Some((name, event, structure))
    }
}

/// The structure of events that share another event's.
fn derived(name: &str, event: &str) -> String {
    let of = match (name, event) {
        ("ADT", "A04" | "A08" | "A13") => "A01",
        ("ADT", "A28" | "A31") => "A05",
        ("REF" | "RRI", "I13" | "I14" | "I15") => "I12",
        ("SIU", "S13" | "S14" | "S15" | "S16" | "S17" | "S26") => "S12",
        ("MDM", "T04" | "T06" | "T08" | "T10") => "T02",
        (_, event) => event,
    };
    if of.is_empty() { name.to_owned() } else { format!("{name}_{of}") }
}

impl Segment {
    /// A field as written, from 1; `None` when the segment ends before it or it is empty.
    pub fn field(&self, number: usize) -> Option<&str> {
        let field = self.fields.get(number.checked_sub(1)?)?;
        (!field.is_empty()).then_some(field)
    }
}

/// The messages of a frame or file: each begins with an MSH at the start of a line.
pub fn messages(bytes: &[u8]) -> Vec<&[u8]> {
    let begins = |index: &usize| {
        bytes[*index..].starts_with(b"MSH")
            && (*index == 0 || matches!(bytes[*index - 1], b'\r' | b'\n' | 0x0B))
    };
    let starts: Vec<usize> = (0..bytes.len()).filter(begins).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).filter_map(|(start, end)| bytes.get(*start..end)).collect()
}

fn is_name(name: &str) -> bool {
    name.len() == 3 && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn fault(kind: IssueType, text: &str) -> Box<Issue> {
    let issue = Issue::error(kind, text).detail("BPA-FILE-001");
    Box::new(issue.located(Locator::Segment("MSH".into())))
}

/// Adds an informational issue, once for each sentence.
fn say(issues: &mut Vec<Issue>, text: &str, value: &str) {
    if issues.iter().any(|issue| issue.text == text) {
        return;
    }
    let issue = Issue::information(IssueType::Informational, text);
    issues.push(if value.is_empty() { issue } else { issue.value(value) });
}
