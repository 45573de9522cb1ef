//! The reading of a Questionnaire, and what is wrong with it that no invariant of R4 says:
//! <https://hl7.org/fhir/R4/questionnaire-definitions.html>.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use super::constraint::Constraint;
use super::enable_when::{Condition, Enable, Operator};
use super::expression::{Formula, MAX_VARIABLES, Variable};
use super::item::{Item, ItemType, Options, Rules, UNUSABLE, translations};
use super::link_id::LinkIds;
use super::value::{ValueType, choice, cut};
use super::{Form, MAX_DEPTH, MAX_ITEMS, answer, extension, period};
use crate::definitions::Definitions;
use crate::path::Tally;
use crate::terminology::ValueSet;
use crate::validate::{MAX_ISSUES, nearest};
use crate::{Issue, IssueType, Json, Severity};

/// From so many issues on, the nearest linkId is not looked for.
const MAX_SOUGHT: usize = 20;
/// Most steps of the regular expressions of a Questionnaire while it is read.
const MAX_STEPS: u64 = 5_000_000;
/// The extension of ours that says that an instrument's official wording stands elsewhere.
const WORDING_PACK: &str = "https://lumbar.example/fhir/StructureDefinition/wording-pack";

pub(super) fn read(definitions: &Definitions, source: Arc<Json>) -> (Form, Vec<Issue>, u64) {
    let json = source.as_ref();
    let text = |name: &str| json.str_at(&[name]).map(Box::from);
    let contained = json.list("contained").iter();
    let value_sets = contained.filter(|r| r.str_at(&["resourceType"]) == Some("ValueSet"));
    let value_set =
        |set: &Json| Some((format!("#{}", set.str_at(&["id"])?).into(), ValueSet::read(set).ok()?));
    let form = Form {
        url: text("url"),
        version: text("version"),
        items: Vec::new(),
        link_ids: LinkIds::new(),
        subject_types: json
            .list("subjectType")
            .iter()
            .filter_map(|code| code.as_str().map(Box::from))
            .collect(),
        effective: period(json.get("effectivePeriod")),
        constraints: Constraint::read(json),
        variables: Vec::new(),
        value_sets: value_sets.filter_map(value_set).collect(),
        is_signed: extension::values(json, "signatureRequired").next().is_some(),
        is_sequential: extension::values(json, "entryMode")
            .any(|mode| mode.as_str() == Some("sequential")),
        is_modular: false,
        has_other_wording: json.list("extension").iter().any(|extension| {
            extension.str_at(&["url"]) == Some(WORDING_PACK)
                && extension.str_at(&["valueCode"]) != Some("none")
        }),
        is_chained: false,
        plan: OnceLock::new(),
        source: source.clone(),
    };
    let mut reader = Reader {
        definitions,
        form,
        issues: Vec::new(),
        at: Vec::new(),
        steps: Rc::new(Tally::new(MAX_STEPS)),
    };
    reader.form.variables = reader.variables(json, "Questionnaire", "Questionnaire");
    reader.items(json, "Questionnaire", None, 0, false);
    reader.conditions();
    (reader.form, reader.issues, reader.steps.steps())
}

struct Reader<'a> {
    definitions: &'a Definitions,
    form: Form,
    issues: Vec<Issue>,
    /// The path of each item.
    at: Vec<String>,
    /// The steps of regular expressions.
    steps: Rc<Tally>,
}

