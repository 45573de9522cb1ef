//! Pages of what is common: an index is walked in the order of the search, from the cursor on.
//!
//! A resource is met once, at the value it is sorted by; those without a value are met on a walk of
//! their own, after the others. A walk looks at a bounded number of rows. With several sort keys
//! the index gives the order of the first one, and the database sorts what is equal in it.

use lumbar_fhir::search::{Condition, Direction, Sort};

use super::condition::Builder;
use super::order::First;
use super::{Bounds, Part, Search};
use crate::Error;
use crate::commit::row_ids;
use crate::cursor::{Place, Way};
use crate::dialect::{Session, Value};
use crate::terms::Shape;

/// What is walked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// The rows of the type.
    Rows,
    /// The rows with one key.
    Key(&'a Condition),
    /// The rows of the type in the order of a column.
    Column(&'static str),
    /// The values of a parameter in their order.
    Values(Values),
    /// The rows of the type that have none of these values.
    Without(Values),
}

/// The values of a sort key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Values {
    shape: Shape,
    /// The index that has them in order, where it is not the order of the table.
    index: Option<&'static str>,
    column: &'static str,
    /// With the column they make the values of a resource and parameter different.
    others: &'static [&'static str],
    /// What is before the value that counts.
    before: &'static str,
    parameter: i64,
}

impl Source<'_> {
    /// The index that must lead, where the database might take another.
    fn index(self) -> Option<&'static str> {
        match self {
            Source::Values(values) => values.index,
            Source::Column("last_updated") => Some("resource_last_updated"),
            Source::Rows | Source::Key(_) | Source::Column(_) | Source::Without(_) => None,
        }
    }

    pub(super) fn first(self) -> First {
        if matches!(self, Source::Without(_)) { First::Absent } else { First::Present }
    }
}

impl<'a> Search<'a> {
    /// Up to `count` matches after a place.
    pub(super) async fn walk(
        &self,
        session: &mut Session<'_>,
        key: Option<&'a Condition>,
        place: Option<&Place>,
        count: usize,
        bounds: Bounds,
    ) -> Result<Part, Error> {
        let mut part = Part::default();
        for (source, place) in self.sources(key, place) {
            let wanted = count - part.matches.len();
            if self.order.sorts.len() > 1 {
                let statement = self.sorted(source, place, wanted)?;
                self.read(session, statement, &mut part, bounds).await?;
            } else {
                let before = part.matches.len();
                let statement = self.step(source, place, wanted, bounds.looked)?;
                let whole = self.read(session, statement, &mut part, bounds).await?;
                if whole && part.matches.len() - before < wanted && bounds.looked != usize::MAX {
                    let (sql, values) = self.end(source, place, bounds.looked)?;
                    let rows = session.fetch(sql, values).await?;
                    part.stopped = rows.first().map(|row| self.place(row, 0)).transpose()?;
                }
            }
            if part.stopped.is_some() || part.matches.len() == count {
                break;
            }
        }
        Ok(part)
    }

