//! Runs searches: <https://hl7.org/fhir/R4/search.html>.
//!
//! The cost of a page must follow from the page and from the most selective condition, not from
//! the size of the table. So the conditions that an index can answer are counted first, each up to
//! [`MANY`]; the rarest drives the search, and the others are looked up for the rows it gives.
//! When none is rare the rows of the type are gone through in order, which fills a page soon just
//! because matches are common.

mod condition;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use lumbar_fhir::search::{Condition, Direction, Query, Sort};

use crate::Error;
use crate::commit::row_ids;
use crate::cursor::Cursor;
use crate::dialect::{Dialect, Row, Session, Value};
use crate::names::{Fresh, Known, Names};
use crate::resources::{Page, stored};
use condition::{Builder, Subject};

/// From this number of matches on a condition is not worth driving a search.
const MANY: i64 = 1000;
/// Up to this number nothing rarer is looked for.
const FEW: i64 = 50;

/// One page. Names learned on the way are added to `fresh`.
pub(crate) async fn run(
    session: &mut Session<'_>,
    names: &Names,
    fresh: &mut Fresh,
    query: &Query,
) -> Result<Page, Error> {
    let cursor = query.cursor.as_deref().map(|text| Cursor::decode(text, query)).transpose()?;
    let mut wanted = BTreeSet::new();
    condition::names(&query.resource_type, &query.condition, 0, &mut wanted)?;
    let sorted = query.sort.iter().filter_map(|sort| match sort {
        Sort::Id(_) | Sort::LastUpdated(_) => None,
        Sort::Key(code, _) | Sort::Date(code, _) | Sort::Number(code, _) => Some(code.as_str()),
    });
    let sorted = sorted.map(|code| (query.resource_type.as_str(), code));
    names.check_indexed(wanted.iter().copied().chain(sorted))?;
    names.learn(session, fresh, &wanted).await?;
    let known = names.known(fresh);
    let Some(type_id) = known.resource_type(&query.resource_type) else {
        return Ok(Page { matches: Vec::new(), next: None, total: Some(0) });
    };
    let search = Search { query, known, type_id, dialect: session.dialect() };
    let driver = search.driver(session).await?;
    let mut page = Page { matches: Vec::new(), next: None, total: None };
    if query.count > 0 {
        let (sql, values) = search.page(driver, cursor.as_ref())?;
        let mut rows = session.fetch(sql, values).await?;
        if rows.len() > query.count {
            rows.truncate(query.count);
            if let Some(row) = rows.last() {
                page.next = Some(search.cursor(row)?.encode(query));
            }
        } else if cursor.is_none() {
            page.total = u64::try_from(rows.len()).ok();
        }
        let matches = rows.iter().map(|row| stored(&query.resource_type, row, 0));
        page.matches = matches.collect::<Result<_, _>>()?;
    }
    if query.total && page.total.is_none() {
        let (sql, values) = search.total(driver)?;
        let rows = session.fetch(sql, values).await?;
        page.total = match rows.first() {
            Some(row) => u64::try_from(row.int(0)?).ok(),
            None => None,
        };
    }
    Ok(page)
}

/// A query whose names are known.
struct Search<'a> {
    query: &'a Query,
    known: Known<'a>,
    type_id: i64,
    dialect: Dialect,
}

