//! Wall-clock times without an offset: <https://hl7.org/fhir/R4/datatypes.html#dateTime>.
//!
//! Suppliers write local time of the practice; FHIR wants an offset, which depends on the date.
//! In spring one hour does not exist, in autumn one hour comes twice.

use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{ToSpan, Zoned};

/// The zone of all practices in the United Kingdom.
pub const LONDON: &str = "Europe/London";

/// A wall-clock time that has found its offset.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The moment, in the zone asked for.
    pub moment: Zoned,
    /// What was odd about the wall-clock time.
    pub oddity: Option<Oddity>,
}

/// Why a wall-clock time is not exactly one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// It was skipped when clocks went forward; the moment is as much later as was skipped.
    Gap,
    /// It happened twice when clocks went back; the moment is the first of the two.
    Overlap,
}

/// The zone named `name`, for example `Europe/London`; `None` when nobody knows it.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}

/// Finds the moment of a wall-clock time; `None` when it lies outside the calendar.
pub fn place(local: civil::DateTime, zone: &TimeZone) -> Option<Placed> {
    let ambiguous = zone.to_ambiguous_zoned(local);
    let oddity = match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => None,
        AmbiguousOffset::Gap { .. } => Some(Oddity::Gap),
        AmbiguousOffset::Fold { .. } => Some(Oddity::Overlap),
    };
    Some(Placed { moment: ambiguous.compatible().ok()?, oddity })
}

/// A moment as a FHIR dateTime with seconds and numeric offset, for example
/// `2026-03-02T10:42:00+00:00`.
pub fn text(moment: &Zoned) -> String {
    moment.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// Reads `yyyy-MM-dd`; `None` for dates no calendar has.
pub fn date(text: &str) -> Option<civil::Date> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i16> {
        bytes.get(from..to)?.iter().try_fold(0i16, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i16::from(byte - b'0'))
        })
    };
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = number(0, 4).filter(|year| *year > 0)?;
    civil::Date::new(year, i8::try_from(number(5, 7)?).ok()?, i8::try_from(number(8, 10)?).ok()?)
        .ok()
}

/// Reads `HH:mm[:ss]`.
pub fn time(text: &str) -> Option<civil::Time> {
    let bytes = text.as_bytes();
    let number = |from: usize| -> Option<i8> {
        bytes.get(from..from + 2)?.iter().try_fold(0i8, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + (byte - b'0') as i8)
        })
    };
    let second = match bytes.len() {
        5 => 0,
        8 if bytes[5] == b':' => number(6)?,
        _ => return None,
    };
    if bytes.get(2) != Some(&b':') {
        return None;
    }
    civil::Time::new(number(0)?, number(3)?, second, 0).ok()
}

/// The date of a spreadsheet's serial number (days since 1899-12-30), for serials of five digits and
/// up to 2199-12-31 only, so that neither a year nor another number passes for a date.
pub fn serial_date(text: &str) -> Option<civil::Date> {
    let days: i32 = text.parse().ok().filter(|days| (10_000..=109_574).contains(days))?;
    civil::date(1899, 12, 30).checked_add(days.days()).ok()
}

/// The time of a spreadsheet's serial number: a fraction of a day below 1, rounded to the second.
pub fn serial_time(text: &str) -> Option<civil::Time> {
    let fraction = text.strip_prefix("0.").filter(|digits| !digits.is_empty())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.get(..fraction.len().min(12))?;
    let scale = 10_i64.pow(u32::try_from(digits.len()).ok()?);
    let seconds = (digits.parse::<i64>().ok()? * 86_400 + scale / 2) / scale;
    civil::Time::midnight().checked_add(seconds.seconds()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(day: &str, clock: &str, expected: Expect) {
        let local = date(day).unwrap().to_datetime(time(clock).unwrap());
        let placed = place(local, &zone(LONDON).unwrap()).unwrap();
        expected.assert_eq(&format!("{} {:?}", text(&placed.moment), placed.oddity));
    }

    #[test]
    fn winter_summer_gap_and_overlap() {
        check("2026-03-02", "10:42:00", expect!["2026-03-02T10:42:00+00:00 None"]);
        check("2026-07-02", "10:42", expect!["2026-07-02T10:42:00+01:00 None"]);
        check("2026-03-29", "01:30:00", expect!["2026-03-29T02:30:00+01:00 Some(Gap)"]);
        check("2026-10-25", "01:30:00", expect!["2026-10-25T01:30:00+01:00 Some(Overlap)"]);
    }

    #[test]
    fn impossible_dates_and_times() {
        for text in ["31/02/1968", "2026-02-30", "2026-13-01", "0000-01-01", "2026-1-1", ""] {
            assert_eq!(date(text), None, "{text}");
        }
        for text in ["25:00:00", "10:60:00", "10.42", "1:00:00", ""] {
            assert_eq!(time(text), None, "{text}");
        }
    }

    #[test]
    fn spreadsheet_serials() {
        assert_eq!(serial_date("44537"), Some(civil::date(2021, 12, 7)));
        assert_eq!(serial_date("1977"), None);
        assert_eq!(serial_time("0.458333333333333"), Some(civil::time(11, 0, 0, 0)));
        assert_eq!(serial_time("0.x"), None);
    }
}
