//! `_filter`: <https://hl7.org/fhir/R4/search_filter.html>.
//!
//! Offered are `and`, `or`, `not`, parentheses, chains with dots, and the operators of [`Operator`].
//! `and` and `or` are read from left to right, neither before the other, as the standard says.
//! Filters within paths (`name[use eq "official"].given`) are not.

use crate::definitions::SearchKind;

use super::condition::Condition;
use super::date::{self, Prefix};
use super::expansion::Need;
use super::fault::Fault;
use super::key::{self, SEPARATOR};
use super::query::{Asked, Reader, Test};

/// Greatest depth of parentheses and `not`.
const MAX_DEPTH: usize = 6;

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Eq,
    Ne,
    Co,
    Sw,
    Ew,
    Gt,
    Lt,
    Ge,
    Le,
    Ap,
    Sa,
    Eb,
    Pr,
    Po,
    Ss,
    Sb,
    In,
    Ni,
    Re,
}

impl Operator {
    fn read(text: &str) -> Option<Operator> {
        Some(match text {
            "eq" => Operator::Eq,
            "ne" => Operator::Ne,
            "co" => Operator::Co,
            "sw" => Operator::Sw,
            "ew" => Operator::Ew,
            "gt" => Operator::Gt,
            "lt" => Operator::Lt,
            "ge" => Operator::Ge,
            "le" => Operator::Le,
            "ap" => Operator::Ap,
            "sa" => Operator::Sa,
            "eb" => Operator::Eb,
            "pr" => Operator::Pr,
            "po" => Operator::Po,
            "ss" => Operator::Ss,
            "sb" => Operator::Sb,
            "in" => Operator::In,
            "ni" => Operator::Ni,
            "re" => Operator::Re,
            _ => return None,
        })
    }

    /// The prefix that says the same.
    fn prefix(self) -> Option<&'static str> {
        Some(match self {
            Operator::Eq => "eq",
            Operator::Ne => "ne",
            Operator::Gt => "gt",
            Operator::Lt => "lt",
            Operator::Ge => "ge",
            Operator::Le => "le",
            Operator::Ap => "ap",
            Operator::Sa => "sa",
            Operator::Eb => "eb",
            _ => return None,
        })
    }
}

const FORM: &str =
    "a filter such as given eq \"peter\" and (birthdate ge 2014-10-10 or not (active eq true))";

/// A filter that is being read.
struct Filter<'a, 'r> {
    reader: &'a Reader<'r>,
    resource_type: &'a str,
    text: &'a str,
    at: usize,
    comparisons: usize,
}

impl Reader<'_> {
    /// Reads the value of `_filter`.
    pub(super) fn filter(&self, resource_type: &str, text: &str) -> Result<Condition, Fault> {
        let mut filter = Filter { reader: self, resource_type, text, at: 0, comparisons: 0 };
        let condition = filter.logical(0)?;
        filter.blanks();
        if filter.at < text.len() { Err(filter.wrong()) } else { Ok(condition) }
    }

    /// The condition of one comparison.
    pub(super) fn compared(
        &self,
        asked: &Asked<'_>,
        operator: Operator,
        value: &str,
    ) -> Result<Condition, Fault> {
        let code = asked.code();
        if operator == Operator::Pr {
            return self.missing(asked, value).map(Condition::negate);
        }
        if let ("_id", Operator::Eq | Operator::Ne) = (code, operator) {
            let id = Condition::Id(vec![value.to_owned()]);
            return Ok(if operator == Operator::Eq { id } else { id.negate() });
        }
        let text = |end: &str, value: String| match operator {
            Operator::Eq => Some(Condition::key_begins(code, &format!("{value}{end}"))),
            Operator::Ne => Some(Condition::key_begins(code, &format!("{value}{end}")).negate()),
            Operator::Co => Some(Condition::KeyContains(code.to_owned(), value)),
            Operator::Sw => Some(Condition::key_begins(code, &value)),
            Operator::Ew => Some(Condition::KeyContains(code.to_owned(), format!("{value}{end}"))),
            _ => None,
        };
        let separator = String::from(SEPARATOR);
        let condition = match (asked.parameter.kind, operator) {
            (SearchKind::Date, Operator::Po) => {
                let (_, bounds) = self.moment(asked, &format!("eq{value}"))?;
                Some(date::compare(Prefix::Ap, bounds, |start, end| {
                    Condition::Date(code.to_owned(), start, end)
                }))
            }
            (SearchKind::Date | SearchKind::Number | SearchKind::Quantity, operator) => {
                match operator.prefix() {
                    Some(prefix) => Some(self.value(asked, &format!("{prefix}{value}"))?),
                    None => None,
                }
            }
            (SearchKind::String, _) => text(&separator, key::fold(value.trim())),
            (SearchKind::Token, Operator::Eq) => Some(self.coded(asked, code, value)?),
            (SearchKind::Token, Operator::Ne) => Some(self.coded(asked, code, value)?.negate()),
            (SearchKind::Token, Operator::In | Operator::Ni) => {
                let any = self.members(asked, Need::ValueSet(value.to_owned()))?;
                Some(if operator == Operator::In { any } else { any.negate() })
            }
            (SearchKind::Token, Operator::Ss | Operator::Sb) => {
                let modifier = if operator == Operator::Ss { "below" } else { "above" };
                Some(self.token(&Asked { modifier: Some(modifier), ..*asked }, value)?)
            }
            (SearchKind::Token, _) => text(&separator, value.to_owned()),
            (SearchKind::Uri, Operator::Eq) => Some(Condition::key(code, value.to_owned())),
            (SearchKind::Uri, Operator::Ne) => {
                Some(Condition::key(code, value.to_owned()).negate())
            }
            (SearchKind::Uri, Operator::Ew) => {
                Some(Condition::KeyEnds(code.to_owned(), value.to_owned()))
            }
            (SearchKind::Uri, _) => text("", value.to_owned()),
            (SearchKind::Reference, Operator::Eq | Operator::Re) => Some(self.value(asked, value)?),
            (SearchKind::Reference, Operator::Ne) => Some(self.value(asked, value)?.negate()),
            _ => None,
        };
        match condition {
            Some(_) if value.trim().is_empty() => Err(asked.expected(FORM)),
            Some(condition) => Ok(condition),
            None => Err(asked.unsupported(
                "this operator is not offered for a parameter of this type; a text takes eq, ne, co, sw and ew, a date or number eq, ne, gt, lt, ge, le, sa, eb and ap, a reference eq, ne and re",
            )),
        }
    }
}

