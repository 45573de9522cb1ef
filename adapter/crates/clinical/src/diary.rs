//! The week of a diary: daily entries summed up from Monday to Sunday.
//!
//! Dates are local calendar dates; whoever has moments turns them into local ones before. An entry
//! for a day that had not come yet, or written too long after its day, does not count.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, Weekday};
use lumbar_fhir::{Issue, Json, Object, json};
use rust_decimal::Decimal;

use crate::answers::plain;
use crate::instrument::read::{count, text};
use crate::instrument::{Instrument, round};
use crate::score::number;

/// Rules of the week.
#[derive(Clone, Debug)]
pub struct Week {
    /// Fewest days with an entry for any mean.
    min_days: usize,
    /// How many days after its day an entry may still be written.
    late_days: i32,
    means: Vec<Mean>,
}

/// One mean of the week.
#[derive(Clone, Debug)]
struct Mean {
    /// What it is called.
    name: String,
    /// What the value is called in an entry.
    of: String,
    /// Index of the item that asks for the value.
    item: usize,
}

/// One entry of a diary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The day that it is about.
    pub date: Date,
    /// When it was written, if that is known.
    pub authored: Option<DateTime>,
    /// The values that the week takes means of, in their order.
    values: Vec<Option<Decimal>>,
}

impl Week {
    pub(crate) fn parse(instrument: &Instrument, json: &Json) -> Result<Week, Issue> {
        let place = "week";
        let mut means = Vec::new();
        for (index, mean) in json.list("means").iter().enumerate() {
            let place = format!("{place}.means[{index}]");
            let names = crate::instrument::condition::Names::of(&instrument.items);
            means.push(Mean {
                name: text(mean, "name", &place)?,
                of: text(mean, "of", &place)?,
                item: names.item(&text(mean, "item", &place)?, &place)?,
            });
        }
        let late_days = count(json, "lateDays", 0, 365, place)?;
        Ok(Week {
            min_days: count(json, "minDays", 1, 7, place)?,
            late_days: i32::try_from(late_days).unwrap_or_default(),
            means,
        })
    }

    /// Reads `{"date", "authored", …}`.
    ///
    /// # Errors
    /// The flag that names what cannot be read.
    fn entry(&self, instrument: &Instrument, json: &Json) -> Result<Entry, String> {
        let moment = |name: &str| match json.str_at(&[name]) {
            None => Ok(None),
            Some(text) => {
                let read = lumbar_fhir::datetime::DateTime::parse(text);
                let read =
                    read.filter(|read| read.precision >= lumbar_fhir::datetime::Precision::Day);
                read.map(|read| Some(read.start)).ok_or_else(|| format!("invalid-answer:{name}"))
            }
        };
        let date = moment("date")?.ok_or_else(|| "invalid-answer:date".to_owned())?.date();
        let mut values = Vec::new();
        for mean in &self.means {
            let value = json.get(&mean.of).filter(|value| !crate::answers::is_missing(value));
            let Some(value) = value else {
                values.push(None);
                continue;
            };
            let item = instrument.items.get(mean.item);
            let answer = item.and_then(|item| plain(item, value)?.number(item));
            let invalid = || format!("invalid-answer:{}", mean.of);
            values.push(Some(answer.ok_or_else(invalid)?));
        }
        Ok(Entry { date, authored: moment("authored")?, values })
    }

    /// Sums up the week that holds `start`.
    pub fn sum_up(&self, start: Date, entries: &[Entry], mut flags: Vec<String>) -> Json {
        let back = i64::from(start.weekday().since(Weekday::Monday));
        let monday = start.checked_sub(back.days()).unwrap_or(start);
        let sunday = monday.checked_add(6.days()).unwrap_or(monday);
        let mut flag = |name: &str| {
            if !flags.iter().any(|known| known == name) {
                flags.push(name.to_owned());
            }
        };
        let mut days: BTreeMap<Date, &Entry> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| (monday..=sunday).contains(&entry.date)) {
            let written = entry.authored.map_or(entry.date, DateTime::date);
            if entry.date > written {
                flag("future-dated-rejected");
            } else if days_between(entry.date, written) > self.late_days {
                flag("backfill-too-old-rejected");
            } else if let Some(other) = days.get(&entry.date) {
                flag("duplicate-day-latest-used");
                if entry.authored >= other.authored {
                    days.insert(entry.date, entry);
                }
            } else {
                days.insert(entry.date, entry);
            }
        }
        let valid = days.len() >= self.min_days;
        if !valid {
            flag("too-few-days");
        }
        let mut result = Object::new();
        result.set("valid", valid);
        result.set("days", days.len());
        for (index, mean) in self.means.iter().enumerate() {
            let values = days.values().filter_map(|entry| *entry.values.get(index)?);
            let values: Vec<Decimal> = values.collect();
            let of = Decimal::from(values.len());
            let sum: Decimal = values.into_iter().sum();
            let given = (valid && !of.is_zero()).then(|| number(round(sum / of, 1)));
            result.set(&mean.name, given.unwrap_or(Json::Null));
        }
        let percent = Decimal::from(days.len()) * Decimal::ONE_HUNDRED / Decimal::from(7);
        result.set("adherencePct", number(round(percent, 1)));
        result.set("flags", flags.iter().map(Json::from).collect::<Vec<_>>());
        Json::Object(result)
    }
}

/// Days from one date to a later one.
fn days_between(from: Date, to: Date) -> i32 {
    from.until(to).map_or(i32::MAX, |span| span.get_days())
}

impl Instrument {
    /// Sums up a week of `{"weekStart", "entries"}`; `None` when this is no diary. An entry that
    /// cannot be read does not count and is flagged.
    pub fn week(&self, json: &Json) -> Option<Json> {
        let week = self.week.as_ref()?;
        let mut entries = Vec::new();
        let mut flags: Vec<String> = Vec::new();
        for entry in json.list("entries") {
            match week.entry(self, entry) {
                Ok(entry) => entries.push(entry),
                Err(flag) if flags.contains(&flag) => {}
                Err(flag) => flags.push(flag),
            }
        }
        let start = json.str_at(&["weekStart"]).and_then(|text| text.parse().ok());
        Some(match start {
            Some(start) => week.sum_up(start, &entries, flags),
            None => json!({"valid": false, "flags": ["invalid-answer:weekStart"]}),
        })
    }
}
