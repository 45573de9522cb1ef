//! Dates and times with partial precision: <https://hl7.org/fhir/R4/datatypes.html#dateTime>.
//!
//! A FHIR date stands for an interval: `1974` is the whole year. [`DateTime`] keeps the precision
//! as written and gives the interval's bounds. A value with a time but no zone is read as UTC,
//! which only search meets; R4 itself asks for a zone.

use std::fmt;

use jiff::civil;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// How exactly a moment is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Precision {
    Year,
    Month,
    Day,
    Minute,
    Second,
    Fraction,
}

/// A `date`, `dateTime` or `instant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// The earliest local moment that the value can mean.
    pub start: civil::DateTime,
    /// Offset from UTC as written; `None` when the value has no zone.
    pub offset: Option<Offset>,
    /// How much of it was written.
    pub precision: Precision,
}

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

impl DateTime {
    /// Reads `YYYY[-MM[-DD[Thh:mm[:ss[.fff]][zone]]]]`, zone being `Z` or `±hh:mm`.
    /// `None` for anything else, among it dates that no calendar has. `24:00` is refused, and a
    /// leap second, which R4 allows, is read as the last moment of its minute.
    pub fn parse(text: &str) -> Option<DateTime> {
        let bytes = text.as_bytes();
        let year = digits(bytes, 0, 4)?;
        if year == 0 {
            return None;
        }
        let year = i16::try_from(year).ok()?;
        let date = |month: u32, day: u32| {
            civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
        };
        let whole = |date: civil::Date, precision| {
            Some(DateTime { start: date.at(0, 0, 0, 0), offset: None, precision })
        };
        if bytes.len() == 4 {
            return whole(date(1, 1)?, Precision::Year);
        }
        let month = (bytes[4] == b'-').then(|| digits(bytes, 5, 2)).flatten()?;
        if bytes.len() == 7 {
            return whole(date(month, 1)?, Precision::Month);
        }
        let day = (*bytes.get(7)? == b'-').then(|| digits(bytes, 8, 2)).flatten()?;
        let date = date(month, day)?;
        if bytes.len() == 10 {
            return whole(date, Precision::Day);
        }
        if *bytes.get(10)? != b'T' {
            return None;
        }
        let (time, precision, rest) = time(text.get(11..)?)?;
        let offset = match rest {
            "" => None,
            "Z" => Some(Offset::UTC),
            zone => Some(offset(zone)?),
        };
        Some(DateTime { start: date.to_datetime(time), offset, precision })
    }

    /// First and last microsecond of the interval; the last one is included. Values outside
    /// years 1 to 9999 after conversion to UTC are clamped to that range.
    pub fn bounds(&self) -> (Micros, Micros) {
        let next = match self.precision {
            Precision::Year => self.start.checked_add(1.year()),
            Precision::Month => self.start.checked_add(1.month()),
            Precision::Day => self.start.checked_add(1.day()),
            Precision::Minute => self.start.checked_add(1.minute()),
            Precision::Second => self.start.checked_add(1.second()),
            Precision::Fraction => self.start.checked_add(1.microsecond()),
        };
        let low = self.micros(self.start);
        let high = next.map_or(Timestamp::MAX.as_microsecond(), |next| self.micros(next) - 1);
        (low, high.max(low))
    }

    fn micros(&self, local: civil::DateTime) -> Micros {
        let zone = TimeZone::fixed(self.offset.unwrap_or(Offset::UTC));
        match local.to_zoned(zone) {
            Ok(moment) => moment.timestamp().as_microsecond(),
            Err(_) if local.year() < 5000 => Timestamp::MIN.as_microsecond(),
            Err(_) => Timestamp::MAX.as_microsecond(),
        }
    }
}

/// An `instant` in UTC with milliseconds, for example `2026-03-02T10:42:00.000Z`.
pub fn instant(micros: Micros) -> String {
    Instant(micros).to_string()
}

struct Instant(Micros);

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = Timestamp::from_microsecond(self.0).unwrap_or(Timestamp::MAX);
        write!(f, "{moment:.3}")
    }
}

/// A number of exactly `length` digits at `start`.
fn digits(bytes: &[u8], start: usize, length: usize) -> Option<u32> {
    let part = bytes.get(start..start + length)?;
    part.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'))
    })
}

