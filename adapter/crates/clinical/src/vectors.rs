//! Test vectors, in the form of the reference set that `lumbar score --vectors` reads: what each
//! input gives, under the names that the set's conventions fix. What is expected is not looked at.

use lumbar_fhir::{Json, Object, json};
use rust_decimal::Decimal;

use crate::activation::Need;
use crate::answers::Answers;
use crate::change::{Change, Series};
use crate::instrument::{Better, Instrument};
use crate::run_chart::RunChart;
use crate::schedule::{self, Schedule};
use crate::score::{Scored, number, score};
use crate::value_set::{Sex, ValueSets};

/// Everything that a vector can ask for.
pub struct Bench<'a> {
    /// The instruments, value sets supplied.
    pub instruments: &'a [Instrument],
    /// The time points.
    pub schedule: &'a Schedule,
    /// The tables that were supplied.
    pub value_sets: &'a ValueSets,
}

impl Bench<'_> {
    /// What one vector gives; an object with the one member `status`, `not-supported`, when nobody
    /// knows its kind or its instrument.
    pub fn actual(&self, vector: &Json) -> Json {
        let name = vector.str_at(&["instrument"]).unwrap_or_default();
        let nothing = Json::Null;
        let input = vector.get("input").unwrap_or(&nothing);
        let found = match vector.str_at(&["kind"]).unwrap_or_default() {
            "score" => self
                .instrument(name)
                .map(|instrument| scored(instrument, vector.get("answers").unwrap_or(&nothing))),
            "activation" => self.instrument(name).map(|instrument| activation(instrument, input)),
            "triage" => self.instrument(name).and_then(|instrument| triage(instrument, input)),
            "change" => self.change(name, input),
            "window" => Some(self.window(input)),
            "runchart" => Some(run_chart(input)),
            "value-set" => Some(self.value_set(input)),
            "derive" => self.derive(name, input),
            _ => None,
        };
        found.unwrap_or_else(|| json!({"status": "not-supported"}))
    }

    fn instrument(&self, id: &str) -> Option<&Instrument> {
        self.instruments.iter().find(|instrument| *instrument.id == *id)
    }

    /// The named series; of an instrument without one its first score that has a direction, which
    /// nobody agreed on a threshold for.
    fn change(&self, name: &str, input: &Json) -> Option<Json> {
        let mut all = self.instruments.iter().flat_map(|instrument| &instrument.change);
        let value = |name: &str| input.get(name).and_then(read);
        let (baseline, followup) = (value("baseline"), value("followup"));
        if let Some(series) = all.find(|series| series.name == name) {
            return Some(change_json(&series.change(baseline, followup)));
        }
        let scores = &self.instrument(name)?.scores;
        let (score, better) = scores.iter().find_map(|score| Some((score, score.better?)))?;
        let series = without_threshold(&score.name, better);
        Some(change_json(&series.change(baseline, followup)))
    }

    fn window(&self, input: &Json) -> Json {
        let date = |name: &str| input.str_at(&[name]).and_then(|text| text.parse().ok());
        let placed = date("anchor").zip(date("completed"));
        let placed = placed.and_then(|(anchor, completed)| self.schedule.place(anchor, completed));
        schedule::to_json(placed.as_ref())
    }

    fn value_set(&self, input: &Json) -> Json {
        let id = input.str_at(&["valueSet"]).unwrap_or_default();
        let Some(set) = self.value_sets.get(id) else {
            return json!({"index": null, "flags": ["unknown-value-set"]});
        };
        let age = input.get("age").and_then(Json::as_i64).and_then(|age| u32::try_from(age).ok());
        let sex = input.str_at(&["sex"]).and_then(Sex::parse);
        match set.index(input.str_at(&["profile"]).unwrap_or_default(), age.zip(sex)) {
            Ok(index) => json!({"index": (number(index))}),
            Err(why) => json!({"index": null, "flags": [(why.flag())]}),
        }
    }

    fn derive(&self, name: &str, input: &Json) -> Option<Json> {
        let (id, derivation) = match name.split_once(':') {
            Some((id, derivation)) => (id, Some(derivation)),
            None => (name, None),
        };
        let instrument = self.instrument(id)?;
        match instrument.derivation(derivation) {
            Some(derivation) => Some(derivation.derive(input)),
            None => instrument.week(input),
        }
    }
}

fn scored(instrument: &Instrument, answers: &Json) -> Json {
    match Answers::from_map(instrument, answers) {
        Ok(answers) => score(instrument, &answers).to_json(),
        Err(refused) => Scored::refused(&refused).to_json(),
    }
}

fn activation(instrument: &Instrument, input: &Json) -> Json {
    let has = |name: &str| input.get(name).and_then(Json::as_bool) == Some(true);
    let present = [
        (Need::WordingPack, has("wordingPackInstalled")),
        (Need::Licence, has("licenceRecorded")),
        (Need::ScoringConfirmation, has("scoringSheetInstalled") || has("scoringConfirmed")),
    ];
    let present: Vec<Need> =
        present.into_iter().filter(|(_, has)| *has).map(|(need, _)| need).collect();
    let mut result = Object::new();
    result.set("activatable", instrument.activation.activatable(&present));
    if instrument.activation.refused.is_some()
        && let Json::Object(refused) = scored(instrument, &Json::Null)
    {
        refused.iter().for_each(|(name, value)| result.set(name, value));
    }
    Json::Object(result)
}

fn triage(instrument: &Instrument, input: &Json) -> Option<Json> {
    match Answers::from_map(instrument, input) {
        Ok(answers) => Some(instrument.triage(&answers)?.to_json()),
        Err(refused) => {
            let mut triage = instrument.triage(&refused.readable)?.to_json();
            triage.set("status", "error");
            triage.set("flags", json!([(&refused.flag)]));
            Some(triage)
        }
    }
}

fn run_chart(input: &Json) -> Json {
    let values: Vec<Decimal> = input.list("values").iter().filter_map(read).collect();
    let baseline = input.get("baselineN").and_then(Json::as_i64);
    RunChart::of(&values, baseline.and_then(|count| usize::try_from(count).ok())).to_json()
}

fn without_threshold(score: &str, better: Better) -> Series {
    Series {
        name: String::new(),
        score: score.to_owned(),
        better,
        threshold: None,
        percent: None,
        source: None,
        error: None,
    }
}

fn change_json(change: &Change) -> Json {
    let decimal = |value: Option<Decimal>| value.map_or(Json::Null, number);
    let truth = |value: Option<bool>| value.map_or(Json::Null, Json::from);
    json!({
        "change": (decimal(change.change)),
        "improvementPct": (decimal(change.improvement_pct)),
        "improvedAbs": (truth(change.improved_abs)),
        "improved30": (truth(change.improved_30)),
        "classification": (change.classification.code())
    })
}

fn read(value: &Json) -> Option<Decimal> {
    let digits = value.as_number()?;
    let number = Decimal::from_str_exact(digits).or_else(|_| Decimal::from_scientific(digits));
    number.ok().filter(|number| number.abs() <= Decimal::from(1_000_000_000))
}
