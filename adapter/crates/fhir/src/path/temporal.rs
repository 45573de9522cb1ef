//! Dates and times of FHIRPath: <https://hl7.org/fhirpath/N1/#date>.
//!
//! [`crate::datetime::DateTime`] is FHIR's reading, in which a value with a time has minutes and a
//! zone; FHIRPath also has hours alone, times without a date and values without a zone, and
//! compares by components.

use std::cmp::Ordering;
use std::fmt;

use rust_decimal::Decimal;

/// How much of a value is given, coarsest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// Year only.
    Year,
    /// Year and month.
    Month,
    /// A whole date.
    Day,
    /// Up to the hour.
    Hour,
    /// Up to the minute.
    Minute,
    /// Up to the second.
    Second,
    /// With a fraction of the second.
    Millisecond,
}

/// A date, dateTime or time with the precision with which it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temporal {
    /// 1 to 9999; 1 for a time.
    pub year: i16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// Fraction of the second.
    pub nanos: u32,
    /// How much of it was given.
    pub precision: Precision,
    /// Minutes from UTC; `None` without a zone.
    pub offset: Option<i16>,
}

const DAY_NANOS: i128 = 86_400 * SECOND_NANOS;
const SECOND_NANOS: i128 = 1_000_000_000;
const MINUTE_NANOS: i128 = 60 * SECOND_NANOS;

impl Temporal {
    /// `YYYY[-MM[-DD]]`.
    pub fn parse_date(text: &str) -> Option<Temporal> {
        let mut value = Temporal::start_of_time();
        let bytes = text.as_bytes();
        value.year = i16::try_from(digits(bytes, 0, 4)?).ok().filter(|year| *year > 0)?;
        if bytes.len() > 4 {
            value.month = small(after(bytes, 4, b'-')?, 1, 12)?;
            value.precision = Precision::Month;
        }
        if bytes.len() > 7 {
            value.day = small(after(bytes, 7, b'-')?, 1, days_in_month(value.year, value.month))?;
            value.precision = Precision::Day;
        }
        matches!(bytes.len(), 4 | 7 | 10).then_some(value)
    }

    /// `hh[:mm[:ss[.fff]]]`.
    pub fn parse_time(text: &str) -> Option<Temporal> {
        let mut value = Temporal::start_of_time();
        value.read_time(text)?;
        Some(value)
    }

    /// A date, or a date, `T`, and maybe a time and a zone.
    pub fn parse_date_time(text: &str) -> Option<Temporal> {
        let Some((date, time)) = text.split_once('T') else {
            return Temporal::parse_date(text);
        };
        let mut value = Temporal::parse_date(date)?;
        if time.is_empty() {
            return Some(value);
        }
        if value.precision != Precision::Day {
            return None;
        }
        let (time, offset) = match time.find(['Z', '+', '-']) {
            Some(at) => (&time[..at], Some(parse_offset(&time[at..])?)),
            None => (time, None),
        };
        value.read_time(time)?;
        value.offset = offset;
        Some(value)
    }