impl Filter<'_, '_> {
    fn wrong(&self) -> Fault {
        let place = self.text.get(..self.at).map_or(0, |before| before.chars().count()) + 1;
        Fault::expected(
            "_filter",
            &format!("{FORM}; this one is not understood at character {place}"),
        )
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes `symbol` if it comes next.
    fn symbol(&mut self, symbol: char) -> bool {
        self.blanks();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len_utf8();
        }
        found
    }

    /// The word that comes next, up to a blank or parenthesis.
    fn word(&mut self) -> &str {
        self.blanks();
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '(' | ')'));
        let word = &rest[..end.unwrap_or(rest.len())];
        self.at += word.len();
        word
    }

    /// Takes a word if it is `keyword`.
    fn keyword(&mut self, keyword: &str) -> bool {
        let start = self.at;
        let found = self.word() == keyword;
        if !found {
            self.at = start;
        }
        found
    }

    fn logical(&mut self, depth: usize) -> Result<Condition, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::too_costly(format!(
                "The _filter is nested more than {MAX_DEPTH} deep; expected is {FORM}."
            )));
        }
        let mut condition = self.term(depth)?;
        loop {
            if self.keyword("and") {
                let next = self.term(depth)?;
                condition = match condition {
                    Condition::All(mut all) if !all.is_empty() => {
                        all.push(next);
                        Condition::All(all)
                    }
                    first => Condition::All(vec![first, next]),
                };
            } else if self.keyword("or") {
                let next = self.term(depth)?;
                condition = match condition {
                    Condition::Any(mut any) if !any.is_empty() => {
                        any.push(next);
                        Condition::Any(any)
                    }
                    first => Condition::Any(vec![first, next]),
                };
            } else {
                return Ok(condition);
            }
        }
    }

    fn term(&mut self, depth: usize) -> Result<Condition, Fault> {
        let is_negated = self.keyword("not");
        if is_negated || self.rest().trim_start().starts_with('(') {
            if !self.symbol('(') {
                return Err(self.wrong());
            }
            let inner = self.logical(depth + 1)?;
            if !self.symbol(')') {
                return Err(self.wrong());
            }
            return Ok(if is_negated { inner.negate() } else { inner });
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Condition, Fault> {
        self.comparisons += 1;
        let limit = self.reader.limits.max_values;
        if self.comparisons > limit {
            return Err(Fault::too_costly(format!(
                "The _filter has more than {limit} comparisons; ask for less at once."
            )));
        }
        let path = self.word().to_owned();
        if path.is_empty() || path.contains(['[', '"']) {
            return Err(self.wrong());
        }
        let start = self.at;
        let Some(operator) = Operator::read(self.word()) else {
            self.at = start;
            return Err(self.wrong());
        };
        let value = self.value()?;
        let reader = self.reader;
        let depth = reader.limits.max_chain;
        let test = Test::Compare(operator, &value);
        match reader.condition(self.resource_type, &path, test, depth) {
            // One part that is not known makes the whole filter say something else.
            Err(Fault::Unknown(issue)) => Err(Fault::Value(issue)),
            result => result,
        }
    }

    /// A value in quotes, with JSON's escapes of quote and backslash, or a word.
    fn value(&mut self) -> Result<String, Fault> {
        if !self.symbol('"') {
            let word = self.word().to_owned();
            return if word.is_empty() { Err(self.wrong()) } else { Ok(word) };
        }
        let mut value = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.at += at + 1;
                    return Ok(value);
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        Err(self.wrong())
    }
}
