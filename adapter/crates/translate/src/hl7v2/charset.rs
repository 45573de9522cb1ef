//! Character sets of messages: HL7 table 0211, named in MSH-18.
//!
//! A message that names none, or one that its bytes contradict, is read as UTF-8 when it is valid
//! and otherwise as the connection's default, because older systems send what their screen shows.

use encoding_rs::Encoding;
use lumbar_fhir::{Issue, IssueType, Locator};

/// A character set that messages are read and written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charset {
    encoding: &'static Encoding,
    /// ISO 8859-1 proper: read like Windows-1252, which has more, but written without the more.
    is_latin_1: bool,
}

/// Characters that a narrower set may lack, and what is written for them.
const PLAIN: [(&str, &str); 6] = [
    ("‘’‚‹›", "'"),
    ("“”„", "\""),
    ("‐‑‒–—−", "-"),
    ("\u{a0}\u{2009}\u{202f}", " "),
    ("…", "..."),
    ("•", "*"),
];

impl Charset {
    /// Windows-1252: the usual default of connections.
    pub const WINDOWS_1252: Charset = Charset::new(encoding_rs::WINDOWS_1252);
    /// UTF-8.
    pub const UTF_8: Charset = Charset::new(encoding_rs::UTF_8);

    const fn new(encoding: &'static Encoding) -> Charset {
        Charset { encoding, is_latin_1: false }
    }

    /// The set of a name of table 0211; `None` for names that are not read (ISO 2022 and Asian
    /// sets) and for plain ASCII, which says nothing about bytes above 127.
    pub fn named(name: &str) -> Option<Charset> {
        let name = name.trim().to_ascii_uppercase();
        match name.as_str() {
            "UNICODE UTF-8" | "UTF-8" | "UTF8" | "UNICODE" => Some(Charset::UTF_8),
            "WINDOWS-1252" | "CP1252" => Some(Charset::WINDOWS_1252),
            _ => {
                let part = name.strip_prefix("8859/")?;
                let encoding = Encoding::for_label(format!("iso-8859-{part}").as_bytes())?;
                Some(Charset { encoding, is_latin_1: part == "1" })
            }
        }
    }

    /// The set of a message, from its MSH-18, its bytes and the connection's default.
    pub(super) fn of(bytes: &[u8], default: Charset, issues: &mut Vec<Issue>) -> Charset {
        if let Some((encoding, _)) = Encoding::for_bom(bytes) {
            return Charset::new(encoding);
        }
        let is_utf_8 = std::str::from_utf8(bytes).is_ok();
        let declared = declared(bytes);
        let named = declared.as_deref().and_then(Charset::named);
        match (named, declared) {
            (Some(named), _) if named == Charset::UTF_8 && !is_utf_8 => {
                report(issues, "The message says it is Unicode, but its bytes are not.");
                default
            }
            (Some(named), _) => named,
            (None, declared) => {
                if let Some(name) = declared.filter(|name| name != "ASCII") {
                    report(issues, &format!("The character set {name} is not read as such."));
                }
                if is_utf_8 { Charset::UTF_8 } else { default }
            }
        }
    }

    /// The bytes as text; what the set does not know becomes U+FFFD, with one issue.
    pub(super) fn decode(self, bytes: &[u8], issues: &mut Vec<Issue>) -> String {
        let (text, _, has_errors) = self.encoding.decode(bytes);
        // Five bytes are undefined in Windows-1252; the decoder makes control characters of them.
        let is_undefined =
            |c: char| matches!(c, '\u{81}' | '\u{8d}' | '\u{8f}' | '\u{90}' | '\u{9d}');
        let is_western = self.encoding == encoding_rs::WINDOWS_1252;
        if is_western && text.contains(is_undefined) {
            report(issues, "Some bytes are no characters of the message's set.");
            return text.replace(is_undefined, "\u{fffd}");
        }
        if has_errors {
            report(issues, "Some bytes are no characters of the message's set.");
        }
        text.into_owned()
    }

    /// The text as bytes; see [`super::Message::to_bytes`].
    pub(super) fn encode(self, text: &str) -> (Vec<u8>, Vec<Issue>) {
        let mut issues: Vec<Issue> = Vec::new();
        let mut plain = String::with_capacity(text.len());
        for character in text.chars() {
            if self.holds(character) {
                plain.push(character);
                continue;
            }
            let written =
                PLAIN.iter().find(|(of, _)| of.contains(character)).map(|(_, plain)| *plain);
            plain.push_str(written.unwrap_or("?"));
            let text = format!(
                "The receiver's character set has no {character} (U+{:04X}); {} is written.",
                u32::from(character),
                written.unwrap_or("?")
            );
            if !issues.iter().any(|issue| issue.text == text) {
                issues.push(Issue::warning(IssueType::Value, text).detail("BPA-ENC-001"));
            }
        }
        (self.encoding.encode(&plain).0.into_owned(), issues)
    }

    fn holds(self, character: char) -> bool {
        if character.is_ascii() {
            return true;
        }
        if self.is_latin_1 {
            return ('\u{a0}'..='\u{ff}').contains(&character);
        }
        let mut buffer = [0; 4];
        !self.encoding.encode(character.encode_utf8(&mut buffer)).2
    }

    /// The text of the bytes of a hexadecimal escape.
    pub(super) fn escaped(self, bytes: &[u8]) -> String {
        self.encoding.decode_without_bom_handling(bytes).0.into_owned()
    }
}

/// The first repetition of MSH-18, read as ASCII before any set is known.
fn declared(bytes: &[u8]) -> Option<String> {
    let start = bytes.windows(3).take(1024).position(|window| window == b"MSH")?;
    let line = bytes.get(start..)?.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let field = *line.get(3)?;
    let repetition = line.get(5).copied().filter(|byte| *byte != field).unwrap_or(b'~');
    // Splitting gives MSH first and MSH-2 second, so MSH-18 is at place 17.
    let value = line.split(|byte| *byte == field).nth(17)?;
    let first = value.split(|byte| *byte == repetition).next()?;
    let text = std::str::from_utf8(first).ok()?.trim();
    (!text.is_empty() && text.len() <= 40).then(|| text.to_owned())
}

fn report(issues: &mut Vec<Issue>, text: &str) {
    let place = Locator::Segment("MSH^1^18".into());
    issues.push(Issue::warning(IssueType::Value, text).detail("BPA-ENC-001").located(place));
}