    fn read_time(&mut self, text: &str) -> Option<()> {
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (text, None),
        };
        let bytes = whole.as_bytes();
        self.hour = small(digits(bytes, 0, 2)?, 0, 23)?;
        self.precision = Precision::Hour;
        if bytes.len() > 2 {
            self.minute = small(after(bytes, 2, b':')?, 0, 59)?;
            self.precision = Precision::Minute;
        }
        if bytes.len() > 5 {
            // A leap second is read as the last second of its minute.
            self.second = small(after(bytes, 5, b':')?, 0, 60)?.min(59);
            self.precision = Precision::Second;
        }
        if !matches!(bytes.len(), 2 | 5 | 8) {
            return None;
        }
        if let Some(fraction) = fraction {
            let valid = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
            if !valid || self.precision != Precision::Second {
                return None;
            }
            let kept = &fraction[..fraction.len().min(9)];
            self.nanos =
                kept.parse::<u32>().ok()? * 10_u32.pow(9 - u32::try_from(kept.len()).ok()?);
            self.precision = Precision::Millisecond;
        }
        Some(())
    }

    fn start_of_time() -> Temporal {
        Temporal {
            year: 1,
            month: 1,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            nanos: 0,
            precision: Precision::Year,
            offset: None,
        }
    }

    /// The date alone.
    pub fn date(mut self) -> Temporal {
        self = Temporal { hour: 0, minute: 0, second: 0, nanos: 0, offset: None, ..self };
        self.precision = self.precision.min(Precision::Day);
        self
    }

    /// The time alone.
    pub fn time(mut self) -> Temporal {
        self.offset = None;
        Temporal { year: 1, month: 1, day: 1, ..self }
    }

    /// The order of two values; `None` when their precision or zones leave it open.
    pub fn compare(&self, other: &Temporal) -> Option<Ordering> {
        let (one, two) = match (self.zoned(), other.zoned()) {
            (true, true) => (self.in_utc(), other.in_utc()),
            (false, false) => (*self, *other),
            // A date has no zone: it is compared with the date as the other value has it.
            _ if self.precision.min(other.precision) <= Precision::Day => (*self, *other),
            _ => return self.compare_without_zone(other),
        };
        for (precision, one, two) in [
            (Precision::Year, i64::from(one.year), i64::from(two.year)),
            (Precision::Month, one.month.into(), two.month.into()),
            (Precision::Day, one.day.into(), two.day.into()),
            (Precision::Hour, one.hour.into(), two.hour.into()),
            (Precision::Minute, one.minute.into(), two.minute.into()),
            (Precision::Second, one.seconds(), two.seconds()),
        ] {
            match (precision <= self.precision, precision <= other.precision) {
                (true, true) if one != two => return Some(one.cmp(&two)),
                (true, true) => {}
                (false, false) => return Some(Ordering::Equal),
                _ => return None,
            }
        }
        Some(Ordering::Equal)
    }

    /// One value has a zone, the other could be in any: sure only beyond that doubt.
    fn compare_without_zone(&self, other: &Temporal) -> Option<Ordering> {
        let bounds = |value: &Temporal| {
            let (low, high) = value.bounds();
            match value.zoned() {
                true => (low, high),
                false => (low - 14 * 60 * MINUTE_NANOS, high + 12 * 60 * MINUTE_NANOS),
            }
        };
        let (one, two) = (bounds(self), bounds(other));
        if one.1 < two.0 {
            Some(Ordering::Less)
        } else if one.0 > two.1 {
            Some(Ordering::Greater)
        } else {
            None
        }
    }

    fn zoned(&self) -> bool {
        self.offset.is_some()
    }

    fn seconds(&self) -> i64 {
        i64::from(self.second) * 1_000_000_000 + i64::from(self.nanos)
    }

    /// First and last nanosecond that the value can mean, its zone taken as UTC if it has none.
    fn bounds(&self) -> (i128, i128) {
        let low = self.moment();
        let length = match self.precision {
            Precision::Year => i128::from(if is_leap(self.year) { 366 } else { 365 }) * DAY_NANOS,
            Precision::Month => i128::from(days_in_month(self.year, self.month)) * DAY_NANOS,
            Precision::Day => DAY_NANOS,
            Precision::Hour => 60 * MINUTE_NANOS,
            Precision::Minute => MINUTE_NANOS,
            Precision::Second | Precision::Millisecond => 1,
        };
        (low, low + length - 1)
    }

    /// Nanoseconds since 0000-03-01T00:00:00Z.
    fn moment(&self) -> i128 {
        let minutes = i128::from(self.hour) * 60 + i128::from(self.minute)
            - i128::from(self.offset.unwrap_or(0));
        i128::from(day_number(self.year, self.month, self.day)) * DAY_NANOS
            + minutes * MINUTE_NANOS
            + i128::from(self.seconds())
    }

    fn in_utc(&self) -> Temporal {
        match self.offset {
            None | Some(0) => *self,
            Some(_) => self.at(self.moment(), Some(0)).unwrap_or(*self),
        }
    }

    /// The moment `nanos` with this value's precision; `None` outside the years 1 to 9999.
    fn at(&self, nanos: i128, offset: Option<i16>) -> Option<Temporal> {
        let local = nanos + i128::from(offset.unwrap_or(0)) * MINUTE_NANOS;
        let (year, month, day) = date_of(i64::try_from(local.div_euclid(DAY_NANOS)).ok()?)?;
        let rest = local.rem_euclid(DAY_NANOS);
        let part = |unit: i128, base: i128| u8::try_from(rest / unit % base).ok();
        Some(Temporal {
            year,
            month,
            day,
            hour: part(60 * MINUTE_NANOS, 24)?,
            minute: part(MINUTE_NANOS, 60)?,
            second: part(SECOND_NANOS, 60)?,
            nanos: u32::try_from(rest % SECOND_NANOS).ok()?,
            precision: self.precision,
            offset,
        })
    }

    /// The value moved by a number of calendar units (`year` … `millisecond`). Fractions count
    /// for seconds only; a unit finer than the precision counts as often as it fills the
    /// precision. `None` outside the years 1 to 9999 and for an unknown unit.
    pub fn add(&self, amount: Decimal, unit: &str) -> Option<Temporal> {
        let whole = i64::try_from(amount.trunc()).ok()?;
        match (unit, self.precision) {
            ("year", _) => self.add_months(whole.checked_mul(12)?),
            ("month", Precision::Year) => self.add_months(whole / 12 * 12),
            ("month", _) => self.add_months(whole),
            (_, Precision::Year | Precision::Month) => {
                let days = whole.checked_mul(unit_nanos(unit)?)? / unit_nanos("day")?;
                match self.precision {
                    Precision::Year => self.add_months(days / 365 * 12),
                    _ => self.add_months(days / 30),
                }
            }
            _ => {
                let size = unit_nanos(unit)?;
                let nanos = match unit {
                    "second" | "millisecond" => {
                        i64::try_from(amount.checked_mul(size.into())?.trunc()).ok()?
                    }
                    _ => whole.checked_mul(size)?,
                };
                let fills = match self.precision {
                    Precision::Day => unit_nanos("day")?,
                    Precision::Hour => unit_nanos("hour")?,
                    Precision::Minute => unit_nanos("minute")?,
                    Precision::Second => unit_nanos("second")?,
                    _ => unit_nanos("millisecond")?,
                };
                self.at(self.moment() + i128::from(nanos / fills * fills), self.offset)
            }
        }
    }

    /// A time moved by `amount` units, past midnight if need be.
    pub fn add_to_time(&self, amount: Decimal, unit: &str) -> Option<Temporal> {
        let noon = Temporal { year: 5000, ..*self };
        let moved = noon.add(amount, unit)?;
        Some(Temporal { year: 1, month: 1, day: 1, ..moved })
    }

    fn add_months(&self, months: i64) -> Option<Temporal> {
        let total = i64::from(self.year) * 12 + i64::from(self.month) - 1;
        let total = total.checked_add(months)?;
        let year = i16::try_from(total.div_euclid(12)).ok().filter(|y| (1..=9999).contains(y))?;
        let month = u8::try_from(total.rem_euclid(12) + 1).ok()?;
        let day = self.day.min(days_in_month(year, month));
        Some(Temporal { year, month, day, ..*self })
    }

    /// The earliest or latest value of the given precision that this one can mean; a value
    /// without a zone gets the zone that makes it earliest or latest.
    pub fn boundary(&self, precision: Precision, high: bool) -> Temporal {
        let mut value = *self;
        if self.precision < Precision::Month && high {
            value.month = 12;
        }
        if self.precision < Precision::Day && high {
            value.day = days_in_month(value.year, value.month);
        }
        if self.precision < Precision::Hour && high {
            value.hour = 23;
        }
        if self.precision < Precision::Minute && high {
            value.minute = 59;
        }
        if self.precision < Precision::Second && high {
            value.second = 59;
        }
        if self.precision < Precision::Millisecond && high {
            value.nanos = 999_000_000;
        }
        value.precision = precision;
        if precision >= Precision::Hour && value.offset.is_none() {
            value.offset = Some(if high { -12 * 60 } else { 14 * 60 });
        }
        if precision < Precision::Hour {
            value = value.date();
        }
        value
    }

    /// How it is written as a time: `hh:mm:ss.fff` up to its precision.
    pub fn time_text(&self) -> String {
        let mut out = String::new();
        let _ = self.write_time(&mut out);
        out
    }

    fn write_time(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{:02}", self.hour)?;
        if self.precision >= Precision::Minute {
            write!(out, ":{:02}", self.minute)?;
        }
        if self.precision >= Precision::Second {
            write!(out, ":{:02}", self.second)?;
        }
        if self.precision >= Precision::Millisecond {
            write!(out, ".{:03}", self.nanos / 1_000_000)?;
        }
        Ok(())
    }
}

