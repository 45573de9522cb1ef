//! Derivations: what follows from several results or dates, as ordered rules in an instrument's file.
//!
//! The inputs are named values, of two forms mostly; the rules are the conditions that categories
//! are made of. Which forms belong together is the caller's to know.

use std::sync::Arc;

use lumbar_fhir::{Issue, Json, Object};

use crate::answers::{Answers, is_missing, plain};
use crate::instrument::condition::{Condition, Facts, Names};
use crate::instrument::read::{MAX_NUMBER, fault, join, optional, text, texts, unique, whole};
use crate::instrument::rule::{FlagRule, flags};
use crate::instrument::{Instrument, Item, ItemKind, OptionSet};

/// One derivation of an instrument.
#[derive(Clone, Debug)]
pub struct Derivation {
    /// Its name; an instrument that is nothing else needs none.
    pub name: Option<String>,
    inputs: Vec<Item>,
    results: Vec<Outcome>,
    flags: Vec<FlagRule>,
    /// What is given instead of the results when the inputs contradict each other.
    refused: Option<Json>,
}

#[derive(Clone, Debug)]
struct Outcome {
    name: Arc<str>,
    /// In order; the first that applies. Without a value the result is left out.
    rules: Vec<(Vec<Condition>, Option<Json>)>,
}

impl Derivation {
    pub(crate) fn parse(json: &Json, place: &str) -> Result<Derivation, Issue> {
        let mut inputs = Vec::new();
        for (index, input) in json.list("inputs").iter().enumerate() {
            inputs.push(self::input(input, &format!("{place}.inputs[{index}]"))?);
        }
        unique(&join(place, "inputs"), inputs.iter().map(|item| &*item.link_id))?;
        let names = Names::of(&inputs);
        let mut results = Vec::new();
        for (index, result) in json.list("results").iter().enumerate() {
            let place = format!("{place}.results[{index}]");
            let mut rules = Vec::new();
            for (index, rule) in result.list("rules").iter().enumerate() {
                let place = format!("{place}.rules[{index}]");
                rules.push((names.conditions(rule, "when", &place)?, rule.get("value").cloned()));
            }
            results.push(Outcome { name: text(result, "name", &place)?.into(), rules });
        }
        Ok(Derivation {
            name: optional(json, "name", place)?,
            flags: flags(names, json, place)?,
            refused: json.get("refused").cloned(),
            results,
            inputs,
        })
    }

    /// The results by name, and `flags`. An input stands under its name; a point in a name leads
    /// into an object. Others are not looked at.
    pub fn derive(&self, inputs: &Json) -> Json {
        let mut answers = Answers::none(self.inputs.len());
        for (index, item) in self.inputs.iter().enumerate() {
            let path: Vec<&str> = item.link_id.split('.').collect();
            let Some(value) = inputs.at(&path).filter(|value| !is_missing(value)) else { continue };
            match plain(item, value) {
                Some(answer) => answers.set(index, answer),
                None => return self.refuse(&format!("invalid-answer:{}", item.link_id)),
            }
        }
        let facts = Facts::of(&self.inputs, &answers);
        let flags: Vec<&FlagRule> =
            self.flags.iter().filter(|flag| facts.all(&flag.when)).collect();
        if let Some(flag) = flags.iter().find(|flag| flag.refuses) {
            return self.refuse(&flag.flag);
        }
        let mut result = Object::new();
        for outcome in &self.results {
            let rule = outcome.rules.iter().find(|(when, _)| facts.all(when));
            match rule {
                Some((_, Some(value))) => result.set(&outcome.name, value),
                Some((_, None)) => {}
                None => result.set(&outcome.name, Json::Null),
            }
        }
        result.set("flags", flags.iter().map(|flag| Json::from(&*flag.flag)).collect::<Vec<_>>());
        Json::Object(result)
    }

    fn refuse(&self, flag: &str) -> Json {
        let mut result = Object::new();
        match self.refused.as_ref().and_then(Json::as_object) {
            Some(given) => given.iter().for_each(|(name, value)| result.set(name, value)),
            None => self.results.iter().for_each(|outcome| result.set(&outcome.name, Json::Null)),
        }
        result.set("flags", vec![Json::from(flag)]);
        Json::Object(result)
    }
}

impl Instrument {
    /// The derivation of that name.
    pub fn derivation(&self, name: Option<&str>) -> Option<&Derivation> {
        self.derivations.iter().find(|derivation| derivation.name.as_deref() == name)
    }
}

fn input(json: &Json, place: &str) -> Result<Item, Issue> {
    let name = text(json, "name", place)?;
    let kind = match json.str_at(&["type"]) {
        None => {
            let codes = texts(json, "values", place)?;
            if codes.is_empty() {
                return Err(fault(place, "needs a type or values"));
            }
            ItemKind::Choice(Arc::new(OptionSet::of_names(&name, codes)))
        }
        Some("date") => ItemKind::Date,
        Some("integer") => {
            let limit = |name: &str, default: i64| match json.get(name) {
                Some(_) => whole(json, name, place),
                None => Ok(default),
            };
            ItemKind::Integer(limit("min", -MAX_NUMBER)?, limit("max", MAX_NUMBER)?)
        }
        Some(_) => return Err(fault(&join(place, "type"), "must be integer or date")),
    };
    Ok(Item::input(&name, kind))
}
