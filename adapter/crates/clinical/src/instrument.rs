//! Instruments: what is asked and how the answers become scores, as data that a clinician can sign.
//!
//! The form is that of `profiles/schema/instrument.schema.json`; the schema checks spelling, this
//! module checks meaning: names resolve, every answer has points, and the range that the file
//! states is the range that its rules can give. It reads no files and makes no Questionnaire.

pub(crate) mod condition;
pub(crate) mod item;
pub(crate) mod read;
pub(crate) mod rule;

use std::sync::Arc;

use lumbar_fhir::{Issue, Json};

use crate::activation::Activation;
use crate::approval::Approval;
use crate::change::Series;
use crate::derivation::Derivation;
use crate::diary::Week;
use crate::triage::TriageRules;
use crate::value_set::ValueSets;
use condition::Names;
pub(crate) use item::{AnswerOption, Item, ItemKind};
pub use item::{OptionSet, OptionSets};
use read::{boolean, codings, count, fault, optional, text, texts, unique, whole};
pub use rule::Better;
pub(crate) use rule::{CategoryRule, FlagRule, Rule, ScoreRule, StatusRule, round};

/// One instrument, checked.
#[derive(Clone, Debug)]
pub struct Instrument {
    /// The instrument's id, for example the last part of its Questionnaire's url.
    pub id: Arc<str>,
    /// Version of questions and rules.
    pub version: String,
    /// Name of the instrument for people.
    pub title: String,
    /// Canonical url of the Questionnaire, without version.
    pub questionnaire: String,
    /// What the form says of itself.
    pub about: About,
    /// What must be there before anybody may be asked.
    pub activation: Activation,
    /// Who signed these rules.
    pub approval: Approval,
    /// Whether answers that somebody else gave for the patient are scored.
    pub proxy: bool,
    /// How a change between two results is judged.
    pub change: Vec<Series>,
    /// Codings of the whole.
    pub codes: Vec<Json>,
    /// The answerable items and the groups, in the order of the form.
    pub(crate) items: Vec<Item>,
    /// Fewest answered items, of those that any score uses, for any score at all.
    pub(crate) min_answered: usize,
    /// Canonical of the profile that the Observation of a number conforms to.
    pub(crate) score_profile: Option<String>,
    pub(crate) scores: Vec<ScoreRule>,
    pub(crate) categories: Vec<CategoryRule>,
    /// In order; the first that applies. Without any, the status follows from the scores.
    pub(crate) statuses: Vec<StatusRule>,
    pub(crate) flags: Vec<FlagRule>,
    pub(crate) triage: Option<TriageRules>,
    pub(crate) derivations: Vec<Derivation>,
    pub(crate) week: Option<Week>,
    /// Indexes of the items that some score uses.
    pub(crate) used: Vec<usize>,
    /// Indexes of the items, sorted by their linkIds.
    by_link_id: Vec<usize>,
}

/// What a form says of itself: no rule reads it.
#[derive(Clone, Debug)]
pub struct About {
    /// `draft`, `active` or `retired`.
    pub status: String,
    /// Id of the instrument that it was made from.
    pub derived_from: Option<String>,
    /// What it is for.
    pub purpose: String,
    /// What it measures, in a few words.
    pub measures: String,
    /// Who answers: `patient`, `practitioner` or `system`.
    pub respondent: String,
    /// Which time the questions are about, in words and as an ISO 8601 duration.
    pub recall: Option<(String, Option<String>)>,
    /// How many days an answered form may be used for another purpose.
    pub validity_days: Option<i64>,
    /// Other instruments whose recent answers are taken over, so that nobody is asked twice.
    pub reuses: Vec<Reuse>,
    /// Least age in years.
    pub min_age: Option<i64>,
    /// Language of the labels, BCP 47.
    pub language: String,
    /// Who owns the wording, on which terms, and how sure that is.
    pub licence: Licence,
    /// How sure the scoring rule is.
    pub rule_status: String,
    /// What each statement of the file stands on: what it supports, and the citation.
    pub sources: Vec<(String, String)>,
}

/// An instrument that asks some of the same questions.
#[derive(Clone, Debug)]
pub struct Reuse {
    /// Its id.
    pub instrument: String,
    /// How many days its answers may be used.
    pub days: i64,
    /// linkIds of the questions that both ask.
    pub items: Vec<String>,
}

/// Who owns the wording.
#[derive(Clone, Debug)]
pub struct Licence {
    /// The owner.
    pub holder: String,
    /// The terms in our own words.
    pub terms: String,
    /// How sure the terms are.
    pub status: String,
}