/// A date or dateTime as FHIR writes it.
impl fmt::Display for Temporal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}", self.year)?;
        if self.precision >= Precision::Month {
            write!(f, "-{:02}", self.month)?;
        }
        if self.precision >= Precision::Day {
            write!(f, "-{:02}", self.day)?;
        }
        if self.precision < Precision::Hour {
            return Ok(());
        }
        f.write_str("T")?;
        self.write_time(f)?;
        match self.offset {
            None => Ok(()),
            Some(0) => f.write_str("Z"),
            Some(offset) => {
                let sign = if offset < 0 { '-' } else { '+' };
                let minutes = offset.unsigned_abs();
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
        }
    }
}

/// Nanoseconds of a unit of fixed length.
fn unit_nanos(unit: &str) -> Option<i64> {
    Some(match unit {
        "week" => 7 * 86_400_000_000_000,
        "day" => 86_400_000_000_000,
        "hour" => 3_600_000_000_000,
        "minute" => 60_000_000_000,
        "second" => 1_000_000_000,
        "millisecond" => 1_000_000,
        _ => return None,
    })
}

fn parse_offset(text: &str) -> Option<i16> {
    if text == "Z" {
        return Some(0);
    }
    let bytes = text.as_bytes();
    let hours = digits(bytes, 1, 2)?;
    let minutes = after(bytes, 3, b':')?;
    if bytes.len() != 6 || minutes > 59 || hours * 60 + minutes > 14 * 60 {
        return None;
    }
    let total = i16::try_from(hours * 60 + minutes).ok()?;
    Some(if bytes[0] == b'-' { -total } else { total })
}