impl Reader<'_> {
    fn tell(
        &mut self,
        severity: Severity,
        code: IssueType,
        at: &str,
        rule: (&str, &str),
        text: String,
    ) {
        if self.issues.len() < MAX_ISSUES {
            let issue = Issue::error(code, text).severity(severity).at(at);
            self.issues.push(issue.rule(format!("{}#{}", cut(rule.0), rule.1)));
        }
    }

    fn items(&mut self, json: &Json, at: &str, parent: Option<u32>, depth: u32, is_hidden: bool) {
        let list = json.list("item");
        if depth as usize >= MAX_DEPTH && !list.is_empty() {
            let text = format!("Items are nested deeper than {MAX_DEPTH} levels.");
            return self.tell(Severity::Error, IssueType::TooCostly, at, ("item", "depth"), text);
        }
        for (position, json) in list.iter().enumerate() {
            let at = format!("{at}.item[{position}]");
            let index = self.form.items.len();
            if index >= MAX_ITEMS {
                let text = format!("A Questionnaire has at most {MAX_ITEMS} items.");
                let rule = ("item", "number");
                return self.tell(Severity::Error, IssueType::TooCostly, &at, rule, text);
            }
            let (Some(link_id), Some(kind)) =
                (json.str_at(&["linkId"]), json.str_at(&["type"]).and_then(ItemType::read))
            else {
                // What is missing or no code is an error of the resource itself.
                continue;
            };
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            if self.form.link_ids.insert(link_id.into(), index).is_some() {
                let text = format!(
                    "The linkId \"{}\" is used twice; each item has its own.",
                    cut(link_id)
                );
                self.tell(Severity::Error, IssueType::Invariant, &at, (link_id, "que-2"), text);
            }
            let mut item = self.item(json, &at, link_id, kind);
            item.is_hidden |= is_hidden;
            (item.parent, item.depth, item.position) = (parent, depth, position);
            let is_hidden = item.is_hidden;
            self.sound(json, &at, &item);
            self.form.items.push(item);
            self.at.push(at.clone());
            self.items(json, &at, Some(index), depth + 1, is_hidden);
            let end = u32::try_from(self.form.items.len()).unwrap_or(u32::MAX);
            if let Some(item) = self.form.items.get_mut(index as usize) {
                item.end = end;
            }
        }
    }

    fn item(&mut self, json: &Json, at: &str, link_id: &str, kind: ItemType) -> Item {
        let flag = |name: &str| json.get(name).and_then(Json::as_bool) == Some(true);
        let formula = |name| extension::values(json, name).next().map(Formula::read);
        let text_sibling = json.get("_text");
        let is_made = text_sibling.is_some_and(|sibling| Formula::dynamic(sibling).is_some());
        let texts = match is_made {
            true => Vec::new(),
            false => json
                .str_at(&["text"])
                .map(Box::from)
                .into_iter()
                .chain(text_sibling.into_iter().flat_map(translations))
                .collect(),
        };
        let conditions: Vec<Condition> =
            json.list("enableWhen").iter().filter_map(Condition::read).collect();
        let enable = match formula("enableWhenExpression") {
            Some(formula) => Enable::Expression(formula),
            None if conditions.is_empty() => Enable::Always,
            None => {
                Enable::When { any: json.str_at(&["enableBehavior"]) == Some("any"), conditions }
            }
        };
        let is_sub = extension::values(json, "subQuestionnaire").next().is_some();
        if is_sub {
            self.form.is_modular = true;
            let text = format!(
                "Item \"{}\" stands for another Questionnaire; assemble it before it is answered.",
                cut(link_id)
            );
            let rule = (link_id, "subQuestionnaire");
            self.tell(Severity::Warning, IssueType::NotSupported, at, rule, text);
        }
        let mut hidden = extension::values(json, "hidden");
        Item {
            link_id: link_id.into(),
            kind,
            parent: None,
            end: 0,
            depth: 0,
            position: 0,
            texts,
            definition: json.str_at(&["definition"]).map(Into::into),
            is_required: flag("required"),
            required: json.get("_required").and_then(Formula::dynamic),
            repeats: flag("repeats"),
            is_hidden: hidden.any(|value| value.as_bool() == Some(true)),
            is_read_only: flag("readOnly"),
            enable,
            rules: Rules::read(json),
            options: Options::read(json),
            constraints: Constraint::read(json),
            variables: self.variables(json, at, link_id),
            calculated: formula("calculatedExpression"),
        }
    }

    fn variables(&mut self, json: &Json, at: &str, owner: &str) -> Vec<Variable> {
        let named = json.list("extension").iter();
        let named = named.filter(|extension| extension::term(extension) == Some("variable"));
        let mut variables: Vec<Variable> = Vec::new();
        for extension in named.take(MAX_VARIABLES) {
            let Some(variable) = Variable::read(extension) else {
                let text = "A variable needs a name.".to_owned();
                self.tell(Severity::Error, IssueType::Required, at, (owner, "variable"), text);
                continue;
            };
            if variables.iter().any(|other| other.name == variable.name) {
                let text = format!("The variable \"{}\" is stated twice.", cut(&variable.name));
                self.tell(Severity::Error, IssueType::Duplicate, at, (owner, "variable"), text);
                continue;
            }
            variables.push(variable);
        }
        variables
    }

    /// What does not fit together within one item.
    fn sound(&mut self, json: &Json, at: &str, item: &Item) {
        let link_id = item.link_id.as_ref();
        let name = cut(link_id);
        let steps = self.steps.clone();
        let mut work = |more| steps.count(more);
        let mut tell = |severity, code, rule: &str, text: String| {
            self.tell(severity, code, at, (link_id, rule), text);
        };
        let (error, warning) = (Severity::Error, Severity::Warning);
        if matches!(item.enable, Enable::Expression(_)) && json.get("enableWhen").is_some() {
            let text =
                format!("Item \"{name}\" has enableWhen and enableWhenExpression; keep one.");
            tell(error, IssueType::BusinessRule, "enableWhenExpression", text);
        }
        match item.rules.pattern.as_ref().map(|pattern| pattern.regex(&mut work)) {
            Some(Ok(None)) => {
                let text =
                    format!("The regular expression of \"{name}\" cannot be used: {UNUSABLE}.");
                tell(warning, IssueType::NotSupported, "regex", text);
            }
            Some(Err(_)) => {
                let text = format!(
                    "The regular expressions are large; that of \"{name}\" was not looked at."
                );
                tell(warning, IssueType::TooCostly, "regex", text);
            }
            None | Some(Ok(Some(_))) => {}
        }
        let rules = &item.rules;
        if let (Some(min), Some(max)) = (rules.min_occurs, rules.max_occurs)
            && min > max
        {
            let text = format!("minOccurs of \"{name}\" is {min} and maxOccurs is {max}.");
            tell(error, IssueType::BusinessRule, "minOccurs", text);
        }
        if rules.max_occurs.is_some_and(|max| max > 1) && !item.repeats {
            let text = format!("Item \"{name}\" has maxOccurs and does not repeat.");
            tell(warning, IssueType::BusinessRule, "maxOccurs", text);
        }
        if rules.min_occurs.is_some_and(|min| min > 1) && !(item.repeats && item.is_required) {
            let text =
                format!("Item \"{name}\" has minOccurs; it needs required and repeats, too.");
            tell(warning, IssueType::BusinessRule, "minOccurs", text);
        }
        if answer::are_crossed(rules) {
            let text = format!("No value of \"{name}\" is between minValue and maxValue.");
            tell(warning, IssueType::BusinessRule, "minValue", text);
        }
        if let (Some(min), Some(max)) = (rules.min_length, rules.max_length)
            && min > max
        {
            let text = format!("minLength of \"{name}\" is {min} and maxLength is {max}.");
            tell(warning, IssueType::BusinessRule, "minLength", text);
        }
        let unknown = rules.resources.iter().find(|name| !self.definitions.is_resource(name));
        if let Some(unknown) = unknown {
            let text = format!("\"{}\" is no resource type of R4.", cut(unknown));
            let rule = (link_id, "referenceResource");
            self.tell(error, IssueType::CodeInvalid, at, rule, text);
        }
        self.options(json, at, item);
        self.initial(json, at, item);
    }

    /// Whether the options fit the type of the item.
    fn options(&mut self, json: &Json, at: &str, item: &Item) {
        let link_id = item.link_id.as_ref();
        let mut seen = HashSet::new();
        for (index, option) in json.list("answerOption").iter().enumerate() {
            let at = format!("{at}.answerOption[{index}]");
            let Some((of, value)) = choice(option, "value") else { continue };
            let fits = match item.kind {
                ItemType::Choice | ItemType::OpenChoice => true,
                kind => kind.answer() == Some(of),
            };
            let rule = (link_id, "answerOption");
            if !fits {
                let text = format!(
                    "Item \"{}\" is of type {}, so an option cannot be a {}.",
                    cut(link_id),
                    item.kind.code(),
                    of.name()
                );
                self.tell(Severity::Error, IssueType::Value, &at, rule, text);
            }
            let same = match of {
                ValueType::Coding => {
                    let part = |name| value.str_at(&[name]).unwrap_or_default();
                    format!("{}|{}", part("system"), part("code"))
                }
                _ => value.to_string(),
            };
            if !seen.insert((of.name(), same)) {
                let text = format!("An option of \"{}\" is stated twice.", cut(link_id));
                self.tell(Severity::Warning, IssueType::Duplicate, &at, rule, text);
            }
        }
    }

    /// Whether the initial values could be answers.
    fn initial(&mut self, json: &Json, at: &str, item: &Item) {
        let link_id = item.link_id.as_ref();
        let initial = json.list("initial");
        if !initial.is_empty() && extension::values(json, "initialExpression").next().is_some() {
            let text =
                format!("Item \"{}\" has initial and initialExpression; keep one.", cut(link_id));
            let rule = (link_id, "initialExpression");
            self.tell(Severity::Error, IssueType::BusinessRule, at, rule, text);
        }
        for (index, initial) in initial.iter().enumerate() {
            let Some((of, value)) = choice(initial, "value") else { continue };
            let at = format!("{at}.initial[{index}]");
            let mut faults = Vec::new();
            let mut work = |more| self.steps.count(more);
            answer::check(item, of, value, &mut work, &mut |fault| faults.push(fault));
            for fault in faults {
                let text = format!("An initial value is no answer: {}", fault.text);
                self.tell(fault.severity, fault.code, &at, (link_id, fault.rule), text);
            }
        }
    }

    /// Finds the questions of all conditions.
    fn conditions(&mut self) {
        let mut items = std::mem::take(&mut self.form.items);
        let kinds: Vec<(ItemType, u32, bool)> = items
            .iter()
            .map(|item| (item.kind, item.end, !matches!(item.enable, Enable::Always)))
            .collect();
        let parents: Vec<Option<u32>> = items.iter().map(|item| item.parent).collect();
        for (index, item) in items.iter_mut().enumerate() {
            let own = u32::try_from(index).unwrap_or(u32::MAX);
            let Enable::When { conditions, .. } = &mut item.enable else { continue };
            for (position, condition) in conditions.iter_mut().enumerate() {
                let target = self.form.link_ids.get(&condition.link_id).copied();
                let fault = match target {
                    None => Some((Severity::Error, IssueType::NotFound, self.unknown(condition))),
                    Some(target) if target == own => Some((
                        Severity::Error,
                        IssueType::BusinessRule,
                        "it refers to the item itself".to_owned(),
                    )),
                    Some(target) if (own..item.end).contains(&target) => Some((
                        Severity::Error,
                        IssueType::BusinessRule,
                        "it refers to an item below, which is there only when this one is"
                            .to_owned(),
                    )),
                    Some(target) => {
                        condition.question = Some(target);
                        let above = |index: &u32| parents.get(*index as usize).copied().flatten();
                        self.form.is_chained |= std::iter::successors(Some(target), above)
                            .any(|index| kinds.get(index as usize).is_some_and(|kind| kind.2));
                        let kind = kinds.get(target as usize).map(|kind| kind.0);
                        unfit(condition, kind, target > own)
                    }
                };
                let Some((severity, code, reason)) = fault else { continue };
                let at = self.at.get(index).cloned().unwrap_or_default();
                let at = format!("{at}.enableWhen[{position}]");
                let link_id = item.link_id.clone();
                let text = format!(
                    "The condition of \"{}\" on \"{}\" is doubtful: {reason}.",
                    cut(&link_id),
                    cut(&condition.link_id)
                );
                self.tell(severity, code, &at, (&link_id, "enableWhen"), text);
            }
        }
        self.form.items = items;
    }

    fn unknown(&self, condition: &Condition) -> String {
        // The first few are enough to see what went wrong.
        let near = (self.issues.len() < MAX_SOUGHT).then(|| {
            let mut known: Vec<&str> = self.form.link_ids.keys().map(AsRef::as_ref).collect();
            known.sort_unstable();
            nearest(&condition.link_id, known.into_iter())
        });
        match near.flatten() {
            Some(near) => format!("no item has this linkId, but one has \"{}\"", cut(near)),
            None => "no item has this linkId".to_owned(),
        }
    }
}