/// Reads `hh:mm[:ss[.fff]]` and returns what follows it.
fn time(text: &str) -> Option<(civil::Time, Precision, &str)> {
    let bytes = text.as_bytes();
    let part = |start| digits(bytes, start, 2).and_then(|value| i8::try_from(value).ok());
    let (hour, minute) = (part(0)?, part(3)?);
    if *bytes.get(2)? != b':' {
        return None;
    }
    if bytes.get(5) != Some(&b':') {
        let time = civil::Time::new(hour, minute, 0, 0).ok()?;
        return Some((time, Precision::Minute, text.get(5..)?));
    }
    let second = part(6)?;
    let (nanos, end) = match bytes.get(8) {
        Some(b'.') => {
            let count = bytes[9..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if count == 0 {
                return None;
            }
            let kept = text.get(9..9 + count.min(9))?;
            let nanos = kept.parse::<i32>().ok()? * 10_i32.pow(9 - u32::try_from(kept.len()).ok()?);
            (nanos, 9 + count)
        }
        _ => (0, 8),
    };
    let precision = if end > 8 { Precision::Fraction } else { Precision::Second };
    let (second, nanos) = if second == 60 { (59, 999_999_000) } else { (second, nanos) };
    let time = civil::Time::new(hour, minute, second, nanos).ok()?;
    Some((time, precision, text.get(end..)?))
}

/// Reads `±hh:mm`; R4 allows up to 14 hours.
fn offset(text: &str) -> Option<Offset> {
    let bytes = text.as_bytes();
    let sign = match bytes.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if bytes.len() != 6 || bytes[3] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(bytes, 1, 2)?, digits(bytes, 4, 2)?);
    if minutes > 59 || hours * 60 + minutes > 14 * 60 {
        return None;
    }
    Offset::from_seconds(sign * i32::try_from(hours * 3600 + minutes * 60).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(text: &str) -> Option<String> {
        let (low, high) = DateTime::parse(text)?.bounds();
        let show = |micros| Timestamp::from_microsecond(micros).map(|t| format!("{t:.6}"));
        Some(format!("{} {}", show(low).ok()?, show(high).ok()?))
    }

    #[test]
    fn a_value_is_the_interval_of_its_precision() {
        for (text, expected) in [
            ("1974", "1974-01-01T00:00:00.000000Z 1974-12-31T23:59:59.999999Z"),
            ("2024-02", "2024-02-01T00:00:00.000000Z 2024-02-29T23:59:59.999999Z"),
            ("2026-03-02", "2026-03-02T00:00:00.000000Z 2026-03-02T23:59:59.999999Z"),
            ("2026-06-02T10:42+01:00", "2026-06-02T09:42:00.000000Z 2026-06-02T09:42:59.999999Z"),
            ("2026-06-02T10:42:07Z", "2026-06-02T10:42:07.000000Z 2026-06-02T10:42:07.999999Z"),
            ("2026-06-02T10:42:07.25Z", "2026-06-02T10:42:07.250000Z 2026-06-02T10:42:07.250000Z"),
            (
                "2015-02-07T13:28:17.239-05:00",
                "2015-02-07T18:28:17.239000Z 2015-02-07T18:28:17.239000Z",
            ),
        ] {
            assert_eq!(bounds(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_no_calendar_has_is_refused() {
        for text in [
            "",
            "197",
            "1974-13",
            "1968-02-31",
            "2026-3-2",
            "2026-03-02T",
            "2026-03-02T25:00Z",
            "2026-03-02 10:00",
            "2026-03-02T10:00+15:00",
            "2026-03-02T10:00:00.Z",
            "0000",
            "2026-03-02Z",
            "31/02/1968",
            "é974",
            "2026-03-02T10:00:00+0100",
        ] {
            assert_eq!(DateTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_instant_has_milliseconds_and_utc() {
        let (low, _) = DateTime::parse("2026-06-02T10:42:07+01:00").unwrap().bounds();
        assert_eq!(instant(low), "2026-06-02T09:42:07.000Z");
    }

    proptest::proptest! {
        #[test]
        fn no_input_panics(text in ".{0,40}") {
            let _ = DateTime::parse(&text).map(|value| value.bounds());
        }

        #[test]
        fn any_bounds_are_ordered(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9](:[0-5][0-9])?(Z|\\+1[0-4]:00)?") {
            if let Some(value) = DateTime::parse(&text) {
                let (low, high) = value.bounds();
                assert!(low <= high, "{text}");
            }
        }
    }
}
