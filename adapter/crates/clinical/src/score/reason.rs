//! Sentences that say why a result is as it is.

use super::{Absent, Category, Score, Status, Value};
use crate::answers::Answers;
use crate::instrument::{Instrument, Rule};

/// What is missing, and which rule gave each category.
pub(super) fn reasons(
    instrument: &Instrument,
    answers: &Answers,
    status: Status,
    scores: &[Score],
    categories: &[Category],
) -> Vec<String> {
    let mut reasons: Vec<String> = missing(instrument, answers, status).into_iter().collect();
    for (rule, score) in instrument.scores.iter().zip(scores) {
        if let (Rule::ValueSet(id), Some(absent)) = (&rule.rule, score.absent) {
            match absent {
                Absent::NoValueSet => reasons.push(format!(
                    "{}: absent, as the value set {id} was not supplied.",
                    rule.label
                )),
                Absent::NotInValueSet => reasons.push(format!(
                    "{}: absent, as the value set {id} does not hold this state.",
                    rule.label
                )),
                _ => {}
            }
        }
    }
    for (rule, category) in instrument.categories.iter().zip(categories) {
        if let (Some(value), Some(index)) = (&category.value, category.rule) {
            let mut numbers = Vec::new();
            for need in &rule.needs {
                if let (Some(rule), Some(score)) = (instrument.scores.get(*need), scores.get(*need))
                    && let Some(Value::Number(value)) = &score.value
                {
                    numbers.push(format!("{} {value}", rule.label));
                }
            }
            let from = match numbers.is_empty() {
                true => String::new(),
                false => format!(" from {}", numbers.join(", ")),
            };
            let label = rule.value_label(value);
            reasons.push(format!("{}: {label}{from} (rule {}).", rule.label, index + 1));
        } else if let Some(value) = &category.provisional {
            reasons.push(format!(
                "The missing answers cannot change the {}: provisionally {}.",
                rule.label,
                rule.value_label(value)
            ));
        }
    }
    reasons
}

/// A sentence that names the missing items by linkId; `None` when none is missing.
fn missing(instrument: &Instrument, answers: &Answers, status: Status) -> Option<String> {
    let mut names = Vec::new();
    for item in &instrument.used {
        if answers.get(*item).is_none()
            && let Some(item) = instrument.items.get(*item)
        {
            names.push(&*item.link_id);
        }
    }
    let what = match status {
        Status::NotScored => "Not scored",
        Status::Partial => "Scored in part",
        Status::Prorated => "Scaled up",
        _ => "Scored",
    };
    (!names.is_empty()).then(|| {
        let all = instrument.used.len();
        format!("{what}: {} of {all} answers missing ({}).", names.len(), names.join(", "))
    })
}
