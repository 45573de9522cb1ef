//! What a Questionnaire says of when an item is asked:
//! <https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen>.

use std::cmp::Ordering;

use super::expression::Formula;
use super::value::{Fixed, ValueType, choice};
use crate::Json;

/// When an item is enabled.
#[derive(Clone, Debug)]
pub(super) enum Enable {
    Always,
    /// If any of the conditions holds, or all of them.
    When {
        any: bool,
        conditions: Vec<Condition>,
    },
    /// If an expression is true.
    Expression(Formula),
}

/// One condition on the answers of a question.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    /// The linkId of the question.
    pub link_id: Box<str>,
    /// The question by its place in the order of the Questionnaire; `None` when there is none.
    pub question: Option<u32>,
    pub operator: Operator,
    pub of: Option<ValueType>,
    pub value: Option<Fixed>,
}

/// <https://hl7.org/fhir/R4/valueset-questionnaire-enable-operator.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Exists,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

impl Operator {
    fn read(code: &str) -> Option<Operator> {
        Some(match code {
            "exists" => Operator::Exists,
            "=" => Operator::Equal,
            "!=" => Operator::NotEqual,
            ">" => Operator::Greater,
            "<" => Operator::Less,
            ">=" => Operator::GreaterOrEqual,
            "<=" => Operator::LessOrEqual,
            _ => return None,
        })
    }

    /// Whether values need an order for it.
    pub fn is_order(self) -> bool {
        !matches!(self, Operator::Exists | Operator::Equal | Operator::NotEqual)
    }
}

impl Condition {
    /// Reads an `enableWhen`; its question is looked for when all items are known.
    pub fn read(json: &Json) -> Option<Condition> {
        let stated = choice(json, "answer");
        Some(Condition {
            link_id: json.str_at(&["question"])?.into(),
            question: None,
            operator: Operator::read(json.str_at(&["operator"])?)?,
            of: stated.map(|(of, _)| of),
            value: stated.and_then(|(of, value)| Fixed::read(of, value)),
        })
    }

    /// Whether the answers fulfil the condition. A question without an answer fulfils only that
    /// it has none, and `!=` asks that no answer is equal.
    pub fn holds(&self, answers: &[Json]) -> bool {
        let mut values = answers.iter().filter_map(|answer| choice(answer, "value")).peekable();
        let is_answered = values.peek().is_some();
        let Some(own) = &self.value else { return false };
        let mut any = |is: fn(Ordering) -> bool| {
            values.any(|(of, value)| own.order(of, value).is_some_and(is))
        };
        match self.operator {
            Operator::Exists => matches!(own, Fixed::Boolean(wanted) if *wanted == is_answered),
            Operator::Greater => any(Ordering::is_gt),
            Operator::Less => any(Ordering::is_lt),
            Operator::GreaterOrEqual => any(Ordering::is_ge),
            Operator::LessOrEqual => any(Ordering::is_le),
            Operator::Equal => values.any(|(of, value)| own.is(of, value)),
            Operator::NotEqual => is_answered && !values.any(|(of, value)| own.is(of, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn operators_look_at_all_answers() {
        let two = json!([{"valueInteger": 2}, {"valueInteger": 5}]);
        let none = json!([]);
        for (operator, value, with_two, with_none) in [
            ("exists", json!(true), true, false),
            ("exists", json!(false), false, true),
            ("=", json!(5), true, false),
            ("=", json!(3), false, false),
            ("!=", json!(5), false, false),
            ("!=", json!(3), true, false),
            (">", json!(4), true, false),
            (">", json!(5), false, false),
            (">=", json!(5), true, false),
            ("<", json!(2), false, false),
            ("<=", json!(2), true, false),
        ] {
            let mut condition = json!({"question": "q", "operator": (operator)});
            let name = if operator == "exists" { "answerBoolean" } else { "answerInteger" };
            condition.set(name, value.clone());
            let condition = Condition::read(&condition).unwrap();
            assert_eq!(condition.holds(two.as_array().unwrap()), with_two, "{operator} {value}");
            assert_eq!(condition.holds(none.as_array().unwrap()), with_none, "{operator} {value}");
        }
    }
}
