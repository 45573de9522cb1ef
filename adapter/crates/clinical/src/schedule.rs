//! The time points at which outcomes are asked for, and their windows, as `profiles/schedule.json`
//! states them. Dates are local calendar dates; months are calendar months that end where the
//! calendar says.

use jiff::ToSpan;
use jiff::civil::Date;
use lumbar_fhir::{Issue, IssueType, Json, json};

/// Time points, from early to late.
#[derive(Clone, Debug)]
pub struct Schedule {
    points: Vec<TimePoint>,
}

#[derive(Clone, Debug)]
struct TimePoint {
    id: String,
    days: i32,
    months: i32,
    /// Days before and after the nominal date in which a form belongs to it.
    before: i32,
    after: i32,
}

/// Where a date falls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Id of the time point.
    pub timepoint: String,
    /// Its nominal date.
    pub nominal: Date,
    /// Days from the nominal date.
    pub offset_days: i32,
}

impl Schedule {
    /// Reads the file.
    ///
    /// # Errors
    /// The first fault, windows that overlap among them.
    pub fn parse(json: &Json) -> Result<Schedule, Issue> {
        let mut points: Vec<TimePoint> = Vec::new();
        for (index, point) in json.list("timepoints").iter().enumerate() {
            let place = format!("timepoints[{index}]");
            let fault = |text: &str| Issue::error(IssueType::Structure, text).at(&*place);
            let days = |name: &str| {
                let Some(value) = point.get(name) else { return Ok(0) };
                let value = value.as_i64().and_then(|value| i32::try_from(value).ok());
                let value = value.filter(|value| (0..=10_000).contains(value));
                value.ok_or_else(|| fault(&format!("The schedule's {name} is no number of days.")))
            };
            let id = point.str_at(&["id"]).filter(|id| !id.is_empty());
            let id = id.ok_or_else(|| fault("A time point of the schedule has no id."))?.to_owned();
            points.push(TimePoint {
                id,
                days: days("days")?,
                months: days("months")?,
                before: days("before")?,
                after: days("after")?,
            });
        }
        let schedule = Schedule { points };
        // February is the shortest way from one to the next.
        let start = Date::constant(2025, 2, 1);
        let windows = schedule.points.iter().filter_map(|point| point.window(start));
        let windows: Vec<(Date, Date, Date)> = windows.collect();
        for (index, pair) in windows.windows(2).enumerate() {
            if let [(_, _, end), (_, begin, _)] = pair
                && end >= begin
            {
                let text = "The schedule's windows overlap: a form would have two time points.";
                let place = format!("timepoints[{}]", index + 1);
                return Err(Issue::error(IssueType::Structure, text).at(place));
            }
        }
        Ok(schedule)
    }

    /// The time point that a form completed on `completed` belongs to, counted from `anchor`;
    /// `None` outside of every window.
    pub fn place(&self, anchor: Date, completed: Date) -> Option<Placed> {
        self.points.iter().find_map(|point| {
            let (nominal, opens, closes) = point.window(anchor)?;
            if !(opens..=closes).contains(&completed) {
                return None;
            }
            let offset_days = nominal.until(completed).ok()?.get_days();
            Some(Placed { timepoint: point.id.clone(), nominal, offset_days })
        })
    }
}

impl TimePoint {
    /// Nominal date, first and last day.
    fn window(&self, anchor: Date) -> Option<(Date, Date, Date)> {
        let nominal = anchor.checked_add(self.months.months()).ok()?;
        let nominal = nominal.checked_add(self.days.days()).ok()?;
        let opens = nominal.checked_sub(self.before.days()).ok()?;
        Some((nominal, opens, nominal.checked_add(self.after.days()).ok()?))
    }
}

/// As an object with the members `timepoint`, `nominal` and `offsetDays`; null when there is none.
pub fn to_json(placed: Option<&Placed>) -> Json {
    match placed {
        None => json!({"timepoint": null, "nominal": null, "offsetDays": null}),
        Some(placed) => json!({"timepoint": (&placed.timepoint),
            "nominal": (placed.nominal.to_string()), "offsetDays": (placed.offset_days)}),
    }
}
