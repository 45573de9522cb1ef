//! The order of matches: <https://hl7.org/fhir/R4/search.html#sort>.
//!
//! Equal values follow the order of rows, against it when the first key descends, so that an index
//! of values and rows gives the order both ways. It is the same order whatever drives the search:
//! pages of one search may be driven differently.

use std::cmp::Ordering;

use lumbar_fhir::search::{Direction, Sort};

use super::condition::Builder;
use crate::cursor::{Place, Way};
use crate::dialect::Value;

/// An order of matches, walked one way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) sorts: &'a [Sort],
    pub(super) way: Way,
}

/// What is known of the value that rows have of the first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Some may have one.
    Open,
    /// All have one.
    Present,
    /// None has one.
    Absent,
}

/// The direction of a key.
fn direction(sort: &Sort) -> Direction {
    match sort {
        Sort::Id(direction)
        | Sort::LastUpdated(direction)
        | Sort::Key(_, direction)
        | Sort::Date(_, direction)
        | Sort::Number(_, direction) => *direction,
    }
}

/// Whether a resource may have no value of a key.
fn is_nullable(sort: &Sort) -> bool {
    matches!(sort, Sort::Key(..) | Sort::Date(..) | Sort::Number(..))
}

/// `DESC` or nothing, after a column.
fn word(descends: bool) -> &'static str {
    if descends { " DESC" } else { "" }
}

impl<'a> Order<'a> {
    pub(super) fn new(sorts: &'a [Sort], way: Way) -> Order<'a> {
        Order { sorts, way }
    }

    fn is_backward(&self) -> bool {
        self.way == Way::Backward
    }

    /// Whether values of a key fall on the way.
    pub(super) fn descends(&self, sort: &Sort) -> bool {
        (direction(sort) == Direction::Descending) != self.is_backward()
    }

    /// Whether rows with equal values are met in falling order.
    pub(super) fn rows_descend(&self) -> bool {
        self.sorts.first().map_or(self.is_backward(), |first| self.descends(first))
    }

    /// Which of two places is met first.
    pub(super) fn compare(&self, one: &Place, two: &Place) -> Ordering {
        let turned = |order: Ordering, turn: bool| if turn { order.reverse() } else { order };
        let by_value = self.sorts.iter().zip(one.values.iter().zip(&two.values));
        for (sort, values) in by_value {
            let order = match values {
                (Some(one), Some(two)) => turned(compare(one, two), self.descends(sort)),
                (one, two) => turned(one.is_none().cmp(&two.is_none()), self.is_backward()),
            };
            if order.is_ne() {
                return order;
            }
        }
        turned(one.row_id.cmp(&two.row_id), self.rows_descend())
    }

    /// `ORDER BY` of the columns `s0`, `s1`, … and `row_id` of an alias.
    pub(super) fn by(&self, alias: &str, first: First) -> String {
        let mut order = String::from("ORDER BY ");
        for (number, sort) in self.sorts.iter().enumerate() {
            if number == 0 && first == First::Absent {
                continue;
            }
            order += &format!("{alias}.s{number}{}", word(self.descends(sort)));
            order += match (is_nullable(sort), number, first) {
                (false, ..) | (_, 0, First::Present) => ", ",
                _ if self.is_backward() => " NULLS FIRST, ",
                _ => " NULLS LAST, ",
            };
        }
        order + alias + ".row_id" + word(self.rows_descend())
    }

    /// The comparison that leads on from a value of a key.
    pub(super) fn beyond(&self, sort: &Sort) -> &'static str {
        if self.descends(sort) { "<" } else { ">" }
    }

    /// The comparison that leads on from a row.
    pub(super) fn beyond_row(&self) -> &'static str {
        if self.rows_descend() { "<" } else { ">" }
    }

    /// That the columns of an alias come after a place.
    pub(super) fn after(&self, builder: &mut Builder<'_>, alias: &str, place: &Place) -> String {
        let row = builder.bind(place.row_id);
        // With + SQLite does not walk all later rows instead of those that were gathered.
        let mut after = format!("+{alias}.row_id {} {row}", self.beyond_row());
        for (number, (sort, value)) in self.sorts.iter().zip(&place.values).enumerate().rev() {
            let column = format!("{alias}.s{number}");
            let Some(value) = value else {
                after = if self.is_backward() {
                    format!("({column} IS NOT NULL OR {after})")
                } else {
                    format!("({column} IS NULL AND {after})")
                };
                continue;
            };
            let value = builder.bind(value.clone());
            let beyond = self.beyond(sort);
            let none = if is_nullable(sort) && !self.is_backward() {
                format!("{column} IS NULL OR ")
            } else {
                String::new()
            };
            after =
                format!("({none}{column} {beyond} {value} OR ({column} = {value} AND {after}))");
        }
        after
    }
}

/// Values of one key, as both databases compare them.
fn compare(one: &Value, two: &Value) -> Ordering {
    match (one, two) {
        (Value::Int(one), Value::Int(two)) => one.cmp(two),
        (Value::Real(one), Value::Real(two)) => one.partial_cmp(two).unwrap_or(Ordering::Equal),
        (Value::Text(one), Value::Text(two)) => one.cmp(two),
        _ => Ordering::Equal,
    }
}