/// Where the rows of a search come from.
#[derive(Clone, Copy)]
enum Driver<'a> {
    /// The one key of one parameter, whose index is in the order of rows.
    Key(&'a Condition),
    /// The rows for which a condition holds, gathered first.
    Rows(&'a Condition),
    /// All rows of the type.
    Type,
}

impl<'a> Search<'a> {
    fn builder(&self) -> Builder<'a> {
        Builder::new(self.known, self.dialect)
    }

    fn subject(&self) -> Subject<'a> {
        Subject { resource_type: &self.query.resource_type, type_id: self.type_id, alias: 0 }
    }

    /// The conditions that must all hold.
    fn conditions(&self) -> &'a [Condition] {
        match &self.query.condition {
            Condition::All(conditions) => conditions,
            condition => std::slice::from_ref(condition),
        }
    }

    /// Counts what can be counted and picks the rarest.
    async fn driver(&self, session: &mut Session<'_>) -> Result<Driver<'a>, Error> {
        let mut builder = self.builder();
        let mut candidates = Vec::new();
        for condition in self.conditions() {
            if let Some(rows) = builder.rows(condition, self.subject())? {
                candidates.push((condition, rows));
            }
        }
        let of = |condition: &'a Condition| match condition {
            Condition::Key(_, low, high) if low == high => Driver::Key(condition),
            condition => Driver::Rows(condition),
        };
        match candidates.as_slice() {
            [] => return Ok(Driver::Type),
            [(condition, _)] if matches!(of(condition), Driver::Key(_)) => {
                return Ok(of(condition));
            }
            _ => {}
        }
        // A search that names a patient or an identifier is decided by a short look.
        for limit in [FEW, MANY] {
            let mut builder = self.builder();
            let mut counts = Vec::new();
            for (condition, _) in &candidates {
                let rows = builder.rows(condition, self.subject())?.unwrap_or_default();
                counts.push(format!("(SELECT count(*) FROM ({rows} LIMIT {limit}) c)"));
            }
            let sql = format!("SELECT {}", counts.join(","));
            let rows = session.fetch(sql, builder.finish()?).await?;
            let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
            let mut best = (limit, Driver::Type);
            for (column, (condition, _)) in candidates.iter().enumerate() {
                let count = row.int(column)?;
                let usable = matches!((of(condition), best.1), (Driver::Key(_), Driver::Type))
                    || !self.in_stored_order();
                if count < best.0 || (count == limit && best.0 == limit && usable) {
                    best = (count, of(condition));
                }
            }
            if best.0 < limit || limit == MANY {
                return Ok(best.1);
            }
        }
        Ok(Driver::Type)
    }

    /// Whether an index gives the rows of the type in the order asked for.
    fn in_stored_order(&self) -> bool {
        matches!(self.query.sort.as_slice(), [] | [Sort::Id(_) | Sort::LastUpdated(_)])
    }

    /// `FROM … WHERE …` for `r`.
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
            Driver::Type if self.query.sort.is_empty() => {
                let (first, last) = row_ids(self.type_id);
                let (first, last) = (builder.bind(first), builder.bind(last));
                wanted.push(format!("r0.row_id BETWEEN {first} AND {last}"));
            }
            Driver::Type => {
                let type_id = builder.bind(self.type_id);
                wanted.push(format!("r0.type_id = {type_id}"));
            }
        }
        for condition in self.conditions() {
            if done.is_none_or(|done| !std::ptr::eq(done, condition)) {
                wanted.push(builder.holds(condition, self.subject())?);
            }
        }
        Ok(format!("FROM {from} WHERE {}", wanted.join(" AND ")))
    }

    fn total(&self, driver: Driver<'a>) -> Result<(String, Vec<Value>), Error> {
        let mut builder = self.builder();
        let matches = self.matches(&mut builder, driver)?;
        Ok((format!("SELECT count(*) {matches}"), builder.finish()?))
    }

    /// The statement of one page. Its columns are those of a version, the row id and the values
    /// that are sorted by.
    fn page(
        &self,
        driver: Driver<'a>,
        cursor: Option<&Cursor>,
    ) -> Result<(String, Vec<Value>), Error> {
        let mut builder = self.builder();
        let matches = self.matches(&mut builder, driver)?;
        let limit = i64::try_from(self.query.count).unwrap_or(i64::MAX).saturating_add(1);
        let limit = builder.bind(limit);
        let (mut values, mut order) = (String::new(), String::new());
        for (number, sort) in self.query.sort.iter().enumerate() {
            let (value, nullable, direction) = match sort {
                Sort::Id(direction) => ("m.id".to_owned(), false, direction),
                Sort::LastUpdated(direction) => ("m.last_updated".to_owned(), false, direction),
                Sort::Key(_, direction) | Sort::Date(_, direction) | Sort::Number(_, direction) => {
                    (format!("m.s{number}"), true, direction)
                }
            };
            values += &format!(", {} AS s{number}", self.sort_value(&mut builder, sort));
            if nullable {
                order += &format!("{value} IS NULL, ");
            }
            order += &value;
            order += match direction {
                Direction::Ascending => ", ",
                Direction::Descending => " DESC, ",
            };
        }
        if self.query.sort.is_empty() {
            let (row, keep) = match driver {
                Driver::Key(_) => ("d.row_id", ""),
                // Else SQLite might walk all later rows instead of the driver's.
                Driver::Rows(_) => ("r0.row_id", self.dialect.no_index()),
                Driver::Type => ("r0.row_id", ""),
            };
            let after = match cursor {
                Some(cursor) => format!(" AND {keep}{row} > {}", builder.bind(cursor.row_id)),
                None => String::new(),
            };
            let sql = format!(
                "SELECT r0.id, r0.version, r0.last_updated, r0.method, r0.body, r0.row_id \
                 {matches}{after} ORDER BY {row} LIMIT {limit}"
            );
            return Ok((sql, builder.finish()?));
        }
        let after = match cursor {
            Some(cursor) => format!(" WHERE {}", self.after(&mut builder, cursor)),
            None => String::new(),
        };
        // Bodies are fetched for the rows of the page only.
        let names: String = (0..self.query.sort.len()).map(|n| format!(", m.s{n}")).collect();
        let sql = format!(
            "SELECT r.id, r.version, r.last_updated, r.method, r.body, m.row_id{names} \
             FROM (SELECT m.row_id, m.id, m.last_updated{names} \
             FROM (SELECT r0.row_id, r0.id, r0.last_updated{values} {matches}) m{after} \
             ORDER BY {order}m.row_id LIMIT {limit}) m \
             JOIN resource r ON r.row_id = m.row_id ORDER BY {order}m.row_id"
        );
        Ok((sql, builder.finish()?))
    }

    /// The value of `r0` that a sort goes by.
    fn sort_value(&self, builder: &mut Builder<'a>, sort: &Sort) -> String {
        let (table, ascending, descending, code, direction) = match sort {
            Sort::Id(_) => return "r0.id".to_owned(),
            Sort::LastUpdated(_) => return "r0.last_updated".to_owned(),
            Sort::Key(code, direction) => {
                ("key_value", "min(v.value)", "max(v.value)", code, direction)
            }
            Sort::Date(code, direction) => {
                ("date_value", "min(v.low)", "max(v.high)", code, direction)
            }
            Sort::Number(code, direction) => {
                ("number_value", "min(v.low)", "max(v.high)", code, direction)
            }
        };
        let value = match direction {
            Direction::Ascending => ascending,
            Direction::Descending => descending,
        };
        // No parameter has the number 0.
        let parameter = self.known.parameter(&self.query.resource_type, code).unwrap_or(0);
        let parameter = builder.bind(parameter);
        format!(
            "(SELECT {value} FROM {table} v \
             WHERE v.row_id = r0.row_id AND {no_index}v.parameter_id = {parameter})",
            no_index = self.dialect.no_index()
        )
    }

    /// That `m` comes after the cursor in the order of the query.
    fn after(&self, builder: &mut Builder<'a>, cursor: &Cursor) -> String {
        let mut after = format!("m.row_id > {}", builder.bind(cursor.row_id));
        for (number, (sort, value)) in self.query.sort.iter().zip(&cursor.values).enumerate().rev()
        {
            let (column, nullable, direction) = match sort {
                Sort::Id(direction) => ("m.id".to_owned(), false, direction),
                Sort::LastUpdated(direction) => ("m.last_updated".to_owned(), false, direction),
                Sort::Key(_, direction) | Sort::Date(_, direction) | Sort::Number(_, direction) => {
                    (format!("m.s{number}"), true, direction)
                }
            };
            let Some(value) = value else {
                after = format!("({column} IS NULL AND {after})");
                continue;
            };
            let value = builder.bind(value.clone());
            let beyond = match direction {
                Direction::Ascending => ">",
                Direction::Descending => "<",
            };
            after = if nullable {
                format!(
                    "({column} IS NULL OR {column} {beyond} {value} \
                     OR ({column} = {value} AND {after}))"
                )
            } else {
                // The first comparison lets the index of the column begin at the cursor.
                format!("({column} {beyond}= {value} AND ({column} {beyond} {value} OR {after}))")
            };
        }
        after
    }

    fn cursor(&self, row: &Row) -> Result<Cursor, Error> {
        let mut values = Vec::new();
        for (number, sort) in self.query.sort.iter().enumerate() {
            let column = 6 + number;
            values.push(match sort {
                Sort::Id(_) | Sort::Key(..) => row.text_or_null(column)?.map(Value::from),
                Sort::LastUpdated(_) | Sort::Date(..) => row.int_or_null(column)?.map(Value::from),
                Sort::Number(..) => row.real_or_null(column)?.map(Value::from),
            });
        }
        Ok(Cursor { row_id: row.int(5)?, values })
    }
}