    /// What is walked one after the other, and from where.
    pub(super) fn sources<'p>(
        &self,
        key: Option<&'a Condition>,
        place: Option<&'p Place>,
    ) -> Vec<(Source<'a>, Option<&'p Place>)> {
        let values = match (self.order.sorts.first(), key) {
            (None, Some(key)) => return vec![(Source::Key(key), place)],
            (None, None) => return vec![(Source::Rows, place)],
            (Some(Sort::Id(_)), _) => return vec![(Source::Column("id"), place)],
            (Some(Sort::LastUpdated(_)), _) => {
                return vec![(Source::Column("last_updated"), place)];
            }
            (Some(sort), _) => self.values(sort),
        };
        let (with, without) = (Source::Values(values), Source::Without(values));
        let has_value = place.map(|place| place.values.first().is_some_and(Option::is_some));
        match (self.order.way, has_value) {
            (Way::Forward, Some(true) | None) => vec![(with, place), (without, None)],
            (Way::Forward, Some(false)) => vec![(without, place)],
            (Way::Backward, Some(false) | None) => vec![(without, place), (with, None)],
            (Way::Backward, Some(true)) => vec![(with, place)],
        }
    }

    fn values(&self, sort: &Sort) -> Values {
        let (code, direction) = match sort {
            Sort::Key(code, direction)
            | Sort::Date(code, direction)
            | Sort::Number(code, direction) => (code.as_str(), *direction),
            Sort::Id(direction) | Sort::LastUpdated(direction) => ("", *direction),
        };
        let ascends = direction == Direction::Ascending;
        let (shape, high, others): (_, _, &[&str]) = match sort {
            Sort::Date(..) if ascends => (Shape::Date, None, &["high"]),
            Sort::Date(..) => (Shape::Date, Some("date_value_high"), &["low"]),
            Sort::Number(..) if ascends => (Shape::Number, None, &["high", "unit"]),
            Sort::Number(..) => (Shape::Number, Some("number_value_high"), &["low", "unit"]),
            _ => (Shape::Key, None, &[]),
        };
        let column = match (shape, high) {
            (Shape::Key, _) => "value",
            (_, None) => "low",
            (_, Some(_)) => "high",
        };
        // No parameter has the number 0.
        let parameter = self.known.parameter(&self.query.resource_type, code).unwrap_or(0);
        let before = if ascends { "<" } else { ">" };
        Values { shape, index: high, column, others, before, parameter }
    }

    /// `SELECT …` of the rows `w` of a source after a place, in order, without its end.
    fn rows_of(
        &self,
        builder: &mut Builder<'a>,
        source: Source<'a>,
        place: Option<&Place>,
    ) -> Result<String, Error> {
        let (table, column, filter) = match source {
            Source::Rows | Source::Without(_) => {
                let (mut first, mut last) = row_ids(self.type_id);
                match place {
                    Some(place) if self.order.rows_descend() => last = last.min(place.row_id - 1),
                    Some(place) => first = first.max(place.row_id + 1),
                    None => {}
                }
                let (first, last) = (builder.bind(first), builder.bind(last));
                ("resource", None, format!("w.row_id BETWEEN {first} AND {last}"))
            }
            Source::Key(condition) => {
                let mut filter = builder.key("w", condition, self.subject())?;
                if let Some(place) = place {
                    let row = builder.bind(place.row_id);
                    filter += &format!(" AND w.row_id {} {row}", self.order.beyond_row());
                }
                ("key_value", None, filter)
            }
            Source::Column(column) => {
                let type_id = builder.bind(self.type_id);
                ("resource", Some(column), format!("w.type_id = {type_id}"))
            }
            Source::Values(values) => {
                let parameter = builder.bind(values.parameter);
                (values.shape.table(), Some(values.column), format!("w.parameter_id = {parameter}"))
            }
        };
        let way = if self.order.rows_descend() { " DESC" } else { "" };
        let Some(column) = column else {
            let none = if self.order.sorts.is_empty() { "" } else { ", NULL AS s0" };
            return Ok(format!(
                "SELECT w.row_id{none} FROM {table} w WHERE {filter} ORDER BY w.row_id{way}"
            ));
        };
        let by = self.dialect.by_index(source.index());
        let mut columns = format!("w.row_id, w.{column} AS s0");
        if let Source::Values(values) = source {
            columns.extend(values.others.iter().map(|other| format!(", w.{other}")));
        }
        let after = match place {
            Some(Place { values, row_id }) => {
                let value =
                    builder.bind(values.first().cloned().flatten().unwrap_or(Value::Text(None)));
                let (beyond, row) = (self.order.beyond_row(), builder.bind(*row_id));
                format!(" AND (w.{column}, w.row_id) {beyond} ({value}, {row})")
            }
            None => String::new(),
        };
        Ok(format!(
            "SELECT {columns} FROM {table} w{by} WHERE {filter}{after} \
             ORDER BY w.{column}{way}, w.row_id{way}"
        ))
    }

    /// What must hold for a row `w` of a source, which is `r0` in `resource`, to be a match.
    /// `value` names the column of `w` that holds the value of [`Source::Values`].
    fn counts(
        &self,
        builder: &mut Builder<'a>,
        source: Source<'a>,
        value: &str,
    ) -> Result<String, Error> {
        let mut wanted = vec!["r0.row_id = w.row_id".into(), "r0.body IS NOT NULL".into()];
        let done = match source {
            Source::Key(condition) => Some(condition),
            _ => None,
        };
        let no_join = self.dialect.no_join();
        match &source {
            Source::Values(values) => {
                let list = |part: &dyn Fn(&str) -> String, first: &str| {
                    let columns = std::iter::once(first).chain(values.others.iter().copied());
                    columns.map(part).collect::<Vec<_>>().join(", ")
                };
                let (from, own) = builder.values(values.shape, values.parameter, 0, "e");
                wanted.push(format!(
                    "NOT EXISTS (SELECT 1 FROM {from} WHERE {own} \
                     AND ({one}) {before} ({two}){no_join})",
                    one = list(&|column| self.dialect.part("e", column), values.column),
                    before = values.before,
                    two = list(&|column| format!("w.{column}"), value),
                ));
            }
            Source::Without(values) => {
                let (from, own) = builder.values(values.shape, values.parameter, 0, "e");
                wanted.push(format!("NOT EXISTS (SELECT 1 FROM {from} WHERE {own}{no_join})"));
            }
            Source::Rows | Source::Key(_) | Source::Column(_) => {}
        }
        wanted.extend(self.holding(builder, done)?);
        Ok(wanted.join(" AND "))
    }

    /// The statement of up to `count` matches among the next `looked` rows of a source, for one
    /// sort key at most.
    pub(super) fn step(
        &self,
        source: Source<'a>,
        place: Option<&Place>,
        count: usize,
        looked: usize,
    ) -> Result<(String, Vec<Value>), Error> {
        let mut builder = self.builder();
        let rows = self.rows_of(&mut builder, source, place)?;
        let looked = builder.bind(i64::try_from(looked).unwrap_or(i64::MAX));
        let wanted = self.counts(&mut builder, source, "s0")?;
        let count = builder.bind(i64::try_from(count).unwrap_or(i64::MAX));
        let value = if self.order.sorts.is_empty() { "" } else { ", w.s0" };
        let order = self.order.by("w", source.first());
        let sql = format!(
            "SELECT r0.id, r0.version, r0.last_updated, r0.method, r0.body, w.row_id{value} \
             FROM ({rows} LIMIT {looked}) w CROSS JOIN resource r0 WHERE {wanted} \
             {order} LIMIT {count}"
        );
        Ok((sql, builder.finish()?))
    }

    /// The statement of the last of the next `looked` rows of a source; no row when there are fewer.
    pub(super) fn end(
        &self,
        source: Source<'a>,
        place: Option<&Place>,
        looked: usize,
    ) -> Result<(String, Vec<Value>), Error> {
        let mut builder = self.builder();
        let rows = self.rows_of(&mut builder, source, place)?;
        let before = builder.bind(i64::try_from(looked).unwrap_or(i64::MAX).saturating_sub(1));
        Ok((format!("{rows} LIMIT 1 OFFSET {before}"), builder.finish()?))
    }

    /// The statement of up to `count` matches of a source after a place, for several sort keys.
    pub(super) fn sorted(
        &self,
        source: Source<'a>,
        place: Option<&Place>,
        count: usize,
    ) -> Result<(String, Vec<Value>), Error> {
        let mut builder = self.builder();
        let mut values = String::new();
        let mut names = String::new();
        for (number, sort) in self.order.sorts.iter().enumerate() {
            values += &match (number, source) {
                (0, Source::Without(_)) => ", NULL AS s0".to_owned(),
                (0, Source::Column(column)) => format!(", w.{column} AS s0"),
                (0, Source::Values(values)) => format!(", w.{} AS s0", values.column),
                _ => format!(", {} AS s{number}", self.sort_value(&mut builder, sort)),
            };
            names += &format!(", m.s{number}");
        }
        // Rows of the source from the first that can come after the place.
        let (table, column, mut filter) = match source {
            Source::Column(column) => {
                ("resource", Some(column), format!("w.type_id = {}", builder.bind(self.type_id)))
            }
            Source::Values(values) => {
                let parameter = builder.bind(values.parameter);
                (values.shape.table(), Some(values.column), format!("w.parameter_id = {parameter}"))
            }
            Source::Rows | Source::Key(_) | Source::Without(_) => {
                let (first, last) = row_ids(self.type_id);
                let (first, last) = (builder.bind(first), builder.bind(last));
                ("resource", None, format!("w.row_id BETWEEN {first} AND {last}"))
            }
        };
        if let (Some(column), Some(sort)) = (column, self.order.sorts.first())
            && let Some(value) = place.and_then(|place| place.values.first()?.clone())
        {
            let value = builder.bind(value);
            filter += &format!(" AND w.{column} {}= {value}", self.order.beyond(sort));
        }
        let after = match place {
            Some(place) => format!(" WHERE {}", self.order.after(&mut builder, "m", place)),
            None => String::new(),
        };
        let wanted = self.counts(&mut builder, source, column.unwrap_or_default())?;
        let count = builder.bind(i64::try_from(count).unwrap_or(i64::MAX));
        let by = self.dialect.by_index(source.index());
        let order = self.order.by("m", source.first());
        let sql = format!(
            "SELECT r.id, r.version, r.last_updated, r.method, r.body, m.row_id{names} \
             FROM (SELECT m.row_id{names} FROM (SELECT w.row_id{values} \
             FROM {table} w{by} CROSS JOIN resource r0 WHERE {filter} AND {wanted}) m{after} \
             {order} LIMIT {count}) m JOIN resource r ON r.row_id = m.row_id {order}"
        );
        Ok((sql, builder.finish()?))
    }
}
