//! Pages of what is rare: its rows are gathered, sorted and cut. And the number of matches.

use lumbar_fhir::search::{Condition, Direction, Sort};

use super::condition::{self, Builder};
use super::order::First;
use super::{Driver, Search};
use crate::Error;
use crate::commit::row_ids;
use crate::cursor::Place;
use crate::dialect::Value;
use crate::terms::Shape;

impl<'a> Search<'a> {
    /// The statement of up to `count` matches after a place, among the rows of a condition. Its
    /// columns are those of a version, the row id and the values that are sorted by.
    pub(super) fn gather(
        &self,
        condition: &'a Condition,
        place: Option<&Place>,
        count: usize,
    ) -> Result<(String, Vec<Value>), Error> {
        let mut builder = self.builder();
        let mut values = String::new();
        let mut names = String::new();
        for (number, sort) in self.order.sorts.iter().enumerate() {
            values += &format!(", {} AS s{number}", self.sort_value(&mut builder, sort));
            names += &format!(", m.s{number}");
        }
        let matches = self.matches(&mut builder, Driver::Rows(condition))?;
        let after = match place {
            Some(place) => format!(" WHERE {}", self.order.after(&mut builder, "m", place)),
            None => String::new(),
        };
        let limit = builder.bind(i64::try_from(count).unwrap_or(i64::MAX));
        let order = self.order.by("m", First::Open);
        // Bodies are fetched for the rows of the page only.
        let sql = format!(
            "SELECT r.id, r.version, r.last_updated, r.method, r.body, m.row_id{names} \
             FROM (SELECT m.row_id{names} \
             FROM (SELECT r0.row_id{values} {matches}) m{after} {order} LIMIT {limit}) m \
             JOIN resource r ON r.row_id = m.row_id {order}"
        );
        Ok((sql, builder.finish()?))
    }

    /// The statement that counts all matches, up to a limit.
    pub(super) fn total(
        &self,
        driver: Driver<'a>,
        limit: Option<usize>,
    ) -> Result<(String, Vec<Value>), Error> {
        let mut builder = self.builder();
        let matches = self.matches(&mut builder, driver)?;
        let sql = match limit {
            Some(limit) => format!("SELECT count(*) FROM (SELECT 1 {matches} LIMIT {limit}) c"),
            None => format!("SELECT count(*) {matches}"),
        };
        Ok((sql, builder.finish()?))
    }

    /// `FROM … WHERE …` for `r0`.
    fn matches(&self, builder: &mut Builder<'a>, driver: Driver<'a>) -> Result<String, Error> {
        let mut wanted = vec!["r0.body IS NOT NULL".to_owned()];
        let mut from = "resource r0";
        let mut done = None;
        match driver {
            Driver::Key(condition) => {
                // The order of a CROSS JOIN is kept by SQLite.
                from = "key_value d CROSS JOIN resource r0";
                wanted.push("r0.row_id = d.row_id".to_owned());
                wanted.push(builder.key("d", condition, self.subject())?);
                done = Some(condition);
            }
            Driver::Rows(condition) => {
                if let Some(rows) = builder.rows(condition, self.subject())? {
                    wanted.push(format!("r0.row_id IN ({rows})"));
                }
                if condition::is_exact(condition) {
                    done = Some(condition);
                }
            }
            Driver::Type => {
                let (first, last) = row_ids(self.type_id);
                let (first, last) = (builder.bind(first), builder.bind(last));
                wanted.push(format!("r0.row_id BETWEEN {first} AND {last}"));
            }
        }
        wanted.extend(self.holding(builder, done)?);
        Ok(format!("FROM {from} WHERE {}", wanted.join(" AND ")))
    }

    /// That all conditions hold for `r0` but the one that the rows were found by.
    pub(super) fn holding(
        &self,
        builder: &mut Builder<'a>,
        done: Option<&Condition>,
    ) -> Result<Vec<String>, Error> {
        let mut holding = Vec::new();
        for condition in self.conditions() {
            if done.is_none_or(|done| !std::ptr::eq(done, condition)) {
                holding.push(builder.holds(condition, self.subject())?);
            }
        }
        Ok(holding)
    }

    /// The value of `r0` that a sort goes by: the least when it ascends, else the greatest.
    pub(super) fn sort_value(&self, builder: &mut Builder<'a>, sort: &Sort) -> String {
        let (shape, code, direction) = match sort {
            Sort::Id(_) => return "r0.id".to_owned(),
            Sort::LastUpdated(_) => return "r0.last_updated".to_owned(),
            Sort::Key(code, direction) => (Shape::Key, code, direction),
            Sort::Date(code, direction) => (Shape::Date, code, direction),
            Sort::Number(code, direction) => (Shape::Number, code, direction),
        };
        let (edge, column) = match (direction, shape) {
            (Direction::Ascending, Shape::Key) => ("min", "value"),
            (Direction::Ascending, _) => ("min", "low"),
            (Direction::Descending, Shape::Key) => ("max", "value"),
            (Direction::Descending, _) => ("max", "high"),
        };
        // No parameter has the number 0.
        let parameter = self.known.parameter(&self.query.resource_type, code).unwrap_or(0);
        let (from, own) = builder.values(shape, parameter, 0, "v");
        format!("(SELECT {edge}({}) FROM {from} WHERE {own})", self.dialect.part("v", column))
    }
}
