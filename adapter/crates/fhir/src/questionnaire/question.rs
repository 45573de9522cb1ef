//! A question of a response and its answers:
//! <https://hl7.org/fhir/R4/questionnaireresponse-definitions.html#QuestionnaireResponse.item.answer>.

use std::cmp::Ordering;

use rust_decimal::Decimal;

use super::answer;
use super::item::{Bound, Item, ItemType, UNUSABLE};
use super::response::target_type;
use super::scope::{Check, Enabled, Frame};
use super::value::{Fixed, ValueType, choice, cut, number, shown};
use crate::Severity::{Error, Warning};
use crate::{IssueType, Json};

impl<'a> Check<'a> {
    /// A question and its answers.
    pub(super) fn question(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        item: &'a Item,
        enabled: Enabled,
    ) {
        let node = frame.node;
        let answers = node.list("answer");
        let name = || cut(&item.link_id);
        if node.get("item").is_some() && answers.is_empty() {
            let text = format!(
                "Item \"{}\" is a question; what is below it stands in answer.item.",
                name()
            );
            self.tell(Error, IssueType::Structure, frame, "", index, "type", text);
        }
        let count = answers.iter().filter(|answer| choice(answer, "value").is_some()).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        if answers.len() > 1 && !item.repeats {
            let text = format!("Question \"{}\" has one answer at most.", name());
            self.tell(Error, IssueType::Structure, frame, "", index, "repeats", text);
        }
        if let Some(max) = item.rules.max_occurs.filter(|max| item.repeats && count > *max) {
            let text =
                format!("Question \"{}\" has at most {max} answers; this one has {count}.", name());
            self.tell(Error, IssueType::Structure, frame, "", index, "maxOccurs", text);
        }
        if self.is_strict && enabled == Enabled::Yes {
            if count == 0 && self.is_required(frame, index, item) {
                let text = format!("Question \"{}\" is required; add an answer.", name());
                self.missing(frame, index, item, "required", text);
            } else if let Some(min) = item.rules.min_occurs.filter(|min| 0 < count && count < *min)
            {
                let text = format!(
                    "Question \"{}\" has at least {min} answers; this one has {count}.",
                    name()
                );
                self.missing(frame, index, item, "minOccurs", text);
            }
        }
        for (position, json) in answers.iter().enumerate() {
            let answer = frame.answer(json, position);
            if let Some((of, value)) = choice(json, "value") {
                self.value(&answer, index, item, of, value);
                if answers.len() > 1 {
                    self.exclusive(&answer, index, item, of, value);
                }
            }
            if item.end > index + 1 || json.get("item").is_some() {
                self.items(&answer, enabled);
            }
        }
        if let Some(pattern) = &item.rules.pattern
            && count > 0
        {
            let reason = match pattern.regex(&mut |steps| self.tally.count(steps)) {
                Ok(Some(_)) if self.tally.count(0).is_ok() => None,
                Ok(None) => Some(UNUSABLE.to_owned()),
                _ => Some("there is too much to be done".to_owned()),
            };
            if let Some(reason) = reason {
                self.note(frame, index, "regex", reason);
            }
        }
        if item.calculated.is_some() && enabled == Enabled::Yes && count > 0 {
            self.calculated(frame, index, item, answers);
        }
    }