impl Instrument {
    /// Reads an instrument's file, its choices among the sets of `options`.
    ///
    /// # Errors
    /// The first fault, with its place: a missing or misspelt member, a name that resolves to
    /// nothing, an answer without points, or a stated range that the rules do not give.
    pub fn parse(json: &Json, options: &OptionSets) -> Result<Instrument, Issue> {
        let version = text(json, "version", "")?;
        let approval = json.get("approval").ok_or_else(|| fault("approval", "is missing"))?;
        let activation = Activation::parse(json)?;
        let items = item::items(json, options, activation.refused.is_some())?;
        let mut by_link_id: Vec<usize> = (0..items.len()).collect();
        by_link_id.sort_by_key(|index| items.get(*index).map(|item| item.link_id.clone()));
        let mut instrument = Instrument {
            id: text(json, "id", "")?.into(),
            title: text(json, "title", "")?,
            questionnaire: text(json, "questionnaire", "")?,
            about: About::parse(json)?,
            approval: Approval::parse(approval, &version)?,
            version,
            proxy: boolean(json, "proxy", true, "")?,
            change: Vec::new(),
            codes: codings(json, "codes", "")?,
            items,
            activation,
            min_answered: 0,
            score_profile: optional(json, "scoreProfile", "")?,
            scores: Vec::new(),
            categories: Vec::new(),
            statuses: Vec::new(),
            flags: Vec::new(),
            triage: None,
            derivations: Vec::new(),
            week: None,
            used: Vec::new(),
            by_link_id,
        };
        instrument.read_rules(json)?;
        Ok(instrument)
    }

    /// Reads the rules in the order in which they may name each other.
    fn read_rules(&mut self, json: &Json) -> Result<(), Issue> {
        for (index, score) in json.list("scores").iter().enumerate() {
            let score = rule::score(self, score, &format!("scores[{index}]"))?;
            self.scores.push(score);
        }
        unique("scores", self.scores.iter().map(|score| &*score.name))?;
        let is_used = |index: &usize| {
            // A blank of a list to tick is no missing answer.
            let rules = self.scores.iter().filter(|score| !matches!(score.rule, Rule::Count));
            rules.flat_map(|score| &score.items).any(|used| used == index)
        };
        self.used = (0..self.items.len()).filter(is_used).collect();
        self.min_answered = count(json, "minAnswered", 0, self.used.len(), "")?;
        for (index, category) in json.list("categories").iter().enumerate() {
            let category = rule::category(self, category, &format!("categories[{index}]"))?;
            self.categories.push(category);
        }
        unique("categories", self.categories.iter().map(|category| &*category.name))?;
        self.statuses = rule::statuses(self, json)?;
        let names = Names::of(&self.items).scores(&self.scores).categories(&self.categories);
        self.flags = rule::flags(names.status(), json, "")?;
        if let Some(triage) = json.get("triage") {
            self.triage = Some(TriageRules::parse(self, triage)?);
        }
        for (index, series) in json.list("change").iter().enumerate() {
            self.change.push(Series::parse(self, series, &format!("change[{index}]"))?);
        }
        for (index, derivation) in json.list("derived").iter().enumerate() {
            self.derivations.push(Derivation::parse(derivation, &format!("derived[{index}]"))?);
        }
        if let Some(week) = json.get("week") {
            self.week = Some(Week::parse(self, week)?);
        }
        Ok(())
    }

    /// Gives the scores that read a value set the site's tables. Without its table such a score is
    /// absent.
    pub fn supply(&mut self, sets: &ValueSets) {
        for score in &mut self.scores {
            if let Rule::ValueSet(id) = &score.rule {
                score.table = sets.get(id).cloned();
            }
        }
    }

    pub(crate) fn item(&self, link_id: &str) -> Option<(usize, &Item)> {
        let found = self.by_link_id.binary_search_by(|index| {
            self.items.get(*index).map_or("", |item| &*item.link_id).cmp(link_id)
        });
        let index = *self.by_link_id.get(found.ok()?)?;
        Some((index, self.items.get(index)?))
    }
}

impl About {
    fn parse(json: &Json) -> Result<About, Issue> {
        let recall = json.get("recall").map(|recall| {
            Ok((text(recall, "text", "recall")?, optional(recall, "period", "recall")?))
        });
        let number = |name| json.get(name).map(|_| whole(json, name, "")).transpose();
        let licence = json.get("licence").ok_or_else(|| fault("licence", "is missing"))?;
        let mut sources = Vec::new();
        for (index, source) in json.list("sources").iter().enumerate() {
            let place = format!("sources[{index}]");
            sources.push((text(source, "supports", &place)?, text(source, "citation", &place)?));
        }
        let mut reuses = Vec::new();
        for (index, reuse) in json.list("reuses").iter().enumerate() {
            let place = format!("reuses[{index}]");
            reuses.push(Reuse {
                instrument: text(reuse, "instrument", &place)?,
                days: whole(reuse, "days", &place)?,
                items: texts(reuse, "items", &place)?,
            });
        }
        Ok(About {
            status: text(json, "status", "")?,
            derived_from: optional(json, "derivedFrom", "")?,
            purpose: text(json, "purpose", "")?,
            measures: text(json, "measures", "")?,
            respondent: text(json, "respondent", "")?,
            recall: recall.transpose()?,
            validity_days: number("validityDays")?,
            reuses,
            min_age: number("minAge")?,
            language: text(json, "language", "")?,
            licence: Licence {
                holder: text(licence, "holder", "licence")?,
                terms: text(licence, "terms", "licence")?,
                status: text(licence, "status", "licence")?,
            },
            rule_status: text(json, "ruleStatus", "")?,
            sources,
        })
    }
}
