//! Triage: safety questions held against a table of levels and reasons.
//!
//! It never clears what was not asked: a gap is told, and the level that is certain already stands
//! beside it. What a level leads to (text, Flag, Task, the hold of a booking) is the caller's.

use std::sync::Arc;

use lumbar_fhir::{Issue, Json, Object};

use crate::answers::Answers;
use crate::instrument::Instrument;
use crate::instrument::condition::{Condition, Facts, Names};
use crate::instrument::read::{fault, join, text, texts};

/// The table.
#[derive(Clone, Debug)]
pub(crate) struct TriageRules {
    /// From low to high.
    pub(crate) levels: Vec<Arc<str>>,
    /// Indexes of the items that nobody may leave out.
    pub(crate) main: Vec<usize>,
    /// What a form with gaps is called.
    pub(crate) incomplete: Arc<str>,
    pub(crate) rules: Vec<TriageRule>,
}

#[derive(Clone, Debug)]
pub(crate) struct TriageRule {
    /// Index of the level.
    pub(crate) level: usize,
    reason: Arc<str>,
    pub(crate) when: Vec<Condition>,
}

/// What came of the safety questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triage {
    /// The level, or that the form cannot be cleared.
    pub triage: Arc<str>,
    /// The level that is certain, whatever the missing answers are.
    pub at_least: Arc<str>,
    /// Every reason that applies, sorted, also those below the level.
    pub reasons: Vec<Arc<str>>,
    /// `incomplete` when a main question is unanswered.
    pub flags: Vec<String>,
}

impl TriageRules {
    pub(crate) fn parse(instrument: &Instrument, json: &Json) -> Result<TriageRules, Issue> {
        let place = "triage";
        let names = Names::of(&instrument.items);
        let levels: Vec<Arc<str>> =
            texts(json, "levels", place)?.into_iter().map(Arc::from).collect();
        if levels.is_empty() {
            return Err(fault("triage.levels", "must name at least one level"));
        }
        let mut rules = Vec::new();
        for (index, rule) in json.list("rules").iter().enumerate() {
            let place = format!("{place}.rules[{index}]");
            let level = text(rule, "level", &place)?;
            let found = levels.iter().position(|known| **known == *level);
            let none = || fault(&join(&place, "level"), &format!("{level} is not a level"));
            let when = names.conditions(rule, "when", &place)?;
            let reason = text(rule, "reason", &place)?.into();
            rules.push(TriageRule { level: found.ok_or_else(none)?, reason, when });
        }
        Ok(TriageRules {
            levels,
            main: names.items(json, "main", place)?,
            incomplete: text(json, "incomplete", place)?.into(),
            rules,
        })
    }
}

impl Instrument {
    /// Holds answers, be they complete or not, against the instrument's triage table; `None` when
    /// it has none.
    pub fn triage(&self, answers: &Answers) -> Option<Triage> {
        let table = self.triage.as_ref()?;
        let facts = Facts::of(&self.items, answers);
        let mut level = 0;
        let mut reasons = Vec::new();
        for rule in table.rules.iter().filter(|rule| facts.all(&rule.when)) {
            level = level.max(rule.level);
            reasons.push(rule.reason.clone());
        }
        reasons.sort_unstable();
        reasons.dedup();
        let at_least = table.levels.get(level)?.clone();
        let has_gap = table.main.iter().any(|item| answers.get(*item).is_none());
        // The highest level cannot become higher: nobody waits for the rest.
        let is_highest = level + 1 == table.levels.len();
        let triage = if has_gap && !is_highest { &table.incomplete } else { &at_least };
        Some(Triage {
            triage: triage.clone(),
            reasons,
            flags: if has_gap { vec!["incomplete".to_owned()] } else { Vec::new() },
            at_least,
        })
    }

    /// The triage of a form of which some answers could not be read: it clears nothing.
    pub fn triage_in_doubt(&self, readable: &Answers) -> Option<Triage> {
        let table = self.triage.as_ref()?;
        let mut triage = self.triage(readable)?;
        if table.levels.last() != Some(&triage.triage) {
            triage.triage = table.incomplete.clone();
        }
        Some(triage)
    }
}

impl Triage {
    /// As an object with the members `triage`, `atLeast`, `reasons` and `flags`.
    pub fn to_json(&self) -> Json {
        let texts = |list: Vec<Json>| Json::Array(list);
        let mut result = Object::new();
        result.set("triage", &*self.triage);
        result.set("atLeast", &*self.at_least);
        result.set("reasons", texts(self.reasons.iter().map(|r| Json::from(&**r)).collect()));
        result.set("flags", texts(self.flags.iter().map(Json::from).collect()));
        Json::Object(result)
    }
}
