//! Times: `YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`, HL7 version 2.5.1, chapter 2A, DTM.
//!
//! The precision that was written is kept. FHIR knows no hour without minutes: such a value is cut
//! to its day.

use jiff::civil;
use jiff::tz::TimeZone;
use lumbar_fhir::datetime::DateTime;

use crate::local_time::{self, Oddity};

/// A time as FHIR writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// A `date` or a `dateTime` with offset.
    pub text: String,
    /// Whether the offset was not sent and is the zone's.
    pub is_zone_assumed: bool,
    /// Whether an hour without minutes was cut off.
    pub is_cut: bool,
    /// What was odd about the wall-clock time.
    pub oddity: Option<Oddity>,
}

/// Reads a time; one without offset is wall-clock time in `zone`. `None` for anything that no
/// calendar or clock has.
pub fn read_time(text: &str, zone: &TimeZone) -> Option<Moment> {
    let text = text.trim();
    let (digits, offset) = match text.find(['+', '-']) {
        Some(at) => (&text[..at], Some(offset(&text[at..])?)),
        None => {
            (text.strip_suffix('Z').unwrap_or(text), text.ends_with('Z').then(|| "+00:00".into()))
        }
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 6 {
        return None;
    }
    if fraction.is_empty() == digits.contains('.') || (!fraction.is_empty() && whole.len() != 14) {
        return None;
    }
    let part = |from: usize, to: usize| whole.get(from..to);
    let date = match whole.len() {
        4 => part(0, 4)?.to_owned(),
        6 => format!("{}-{}", part(0, 4)?, part(4, 6)?),
        8 | 10 | 12 | 14 => format!("{}-{}-{}", part(0, 4)?, part(4, 6)?, part(6, 8)?),
        _ => return None,
    };
    DateTime::parse(&date)?;
    let day = |is_cut| Moment { text: date.clone(), is_zone_assumed: false, is_cut, oddity: None };
    if whole.len() <= 8 {
        return Some(day(false));
    }
    if whole.len() == 10 {
        return part(8, 10)?.parse::<u8>().is_ok_and(|hour| hour < 24).then(|| day(true));
    }
    // FHIR asks for seconds and allows them to be filled with zeros.
    let seconds = part(12, 14).unwrap_or("00");
    let point = if fraction.is_empty() { "" } else { "." };
    let local = format!("{date}T{}:{}:{seconds}{point}{fraction}", part(8, 10)?, part(10, 12)?);
    if let Some(offset) = offset {
        let text: String = format!("{local}{offset}");
        DateTime::parse(&text)?;
        return Some(Moment { text, is_zone_assumed: false, is_cut: false, oddity: None });
    }
    let moment: civil::DateTime = DateTime::parse(&local)?.start;
    let placed = local_time::place(moment, zone)?;
    let shown = placed.moment.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let text = format!("{shown}{point}{fraction}{}", placed.moment.strftime("%:z"));
    Some(Moment { text, is_zone_assumed: true, is_cut: false, oddity: placed.oddity })
}

/// `±ZZZZ` or the short form `±ZZ` as `±hh:mm`.
fn offset(text: &str) -> Option<String> {
    let digits = text.get(1..)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let sign = &text[..1];
    match digits.len() {
        2 => Some(format!("{sign}{digits}:00")),
        4 => Some(format!("{sign}{}:{}", &digits[..2], &digits[2..])),
        _ => None,
    }
}