fn digits(bytes: &[u8], start: usize, length: usize) -> Option<u32> {
    let part = bytes.get(start..start + length)?;
    part.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'))
    })
}

fn after(bytes: &[u8], at: usize, mark: u8) -> Option<u32> {
    (bytes.get(at) == Some(&mark)).then(|| digits(bytes, at + 1, 2)).flatten()
}

fn small(number: u32, low: u8, high: u8) -> Option<u8> {
    u8::try_from(number).ok().filter(|number| (low..=high).contains(number))
}

fn is_leap(year: i16) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_month(year: i16, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 0000-03-01, a calendar whose leap day is the last of its year.
fn day_number(year: i16, month: u8, day: u8) -> i64 {
    let (year, month, day) = (i64::from(year), i64::from(month), i64::from(day));
    let year = if month <= 2 { year - 1 } else { year };
    let shifted = (month + 9) % 12;
    year * 365 + year / 4 - year / 100 + year / 400 + (shifted * 153 + 2) / 5 + day - 1
}

fn date_of(days: i64) -> Option<(i16, u8, u8)> {
    let cycle = days.div_euclid(146_097);
    let of_cycle = days.rem_euclid(146_097);
    let year_of_cycle =
        (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    let year = i16::try_from(year).ok().filter(|year| (1..=9999).contains(year))?;
    Some((year, u8::try_from(month).ok()?, u8::try_from(day).ok()?))
}
