//! Change between two results of one person: `scoring-conventions.md` in words of our own.
//!
//! A change is judged by an absolute threshold; a threshold in percent is shown beside it. The
//! threshold for getting worse mirrors the one for getting better. Whether two results may be
//! compared at all (same version, language, respondent, value set) is the caller's to know.

use lumbar_fhir::{Issue, Json};
use rust_decimal::Decimal;

use crate::instrument::read::{decimal, fault, join, number, optional, text};
use crate::instrument::{Better, Instrument, round};

/// How a change of one score is judged.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name of the series of values, for example `nrs-average`.
    pub name: String,
    /// Name of the score.
    pub score: String,
    /// The direction in which things get better.
    pub better: Better,
    /// Smallest important change; `None` where nobody agreed on one.
    pub threshold: Option<Decimal>,
    /// Smallest important change in percent of the first value.
    pub percent: Option<Decimal>,
    /// Where the threshold comes from, and how sure that is.
    pub source: Option<(String, String)>,
    /// Change that measurement alone can make in one person, and where that stands.
    pub error: Option<(Decimal, String)>,
}

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classification {
    /// Better by at least the threshold.
    Improved,
    /// Worse by at least the threshold.
    Deteriorated,
    /// Less than the threshold.
    NoImportantChange,
    /// No threshold is known.
    NoMicDefined,
    /// One of the two values is missing.
    NotClassifiable,
}

/// A change, judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The second value minus the first.
    pub change: Option<Decimal>,
    /// In percent of the first value, positive when better, one decimal.
    pub improvement_pct: Option<Decimal>,
    /// Better by at least the absolute threshold.
    pub improved_abs: Option<bool>,
    /// Better by at least the threshold in percent.
    pub improved_30: Option<bool>,
    /// What it means.
    pub classification: Classification,
}

impl Classification {
    /// The word for it.
    pub fn code(self) -> &'static str {
        match self {
            Classification::Improved => "improved",
            Classification::Deteriorated => "deteriorated",
            Classification::NoImportantChange => "no-important-change",
            Classification::NoMicDefined => "no-mic-defined",
            Classification::NotClassifiable => "not-classifiable",
        }
    }
}

impl Series {
    pub(crate) fn parse(
        instrument: &Instrument,
        json: &Json,
        place: &str,
    ) -> Result<Series, Issue> {
        let name = text(json, "score", place)?;
        let score = instrument.scores.iter().find(|score| *score.name == *name);
        let none = || fault(&join(place, "score"), &format!("{name} is not a score"));
        let undirected = || fault(&join(place, "score"), &format!("{name} has no direction"));
        let better = score.ok_or_else(none)?.better.ok_or_else(undirected)?;
        let limit = |name: &str| match json.get(name) {
            None => Ok(None),
            Some(limit) => match decimal(limit, &join(place, name))? {
                limit if limit > Decimal::ZERO => Ok(Some(limit)),
                _ => Err(fault(&join(place, name), "must be above 0")),
            },
        };
        let source = optional(json, "source", place)?;
        let error = json.get("error").map(|error| {
            let place = join(place, "error");
            Ok((number(error, "value", &place)?, text(error, "source", &place)?))
        });
        Ok(Series {
            name: text(json, "series", place)?,
            score: name,
            better,
            threshold: limit("threshold")?,
            percent: limit("percent")?,
            source: match source {
                Some(source) => Some((source, text(json, "ruleStatus", place)?)),
                None => None,
            },
            error: error.transpose()?,
        })
    }

    /// Judges the change from `baseline` to `followup`.
    pub fn change(&self, baseline: Option<Decimal>, followup: Option<Decimal>) -> Change {
        let (Some(baseline), Some(followup)) = (baseline, followup) else {
            return Change {
                change: None,
                improvement_pct: None,
                improved_abs: None,
                improved_30: None,
                classification: Classification::NotClassifiable,
            };
        };
        let change = followup - baseline;
        let improvement = match self.better {
            Better::Lower => -change,
            Better::Higher => change,
        };
        let hundredfold = improvement * Decimal::ONE_HUNDRED;
        let of = Some(baseline.abs()).filter(|baseline| !baseline.is_zero());
        let classification = match self.threshold {
            None => Classification::NoMicDefined,
            Some(threshold) if improvement >= threshold => Classification::Improved,
            Some(threshold) if -improvement >= threshold => Classification::Deteriorated,
            Some(_) => Classification::NoImportantChange,
        };
        Change {
            change: Some(change.normalize()),
            improvement_pct: of.map(|baseline| round(hundredfold / baseline, 1)),
            improved_abs: self.threshold.map(|threshold| improvement >= threshold),
            // No division: 30 percent of 10 is exactly 3.
            improved_30: of.zip(self.percent).map(|(of, percent)| hundredfold >= percent * of),
            classification,
        }
    }
}
