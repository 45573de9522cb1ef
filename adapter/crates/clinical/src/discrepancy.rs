//! Scores that a client sent with the answers, held against those that follow from them:
//! <https://hl7.org/fhir/uv/sdc/StructureDefinition-sdc-questionnaire-calculatedExpression.html>.
//!
//! The items of a form that show scores are for people; the scores themselves are always computed.
//! What differs is taken out of the response and told.

use lumbar_fhir::{Issue, IssueType, Json};
use rust_decimal::Decimal;

use crate::score::Scored;

/// How the linkIds of the items begin that show what follows from other items.
pub const CALCULATED: &str = "calc-";
/// That of a score, before its name.
const SCORE: &str = "calc-score-";
/// That of a category, before its name.
const CATEGORY: &str = "calc-category-";

/// Whether a response has an item that shows what follows from others.
pub fn has_calculated(response: &Json) -> bool {
    let is_calculated = |item: &Json| {
        item.str_at(&["linkId"]).is_some_and(|link_id| link_id.starts_with(CALCULATED))
            || has_calculated(item)
    };
    let below = |node: &Json| node.list("item").iter().any(is_calculated);
    below(response) || response.list("answer").iter().any(below)
}

/// The response without calculated answers that do not follow from the others, and what to tell of
/// each; `None` if all of them follow.
pub fn corrected(scored: &Scored, response: &Json) -> Option<(Json, Vec<Issue>)> {
    let results = scored.to_json();
    let mut issues = Vec::new();
    let mut corrected = response.clone();
    items(&results, &mut corrected, "QuestionnaireResponse", &mut issues);
    (!issues.is_empty()).then_some((corrected, issues))
}

fn items(results: &Json, node: &mut Json, at: &str, issues: &mut Vec<Issue>) {
    let Some(object) = node.as_object_mut() else { return };
    if let Some(Json::Array(list)) = object.get_mut("item") {
        let mut index = 0;
        list.retain_mut(|item| {
            let at = format!("{at}.item[{index}]");
            index += 1;
            let link_id = item.str_at(&["linkId"]).unwrap_or_default().to_owned();
            let kept = match expected(results, &link_id) {
                Some(expected) => follows(item, expected),
                None => true,
            };
            if !kept {
                let text = format!(
                    "The answer to {link_id} does not follow from the other answers; it was left \
                     out, and the score is computed from them."
                );
                issues.push(Issue::warning(IssueType::BusinessRule, text).at(at));
                return false;
            }
            items(results, item, &at, issues);
            true
        });
        if list.is_empty() {
            object.remove("item");
        }
    }
    if let Some(Json::Array(answers)) = object.get_mut("answer") {
        for (index, answer) in answers.iter_mut().enumerate() {
            items(results, answer, &format!("{at}.answer[{index}]"), issues);
        }
    }
}

/// What the item with a linkId should show; `None` if it shows no score.
fn expected<'r>(results: &'r Json, link_id: &str) -> Option<&'r Json> {
    let (kind, name) = match (link_id.strip_prefix(SCORE), link_id.strip_prefix(CATEGORY)) {
        (Some(name), _) => ("scores", name),
        (None, Some(name)) => ("categories", name),
        (None, None) => return None,
    };
    results.get(kind)?.get(name)
}

/// Whether the answers of an item say what is expected.
fn follows(item: &Json, expected: &Json) -> bool {
    let values: Vec<&Json> = item
        .list("answer")
        .iter()
        .filter_map(|answer| {
            let mut members = answer.as_object()?.iter();
            members.find(|(name, _)| name.starts_with("value")).map(|(_, value)| value)
        })
        .collect();
    let number = |json: &Json| -> Option<Decimal> {
        let digits = json.as_number()?;
        Decimal::from_str_exact(digits).or_else(|_| Decimal::from_scientific(digits)).ok()
    };
    match (values.as_slice(), expected) {
        ([], _) => true,
        ([_], Json::Null) | ([_, _, ..], _) => false,
        ([value], expected) => match (number(value), number(expected)) {
            (Some(given), Some(own)) => (given - own).abs() <= Decimal::new(1, 6),
            _ => *value == expected || value.get("code").is_some_and(|code| code == expected),
        },
    }
}