    /// What is asked of one value.
    fn value(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        item: &'a Item,
        of: ValueType,
        value: &'a Json,
    ) {
        let mut is_right = true;
        let mut faults = Vec::new();
        let mut work = |steps| self.tally.count(steps);
        answer::check(item, of, value, &mut work, &mut |fault| faults.push(fault));
        for fault in faults {
            is_right = false;
            let tail = format!(".value.ofType({})", of.name());
            self.tell(fault.severity, fault.code, frame, &tail, index, fault.rule, fault.text);
        }
        for (rule, bound) in [("minValue", &item.rules.min), ("maxValue", &item.rules.max)] {
            if let Some(bound) = bound
                && bound.formula.is_some()
            {
                self.dynamic_bound(frame, index, item, bound, rule, of, value);
            }
        }
        let set = item.options.value_set.as_deref().filter(|_| of == ValueType::Coding && is_right);
        if let Some(set) = set {
            self.in_answer_value_set(frame, index, set, value);
        }
        let units = &item.rules.units;
        if let (Some(set), ValueType::Quantity, false) = (&units.value_set, of, units.is_open)
            && !units.listed.iter().any(|unit| unit.is_of(value))
        {
            self.in_unit_value_set(frame, index, set, value);
        }
        if of == ValueType::Reference {
            self.reference(frame, index, item, value);
        }
        self.offered(frame, index, item, of, value);
        self.toggled(frame, index, item, of, value);
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the question")]
    fn dynamic_bound(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        item: &Item,
        bound: &Bound,
        rule: &'static str,
        of: ValueType,
        value: &Json,
    ) {
        let Some(formula) = &bound.formula else { return };
        let at = frame.parent.unwrap_or(frame);
        let stated = match self.evaluate(at, index, formula) {
            Ok(stated) => stated,
            Err(reason) => return self.note(frame, index, rule, reason),
        };
        let [stated] = stated.as_slice() else { return };
        let bound =
            Bound { value: Fixed::read(of, stated), shown: shown(of, stated), formula: None };
        let tail = format!(".value.ofType({})", of.name());
        answer::dynamic_bound(&item.link_id, &bound, rule, of, value, &mut |fault| {
            self.tell(fault.severity, fault.code, frame, &tail, index, fault.rule, fault.text);
        });
    }

    /// An option that excludes others and is not alone.
    fn exclusive(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        item: &Item,
        of: ValueType,
        value: &Json,
    ) {
        let mut exclusive = item.options.listed.iter().filter(|option| option.is_exclusive);
        if let Some(option) = exclusive.find(|option| option.value.is(of, value)) {
            let text = format!(
                "The option {} of \"{}\" excludes all others; keep it alone or take it out.",
                option.shown,
                cut(&item.link_id)
            );
            let code = IssueType::BusinessRule;
            self.tell(Error, code, frame, "", index, "optionExclusive", text);
        }
    }

    /// An answer that is none of the options that an expression finds.
    fn offered(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        item: &Item,
        of: ValueType,
        value: &Json,
    ) {
        const RULE: &str = "answerExpression";
        let Some(formula) = &item.options.dynamic else { return };
        let offered = match self.evaluate(frame.parent.unwrap_or(frame), index, formula) {
            Ok(offered) if !offered.is_empty() => offered,
            Ok(_) => return self.note(frame, index, RULE, "it found no options".to_owned()),
            Err(reason) => return self.note(frame, index, RULE, reason),
        };
        let is_same = |own: &Json| Fixed::read(of, own).is_some_and(|own| own.is(of, value));
        let is_offered = offered.iter().any(|one| match one.list("coding") {
            [] => is_same(one),
            codings => codings.iter().any(is_same),
        });
        let is_own = item.kind == ItemType::OpenChoice && of == ValueType::String;
        // What has no comparison is left to people.
        if is_offered || is_own || Fixed::read(of, value).is_none() {
            return;
        }
        let text = format!(
            "An answer to \"{}\" is none of the options that the other answers leave.",
            cut(&item.link_id)
        );
        let severity = if self.is_strict { Error } else { Warning };
        self.tell(severity, IssueType::CodeInvalid, frame, "", index, RULE, text);
    }

    /// An option that is not offered because of other answers.
    fn toggled(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        item: &Item,
        of: ValueType,
        value: &Json,
    ) {
        let names = |(own, fixed): &(ValueType, Fixed)| *own == of && fixed.is(of, value);
        let mut is_off = false;
        for toggle in &item.options.toggles {
            if !toggle.options.iter().any(names) {
                continue;
            }
            match self.evaluate(frame.parent.unwrap_or(frame), index, &toggle.formula) {
                Ok(values) if matches!(values.as_slice(), [Json::Bool(true)]) => return,
                Ok(_) => is_off = true,
                Err(reason) => {
                    return self.note(frame, index, "answerOptionsToggleExpression", reason);
                }
            }
        }
        if is_off {
            let text = format!(
                "An answer to \"{}\" is an option that the other answers take away.",
                cut(&item.link_id)
            );
            let severity = if self.is_strict { Error } else { Warning };
            let rule = "answerOptionsToggleExpression";
            self.tell(severity, IssueType::BusinessRule, frame, "", index, rule, text);
        }
    }

    /// What an answer may refer to.
    fn reference(&mut self, frame: &Frame<'_, 'a>, index: u32, item: &'a Item, value: &'a Json) {
        const TAIL: &str = ".value.ofType(Reference)";
        let name = || cut(&item.link_id);
        let Some(kind) = target_type(value, self.response) else { return };
        if !self.world.definitions.is_resource(kind) {
            let text =
                format!("An answer to \"{}\" refers to a type that R4 does not have.", name());
            let code = IssueType::Value;
            return self.tell(Error, code, frame, TAIL, index, "type", text);
        }
        let resources = &item.rules.resources;
        if !resources.is_empty() && !resources.iter().any(|own| own.as_ref() == kind) {
            let text = format!(
                "An answer to \"{}\" refers to a {}, not a {kind}.",
                name(),
                resources.join(" or ")
            );
            let code = IssueType::Value;
            return self.tell(Error, code, frame, TAIL, index, "referenceResource", text);
        }
        if item.rules.profiles.is_empty() {
            return;
        }
        let base =
            |profile: &'a str| profile.strip_prefix("http://hl7.org/fhir/StructureDefinition/");
        let of_types = item.rules.profiles.iter().map(|profile| match base(profile_of(profile)) {
            Some(of) if self.world.definitions.is_resource(of) => Some(of == kind),
            _ => None,
        });
        let known: Vec<Option<bool>> = of_types.collect();
        if known.contains(&Some(true)) {
            return;
        }
        if known.contains(&None) {
            let reason = "whether a target has a profile is not looked at here";
            return self.note(frame, index, "referenceProfile", reason.to_owned());
        }
        let text =
            format!("An answer to \"{}\" refers to a {kind}, which has no such profile.", name());
        self.tell(Error, IssueType::Value, frame, TAIL, index, "referenceProfile", text);
    }

    /// A value that follows from others. People may change it, unless they cannot reach it.
    fn calculated(&mut self, frame: &Frame<'_, 'a>, index: u32, item: &Item, answers: &'a [Json]) {
        let Some(formula) = &item.calculated else { return };
        let values = match self.evaluate(frame, index, formula) {
            Ok(values) => values,
            Err(reason) => return self.note(frame, index, "calculatedExpression", reason),
        };
        if !item.is_read_only && !item.is_hidden {
            return;
        }
        let is_same = |(answer, value): (&Json, &Json)| {
            let Some((of, given)) = choice(answer, "value") else { return false };
            match (Fixed::read(of, given), number(value)) {
                (Some(Fixed::Number(given)), Some(own)) => {
                    (given - own).abs() <= Decimal::new(1, 6)
                }
                (Some(fixed), _) => {
                    fixed.order(of, value) == Some(Ordering::Equal) || fixed.is(of, value)
                }
                (None, _) => true,
            }
        };
        if values.len() == answers.len() && answers.iter().zip(&values).all(is_same) {
            return;
        }
        let text = format!(
            "The answer to \"{}\" is calculated and does not follow from the others; calculate it \
             again or leave it out.",
            cut(&item.link_id)
        );
        let severity = if self.is_strict { Error } else { Warning };
        let (code, rule) = (IssueType::BusinessRule, "calculatedExpression");
        self.tell(severity, code, frame, "", index, rule, text);
    }
}

/// The url of a canonical.
fn profile_of(canonical: &str) -> &str {
    canonical.split('|').next().unwrap_or_default()
}