/// What is wrong with a condition whose question is of a kind.
fn unfit(
    condition: &Condition,
    kind: Option<ItemType>,
    is_later: bool,
) -> Option<(Severity, IssueType, String)> {
    let (kind, of) = (kind?, condition.of?);
    if !kind.is_question() {
        let text = format!("it is a {} and has no answers", kind.code());
        return Some((Severity::Error, IssueType::BusinessRule, text));
    }
    let fits = match (kind.answer(), of) {
        _ if condition.operator == Operator::Exists || kind.is_choice() => true,
        (
            Some(ValueType::Decimal | ValueType::Integer),
            ValueType::Decimal | ValueType::Integer,
        )
        | (Some(ValueType::Date | ValueType::DateTime), ValueType::Date | ValueType::DateTime)
        | (Some(ValueType::Uri), ValueType::String)
        | (None, _) => true,
        (own, of) => own == Some(of),
    };
    if !fits {
        let text = format!("its answers are of type {}, not {}", kind.code(), of.name());
        return Some((Severity::Error, IssueType::Value, text));
    }
    let has_order = !matches!(
        of,
        ValueType::Boolean | ValueType::Coding | ValueType::Reference | ValueType::Attachment
    );
    if condition.operator.is_order() && !has_order {
        let text = format!("values of type {} have no order", of.name());
        return Some((Severity::Warning, IssueType::BusinessRule, text));
    }
    is_later.then(|| {
        let text = "the question comes later than the item".to_owned();
        (Severity::Warning, IssueType::BusinessRule, text)
    })
}
